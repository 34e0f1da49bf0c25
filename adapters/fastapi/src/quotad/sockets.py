"""One WebSocket: Origin, token, lease, all before it is accepted; then held as long as the *transport* lives.

Promise: the lease is given back when the client is gone, even if the handler never reads. A socket whose lease was
lost is closed with 1013, one whose token was revoked or has expired with 4401.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from quotad.cancel import Cancel
from quotad.context import Context, entered
from quotad.decision import Decision
from quotad.errors import ConnectionEnded, RateLimitExceeded
from quotad.face import Face
from quotad.facts import fits
from quotad.headers import first
from quotad.http import GRACE_SECONDS
from quotad.leases import Ended
from quotad.pump import Message, Pump, Receive, Send
from quotad.rules import Messages, Scope
from quotad.runtime import Runtime
from quotad.settings import Settings

TRY_AGAIN_LATER = 1013
UNAUTHORIZED = 4401
LIMITED = 4429


async def serve(app: Any, parts: tuple[Settings, Runtime], scope: Scope, receive: Receive, send: Send) -> None:
    settings, runtime = parts
    scope = dict(scope)
    rule = settings.rules.find(scope)
    context = scope["quotad"] = Context(settings, runtime, scope, rule)
    socket = Socket(context, Face(settings, scope, rule), receive, send)
    if not allows_origin(settings, scope):
        await socket.refuse(settings.bodies.origin())
        return
    if not fits(scope):
        await socket.refuse(settings.bodies.too_large())
        return
    if settings.authorize and not rule.skip:
        decision = await context.authorize()
        if not decision.allowed:
            await socket.refuse(decision)
            return
    elif settings.authorize:
        context.forbid_identity()
    await socket.run(app)


def allows_origin(settings: Settings, scope: Scope) -> bool:
    """A handshake without an Origin comes from no browser, so no page is behind it."""
    origin = first(scope["headers"], b"origin")
    if origin is None or settings.cors.allows(origin):
        return True
    return settings.cors.is_off and urlsplit(origin).netloc == first(scope["headers"], b"host")


class Socket:
    """A handshake, and the socket that it becomes."""

    def __init__(self, context: Context, face: Face, receive: Receive, send: Send) -> None:
        self._context = context
        self._face = face
        self._from_client = receive
        self._to_client = send
        self._pump = Pump(receive, self._gone)
        self._cancel = Cancel()
        self._is_accepted = False
        self._is_closed = False
        self._is_gone = False
        context.on_lease_end = self._lease_ended
        scope = context.scope
        scope["quotad.refuse"] = self.refuse

    async def refuse(self, decision: Decision) -> None:
        """An HTTP response where the server can send one (`websocket.http.response`), else a close before accept.
        An open socket is closed."""
        code = self._context.settings.accept_then_close
        if self._is_accepted or self._is_closed:
            await self._close(code or LIMITED, decision.reason)
            return
        self._context.give_back()
        self._is_closed = True
        if code is not None:
            await self._to_client({"type": "websocket.accept"})
            await self._to_client({"type": "websocket.close", "code": code, "reason": decision.reason})
        elif "websocket.http.response" in self._context.scope.get("extensions", {}):
            await self._face.refuse(self._to_client, decision, "websocket.http.response")
        else:
            self._context.settings.notices.once(
                "W112", "this server refuses sockets with a bare 403, not an HTTP response"
            )
            await self._to_client({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": decision.reason})

    async def run(self, app: Any) -> None:
        self._pump.start()

        async def call() -> None:
            await app(self._context.scope, self._receive, self._send)

        try:
            await entered(self._context, call)
        except asyncio.CancelledError:
            if not self._cancel.swallow():
                raise
        except RateLimitExceeded as refused:
            # Of an application without exception handlers.
            await self.refuse(refused.decision)
        except Exception as error:
            # What a framework makes of our own refusal to send on a socket that we closed is no failure.
            if not isinstance(error, ConnectionEnded) and not isinstance(error.__context__, ConnectionEnded):
                raise
        finally:
            self._cancel.disarm()
            self._pump.stop()
            self._context.end()

    async def _receive(self) -> Message:
        limit = self._context.rule.messages
        while True:
            message = await self._pump.receive()
            if limit is None or message["type"] != "websocket.receive" or self._is_closed:
                return message
            if await self._admits(limit, message):
                return message
            if limit.on_denied != "drop":
                await self._close(limit.on_denied, "rate_limit_exceeded")

    async def _admits(self, limit: Messages, message: Message) -> bool:
        content = message.get("bytes")
        if content is None:
            content = message.get("text") or ""
        cost = limit.cost(content) if callable(limit.cost) else limit.cost
        try:
            await self._context.check(limit.policy, cost=cost)
        except RateLimitExceeded:
            return False
        finally:
            self._context.decisions.clear()
        return True

    async def _send(self, message: Message) -> None:
        if self._is_closed:
            raise ConnectionEnded("quotad: the socket is closed")
        kind = message["type"]
        if kind == "websocket.accept":
            self._is_accepted = True
        elif kind == "websocket.close":
            self._is_closed = True
        elif kind == "websocket.http.response.start":
            headers = self._face.dress(
                list(message.get("headers", ())), self._context.authorized, self._context.decisions
            )
            message = {**message, "headers": headers}
        await self._to_client(message)
        if kind == "websocket.close":
            self._context.end()

    def _gone(self) -> None:
        """The client has left: what it held is free, whatever the handler still does."""
        self._is_gone = True
        self._context.end()
        if self._context.settings.cancel_after is not None:
            self._cancel.after(self._context.settings.cancel_after)

    def _lease_ended(self, how: Ended) -> None:
        if not self._is_closed:
            code = TRY_AGAIN_LATER if how is Ended.LOST else UNAUTHORIZED
            self._context.runtime.keeper.spawn(self._close(code, how.value))

    async def _close(self, code: int, reason: str) -> None:
        if self._is_closed or self._is_gone:
            return
        self._is_closed = True
        self._context.end()
        await self._pump.end_with({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._cancel.after(GRACE_SECONDS)
        await self._to_client({"type": "websocket.close", "code": code, "reason": reason})
