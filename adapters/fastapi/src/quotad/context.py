"""One request or socket: what the service said about it, and the questions that its handler may ask.

A handler reaches it by `current()`; it stands in the ASGI scope under "quotad" too, for middleware.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

from google.protobuf.duration_pb2 import Duration

from quotad.charge import SETTLE_SECONDS, Charge, SentResponse, Settle, checked_seconds
from quotad.claims import Claims
from quotad.client import holder, new_id
from quotad.decision import Decision
from quotad.entries import entries
from quotad.errors import Cause, NoDecision, RateLimitExceeded
from quotad.events import Decided
from quotad.facts import client_of, http_request, no_address
from quotad.identity import shaped, spelling
from quotad.leases import Ended, Lease
from quotad.rules import Cost, Rule, Scope
from quotad.runtime import Runtime
from quotad.settings import Settings
from quotad.transport import ACQUIRE, AUTHORIZE, CHECK_LIMIT, Answered, Asked, Rpc
from quotad.unchecked import Unchecked
from quotad.v1 import decision_pb2 as pb

MAX_DECISIONS = 16
"""Whose headers a response carries; a socket's handler may check for as long as it lives."""
_current: ContextVar[Context] = ContextVar("quotad")


@dataclass(slots=True)
class Context:
    """`claims` is None when the route asks for no token, and when nobody could check it (`is_unchecked`)."""

    settings: Settings
    runtime: Runtime
    scope: Scope
    rule: Rule
    route: str = ""
    claims: Claims | None = None
    client_address: str | None = None
    """What `Authorize` said; None while it has not answered."""
    is_unchecked: bool = False
    is_over: bool = False
    authorized: Decision | None = None
    decisions: list[Decision] = field(default_factory=list)
    """Whose headers the response carries, beside the route's."""
    leases: list[Lease] = field(default_factory=list)
    on_lease_end: Callable[[Ended], None] | None = None
    on_lease: Callable[[], None] | None = None
    unsettled: list[tuple[Charge, Settle, Any]] = field(default_factory=list)
    """What is settled when the response is out, by which function of which request."""

    async def authorize(self) -> Decision:
        """Token, limits and lease by the service's routes, in one call."""
        offer = pb.AuthorizeRequest.ConnectionOffer(lease_id=new_id(), holder=holder())
        request = pb.AuthorizeRequest(
            domain=self.settings.domain,
            http=http_request(self.scope),
            request_id=new_id(),
            connection=offer,
            policies=self.rule.policies,
        )
        if self.rule.cost is not None:
            request.cost = await cost_of(self.rule.cost, self.scope)
        settle = self.rule.settle if self.scope["type"] == "http" else None
        if settle is not None and (request.cost or self.rule.cost is None):
            request.settle_within.CopyFrom(duration(self.rule.settle_within))
        began = time.monotonic()
        try:
            answer = await self._ask(AUTHORIZE, request)
        except NoDecision as error:
            self.is_unchecked = True
            self.authorized = self._without_answer(error, request.cost if request.HasField("cost") else 1)
            self.forbid_identity()
            return self.authorized
        decision = self.authorized = Decision.read(answer.decision, is_secured=True)
        self.route, self.client_address = answer.route, answer.client_address
        self._told(AUTHORIZE, decision, began)
        if settle is not None:
            self.unsettled.append((Charge(decision), settle, self.scope))
        if answer.HasField("claims"):
            self.claims = Claims.read(answer.claims)
        if answer.HasField("lease"):
            self._hold(answer.lease)
        self.runtime.identity.update(spelling(name) for name in answer.remove_headers)
        headers = shaped(self.scope["headers"], answer.upstream_headers, answer.remove_headers)
        self.scope["headers"] = headers
        return decision

    async def check(
        self, *policies: str, cost: Cost | None = None, entries: Mapping[str, str] | None = None
    ) -> Decision:
        """Charges these policies, all or none. Raises `RateLimitExceeded` when one refuses, or nobody answers and
        the rule says closed."""
        units = None if cost is None else await cost_of(cost, self.scope)
        return (await self._charge(policies, units, entries, None)).decision

    async def check_and_settle(
        self,
        *policies: str,
        cost: int | None,
        entries: Mapping[str, str] | None,
        settle: tuple[Settle, Any],
        settle_within: float,
    ) -> Decision:
        """As `check`, with the cost as an estimate that `settle` mends when the response is out: a function, and the
        request that it is given."""
        charge = await self._charge(policies, cost, entries, settle_within)
        self.unsettled.append((charge, *settle))
        return charge.decision

    @asynccontextmanager
    async def reserve(
        self,
        *policies: str,
        cost: int | None = None,
        entries: Mapping[str, str] | None = None,
        settle_within: float = SETTLE_SECONDS,
    ) -> AsyncIterator[Charge]:
        """Charges an estimate, as `check` does; at the end of the block what `Charge.settle` was told. A block that
        raises or is cancelled leaves it charged."""
        charge = await self._charge(policies, cost, entries, checked_seconds(settle_within))
        yield charge
        self.runtime.settler.send(charge)

    def settle(self, response: SentResponse) -> None:
        """The response is out: settles what waits for that, once."""
        unsettled, self.unsettled = self.unsettled, []
        for charge, settle, request in unsettled:
            self.runtime.settler.after(charge, settle, request, response)

    async def peek(self, *policies: str, entries: Mapping[str, str] | None = None) -> Decision:
        """What a check would say now; charges nothing and raises nothing."""
        return await self._check(policies, 0, entries, None)

    async def lease(self, *policies: str, entries: Mapping[str, str] | None = None) -> Lease:
        """Takes a lease that ends with the transport at the latest. Raises `RateLimitExceeded` when there is none."""
        connection = pb.Connection(
            domain=self.settings.domain,
            policies=policies,
            entries=self.facts(entries),
            lease_id=new_id(),
            holder=holder(),
            token=self.claims.reference if self.claims is not None else None,
        )
        began = time.monotonic()
        try:
            answer = await self._ask(ACQUIRE, pb.AcquireConnectionRequest(connection=connection))
        except asyncio.CancelledError:
            self.runtime.keeper.forget(connection)
            raise
        except NoDecision as error:
            self.runtime.keeper.forget(connection)
            decision = self._without_answer(error, 0)
            if not decision.allowed:
                raise RateLimitExceeded(decision) from error
            ended = Lease(connection, lambda _: None)
            ended.ended = Ended.RELEASED
            return ended
        decision = Decision.read(answer.decision)
        self._told(ACQUIRE, decision, began)
        self._carry(decision)
        if not decision.allowed:
            raise RateLimitExceeded(decision)
        return self._hold(answer.lease)

    def give_back(self, lease: Lease | None = None) -> None:
        """One lease, or all of this request's; harmless when they are given back already."""
        for one in [lease] if lease is not None else list(self.leases):
            self.runtime.keeper.release(one)
            if one in self.leases:
                self.leases.remove(one)

    def end(self) -> None:
        """The transport is over: what it held is given back, and so is what the handler takes from now on."""
        self.is_over = True
        self.give_back()

    def forbid_identity(self) -> None:
        """Takes away the identity headers that a client sent, where the service is not asked."""
        self.scope["headers"] = shaped(self.scope["headers"], [], self.runtime.identity)

    def facts(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The facts of this request, then the caller's own, which replace."""
        own = {"method": self.scope.get("method", "GET"), "route": self.route, "ip": self.client}
        if self.claims is not None:
            own |= self.claims.entries()
        return entries(own, more or {})

    @property
    def client(self) -> str:
        """The client's address: what the service found; where it was not asked, by `trusted_proxies` here. Empty when
        nobody knows it."""
        if self.client_address is not None:
            if not self.client_address:
                no_address(self.settings.notices)
            return self.client_address
        return client_of(self.scope, self.settings.trusted, self.settings.notices)

    async def _charge(
        self,
        policies: tuple[str, ...],
        units: int | None,
        entries: Mapping[str, str] | None,
        settle_within: float | None,
    ) -> Charge:
        # A peek charges nothing, so there is nothing to settle.
        decision = await self._check(policies, units, entries, None if units == 0 else settle_within)
        self._carry(decision)
        if not decision.allowed:
            raise RateLimitExceeded(decision)
        return Charge(decision)

    async def _check(
        self,
        policies: tuple[str, ...],
        units: int | None,
        entries: Mapping[str, str] | None,
        settle_within: float | None,
    ) -> Decision:
        request = pb.CheckLimitRequest(
            domain=self.settings.domain,
            policies=policies,
            entries=self.facts(entries),
            request_id=new_id(),
            cost=units,
            settle_within=None if settle_within is None else duration(settle_within),
        )
        began = time.monotonic()
        try:
            answer = await self._ask(CHECK_LIMIT, request)
        except NoDecision as error:
            return self._without_answer(error, 1 if units is None else units)
        decision = Decision.read(answer.decision)
        self._told(CHECK_LIMIT, decision, began)
        return decision

    async def _ask(self, rpc: Rpc[Asked, Answered], request: Asked) -> Answered:
        return await self.runtime.client.call(rpc, request, self.rule.deadline or self.settings.deadline)

    def _carry(self, decision: Decision) -> None:
        if len(self.decisions) < MAX_DECISIONS:
            self.decisions.append(decision)

    def _told(self, rpc: Rpc[Asked, Answered], decision: Decision, began: float) -> None:
        names = tuple(status.policy for status in decision.statuses)
        if decision.reason == "partition_missing":
            self.settings.notices.once(
                "W103", f"{', '.join(names) or rpc.name}: the request lacks what it is counted by"
            )
        seconds = time.monotonic() - began
        event = Decided(rpc.name, decision.allowed, decision.reason, decision.mode, self.route, names, seconds)
        self.runtime.events.emit(event)

    def _without_answer(self, error: NoDecision, cost: int) -> Decision:
        if error.cause is Cause.NOT_CONFIGURED:
            self.settings.notices.once("W204", f"quotad does not know what was asked for: {error.detail}")
        choice = self.rule.on_unavailable or self.settings.on_unavailable
        unchecked = Unchecked(choice, self.scope, self.client)
        return unchecked.decide(error, cost, self.settings.bodies, self.runtime.events)

    def _hold(self, granted: pb.Lease) -> Lease:
        lease = self.runtime.keeper.hold(granted, self._lease_ended)
        if self.is_over:
            self.runtime.keeper.release(lease)
            return lease
        self.leases.append(lease)
        if self.on_lease is not None:
            self.on_lease()
        return lease

    def _lease_ended(self, how: Ended) -> None:
        if how is not Ended.RELEASED and self.on_lease_end is not None:
            self.on_lease_end(how)


def duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1_000_000_000))


async def cost_of(cost: Cost, scope: Scope) -> int:
    units = cost(scope) if callable(cost) else cost
    if isawaitable(units):
        units = await units
    return max(0, units)


def current() -> Context:
    """The request or socket that this code runs for."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError(
            "quotad: no Shield is in front of this application; wrap it: app = Shield(app, ...)"
        ) from None


async def entered(context: Context, run: Callable[[], Awaitable[None]]) -> None:
    """Runs the application for this context. The variable is set for what runs inside, and put back after."""
    token = _current.set(context)
    try:
        await run()
    finally:
        _current.reset(token)
