"""What is measured: commands, and what each is compared with."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
START_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """`command` with `@PORT@`, `@QUOTAD@`, `@QUOTAD_ON_REDIS@`, `@REDIS@` to be replaced."""

    name: str
    command: Sequence[str]
    base: str = ""

    @classmethod
    def read(cls, text: str) -> Server:
        """`NAME=BASE:COMMAND`."""
        name, found, rest = text.partition("=")
        base, colon, command = rest.partition(":")
        if not (name and found and colon and command):
            raise SystemExit(f"--server {text!r}: write NAME=BASE:COMMAND")
        return cls(name, shlex.split(command), base)


def uvicorn(application: str, *env: str) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", "--factory", f"applications:{application}"]
    command += ["--app-dir", str(HERE), "--port", "@PORT@", "--no-access-log", "--log-level", "warning"]
    return ["env", *env, *command]


SERVERS = [
    Server("FastAPI", uvicorn("bare")),
    Server("FastAPI, Shield, quotad", uvicorn("shielded", "QUOTAD=@QUOTAD@"), "FastAPI"),
    Server("FastAPI, Shield, quotad on Redis", uvicorn("shielded", "QUOTAD=@QUOTAD_ON_REDIS@"), "FastAPI"),
    Server("FastAPI, slowapi on Redis", uvicorn("slowapi", "REDIS=redis://@REDIS@"), "FastAPI"),
]


@dataclass(frozen=True)
class Running:
    server: Server
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Of the process, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def process(command: Sequence[str], port: int) -> Iterator[int]:
    """Until it accepts connections; ended by its id."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START_SECONDS
        while not accepts(port):
            if child.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"it does not serve: {shlex.join(command)}")
            time.sleep(0.05)  # between two tries
        yield child.pid
    finally:
        child.kill()
        child.wait()


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def quotad(folder: Path, store: str, more: str = "") -> Iterator[str]:
    binary = os.environ.get("QUOTAD_BIN", str(ROOT / "target" / "release" / "quotad"))
    if not shutil.which(binary):
        raise SystemExit(f"{binary} cannot be run: cargo build --release --bin quotad, or QUOTAD_BIN")
    port = free_port()
    file = folder / f"{port}.yaml"
    text = (HERE / "quotad.yaml").read_text().replace('"@STORE@"', f'"{store}"{more}')
    file.write_text(re.sub(r"127\.0\.0\.1:0\b", f"127.0.0.1:{port}", text))
    with process([binary, "--config", str(file), "--log", "error"], port):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    port = free_port()
    binary = os.environ.get("QUOTAD_REDIS7", "redis-server")
    command = [binary, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with process(command, port):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def running(servers: Sequence[Server], folder: Path) -> Iterator[list[Running]]:
    """All of them, and what they need."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(redis(folder))
        names = {
            "@REDIS@": store,
            "@QUOTAD@": stack.enter_context(quotad(folder, "memory:")),
            "@QUOTAD_ON_REDIS@": stack.enter_context(quotad(folder, f"redis://{store}", ", timeout: 5s")),
        }
        started = []
        for server in servers:
            port = free_port()
            command = [replaced(word, {**names, "@PORT@": str(port)}) for word in server.command]
            started.append(Running(server, port, stack.enter_context(process(command, port))))
        yield started


def replaced(word: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        word = word.replace(name, value)
    return word
