"""The circuit breaker: a service that stalls costs its deadline a few times, not for each request.

Promise: after `FAILURES` in a row no call waits, but one every `OPEN_SECONDS` that tries. That pause is short and does
not grow, because a service that is back must be asked again within two seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES = 5
OPEN_SECONDS = 1.0


class Breaker:
    """Of one event loop, so it needs no lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, changed: Callable[[bool], None] | None = None):
        self._clock = clock
        self._changed = changed
        self._failures = 0
        self._next_try: float | None = None

    @property
    def is_open(self) -> bool:
        return self._next_try is not None

    def admits(self) -> bool:
        """Whether to call. While it is open, True is said once a pause: that call is the try."""
        if self._next_try is None:
            return True
        now = self._clock()
        if now < self._next_try:
            return False
        self._next_try = now + OPEN_SECONDS
        return True

    def failed(self) -> None:
        self._failures += 1
        if self._next_try is not None:
            self._next_try = self._clock() + OPEN_SECONDS
        elif self._failures >= FAILURES:
            self._next_try = self._clock() + OPEN_SECONDS
            self._tell(True)

    def succeeded(self) -> None:
        self._failures = 0
        if self._next_try is not None:
            self._next_try = None
            self._tell(False)

    def _tell(self, is_open: bool) -> None:
        if self._changed is not None:
            self._changed(is_open)
