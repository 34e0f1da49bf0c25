"""Settings as written and as meant. What would be unsafe or without effect raises before a request comes."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import grpc

from quotad.address import Network, networks
from quotad.bodies import Bodies
from quotad.charge import checked_seconds
from quotad.cors import Cors, Environment, cors_for
from quotad.decision import Decision
from quotad.errors import ConfigurationError
from quotad.events import Event
from quotad.headers import DOCS_CSP, SECURITY
from quotad.local import Local
from quotad.notices import Notices
from quotad.rules import OnUnavailable, Rule, Rules, Scope
from quotad.transport import Transport, check_target

Refusal = tuple[int, bytes, str]
"""Status, body and content type, in the place of a decision's own."""
ErrorBuilder = Callable[[Scope, Decision], Refusal | Awaitable[Refusal]]


class Options(TypedDict, total=False):
    """The keywords of `Shield`; README.md has an example of each."""

    environment: str
    """development, staging or production. Default: the variable ENVIRONMENT; not set is production."""
    origins: Sequence[str]
    """Who may read answers and open sockets from a browser. Default: ALLOWED_ORIGINS, commas between."""
    cors: Literal["on", "off"]
    """off: no page of another origin uses this API."""
    cors_credentials: bool
    """Whether allowed origins may send cookies. Never in development."""
    rules: Sequence[Rule]
    on_unavailable: OnUnavailable
    """Without an answer, where no rule says otherwise. Default closed: an unchecked token is not a good one."""
    authorize: bool
    """False: no `Authorize` by the service's routes; only what the application asks for itself is checked."""
    domain: str
    """Of policies and routes. Default: each route's own; `default` for checks."""
    deadline: float
    """Seconds that a decision may take. Default 0.05."""
    security_headers: Mapping[str, str | None]
    """Changes on every answer, over the service's: a value replaces, None takes away."""
    keep_headers: Sequence[str]
    """Names for which the application's own value stands, where it sends one."""
    identity_headers: Sequence[str]
    """Names that clients may not send while the service cannot say which. Default x-user-id, as in the service."""
    trusted_proxies: Sequence[str]
    """For the client's address where the service has not said it: with `authorize=False`, on skipped paths, without an
    answer. Else the service's own list holds."""
    error: ErrorBuilder
    """Makes the body of refusals."""
    error_body: Literal["uniform", "problem"]
    """Of the few answers that are given without the service; as `http.error_body` there."""
    accept_then_close: int
    """A close code: refused sockets are accepted and closed, which a browser's script can tell apart. Default: HTTP."""
    cancel_after: float
    """Seconds after which a handler whose client has left is cancelled. Default: never."""
    on_event: Callable[[Event], None]
    credentials: grpc.ChannelCredentials
    insecure: bool
    """Plain text to another machine, inside a network that encrypts by itself."""
    transport: Transport
    """In the place of gRPC: the fake of `quotad.testing`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """As meant: checked, with defaults."""

    target: str
    environment: Environment
    cors: Cors
    rules: Rules
    on_unavailable: OnUnavailable
    authorize: bool
    domain: str
    deadline: float
    security: Mapping[str, str]
    changes: Mapping[str, str | None]
    docs_csp: Mapping[str, str | None]
    keep: frozenset[bytes]
    identity: frozenset[str]
    trusted: tuple[Network, ...]
    error: ErrorBuilder | None
    bodies: Bodies
    accept_then_close: int | None
    cancel_after: float | None
    on_event: Callable[[Event], None] | None
    credentials: grpc.ChannelCredentials | None
    transport: Transport | None
    notices: Notices

    @classmethod
    def read(cls, target: str, options: Options) -> Settings:
        unknown = set(options) - set(Options.__annotations__)
        if unknown:
            raise ConfigurationError(f"no setting {', '.join(sorted(unknown))}")
        for name, known in (("cors", ("on", "off")), ("error_body", ("uniform", "problem"))):
            if options.get(name, known[0]) not in known:
                raise ConfigurationError(f"{name} {options.get(name)!r}: write {' or '.join(known)}")
        environment = Environment.read(options.get("environment", os.environ.get("ENVIRONMENT", "")))
        credentials, transport = options.get("credentials"), options.get("transport")
        if credentials is None and transport is None:
            check_target(target, insecure=options.get("insecure", False))
        notices = Notices()
        trusted = networks(options.get("trusted_proxies", ()))
        if any(network.prefixlen == 0 for network in trusted):
            notices.once("W102", "trusted_proxies trusts everybody: any client can choose its own address")
        on_unavailable = choice(options.get("on_unavailable", "closed"))
        if on_unavailable == "open":
            notices.once("W109", "on_unavailable is open: without an answer no token is checked either")
        docs = {} if environment is Environment.PRODUCTION else {"Content-Security-Policy": DOCS_CSP}
        changes = options.get("security_headers", {})
        return cls(
            target=target,
            environment=environment,
            cors=read_cors(environment, options),
            rules=Rules([checked(rule, options.get("authorize", True)) for rule in options.get("rules", ())]),
            on_unavailable=on_unavailable,
            authorize=options.get("authorize", True),
            domain=options.get("domain", ""),
            deadline=positive("deadline", options.get("deadline", 0.05)),
            security=SECURITY,
            changes=changes,
            docs_csp={} if any(name.lower() == "content-security-policy" for name in changes) else docs,
            keep=frozenset(name.lower().encode() for name in options.get("keep_headers", ())),
            identity=frozenset(name.lower() for name in options.get("identity_headers", ("x-user-id",))),
            trusted=trusted,
            error=options.get("error"),
            bodies=Bodies(problem=options.get("error_body", "uniform") == "problem"),
            accept_then_close=options.get("accept_then_close"),
            cancel_after=options.get("cancel_after"),
            on_event=options.get("on_event"),
            credentials=credentials,
            transport=transport,
            notices=notices,
        )


def read_cors(environment: Environment, options: Options) -> Cors:
    if options.get("cors", "on") == "off":
        return Cors(origins=frozenset(), is_off=True)
    origins = options.get("origins")
    if isinstance(origins, str):
        raise ConfigurationError("origins is one text; write a list")
    if origins is None:
        origins = [one.strip() for one in os.environ.get("ALLOWED_ORIGINS", "").split(",") if one.strip()]
    return cors_for(environment, origins, credentials=options.get("cors_credentials", True))


def choice(value: OnUnavailable) -> OnUnavailable:
    if value not in ("open", "closed") and not isinstance(value, Local):
        raise ConfigurationError(f'on_unavailable {value!r}: write "open", "closed" or local("10/minute")')
    return value


def checked(rule: Rule, authorize: bool) -> Rule:
    if isinstance(rule.policies, str):
        raise ConfigurationError(f"rule {rule.path!r}: policies is one text; write a list")
    if rule.policies and (rule.skip or not authorize):
        why = "skip" if rule.skip else "authorize=False"
        raise ConfigurationError(f"rule {rule.path!r}: with {why} nobody is asked about its policies")
    if rule.settle is not None and (rule.skip or not authorize):
        why = "skip" if rule.skip else "authorize=False"
        raise ConfigurationError(f"rule {rule.path!r}: with {why} nothing is charged that it could settle")
    if rule.on_unavailable is not None:
        choice(rule.on_unavailable)
    checked_seconds(rule.settle_within)
    if isinstance(rule.cost, int) and rule.cost < 0:
        raise ConfigurationError(f"rule {rule.path!r}: cost {rule.cost} is below 0")
    return rule


def positive(name: str, value: float) -> float:
    if value <= 0:
        raise ConfigurationError(f"{name} {value} is not above 0")
    return value
