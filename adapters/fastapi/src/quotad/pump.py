"""Reads ahead of the application, so that the end of the transport is seen even when the handler never reads.

Bound: `MESSAGES` messages and `BYTES` bytes; then nothing more is read until the application takes one. A client that
sends so much to a handler that never reads hides its own end until the handler sends something or the lease ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MESSAGES = 16
BYTES = 256 * 1024
ENDS = ("http.disconnect", "websocket.disconnect")


class Pump:
    """Hands messages through as they are until `start`; then reads ahead."""

    def __init__(self, receive: Receive, gone: Callable[[], None]) -> None:
        self._receive = receive
        self._gone = gone
        self._reading = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._messages: deque[Message] = deque()
        self._end: Message | None = None
        self._error: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._read_ahead(), name="quotad: receive")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def end_with(self, message: Message) -> None:
        """What the application gets when it has taken what came before, and from then on."""
        async with self._changed:
            self._end = message
            self._changed.notify_all()

    async def receive(self) -> Message:
        if self._task is None and self._end is None:
            async with self._reading:
                message = await self._receive()
            if message["type"] in ENDS:
                self._end = message
                self._gone()
            return message
        async with self._changed:
            await self._changed.wait_for(lambda: self._messages or self._end is not None or self._error is not None)
            if self._messages:
                message = self._messages.popleft()
                self._changed.notify_all()
                return message
            if self._end is not None:
                return self._end
            assert self._error is not None
            raise self._error

    async def _read_ahead(self) -> None:
        while self._end is None:
            try:
                async with self._reading:
                    if self._end is not None:
                        return
                    message = await self._receive()
            except Exception as error:
                async with self._changed:
                    self._error = error
                    self._changed.notify_all()
                self._gone()
                return
            async with self._changed:
                if message["type"] in ENDS:
                    self._end = self._end or message
                else:
                    self._messages.append(message)
                self._changed.notify_all()
                if self._end is None:
                    await self._changed.wait_for(self._has_room)
            if message["type"] in ENDS:
                self._gone()

    def _has_room(self) -> bool:
        held = sum(
            len(message.get("bytes") or message.get("text") or message.get("body") or "") for message in self._messages
        )
        return self._end is not None or (len(self._messages) < MESSAGES and held < BYTES)
