"""The example under uvicorn with four workers, over real connections, on one quotad."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import httpx
import pytest
from support import BINARY, Program, Quotad, eventually, free_port, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from quotad.v1 import decision_pb2 as pb

EXAMPLE = Path(__file__).parents[1] / "example"
ORIGIN = "https://app.example.com"
TTL = 6.0
assert BINARY


class Uvicorn(Program):
    """`uvicorn app:app`; `workers` are the processes that serve."""

    def __init__(self, quotad: Quotad, workers: int = 4) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/v1"
        env = {
            "QUOTAD": quotad.target,
            "TOKEN_KEY": str(quotad.folder / "data" / "token.key"),
            "ALLOWED_ORIGINS": ORIGIN,
            "ENVIRONMENT": "production",
            "QUOTAD_DEADLINE": "2",
        }
        command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(EXAMPLE)]
        command += ["--port", str(self.port), "--workers", str(workers), "--no-server-header"]
        super().__init__(command, "Application startup complete", env)
        for _ in range(workers - 1):
            self.wait_for("Application startup complete")

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def kill(self) -> None:
        """As when the machine goes: nobody says goodbye."""
        pids = [self.process.pid, *self.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.kill()


def start_quotad(folder: Path) -> Quotad:
    text = (EXAMPLE / "quotad.yaml").read_text().replace("127.0.0.1:50051", "127.0.0.1:0")
    return Quotad(folder, text).start()


@pytest.fixture(scope="module")
def quotad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quotad]:
    server = start_quotad(tmp_path_factory.mktemp("example"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def uvicorn(quotad: Quotad) -> Iterator[Uvicorn]:
    server = Uvicorn(quotad)
    yield server
    server.stop()


def access_token(quotad: Quotad, user: str) -> str:
    import jwt

    now = int(time.time())
    claims = {"iss": "example-app", "sub": user, "jti": uuid4().hex, "iat": now, "exp": now + 3600, "type": "access"}
    return jwt.encode(claims, (quotad.folder / "data" / "token.key").read_bytes().removesuffix(b"\n"), "HS256")


def client() -> httpx.AsyncClient:
    """A connection for each request, so that all workers serve."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(timeout=60, limits=limits, headers={"origin": ORIGIN})


async def open_socket(server: Uvicorn, path: str, token: str) -> ClientConnection:
    return await connect(f"{server.url.replace('http', 'ws')}/ws/{path}?token={token}", origin=ORIGIN, open_timeout=60)  # type: ignore[arg-type]


async def refused(server: Uvicorn, token: str, **options: Any) -> int:
    url = f"{server.url.replace('http', 'ws')}/ws/captions?token={token}"
    with pytest.raises(InvalidStatus) as error:
        await connect(url, open_timeout=60, **options)
    return error.value.response.status_code


async def test_exactly_10_of_24_mixed_auth_calls_of_4_workers_pass(uvicorn: Uvicorn) -> None:
    paths = ["signup", "login", "forgot-password", "reset-password"] * 6
    account = {"email": "ann@example.com", "password": "secret", "full_name": "Ann O'Brien"}
    async with client() as http:
        answers = await asyncio.gather(*(http.post(f"{uvicorn.url}/auth/{path}", json=account) for path in paths))
    assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 14}
    for answer in answers:
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "server" not in answer.headers
        if answer.status_code == 429:
            assert answer.json()["code"] == "RATE_LIMIT_EXCEEDED"
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        elif str(answer.url).endswith("login"):
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("__Secure-refresh_token=")
            assert cookie.endswith("; Path=/api/v1/auth; HttpOnly; Secure; SameSite=Strict")


async def test_30_ai_calls_a_minute_pass_for_each_user(uvicorn: Uvicorn, quotad: Quotad) -> None:
    async with client() as http:

        async def call(number: int, token: str) -> int:
            path = ["transcribe", "translate", "speak"][number % 3]
            headers = {"authorization": f"Bearer {token}", "x-user-id": "somebody else"}
            answer = await http.post(f"{uvicorn.url}/ai/{path}", json={"text": "hello"}, headers=headers)
            return answer.status_code

        for user in ("ann", "bob"):
            token = access_token(quotad, user)
            statuses = await asyncio.gather(*(call(number, token) for number in range(40)))
            assert Counter(statuses) == {200: 30, 429: 10}
        assert (await http.post(f"{uvicorn.url}/ai/speak", json={"text": "hello"})).status_code == 401
        broken = await http.get(f"{uvicorn.url}/broken")
        assert (broken.status_code, broken.headers["x-frame-options"]) == (500, "DENY")
        assert broken.headers["access-control-allow-origin"] == ORIGIN


