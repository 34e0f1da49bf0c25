"""A stand-in for the service, in the process of the test: `Shield(app, transport=FakeDecisions(...))`.

It keeps the promises that a test of an application looks at (a moving window, settlements, leases, revocation, headers
and bodies in the service's form) by a clock that the test moves. It is no second implementation: what depends on exact
bytes or on the algorithm is tested against the real one, `quotad serve --store memory: --listen 127.0.0.1:0`.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from quotad.charge import MAX_SECONDS, MIN_SECONDS
from quotad.claims import Claims
from quotad.errors import Cause, NoDecision
from quotad.headers import SECURITY
from quotad.rules import Pattern, Rule, normalised
from quotad.transport import Answered, Asked, Rpc
from quotad.v1 import decision_pb2 as pb

LEASE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Policy:
    """`limit` units in `window` seconds for each combination of the `partition` entries; `window` None: leases."""

    name: str
    limit: int
    window: int | None = 60
    partition: Sequence[str] = ("ip",)


@dataclass(frozen=True, slots=True)
class Route:
    """`path` as in `Rule`. `token`: refuse requests without one, such as `FakeDecisions.token("alice")`."""

    path: str
    policies: Sequence[str] = ()
    token: bool = False


@dataclass(slots=True)
class Reserved:
    """What a ticket of the fake stands for."""

    keys: list[tuple[str, ...]]
    cost: int
    at: float
    ends: float
    settled: pb.SettleCostResponse = field(default_factory=pb.SettleCostResponse)
    """The first settlement's answer."""


