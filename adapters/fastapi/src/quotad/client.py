"""Calls of the service under a deadline and a breaker, for one process and event loop."""

from __future__ import annotations

import os
import secrets
import socket

from quotad.breaker import Breaker
from quotad.errors import Cause, NoDecision
from quotad.events import BreakerChanged, Events
from quotad.notices import Notices
from quotad.transport import Answered, Asked, Rpc, Transport


class Client:
    """Must never repeat a call that may have been sent: what it charged would be charged twice. Who calls may,
    where the call does no harm twice."""

    def __init__(self, transport: Transport, events: Events, notices: Notices) -> None:
        self._transport = transport
        self._events = events
        self._notices = notices
        self.breaker = Breaker(changed=self._breaker_changed)

    async def call(self, rpc: Rpc[Asked, Answered], request: Asked, timeout: float) -> Answered:
        """Raises `NoDecision`. While the breaker is open that costs no wait."""
        if not self.breaker.admits():
            raise NoDecision(Cause.AWAY, f"{rpc.name}: the breaker is open")
        try:
            answer = await self._transport.call(rpc, request, timeout)
        except NoDecision as error:
            if error.cause is Cause.AWAY:
                self.breaker.failed()
            else:
                self.breaker.succeeded()
            raise
        self.breaker.succeeded()
        return answer

    async def ready(self, timeout: float) -> bool:
        return await self._transport.ready(timeout)

    async def close(self) -> None:
        await self._transport.close()

    def _breaker_changed(self, is_open: bool) -> None:
        self._events.emit(BreakerChanged(is_open))
        if is_open:
            self._notices.change("W201", "quotad does not answer; each rule's on_unavailable holds")
        else:
            self._notices.change("W202", "quotad answers again")


def new_id() -> str:
    """A request or lease id: 128 random bits, made here, never taken from a client."""
    return secrets.token_hex(16)


def holder() -> str:
    """Who holds this process's leases, as operators see it."""
    return f"{socket.gethostname()[:200]}/{os.getpid()}"
