"""A real quotad, a real Redis, tokens, and an ASGI client that sees what a server would see."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc

from quotad.v1 import decision_pb2 as pb

ROOT = Path(__file__).resolve().parents[3]
CONTRACT = ROOT / "adapters" / "contract"
SECRET = "a secret of the contract that is long enough"
BINARY = os.environ.get("QUOTAD_BIN", str(ROOT / "target" / "debug" / "quotad"))
REDIS = os.environ.get("QUOTAD_REDIS7", "redis-server")
START_SECONDS = 60
"""A machine that builds four things at once starts nothing quickly."""


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits for a condition; fails when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.02)  # between two looks


async def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        await asyncio.sleep(0.01)  # between two looks


class Program:
    """A program that says in a line of its output that it is ready."""

    def __init__(self, command: list[str], ready: str, env: dict[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(env or {})}
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.ready = self.wait_for(ready)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)
        self._queue.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"no {pattern!r} in:\n{''.join(self.lines)}"
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()


@dataclass
class Quotad:
    """The real service; `restart` keeps its port."""

    folder: Path
    config: str
    port: int = 0
    program: Program | None = field(default=None, repr=False)

    def start(self) -> Quotad:
        file = self.folder / "quotad.yaml"
        file.write_text(self.config)
        self.program = Program([BINARY, "--config", str(file), "--listen", f"127.0.0.1:{self.port}"], r"^ready in")
        listening = re.search(r"gRPC +127\.0\.0\.1:(\d+)", "".join(self.program.lines))
        assert listening is not None
        self.port = int(listening[1])
        return self

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def signal(self, number: int) -> None:
        assert self.program is not None
        self.program.signal(number)

    def stall(self) -> None:
        """Returns when every thread stands still."""
        assert self.program is not None
        self.signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.program.process.pid}/task")
        until(lambda: all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks.iterdir()))

    def stop(self) -> None:
        if self.program is not None:
            self.program.stop()
            self.program = None


class Redis:
    """Debian's redis-server on a free port, without files."""

    def __init__(self, folder: Path, port: int) -> None:
        command = [REDIS, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
        self.port = port
        self.program = Program(command, r"Ready to accept connections")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self, *words: str) -> bytes:
        import socket

        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            text = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            connection.sendall(text.encode())
            return connection.recv(4096)

    def stop(self) -> None:
        self.program.stop()


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def config(folder: Path, store: str = "memory:", change: Callable[[str], str] = str) -> str:
    key = folder / "token.key"
    key.write_text(SECRET)
    text = (CONTRACT / "quotad.yaml").read_text()
    if store != "memory:":
        # A busy machine must be no outage: these tests are not about 5 ms.
        text = text.replace('"@STORE@"', '"@STORE@", timeout: 5s')
    return change(text.replace("@STORE@", store).replace("@KEY@", str(key)))


@contextlib.contextmanager
def running(folder: Path, store: str = "memory:", change: Callable[[str], str] = str) -> Iterator[Quotad]:
    server = Quotad(folder, config(folder, store, change)).start()
    try:
        until(lambda: is_exact(server.target), START_SECONDS)
        yield server
    finally:
        server.stop()


def is_exact(target: str) -> bool:
    """Whether every worker reaches its store. Health says SERVING a moment before that, so decisions are looked at:
    over several connections, which go to the workers in turn."""
    request = pb.CheckLimitRequest(policies=["closed"], entries={"ip": "127.0.0.1"}, cost=0)
    options = [("grpc.use_local_subchannel_pool", 1)]
    for _ in range(2 * (os.cpu_count() or 1)):
        with grpc.insecure_channel(target, options=options) as channel:
            check = channel.unary_unary("/quotad.v1.DecisionService/CheckLimit")
            answer = check(request.SerializeToString(), timeout=START_SECONDS, wait_for_ready=True)
            if pb.CheckLimitResponse.FromString(answer).decision.mode != pb.MODE_EXACT:
                return False
    return True


def token(user: str, *, seconds: int = 3600, token_id: str | None = None, **claims: Any) -> str:
    """A token of the contract's issuer. A claim that is None is left out."""
    now = int(time.time())
    payload = {"iss": "example-app", "sub": user, "jti": token_id or uuid4().hex, "iat": now, "exp": now + seconds}
    payload = {name: value for name, value in (payload | claims).items() if value is not None}
    parts = [{"alg": "HS256", "typ": "JWT"}, payload]
    signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{base64url(hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha256))}"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bearer(user: str, **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(user, **claims)}"}


@dataclass
class Answer:
    """A response as it was sent, header by header."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def __getitem__(self, name: str) -> str:
        """The one value of a header."""
        values = self.all(name)
        assert len(values) == 1, f"{name}: {values}"
        return values[0]

    def json(self) -> Any:
        return json.loads(self.body)


def http_scope(method: str, target: str, headers: dict[str, str] | None, peer: str) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in ({"host": "api.example.com"} | (headers or {})).items()
        ],
        "client": (peer, 12345) if peer else None,
        "server": ("127.0.0.1", 80),
        "extensions": {},
        "state": {},
    }


async def ask(
    app: Any, method: str, target: str, *, headers: dict[str, str] | None = None, peer: str = "", body: bytes = b""
) -> Answer:
    """One request. An exception of the application is in the answer: the server would log it."""
    answer, left = Answer(), asyncio.Event()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert answer.status == 0, "two responses"
            answer.status = message["status"]
            answer.headers = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
        else:
            answer.chunks.append(message.get("body", b""))

    try:
        await app(http_scope(method, target, headers, peer or address()), receive, send)
    except Exception as error:
        answer.error = error
    left.set()
    return answer


_addresses = iter(range(1, 60_000))


def address() -> str:
    """A client that no other test has been."""
    number = next(_addresses)
    return f"198.51.{number // 250}.{number % 250 + 1}"


class Socket:
    """A WebSocket client of one handshake."""

    def __init__(
        self, app: Any, target: str, headers: dict[str, str] | None = None, *, extension: bool = True, peer: str = ""
    ) -> None:
        scope = http_scope("GET", target, headers, peer or address()) | {
            "type": "websocket",
            "scheme": "ws",
            "subprotocols": [],
        }
        del scope["method"]
        scope["extensions"] = {"websocket.http.response": {}} if extension else {}
        self.sent: list[dict[str, Any]] = []
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(app(scope, self._to_app.get, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def opened(self) -> Socket:
        await eventually(lambda: bool(self.sent) or self.task.done())
        return self

    @property
    def kinds(self) -> list[str]:
        return [message["type"] for message in self.sent]

    def text(self, text: str) -> None:
        self._to_app.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self, code: int = 1001) -> None:
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": code})

    async def closed(self) -> int:
        """The code with which the application's side closed it."""
        await eventually(lambda: "websocket.close" in self.kinds)
        return int(next(message["code"] for message in self.sent if message["type"] == "websocket.close"))