class FakeDecisions:
    """A transport. `calls` has the names of the calls that came, in order."""

    def __init__(self, policies: Sequence[Policy] = (), routes: Sequence[Route] = ()) -> None:
        self.now = 1_700_000_000.0
        self.calls: list[str] = []
        self._policies = {policy.name: policy for policy in policies}
        self._routes = [(Pattern(Rule(route.path)), route) for route in routes]
        self._charged: dict[tuple[str, ...], list[float]] = defaultdict(list)
        self._leases: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        self._reserved: dict[bytes, Reserved] = {}
        self._denied: set[str] = set()
        self._revoked: set[str] = set()
        self._is_down = False
        self._is_stalled = False

    # What a test does.

    def advance(self, seconds: float) -> None:
        """Time passes: windows move on, leases that nobody renewed end."""
        self.now += seconds

    def deny(self, *policies: str) -> None:
        """These refuse everything, until `restore`."""
        self._denied.update(policies)

    def down(self) -> None:
        """Nobody answers, at once."""
        self._is_down = True

    def stall(self) -> None:
        """Nobody answers until the deadline."""
        self._is_stalled = True

    def restore(self) -> None:
        """Takes back `deny`, `down` and `stall`."""
        self._denied.clear()
        self._is_down = self._is_stalled = False

    def revoke(self, user: str) -> None:
        self._revoked.add(user)

    def lose_leases(self) -> None:
        """As if nobody had renewed them in time."""
        self._leases.clear()

    def held(self, policy: str) -> int:
        """How many leases are held under this policy."""
        return sum(len(self._live(key)) for key in self._leases if key[0] == policy)

    def used(self, policy: str) -> int:
        """How many units are charged under this policy now, of all partitions."""
        return sum(len(self._log(key)) for key in list(self._charged) if key[0] == policy)

    @staticmethod
    def token(user: str, **claims: Any) -> str:
        """A token that the fake takes for good. It is not signed."""
        return "fake." + json.dumps({"sub": user, **claims}).encode().hex()

    # What Shield does.

    async def ready(self, timeout: float) -> bool:
        return not (self._is_down or self._is_stalled)

    async def close(self) -> None:
        return None

    async def call(self, rpc: Rpc[Asked, Answered], request: Asked, timeout: float) -> Answered:
        self.calls.append(rpc.name)
        if self._is_stalled:
            await asyncio.sleep(timeout)  # the deadline
        if self._is_stalled or self._is_down:
            raise NoDecision(Cause.AWAY, "the fake is away")
        return cast(Answered, getattr(self, f"_{rpc.name}")(request))

    def _CheckLimit(self, request: pb.CheckLimitRequest) -> pb.CheckLimitResponse:
        self._check_reservable(request)
        cost = request.cost if request.HasField("cost") else 1
        decision = self._decide(request.policies, request.entries, cost=cost)
        self._reserve(request, decision, request.policies, request.entries)
        return pb.CheckLimitResponse(decision=decision)

    def _Authorize(self, request: pb.AuthorizeRequest) -> pb.AuthorizeResponse:
        self._check_reservable(request)
        path = normalised(request.http.path.split("?")[0])
        found = (route for pattern, route in self._routes if pattern.matches(request.http.method, path))
        route = next(found, Route("/**"))
        client = request.http.peer_address
        answer = pb.AuthorizeResponse(route=route.path, remove_headers=["x-user-id"], client_address=client)
        entries = dict(request.entries) | {"ip": client}
        if route.token:
            refused = self._check_token(request.http, answer, entries)
            if refused is not None:
                answer.decision.CopyFrom(secured(refused))
                return answer
        cost = request.cost if request.HasField("cost") else 1
        policies = list(dict.fromkeys([*route.policies, *request.policies]))
        decision = self._decide(policies, entries, cost=cost, lease_id=request.connection.lease_id)
        self._reserve(request, decision, policies, entries)
        answer.decision.CopyFrom(secured(decision))
        held = [name for name in policies if self._policies[name].window is None]
        if held and decision.outcome == pb.OUTCOME_ALLOW:
            offer = request.connection
            connection = pb.Connection(entries=entries, policies=held, lease_id=offer.lease_id, holder=offer.holder)
            if answer.HasField("claims"):
                connection.token.CopyFrom(Claims.read(answer.claims).reference)
            answer.lease.CopyFrom(granted(connection))
        return answer

    def _AcquireConnection(self, request: pb.AcquireConnectionRequest) -> pb.AcquireConnectionResponse:
        asked = request.connection
        decision = self._decide(asked.policies, asked.entries, lease_id=asked.lease_id)
        lease = granted(asked) if decision.outcome == pb.OUTCOME_ALLOW else None
        return pb.AcquireConnectionResponse(decision=decision, lease=lease)

    def _RenewConnections(self, request: pb.RenewConnectionsRequest) -> pb.RenewConnectionsResponse:
        answer = pb.RenewConnectionsResponse()
        for asked in request.connections:
            state = pb.RenewConnectionsResponse.STATE_HELD
            for key in self._keys(asked.policies, asked.entries):
                if asked.lease_id not in self._live(key):
                    state = pb.RenewConnectionsResponse.STATE_LOST
                self._leases[key][asked.lease_id] = self.now + LEASE_SECONDS
            if asked.token.subject in self._revoked:
                state = pb.RenewConnectionsResponse.STATE_REVOKED
            if state != pb.RenewConnectionsResponse.STATE_HELD:
                self._drop(asked)
            renewal = answer.renewals.add(lease_id=asked.lease_id, state=state)
            renewal.renew_after.seconds = LEASE_SECONDS // 3
        return answer

    def _ReleaseConnection(self, request: pb.ReleaseConnectionRequest) -> pb.ReleaseConnectionResponse:
        self._drop(request.connection)
        return pb.ReleaseConnectionResponse(released=True)

    def _RevokeToken(self, request: pb.RevokeTokenRequest) -> pb.RevokeTokenResponse:
        user = request.subject.subject or request.token_id.id
        newly = user not in self._revoked
        self._revoked.add(user)
        return pb.RevokeTokenResponse(newly_revoked=newly)

    def _SettleCost(self, request: pb.SettleCostRequest) -> pb.SettleCostResponse:
        """Once: asked again, the first settlement is answered again, whatever the cost."""
        reserved = self._reserved.get(request.ticket)
        if reserved is None:
            raise NoDecision(Cause.MALFORMED, "no ticket of the fake")
        if not (request.HasField("cost") or request.policy_costs):
            raise NoDecision(Cause.MALFORMED, "neither cost nor policy_costs")
        unknown = set(request.policy_costs) - {key[0] for key in reserved.keys}
        if unknown:
            raise NoDecision(Cause.MALFORMED, f"the ticket is not for {min(unknown)}")
        if reserved.settled.state != pb.SettleCostResponse.STATE_UNSPECIFIED:
            return reserved.settled
        if self.now >= reserved.ends:
            return pb.SettleCostResponse(state=pb.SettleCostResponse.STATE_TOO_LATE)
        answer = reserved.settled
        answer.state = pb.SettleCostResponse.STATE_SETTLED
        for key in reserved.keys:
            cost = request.cost if request.HasField("cost") else reserved.cost
            self._settle(key, reserved, request.policy_costs.get(key[0], cost), answer)
        return answer

    def _settle(self, key: tuple[str, ...], reserved: Reserved, cost: int, answer: pb.SettleCostResponse) -> None:
        """What came back by itself meanwhile is not given back twice."""
        log, limit = self._log(key), self._policies[key[0]].limit
        returned = min(max(0, reserved.cost - cost), log.count(reserved.at))
        for _ in range(returned):
            log.remove(reserved.at)
        charged = max(0, cost - reserved.cost)
        log.extend([self.now] * charged)
        one = answer.policies.add(policy=key[0], reserved=reserved.cost, cost=cost, returned=returned, charged=charged)
        one.remaining, one.beyond_limit = max(0, limit - len(log)), max(0, len(log) - limit)
        wait = self._wait(key, 1)
        if wait:
            one.delay.seconds = wait
            answer.delay.seconds = max(answer.delay.seconds, wait)

    @staticmethod
    def _check_reservable(request: pb.CheckLimitRequest | pb.AuthorizeRequest) -> None:
        within = request.settle_within.ToTimedelta().total_seconds()
        peeks = request.HasField("cost") and request.cost == 0
        if request.HasField("settle_within") and (
            peeks or not request.request_id or not MIN_SECONDS <= within <= MAX_SECONDS
        ):
            raise NoDecision(Cause.MALFORMED, "settle_within")

    def _reserve(
        self,
        request: pb.CheckLimitRequest | pb.AuthorizeRequest,
        decision: pb.Decision,
        policies: Sequence[str],
        entries: Mapping[str, str],
    ) -> None:
        if not request.HasField("settle_within"):
            return
        cost = request.cost if request.HasField("cost") else 1
        within = request.settle_within.ToTimedelta().total_seconds()
        keys = [key for key in self._keys(policies, entries) if self._policies[key[0]].window is not None]
        if keys and decision.outcome == pb.OUTCOME_ALLOW:
            ticket = secrets.token_bytes(16)
            self._reserved[ticket] = Reserved(keys, cost, self.now, self.now + within)
            decision.reservation.ticket = ticket
            decision.reservation.settle_within.CopyFrom(request.settle_within)

    def _check_token(
        self, http: pb.HttpRequest, answer: pb.AuthorizeResponse, entries: dict[str, str]
    ) -> pb.Decision | None:
        sent = next((header.value for header in http.headers if header.name == "authorization"), "")
        text = sent.removeprefix("Bearer fake.")
        if not sent:
            return refusal(401, pb.REASON_TOKEN_MISSING, "TOKEN_MISSING", "A token is required.")
        try:
            claims = json.loads(bytes.fromhex(text))
        except ValueError:
            return refusal(401, pb.REASON_TOKEN_MALFORMED, "TOKEN_INVALID", "The token is not valid.")
        if claims["sub"] in self._revoked or claims.get("jti") in self._revoked:
            return refusal(401, pb.REASON_TOKEN_REVOKED, "TOKEN_INVALID", "The token is not valid.")
        read = answer.claims
        read.issuer, read.subject, read.token_id = "fake", claims["sub"], claims.get("jti", "")
        read.user = read.subject
        read.expires_at.seconds = int(self.now) + 3600
        read.all.CopyFrom(ParseDict(claims, Struct()))
        answer.upstream_headers.add(name="x-user-id", value=claims["sub"])
        entries["user"] = claims["sub"]
        return None

    def _decide(
        self, names: Sequence[str], entries: Mapping[str, str], *, cost: int = 1, lease_id: str = ""
    ) -> pb.Decision:
        """All or none."""
        unknown = [name for name in names if name not in self._policies]
        if unknown:
            raise NoDecision(Cause.NOT_CONFIGURED, f"the fake has no policy {unknown[0]}")
        keys = self._keys(names, entries)
        statuses = [self._status(key, cost) for key in keys]
        if any(status.violated for status in statuses):
            waits = [self._wait(key, cost) for key, status in zip(keys, statuses, strict=True) if status.violated]
            return denial(statuses, max(waits))
        for key, status in zip(keys, statuses, strict=True):
            if status.algorithm == pb.ALGORITHM_CONCURRENCY:
                self._leases[key][lease_id] = self.now + LEASE_SECONDS
                status.remaining -= 1
            else:
                self._charged[key] += [self.now] * cost
                status.remaining -= cost
        answer = pb.Decision(
            outcome=pb.OUTCOME_ALLOW, reason=pb.REASON_WITHIN_LIMIT, mode=pb.MODE_EXACT, http_status=200
        )
        answer.statuses.extend(statuses)
        describe(answer)
        return answer

    def _status(self, key: tuple[str, ...], cost: int) -> pb.PolicyStatus:
        policy = self._policies[key[0]]
        status = pb.PolicyStatus(policy=policy.name, limit=policy.limit, mode=pb.MODE_EXACT, bound=policy.limit)
        if policy.window is None:
            status.algorithm = pb.ALGORITHM_CONCURRENCY
            status.remaining = max(0, policy.limit - len(self._live(key)))
        else:
            status.algorithm = pb.ALGORITHM_SLIDING_WINDOW
            log = self._log(key)
            status.remaining = max(0, policy.limit - len(log))
            status.window.seconds = policy.window
            status.reset_after.seconds = math.ceil(log[-1] + policy.window - self.now) if log else 0
        if policy.name in self._denied:
            status.remaining = 0
        status.violated = status.remaining < (1 if policy.window is None else cost)
        return status

    def _log(self, key: tuple[str, ...]) -> list[float]:
        """When each unit was charged that counts now, oldest first."""
        window = self._policies[key[0]].window
        assert window is not None
        self._charged[key] = [at for at in self._charged[key] if at > self.now - window]
        return self._charged[key]

    def _wait(self, key: tuple[str, ...], cost: int) -> int:
        """Whole seconds after which this cost passes; 0: now, or never."""
        policy = self._policies[key[0]]
        if policy.window is None or cost > policy.limit:
            return 0
        log = self._log(key)
        too_many = len(log) + cost - policy.limit
        return math.ceil(log[too_many - 1] + policy.window - self.now) if too_many > 0 else 0

    def _keys(self, names: Sequence[str], entries: Mapping[str, str]) -> list[tuple[str, ...]]:
        return [(name, *(entries.get(entry, "") for entry in self._policies[name].partition)) for name in names]

    def _live(self, key: tuple[str, ...]) -> dict[str, float]:
        self._leases[key] = {lease: ends for lease, ends in self._leases[key].items() if ends > self.now}
        return self._leases[key]

    def _drop(self, connection: pb.Connection) -> None:
        for key in self._keys(connection.policies, connection.entries):
            self._leases[key].pop(connection.lease_id, None)


