"""One HTTP request: asked about once, answered with every header, its leases given back when the response is over.

Promise: what the application sends goes out as it comes; nothing is buffered. Its exceptions reach the server as they
are, after a 500 with all headers where it had sent nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

from quotad.cancel import Cancel
from quotad.charge import SentResponse
from quotad.context import Context, entered
from quotad.decision import Headers
from quotad.errors import ConnectionEnded, RateLimitExceeded
from quotad.face import Face
from quotad.facts import fits
from quotad.headers import first
from quotad.leases import Ended
from quotad.pump import Message, Pump, Receive, Send
from quotad.rules import Scope
from quotad.runtime import Runtime
from quotad.settings import Settings

GRACE_SECONDS = 5.0
"""How long a handler may go on for a client whose lease was lost or whose token was revoked."""


async def serve(app: Any, parts: tuple[Settings, Runtime], scope: Scope, receive: Receive, send: Send) -> None:
    settings, runtime = parts
    scope = dict(scope)
    rule = settings.rules.find(scope)
    face = Face(settings, scope, rule)
    if settings.cors.is_preflight(scope["method"], scope["headers"]):
        await face.preflight(send)
        return
    if not fits(scope):
        await face.refuse(send, settings.bodies.too_large())
        return
    context = scope["quotad"] = Context(settings, runtime, scope, rule)
    exchange = Exchange(context, face, receive, send)
    if settings.authorize and not rule.skip:
        decision = await context.authorize()
        if not decision.allowed:
            await face.refuse(send, decision)
            return
    elif settings.authorize:
        context.forbid_identity()
    await exchange.run(app)


class Exchange:
    """A request that the application answers."""

    def __init__(self, context: Context, face: Face, receive: Receive, send: Send) -> None:
        self._context = context
        self._face = face
        self._to_client = send
        self._pump = Pump(receive, self._gone)
        self._cancel = Cancel()
        self._status: int | None = None
        self._headers: Headers = []
        self._size = 0
        self._is_stream = False
        self._is_over = False
        self._ended: Ended | None = None
        self._finishing: asyncio.Task[None] | None = None
        context.on_lease = self._pump.start
        context.on_lease_end = self._lease_ended

    async def run(self, app: Any) -> None:
        async def call() -> None:
            await app(self._context.scope, self._pump.receive, self._send)

        try:
            await entered(self._context, call)
            self._settle()
        except asyncio.CancelledError:
            if not self._cancel.swallow():
                raise
        except RateLimitExceeded as refused:
            # Of an application without exception handlers.
            if self._status is not None:
                raise
            await self._face.refuse(self._to_client, refused.decision)
        except Exception as error:
            if isinstance(error, ConnectionEnded) or isinstance(error.__context__, ConnectionEnded):
                return
            if self._status is None and self._ended is None:
                await self._face.refuse(self._to_client, self._context.settings.bodies.internal())
            raise
        finally:
            self._cancel.disarm()
            self._pump.stop()
            self._context.end()
            if self._finishing is not None:
                # The server takes a return for the end of the response.
                await asyncio.wait([self._finishing], timeout=GRACE_SECONDS)

    async def _send(self, message: Message) -> None:
        if self._ended is not None:
            raise ConnectionEnded(f"quotad: the lease was {self._ended.value}")
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
            headers: Headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
            self._headers = headers
            self._is_stream = (first(headers, b"content-type") or "").startswith("text/event-stream")
            dressed = self._face.dress(headers, self._context.authorized, self._context.decisions)
            message = {**message, "headers": dressed}
        elif kind == "http.response.body":
            self._size += len(message.get("body", b""))
        await self._to_client(message)
        if (kind == "http.response.body" and not message.get("more_body", False)) or kind == "http.response.pathsend":
            self._is_over = True
            self._context.give_back()
            # After a 5xx the application may still raise, and what raises stays charged.
            if self._status is not None and self._status < 500:
                self._settle()

    def _settle(self) -> None:
        """Of a response that is out whole; again it does nothing."""
        if self._is_over and self._status is not None:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._headers}
            self._context.settle(SentResponse(self._status, headers, self._size))

    def _gone(self) -> None:
        """The client has left: what it held is free, whatever the handler still does."""
        self._context.end()
        if not self._is_over and self._context.settings.cancel_after is not None:
            self._cancel.after(self._context.settings.cancel_after)

    def _lease_ended(self, how: Ended) -> None:
        if not self._is_over and self._ended is None:
            self._ended = how
            self._finishing = self._context.runtime.keeper.spawn(self._finish(how))

    async def _finish(self, how: Ended) -> None:
        """A stream of events ends whole, and its client asks again. Any other response breaks off: a short one must not
        look like a whole one."""
        await self._pump.end_with({"type": "http.disconnect"})
        self._cancel.after(GRACE_SECONDS)
        if self._status is None:
            bodies = self._context.settings.bodies
            refusal = bodies.unavailable() if how is Ended.LOST else bodies.token_invalid()
            await self._face.refuse(self._to_client, refusal)
        elif self._is_stream:
            await self._to_client({"type": "http.response.body", "body": b"", "more_body": False})
