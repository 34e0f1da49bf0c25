"""An HTTP/1.1 client in a closed loop: each connection has one request under way."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

REQUEST = b"GET /hello HTTP/1.1\r\nHost: bench\r\n\r\n"


@dataclass
class Load:
    """What one interval saw. `latencies` in seconds."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, part: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class NotAnswered(Exception):
    """A server that refuses or breaks off measures nothing."""


class Connection(asyncio.Protocol):
    def __init__(self, load: Load, end: float) -> None:
        self._load = load
        self._end = end
        self._read = b""
        self._began = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        if not found or len(body) < length(head):
            return
        now = time.perf_counter()
        if not head.startswith(b"HTTP/1.1 200 "):
            self._finish(NotAnswered(self._read.decode(errors="replace")))
            return
        self._load.latencies.append(now - self._began)
        self._read = b""
        if now < self._end:
            self._ask()
        else:
            self._finish(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._finish(NotAnswered(f"the server closed the connection: {error}"))

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(REQUEST)

    def _finish(self, error: Exception | None) -> None:
        if self.done.done():
            return
        self._transport.close()
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


def length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise NotAnswered("an answer without content-length")


async def load(port: int, in_flight: int, seconds: float) -> Load:
    """So many connections for so long."""
    seen = Load()
    began = time.perf_counter()
    end = began + seconds
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(seen, end), "127.0.0.1", port))[1] for _ in range(in_flight)
    ]
    await asyncio.wait_for(asyncio.gather(*(one.done for one in connections)), seconds + 60)
    seen.seconds = time.perf_counter() - began
    return seen
