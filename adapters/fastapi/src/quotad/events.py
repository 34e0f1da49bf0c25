"""What an application may want to count: typed events for one callback. None holds a token, an address or a query."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger("quotad")


@dataclass(frozen=True, slots=True)
class Decided:
    """An answer of the service. `rpc` is `Authorize`, `CheckLimit` or `AcquireConnection`."""

    rpc: str
    allowed: bool
    reason: str
    mode: str
    route: str
    policies: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer; `handled` says what was done: open, closed or local."""

    cause: str
    handled: str


@dataclass(frozen=True, slots=True)
class BreakerChanged:
    is_open: bool


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """`state`: released, lost, revoked or expired."""

    state: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A reservation's end. `state`: settled; or too_late or failed, and it stays charged."""

    state: str


Event = Decided | Unavailable | BreakerChanged | LeaseEnded | Settled


class Events:
    """Hands events to the application's callback. A callback that raises is logged and harms no request."""

    def __init__(self, callback: Callable[[Event], None] | None) -> None:
        self._callback = callback

    def emit(self, event: Event) -> None:
        if self._callback is None:
            return
        try:
            self._callback(event)
        except Exception:
            log.exception("quotad: on_event raised")
