"""What belongs to one process and one event loop: channel, breaker, leases.

Made at the first use, so after a fork and after an import. What a parent process made is neither used nor closed in
the child: gRPC's threads are not there, and its sockets are the parent's.
"""

from __future__ import annotations

import asyncio
import os
import weakref

from quotad.client import Client
from quotad.events import Events
from quotad.leases import Keeper
from quotad.settings import Settings
from quotad.settle import Settler
from quotad.transport import GrpcTransport

WARM_SECONDS = 1.0
"""How long a start waits for the connection; then it goes on without."""


class Runtime:
    """Of one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.events = Events(settings.on_event)
        transport = settings.transport or GrpcTransport(settings.target, settings.credentials)
        self.client = Client(transport, self.events, settings.notices)
        self.keeper = Keeper(self.client, self.events)
        self.settler = Settler(self.client, self.events, self.keeper.spawn)
        self.identity = set(settings.identity)
        """Headers that clients may not send, by their letters and digits: those of the settings, and what the service
        has named since. Bounded by the service's configuration, because a client's spellings of one are one."""

    async def warm(self, settings: Settings) -> None:
        if not await self.client.ready(WARM_SECONDS):
            settings.notices.once(
                "W203", f"quotad at {settings.target} did not answer within {WARM_SECONDS} s of the start"
            )

    async def close(self) -> None:
        await self.keeper.close()
        await self.client.close()


class Runtimes:
    """The one for where we are."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process = os.getpid()
        self._of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime] = weakref.WeakKeyDictionary()
        self._inherited: list[object] = []

    def current(self) -> Runtime:
        if self._process != os.getpid():
            self._inherited.append(self._of)
            self._of = weakref.WeakKeyDictionary()
            self._process = os.getpid()
        loop = asyncio.get_running_loop()
        runtime = self._of.get(loop)
        if runtime is None:
            runtime = self._of[loop] = Runtime(self._settings)
        return runtime

    async def close(self) -> None:
        """Of this loop only."""
        runtime = self.current()
        await runtime.close()
        self._of.pop(asyncio.get_running_loop(), None)
