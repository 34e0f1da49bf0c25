"""The vectors of adapters/contract, on the embedded store and on Redis."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse
from support import CONTRACT, Answer, Quotad, Redis, Socket, ask, eventually, running, token

from quotad import Shield

FILES = sorted((CONTRACT / "vectors").glob("*.json"))
VECTORS = [(file.stem, vector) for file in FILES for vector in json.loads(file.read_text())]
LOOPBACK = "127.0.0.1"


def application() -> FastAPI:
    """As adapters/contract/README.md describes it."""
    app, mounted = FastAPI(), FastAPI()

    async def fine() -> dict[str, bool]:
        return {"ok": True}

    async def user(request: Request) -> dict[str, str | None]:
        return {"user": request.headers.get("x-user-id")}

    async def own_headers() -> JSONResponse:
        headers = {"X-Frame-Options": "SAMEORIGIN", "Vary": "Accept", "Access-Control-Allow-Origin": "*"}
        return JSONResponse({"ok": True}, headers=headers)

    async def boom() -> None:
        raise RuntimeError("boom")

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    for path in ("/login", "/signup"):
        app.post(path)(fine)
    for path in ("/closed", "/undecided", "/plain"):
        app.get(path)(fine)
    for path in ("/me", "/maybe"):
        app.get(path)(user)
    app.post("/ai/translate")(user)
    app.get("/own-headers")(own_headers)
    app.get("/boom")(boom)
    app.websocket("/ws/echo")(echo)
    mounted.post("/login")(fine)
    app.mount("/mounted", mounted)
    return app


@pytest.fixture(scope="module", params=["memory", "redis"])
def store_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quotad]:
    redis: Redis | None = request.getfixturevalue("redis") if request.param == "redis" else None
    with running(tmp_path_factory.mktemp("contract"), redis.url if redis else "memory:") as server:
        yield server


def headers_of(asked: dict[str, Any]) -> dict[str, str]:
    headers = dict(asked.get("headers", {}))
    if "token" in asked:
        claims = dict(asked["token"])
        bent = claims.pop("bent", False)
        for name in ("iat", "exp"):
            if name in claims:
                claims[name] += int(time.time())
        text = token(claims.pop("sub"), **claims)
        headers["authorization"] = "Bearer " + (
            text[:-4] + ("AAAA" if text[-4:] != "AAAA" else "BBBB") if bent else text
        )
    return headers


def holds(expected: Any, value: str) -> bool:
    if isinstance(expected, dict):
        return re.fullmatch(expected["matches"], value, re.DOTALL) is not None
    return bool(expected == value)


def compare(answer: Answer, expected: dict[str, Any], where: str) -> None:
    if "status" in expected:
        assert expected["status"] == answer.status, (where, answer)
    for name, value in expected.get("headers", {}).items():
        values = answer.all(name)
        assert len(values) == 1, (where, name, values)
        assert holds(value, values[0]), (where, name, values)
    for name in expected.get("absent", ()):
        assert answer.all(name) == [], (where, name)
    if "body" in expected:
        assert holds(expected["body"], answer.body.decode()), (where, answer.body)


def handshake(socket: Socket) -> Answer:
    if socket.kinds[0] == "websocket.accept":
        return Answer(status=101)
    start, body = socket.sent
    headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
    return Answer(status=start["status"], headers=headers, chunks=[body["body"]])


class Player:
    """Plays the steps of one vector."""

    def __init__(self, app: Shield) -> None:
        self._app = app
        self._open: dict[str, Socket] = {}

    async def play(self, step: dict[str, Any], where: str) -> None:
        if "request" in step:
            for _ in range(step.get("times", 1)):
                asked = step["request"]
                headers = headers_of(asked)
                answer = await ask(self._app, asked["method"], asked["path"], headers=headers, peer=LOOPBACK)
                compare(answer, step["response"], where)
            return
        asked = step["socket"]
        if "close" in asked:
            await self._close(self._open.pop(asked["close"]))
            return
        socket = await Socket(self._app, asked["open"], headers_of(asked), peer=LOOPBACK).opened()
        compare(handshake(socket), step["response"], where)
        if socket.kinds[0] == "websocket.accept":
            self._open[asked["name"]] = socket

    async def _close(self, socket: Socket) -> None:
        keeper = self._app._runtimes.current().keeper
        held = len(keeper)
        socket.leave()
        await socket.task
        assert len(keeper) == held - 1
        await eventually(lambda: not keeper._tasks - {keeper._renewer})


@pytest.mark.parametrize(
    "vector", [vector for _, vector in VECTORS], ids=[f"{file}: {v['name']}" for file, v in VECTORS]
)
async def test_vector(store_server: Quotad, vector: dict[str, Any]) -> None:
    settings = {"environment": "production", "origins": ["https://app.example.com"], "deadline": 10.0}
    target = "127.0.0.1:1" if vector.get("service") == "down" else store_server.target
    app = Shield(application(), target, **(settings | vector.get("adapter", {})))
    player = Player(app)
    for number, step in enumerate(vector["steps"]):
        await player.play(step, f"step {number}")
    await app.close()


def test_every_file_of_the_contract_is_played() -> None:
    assert [file.stem for file in FILES] == ["away", "cors", "headers", "limits", "sockets", "tokens"]
