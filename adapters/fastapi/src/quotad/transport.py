"""The way to the service: which calls there are, and gRPC.

Must never: send a call twice by itself. gRPC's own retries are off; a call that never left this process may be sent on
another connection, which charges nothing twice.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from quotad.errors import Cause, ConfigurationError, NoDecision
from quotad.v1 import decision_pb2 as pb

Asked = TypeVar("Asked", bound=Message)
Answered = TypeVar("Answered", bound=Message)


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Asked, Answered]):
    """One method of `quotad.v1.DecisionService`."""

    name: str
    asked: type[Asked]
    answered: type[Answered]


AUTHORIZE = Rpc("Authorize", pb.AuthorizeRequest, pb.AuthorizeResponse)
CHECK_LIMIT = Rpc("CheckLimit", pb.CheckLimitRequest, pb.CheckLimitResponse)
ACQUIRE = Rpc("AcquireConnection", pb.AcquireConnectionRequest, pb.AcquireConnectionResponse)
RENEW = Rpc("RenewConnections", pb.RenewConnectionsRequest, pb.RenewConnectionsResponse)
RELEASE = Rpc("ReleaseConnection", pb.ReleaseConnectionRequest, pb.ReleaseConnectionResponse)
REVOKE = Rpc("RevokeToken", pb.RevokeTokenRequest, pb.RevokeTokenResponse)
SETTLE = Rpc("SettleCost", pb.SettleCostRequest, pb.SettleCostResponse)


class Transport(Protocol):
    """What carries calls: gRPC, or the fake of `quotad.testing`."""

    async def call(self, rpc: Rpc[Asked, Answered], request: Asked, timeout: float) -> Answered:
        """One call. Raises `NoDecision` when there is no answer."""
        ...

    async def ready(self, timeout: float) -> bool:
        """Connects, so that the first request need not wait for it."""
        ...

    async def close(self) -> None: ...


CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.enable_retries", 0),
    # Back within two seconds of a restart: attempts come this often, and one that hangs is given up as soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A connection that a firewall forgot is found out in 22 seconds; the breaker stands in until then.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.lb_policy_name", "round_robin"),
    # Else two event loops of one process share a connection behind their backs.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


class GrpcTransport:
    """A channel of one process and one event loop."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._channel = (
            grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
        )
        self._methods: dict[str, Any] = {}

    async def call(self, rpc: Rpc[Asked, Answered], request: Asked, timeout: float) -> Answered:
        method = self._methods.get(rpc.name)
        if method is None:
            method = self._methods[rpc.name] = self._channel.unary_unary(
                f"/quotad.v1.DecisionService/{rpc.name}",
                request_serializer=rpc.asked.SerializeToString,
                response_deserializer=rpc.answered.FromString,
            )
        try:
            answer: Answered = await method(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise NoDecision(cause(error), f"{rpc.name}: {error.code().name}") from error
        return answer

    async def ready(self, timeout: float) -> bool:
        try:
            await asyncio.wait_for(self._channel.channel_ready(), timeout)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        await self._channel.close()


def cause(error: grpc.aio.AioRpcError) -> Cause:
    """What a gRPC error means here. An answer of the service has trailers; gRPC's own UNAVAILABLE has none."""
    match error.code():
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            return Cause.MALFORMED
        case grpc.StatusCode.NOT_FOUND | grpc.StatusCode.UNIMPLEMENTED | grpc.StatusCode.FAILED_PRECONDITION:
            return Cause.NOT_CONFIGURED
        case grpc.StatusCode.DEADLINE_EXCEEDED | grpc.StatusCode.CANCELLED:
            return Cause.AWAY
        case _:
            return Cause.UNDECIDED if error.trailing_metadata() else Cause.AWAY


def check_target(target: str, *, insecure: bool) -> None:
    """Plain text carries tokens, so it may only go where nobody else listens."""
    if not target:
        raise ConfigurationError("target is empty; give HOST:PORT or unix:/path of quotad")
    if insecure or target.startswith(("unix:", "unix-abstract:")):
        return
    host = target.rsplit("/", 1)[-1].rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise ConfigurationError(
        f"target {target!r} is not on this machine: tokens would cross the network in plain text. "
        "Give credentials=grpc.ssl_channel_credentials(...), or insecure=True inside a network that encrypts by itself"
    )
