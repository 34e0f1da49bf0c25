"""Limits in this process, while the service is away, by the library `limits` (pip install "quotad[local]").

They hold a process at a time: with four workers and "10/minute" forty may pass. `replicas` divides for that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from quotad.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    retry_after: int
    """Whole seconds, at least 1."""


@dataclass(frozen=True)
class Local:
    """`local("10/minute")`: a moving window for each client address, or for what `key` makes of the ASGI scope."""

    limit: str
    key: Callable[[dict[str, Any]], str] | None = None
    replicas: int = 1
    _state: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            from limits import parse
        except ImportError:
            raise ConfigurationError('on_unavailable=local(...) needs pip install "quotad[local]"') from None
        try:
            item = parse(self.limit)
        except ValueError as error:
            raise ConfigurationError(f"local({self.limit!r}): {error}") from error
        share = max(1, item.amount // max(1, self.replicas))
        self._state["item"] = type(item)(share, item.multiples)

    def hit(self, key: str, cost: int) -> Verdict:
        """Counts when it fits; a cost of 0 only looks whether one more would. Memory is bounded by the number of
        keys seen in one window."""
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        limiter = self._state.get("limiter")
        if limiter is None:
            limiter = self._state["limiter"] = MovingWindowRateLimiter(MemoryStorage())
        item = self._state["item"]
        if limiter.hit(item, key, cost=cost) if cost else limiter.test(item, key):
            return Verdict(True, 0)
        wait = limiter.get_window_stats(item, key).reset_time - time.time()
        return Verdict(False, max(1, math.ceil(wait)))


def local(limit: str, *, key: Callable[[dict[str, Any]], str] | None = None, replicas: int = 1) -> Local:
    """For `on_unavailable`. The limit is written as in slowapi: "10/minute", "100 per hour"."""
    return Local(limit, key, replicas)