def used(quotad: Quotad, policy: str, user: str) -> int:
    """By the service's own word: a peek."""
    request = pb.CheckLimitRequest(policies=[policy], entries={"user": user}, cost=0)
    with grpc.insecure_channel(quotad.target) as channel:
        check = channel.unary_unary("/quotad.v1.DecisionService/CheckLimit")
        answer = check(request.SerializeToString(), timeout=60, wait_for_ready=True)
    status = pb.CheckLimitResponse.FromString(answer).decision.statuses[0]
    return status.limit - status.remaining


@pytest.mark.parametrize(
    ("path", "text", "tokens"), [("transcribe", "one two three", 3), ("translate", "one two", 2), ("speak", "hello", 5)]
)
async def test_an_ai_call_is_settled_to_the_tokens_that_it_took(
    uvicorn: Uvicorn, quotad: Quotad, path: str, text: str, tokens: int
) -> None:
    user = f"tokens-{path}"
    headers = {"authorization": f"Bearer {access_token(quotad, user)}"}
    async with client() as http:
        answers = await asyncio.gather(
            *(http.post(f"{uvicorn.url}/ai/{path}", json={"text": text}, headers=headers) for _ in range(8))
        )
        wrong = await http.post(f"{uvicorn.url}/ai/{path}", json={"wrong": text}, headers=headers)
    assert [answer.status_code for answer in answers] == [200] * 8
    assert wrong.status_code == 422
    # A body that FastAPI refuses never came to the model, and costs no token.
    await eventually(lambda: used(quotad, "ai-tokens-per-user", user) == 8 * tokens)
    assert used(quotad, "ai-per-user", user) == 9


async def test_the_sixth_socket_of_a_user_is_refused_and_one_that_leaves_makes_room(
    uvicorn: Uvicorn, quotad: Quotad
) -> None:
    token = access_token(quotad, "carol")
    sockets = [await open_socket(uvicorn, "captions" if number < 4 else "echo", token) for number in range(5)]
    assert await refused(uvicorn, token, origin=ORIGIN) == 429
    await sockets[4].send("hello")
    assert await sockets[4].recv() == "hello"
    # A peer that vanishes without a word, of a handler that never reads.
    sockets[0].transport.abort()
    assert await opens_within(uvicorn, token, 3.0) < 3.0
    assert await refused(uvicorn, access_token(quotad, "dora"), origin="https://evil.example") == 403
    for socket in sockets[1:]:
        await socket.close()


