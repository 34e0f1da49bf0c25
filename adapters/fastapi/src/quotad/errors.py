"""What can go wrong, each with what to do about it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quotad.decision import Decision


class ConfigurationError(ValueError):
    """A setting that would be unsafe or without effect. Raised while the application is put together, never later."""


class Cause(Enum):
    """Why there is no decision."""

    AWAY = "away"
    """Nobody answered in time. Counts for the breaker."""
    UNDECIDED = "undecided"
    """The service answered that it cannot decide now. It is there, so the breaker is not concerned."""
    MALFORMED = "malformed"
    """The request is beyond what the service takes. A client can bring this about, so it must never let one pass."""
    NOT_CONFIGURED = "not configured"
    """The service does not know the domain or policy that was named."""


class NoDecision(Exception):
    """The service gave no decision; nothing is known about the request."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(f"{cause.value}: {detail}")
        self.cause = cause
        self.detail = detail


class RateLimitExceeded(Exception):
    """A check, a dependency or a lease was refused. The handler that `Shield` registers sends `decision` as it is."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(f"refused: {decision.reason} ({decision.status})")
        self.decision = decision


class ConnectionEnded(OSError):
    """Raised by `send` on what is over: servers raise an OSError there too, and frameworks know it."""
