"""The bench of the adapters runs, and a server of another language can be added to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support import BINARY, ROOT

BENCH = ROOT / "benches" / "adapters" / "bench.py"
PLAIN = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(int(sys.argv[2]))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"hi")

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), "--seconds", "0.2", "--rounds", "1", "--in-flight", "1,4", *options]
    env = {**os.environ, "QUOTAD_BIN": BINARY}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_every_server_is_measured_and_compared(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    done = bench("--server", f"plain=FastAPI:{sys.executable} {tmp_path / 'plain.py'} @PORT@ 200")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^\| (.+?) \| .* \| (\d+) \| ([\d.]*) \| [\d.]+ \|$", done.stdout, re.MULTILINE)
    names = ["FastAPI", "FastAPI, Shield, quotad", "FastAPI, Shield, quotad on Redis", "FastAPI, slowapi on Redis"]
    assert [name for name, _, _ in rows] == [*names, "plain"] * 2
    assert all(int(per_second) > 0 for _, per_second, _ in rows)
    assert all((ratio == "") == (name == "FastAPI") for name, _, ratio in rows)


def test_a_server_that_refuses_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    done = bench("--server", f"plain=:{sys.executable} {tmp_path / 'plain.py'} @PORT@ 429", "--only", "plain")
    assert done.returncode != 0
    assert "HTTP/1.1 429" in done.stderr
