"""The application of the tests: FastAPI, with a mounted one, with what goes wrong, and with sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse

from quotad import Claims
from quotad.fastapi import check, claims, hold, lease, limit, limited, optional_claims, peek

variable: ContextVar[str] = ContextVar("variable", default="unset")


def make() -> FastAPI:  # noqa: C901
    app = FastAPI()
    mounted = FastAPI()
    app.state.background = []
    app.state.release = asyncio.Event()
    app.state.ended = []

    @app.post("/login")
    @app.post("/signup")
    @mounted.post("/login")
    async def login() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/plain")
    async def plain(request: Request) -> dict[str, Any]:
        return {"user": request.headers.get("x-user-id"), "forged": request.headers.get("x_user_id")}

    @app.get("/own-headers")
    async def own_headers() -> JSONResponse:
        headers = {"X-Frame-Options": "SAMEORIGIN", "Vary": "Accept", "Access-Control-Allow-Origin": "*", "Server": "x"}
        return JSONResponse({}, headers=headers | {"X-Powered-By": "y"})

    @app.get("/boom")
    @mounted.get("/boom")
    async def boom() -> None:
        raise RuntimeError("boom")

    @app.get("/me")
    async def me(claims: Claims = Depends(claims)) -> dict[str, Any]:
        return {"user": claims.subject, "plan": claims.all.get("plan")}

    @app.get("/maybe")
    async def maybe(claims: Claims | None = Depends(optional_claims)) -> dict[str, Any]:
        return {"user": claims.subject if claims else None}

    @app.post("/ai/translate")
    async def translate(request: Request) -> dict[str, Any]:
        return {"user": request.headers.get("x-user-id")}

    @app.post("/dependency", dependencies=[limit("auth-per-ip")])
    async def dependency() -> str:
        return "in"

    @mounted.post("/dependency", dependencies=[limit("auth-per-ip")])
    async def mounted_dependency() -> str:
        return "in"

    @app.post(
        "/account",
        dependencies=[
            limit(
                "per-account",
                entries=lambda request: {"account": request.query_params["account"]},
                cost=lambda request: int(request.query_params.get("cost", 1)),
                skip=lambda request: request.headers.get("x-skip") == "yes",
            )
        ],
    )
    async def account() -> str:
        return "in"

    @app.get("/decorated")
    @limited("auth-per-ip")
    async def decorated() -> str:
        return "in"

    @app.get("/threaded")
    @limited("auth-per-ip")
    def threaded() -> str:
        return variable.get()

    @app.get("/inside")
    async def inside(account: str) -> dict[str, Any]:
        entries = {"account": account}
        before = await peek("per-account", entries=entries)
        decision = await check("per-account", cost=2, entries=entries)
        after = await peek("per-account", entries=entries)
        left = [decision.statuses[0].remaining for decision in (before, decision, after)]
        return {"left": left, "after": after.allowed}

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        variable.set("set in the handler")
        tasks.add_task(lambda: app.state.background.append(variable.get()))
        return "soon"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            await app.state.release.wait()
            yield b"second"

        return StreamingResponse(chunks())

    @app.get("/events")
    async def events() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            await app.state.release.wait()

        return StreamingResponse(chunks(), media_type="text/event-stream")

    @app.get("/held", dependencies=[hold("streams-per-user", entries={"user": "held"})])
    async def held() -> StreamingResponse:
        return await events()

    @app.get("/leased")
    async def leased() -> str:
        async with lease("streams-per-user", entries={"user": "leased"}):
            await app.state.release.wait()
        return "done"

    @app.websocket("/ws/silent")
    async def silent(socket: WebSocket) -> None:
        await socket.accept()
        try:
            await asyncio.Event().wait()
        finally:
            app.state.ended.append("silent")

    @app.websocket("/ws/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)
        app.state.ended.append("echo")

    @app.websocket("/limited-socket")
    async def limited_socket(socket: WebSocket, _: None = limit("auth-per-ip")) -> None:
        await socket.accept()
        await socket.close()

    app.mount("/mounted", mounted)
    return app
