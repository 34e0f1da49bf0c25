"""Sends settlements: behind the response, never in its way.

Promise: a settlement that fails harms nobody's request. The reservation stays charged, a line of the log and an event
say so. To send one again does no harm (the service keeps the first), so it is tried again while its time lasts.
Bound: `PENDING` settlements at once; a further one fails at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from inspect import isawaitable
from typing import Any

from quotad.charge import Actual, Charge, SentResponse, Settle
from quotad.client import Client
from quotad.decision import seconds
from quotad.errors import Cause, NoDecision
from quotad.events import Events, Settled
from quotad.transport import SETTLE
from quotad.v1 import decision_pb2 as pb

log = logging.getLogger("quotad")

PENDING = 10_000
TIMEOUT = 1.0
"""Seconds for one try."""
PAUSES = (0.2, 1.0, 2.0)
"""Seconds between the tries: longer than the breaker is open and than a restart takes, together."""
MAX_COST = 2**32 - 1
State = pb.SettleCostResponse


class Settler:
    """Of one event loop."""

    def __init__(
        self, client: Client, events: Events, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    ) -> None:
        self._client = client
        self._events = events
        self._spawn = spawn
        self._pending = 0

    def after(self, charge: Charge, settle: Settle, request: Any, response: SentResponse) -> None:
        """Asks `settle` what the request has cost, and sends that."""
        if self._admits(charge):
            self._start(self._ask(charge, settle, request, response))

    def send(self, charge: Charge) -> None:
        """What the charge was told that it has cost."""
        if charge.actual is not None and self._admits(charge):
            self._start(self._send(charge))

    def _admits(self, charge: Charge) -> bool:
        if charge.decision.reservation is None:
            return False
        if self._pending >= PENDING:
            self._failed("too many settlements are under way")
            return False
        return True

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._pending += 1
        self._spawn(work).add_done_callback(self._done)

    def _done(self, _: asyncio.Task[None]) -> None:
        self._pending -= 1

    async def _ask(self, charge: Charge, settle: Settle, request: Any, response: SentResponse) -> None:
        assert charge.decision.reservation is not None
        try:
            async with asyncio.timeout(seconds(charge.decision.reservation.settle_within)):
                actual = settle(request, response)
                charge.settle(await actual if isawaitable(actual) else actual)
        except Exception:
            log.exception("quotad: settle raised; the reservation stays charged")
            self._events.emit(Settled("failed"))
            return
        if charge.actual is not None:
            await self._send(charge)

    async def _send(self, charge: Charge) -> None:
        reservation = charge.decision.reservation
        assert reservation is not None
        try:
            request = request_of(reservation.ticket, charge.actual)
        except (TypeError, ValueError) as error:
            self._failed(f"{charge.actual!r} is no cost: {error}")
            return
        end = time.monotonic() + seconds(reservation.settle_within)
        for pause in (*PAUSES, None):
            try:
                answer = await self._client.call(SETTLE, request, TIMEOUT)
            except NoDecision as error:
                again = error.cause in (Cause.AWAY, Cause.UNDECIDED)
                if not again or pause is None or time.monotonic() + pause > end:
                    self._failed(str(error))
                    return
                await asyncio.sleep(pause)
            else:
                self._settled(answer)
                return

    def _settled(self, answer: pb.SettleCostResponse) -> None:
        if answer.state == State.STATE_SETTLED:
            self._events.emit(Settled("settled"))
        else:
            log.warning("quotad: a reservation was settled too late; it stays charged")
            self._events.emit(Settled("too_late"))

    def _failed(self, why: str) -> None:
        log.warning("quotad: a reservation was not settled, it stays charged: %s", why)
        self._events.emit(Settled("failed"))


def request_of(ticket: bytes, actual: Actual) -> pb.SettleCostRequest:
    if isinstance(actual, Mapping):
        costs = {policy: units_of(units) for policy, units in actual.items()}
        return pb.SettleCostRequest(ticket=ticket, policy_costs=costs)
    assert actual is not None
    return pb.SettleCostRequest(ticket=ticket, cost=units_of(actual))


def units_of(cost: float) -> int:
    """Whole units, rounded up; what is beyond the field's range is cut to it."""
    return min(max(0, math.ceil(cost)), MAX_COST)
