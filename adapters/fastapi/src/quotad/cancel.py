"""Ends a handler from outside, and tells that apart from a cancellation by the server."""

from __future__ import annotations

import asyncio


class Cancel:
    """Of the task that runs a handler."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self.was_ours = False

    def after(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._now)

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _now(self) -> None:
        if self._task is not None and not self._task.done():
            self.was_ours = True
            self._task.cancel()

    def swallow(self) -> bool:
        """Whether the CancelledError in hand is ours; then the task is not cancelled any more."""
        if self.was_ours and self._task is not None:
            self._task.uncancel()
        return self.was_ours
