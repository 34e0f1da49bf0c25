"""A charge whose true cost is known later: an estimate is reserved, what it really was is settled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quotad.decision import Decision
from quotad.errors import ConfigurationError

SETTLE_SECONDS = 300.0
"""How long a reservation can be settled where nothing else is said: longer than an answer of a model takes."""
MIN_SECONDS, MAX_SECONDS = 0.001, 3_600.0
"""The service's bounds."""

Actual = int | Mapping[str, int] | None
"""What a charge should have been: units for all policies, or units by policy. None: as it was reserved."""


@dataclass(frozen=True, slots=True)
class SentResponse:
    """A response that went out whole. `headers`: the application's own, names in lower case; of a name that came twice
    the last. `size`: bytes of the body."""

    status: int
    headers: Mapping[str, str]
    size: int


Settle = Callable[[Any, SentResponse], Actual | Awaitable[Actual]]
"""A function of the request and its response that says what the request has cost."""


class Charge:
    """A reservation in a handler's hand. Nothing is reserved where `decision.reservation` is None, as without an answer
    of the service; then to settle does nothing."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.actual: Actual = None

    def settle(self, actual: Actual) -> None:
        """Says what it has cost; the last word counts. It is sent when the block of `reserve` ends."""
        self.actual = actual


def checked_seconds(seconds: float) -> float:
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise ConfigurationError(f"settle_within {seconds}: write seconds, from {MIN_SECONDS} to {MAX_SECONDS:.0f}")
    return seconds