async def opens_within(server: Uvicorn, token: str, seconds: float) -> float:
    """Seconds until a socket opens."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with contextlib.suppress(InvalidStatus):
            socket = await open_socket(server, "echo", token)
            await socket.close()
            return time.monotonic() - began
        await asyncio.sleep(0.05)  # between two tries
    raise AssertionError("still refused")


async def test_kill_9_of_all_workers_frees_their_sockets_within_one_ttl(uvicorn: Uvicorn, quotad: Quotad) -> None:
    token = access_token(quotad, "erin")
    doomed = await asyncio.to_thread(Uvicorn, quotad)
    sockets = [await open_socket(doomed, "captions", token) for _ in range(5)]
    assert len(doomed.workers()) == 4
    # Kept alive by renewals for longer than a TTL.
    await asyncio.sleep(TTL + 1.0)  # what is shown is that nothing happens
    assert await refused(uvicorn, token, origin=ORIGIN) == 429
    doomed.kill()
    waited = await opens_within(uvicorn, token, TTL + 1.0)
    assert waited <= TTL + 0.5
    for socket in sockets:
        socket.transport.abort()


async def test_a_token_that_logs_out_is_refused_everywhere_and_its_socket_closed(
    uvicorn: Uvicorn, quotad: Quotad
) -> None:
    token = access_token(quotad, "finn")
    sockets = [await open_socket(uvicorn, path, token) for path in ("captions", "echo", "captions", "echo")]
    async with client() as http:
        headers = {"authorization": f"Bearer {token}"}
        stream = http.stream("GET", f"{uvicorn.url}/events", headers=headers)
        async with stream as events:
            lines = events.aiter_lines()
            assert (await anext(lines)).startswith("data: ")
            answer = await http.post(f"{uvicorn.url}/auth/logout", headers=headers)
            assert answer.status_code == 200
            assert answer.headers["set-cookie"].startswith("__Secure-refresh_token=; Max-Age=0; Path=/api/v1/auth;")
            async for _ in lines:
                pass
        assert (await http.post(f"{uvicorn.url}/ai/speak", json={"text": "x"}, headers=headers)).status_code == 401
    assert await refused(uvicorn, token, origin=ORIGIN) == 401
    for socket in sockets:
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), TTL)
        assert socket.close_code == 4401


async def test_workers_outlive_a_stall_and_a_restart_of_quotad_under_load(tmp_path: Path) -> None:
    quotad = start_quotad(tmp_path)
    server = await asyncio.to_thread(Uvicorn, quotad)
    try:
        async with client() as http:

            async def call() -> int:
                answer = await http.post(f"{server.url}/ai/speak")
                assert answer.headers["x-frame-options"] == "DENY"
                return answer.status_code

            # Without a token 401 is the service's answer, 503 ours.
            assert await asyncio.gather(*(call() for _ in range(20))) == [401] * 20
            quotad.stall()

            async def timed() -> float:
                began = time.monotonic()
                assert await call() == 503
                return time.monotonic() - began

            # Until the breakers of all workers are open.
            for _ in range(3):
                await asyncio.gather(*(timed() for _ in range(20)))
            waits = [wait for _ in range(5) for wait in await asyncio.gather(*(timed() for _ in range(20)))]
            # The deadline is 2 s. One call a worker and second tries; the others do not wait.
            assert sum(wait > 1.0 for wait in waits) <= 4 * 5 * 2
            quotad.signal(signal.SIGCONT)
            assert await back(call) < 3.0
            quotad.stop()
            assert set(await asyncio.gather(*(call() for _ in range(20)))) == {503}
            account = {"email": "ann@example.com", "password": "secret"}

            async def login() -> int:
                return (await http.post(f"{server.url}/auth/login", json=account)).status_code

            # Local: two a process, of four. Which worker serves a request is the kernel's choice, so many are sent.
            logins = Counter[int]()
            end = time.monotonic() + 30
            while logins[200] < 8:
                assert time.monotonic() < end, logins
                logins.update(await asyncio.gather(*(login() for _ in range(24))))
            logins.update(await asyncio.gather(*(login() for _ in range(48))))
            assert logins[200] == 8
            assert set(logins) == {200, 429}
            await asyncio.to_thread(quotad.start)
            assert await back(call) < 3.0
    finally:
        server.stop()
        quotad.stop()


async def back(call: Any) -> float:
    """Seconds until all workers answer by the service again: two for the promise, one for a busy machine."""
    began = time.monotonic()
    while set(await asyncio.gather(*(call() for _ in range(20)))) != {401}:
        await asyncio.sleep(0.02)  # between two rounds
    return time.monotonic() - began


def test_reload_by_uvicorn_serves_the_new_application(quotad: Quotad, tmp_path: Path) -> None:
    (tmp_path / "reloaded.py").write_text(RELOADED.format(name="first"))
    env = {"QUOTAD": quotad.target, "ENVIRONMENT": "development"}
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "reloaded:app", "--app-dir", str(tmp_path), "--port", str(port)]
    command += ["--reload", "--reload-dir", str(tmp_path)]
    server = Program(command, "Application startup complete", env)
    try:
        assert httpx.get(f"http://127.0.0.1:{port}/").json() == "first"
        (tmp_path / "reloaded.py").write_text(RELOADED.format(name="second"))
        server.wait_for("Application startup complete")
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/").json() == "second")
    finally:
        server.process.send_signal(signal.SIGINT)
        server.process.wait(30)


RELOADED = """
import os
from fastapi import FastAPI
from quotad import Shield

inner = FastAPI()

@inner.get("/")
async def name() -> str:
    return "{name}"

app = Shield(inner, os.environ["QUOTAD"], deadline=5.0)
"""
