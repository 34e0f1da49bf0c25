"""What a request gets that nobody decided about.

Must never: let pass what a client brought about itself, by sending what the service cannot take; nor call an outage a
429 when nothing was counted.
"""

from __future__ import annotations

from quotad.address import parse, partition
from quotad.bodies import Bodies
from quotad.decision import Decision
from quotad.errors import Cause, NoDecision
from quotad.events import Events, Unavailable
from quotad.local import Local
from quotad.rules import OnUnavailable, Scope


class Unchecked:
    """By the choice for one request. `client` is its address, empty when there is none."""

    def __init__(self, choice: OnUnavailable, scope: Scope, client: str) -> None:
        self._choice = choice
        self._scope = scope
        self._client = client

    def decide(self, error: NoDecision, cost: int, bodies: Bodies, events: Events) -> Decision:
        handled, choice = "closed", self._choice
        match error.cause:
            case Cause.MALFORMED:
                decision = bodies.malformed()
            case Cause.NOT_CONFIGURED:
                decision = bodies.not_configured()
            case _ if isinstance(choice, Local):
                handled, decision = "local", self._count(choice, cost, bodies)
            case _ if choice == "open":
                handled, decision = "open", passed("failed_open")
            case _:
                decision = bodies.unavailable()
        events.emit(Unavailable(error.cause.value, handled))
        return decision

    def _count(self, limit: Local, cost: int, bodies: Bodies) -> Decision:
        if limit.key is not None:
            key = limit.key(self._scope)
        else:
            address = parse(self._client)
            key = partition(address) if address is not None else "unknown"
        verdict = limit.hit(key, cost)
        return passed("local") if verdict.allowed else bodies.limited_here(verdict.retry_after)


def passed(mode: str) -> Decision:
    return Decision(allowed=True, reason="unavailable", mode=mode, status=200)
