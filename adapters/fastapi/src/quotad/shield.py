"""`Shield`: wraps an ASGI application. It stands outside everything, so it sees every response: those of mounted
applications, of the router (404, 405) and of the error handler (500) too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Unpack

from quotad import http, sockets
from quotad.charge import Charge
from quotad.context import Context
from quotad.decision import Decision
from quotad.errors import RateLimitExceeded
from quotad.face import Face
from quotad.pump import Message, Receive, Send
from quotad.rules import ANY, Scope
from quotad.runtime import Runtimes
from quotad.settings import Options, Settings
from quotad.transport import REVOKE
from quotad.v1 import decision_pb2 as pb

REVOKE_SECONDS = 1.0


class Shield:
    """An ASGI application in front of another. Every keyword is described in `quotad.settings.Options`."""

    def __init__(self, app: Any, target: str = "127.0.0.1:50051", **options: Unpack[Options]) -> None:
        self.app = app
        self.settings = Settings.read(target, options)
        self._runtimes = Runtimes(self.settings)
        register(app, self.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await http.serve(self.app, (self.settings, self._runtimes.current()), scope, receive, send)
            case "websocket":
                await sockets.serve(self.app, (self.settings, self._runtimes.current()), scope, receive, send)
            case "lifespan":
                await self._lifespan(scope, receive, send)
            case _:
                await self.app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Connects before the application starts, gives leases back after it has stopped. One that knows no lifespan
        goes on as it would without us: the first request connects."""

        async def warming() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._runtimes.current().warm(self.settings)
            return message

        async def closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await self._runtimes.close()
            await send(message)

        await self.app(scope, warming, closing)

    def outside(self) -> Context:
        """For a job or a script: checks, peeks and leases without a request. Every fact is in `entries`."""
        scope: Scope = {"type": "job", "path": "/", "headers": [], "method": ""}
        return Context(self.settings, self._runtimes.current(), scope, ANY)

    async def check(
        self, *policies: str, cost: int | None = None, entries: Mapping[str, str] | None = None
    ) -> Decision:
        """As `Context.check`, outside of a request."""
        return await self.outside().check(*policies, cost=cost, entries=entries)

    def reserve(
        self, *policies: str, cost: int | None = None, entries: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Charge]:
        """As `Context.reserve`, outside of a request."""
        return self.outside().reserve(*policies, cost=cost, entries=entries)

    async def revoke_subject(self, issuer: str, subject: str) -> bool:
        """Everything issued to this subject so far is refused from now on; its sockets of this process close at once,
        those of others at their next renewal. False: it was so already."""
        target = pb.RevokeTokenRequest.Subject(issuer=issuer, subject=subject)
        runtime = self._runtimes.current()
        answer = await runtime.client.call(REVOKE, pb.RevokeTokenRequest(subject=target), REVOKE_SECONDS)
        runtime.keeper.end_token(issuer, subject, "")
        return answer.newly_revoked

    async def close(self) -> None:
        """Gives back what this event loop holds. Where there is a lifespan, that happens by itself."""
        await self._runtimes.close()


def register(app: Any, settings: Settings) -> None:
    """Gives a Starlette or FastAPI application, and those mounted in it, the handler of `RateLimitExceeded`."""
    handlers = getattr(app, "exception_handlers", None)
    if isinstance(handlers, dict):
        handlers.setdefault(RateLimitExceeded, handler(settings))
    for middleware in getattr(app, "user_middleware", ()):
        if getattr(middleware.cls, "__name__", "") == "CORSMiddleware":
            settings.notices.once(
                "W106", "the application has a CORSMiddleware too; only the Shield's headers are sent"
            )
    for route in getattr(app, "routes", ()) or ():
        mounted = getattr(route, "app", None)
        if getattr(mounted, "exception_handlers", None) is not None:
            register(mounted, settings)


def handler(settings: Settings) -> Callable[[Any, Exception], Any]:
    """An exception handler in Starlette's form, for requests and for sockets that are not accepted yet."""

    async def refused(connection: Any, error: Exception) -> Any:
        assert isinstance(error, RateLimitExceeded)
        if connection.scope["type"] == "websocket":
            await connection.scope["quotad.refuse"](error.decision)
            return None
        return Refused(settings, error.decision)

    return refused


class Refused:
    """A decision as a response, itself an ASGI application."""

    def __init__(self, settings: Settings, decision: Decision) -> None:
        self._settings = settings
        self._decision = decision

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, headers, body = await Face(self._settings, scope, ANY).refusal(self._decision)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