def granted(connection: pb.Connection) -> pb.Lease:
    lease = pb.Lease(lease_id=connection.lease_id, connection=connection)
    lease.ttl.seconds, lease.renew_after.seconds = LEASE_SECONDS, LEASE_SECONDS // 3
    return lease


def denial(statuses: list[pb.PolicyStatus], wait: int) -> pb.Decision:
    violated = [status for status in statuses if status.violated]
    details = [{"policy": status.policy, "limit": status.limit} for status in violated]
    message = "Too many requests. Please try again later."
    answer = refusal(429, pb.REASON_LIMIT_EXCEEDED, "RATE_LIMIT_EXCEEDED", message, details)
    answer.statuses.extend(statuses)
    if wait:
        answer.retry_after.seconds = wait
        answer.headers.add(name="Retry-After", value=str(max(1, wait)))
    describe(answer)
    return answer


def refusal(
    status: int, reason: pb.Reason, code: str, message: str, details: Sequence[dict[str, Any]] = ()
) -> pb.Decision:
    answer = pb.Decision(outcome=pb.OUTCOME_DENY, reason=reason, mode=pb.MODE_EXACT, http_status=status)
    body = {"status": "error", "code": code, "message": message, "details": list(details)}
    answer.body.content_type = "application/json"
    answer.body.content = json.dumps(body, separators=(",", ":")).encode()
    answer.headers.add(name="Cache-Control", value="no-store")
    if status == 401:
        answer.headers.add(name="WWW-Authenticate", value="Bearer")
    return answer


def describe(answer: pb.Decision) -> None:
    """RateLimit and RateLimit-Policy, as lists."""
    policies, limits = [], []
    for status in answer.statuses:
        window = f";w={status.window.seconds}" if status.HasField("window") else ';qu="concurrent-requests"'
        policies.append(f'"{status.policy}";q={status.limit}{window}')
        limits.append(f'"{status.policy}";r={status.remaining};t={status.reset_after.seconds}')
    if policies:
        answer.headers.add(name="RateLimit-Policy", value=", ".join(policies))
        answer.headers.add(name="RateLimit", value=", ".join(limits))


def secured(answer: pb.Decision) -> pb.Decision:
    for name, value in SECURITY.items():
        answer.headers.add(name=name, value=value)
    return answer
