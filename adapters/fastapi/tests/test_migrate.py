"""Applications that move to quotad, before and after: both are started and asked the same."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import ROOT, Program, Quotad, Redis, free_port

MIGRATE = Path(__file__).parent / "migrate"
PAGE = (ROOT / "docs" / "migrate" / "slowapi.md").read_text()


class Served(Program):
    """One application under uvicorn; `ask` gives statuses."""

    def __init__(self, name: str, env: dict[str, str]) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "uvicorn", f"{name}:app", "--app-dir", str(MIGRATE), "--port", str(self.port)]
        super().__init__(command, "Application startup complete", env)

    def ask(self, method: str, path: str, **headers: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.request(method, url, headers=headers, timeout=60)

    def statuses(self, *asked: Any) -> list[int]:
        return [self.ask(method, path, **headers).status_code for method, path, headers in asked]


class Pair:
    """The old and the new application, each on a Redis of its own."""

    def __init__(self, folder: Path) -> None:
        self.stores = [Redis(folder, free_port()) for _ in range(2)]
        config = (
            f"listen: {{grpc: ['127.0.0.1:0'], admin: null}}\nstore: {{url: '{self.stores[1].url}', timeout: 5s}}\n"
        )
        self.quotad = Quotad(folder, config + (MIGRATE / "slowapi.yaml").read_text()).start()
        self.old = Served("slowapi_old", {"REDIS": self.stores[0].url})
        env = {"QUOTAD": self.quotad.target, "ENVIRONMENT": "development"}
        self.new = Served("patient", env)

    def stop(self) -> None:
        for program in (self.old, self.new, self.quotad, *self.stores):
            program.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    both = Pair(tmp_path)
    yield both
    both.stop()


def many(times: int, method: str, path: str, **headers: str) -> list[tuple[str, str, dict[str, str]]]:
    return [(method, path, headers)] * times


def test_slowapi_and_quotad_let_the_same_requests_pass(pair: Pair) -> None:
    asked = [
        *many(2, "POST", "/login"),
        *many(2, "POST", "/signup"),
        *many(1, "POST", "/login"),
        *many(3, "GET", "/report", x_account="ann"),
        *many(3, "GET", "/report", x_account="bob"),
        *many(3, "GET", "/export"),
        # By itself slowapi counts each path apart.
        *many(3, "GET", "/items/1"),
        *many(3, "GET", "/items/2"),
        *many(5, "GET", "/health"),
    ]
    expected = [200, 200, 200, 429, 429] + [200, 200, 429] * 5 + [200] * 5
    assert pair.old.statuses(*asked) == expected
    assert pair.new.statuses(*asked) == expected
    old, new = pair.old.ask("POST", "/login"), pair.new.ask("POST", "/login")
    assert (old.status_code, new.status_code) == (429, 429)
    assert old.json() == {"error": "Rate limit exceeded: 3 per 1 day"}
    assert "retry-after" not in old.headers
    assert new.json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert 86_000 < int(new.headers["retry-after"]) <= 86_400


def test_slowapi_lets_pass_what_has_no_key_and_quotad_refuses_it(pair: Pair) -> None:
    asked = many(5, "GET", "/report")
    assert pair.old.statuses(*asked) == [200] * 5
    assert pair.new.statuses(*asked) == [403] * 5


def test_without_redis_slowapi_is_500_and_quotad_still_limits(pair: Pair) -> None:
    assert pair.old.statuses(*many(2, "POST", "/login")) == [200] * 2
    assert pair.new.statuses(*many(2, "POST", "/login")) == [200] * 2
    for store in pair.stores:
        store.stop()
    assert pair.old.statuses(*many(3, "POST", "/login")) == [500] * 3
    # What was admitted before is not known without Redis: at most once more the limit, then no more.
    assert pair.new.statuses(*many(5, "POST", "/login")) == [200] * 3 + [429] * 2


def test_the_diff_of_the_page_is_that_of_the_two_applications() -> None:
    old, new = ((MIGRATE / f"slowapi_{name}.py").read_text().splitlines() for name in ("old", "new"))
    diff = "\n".join(difflib.unified_diff(old, new, "main.py", "main.py", lineterm="", n=1))
    assert f"```diff\n{diff}\n```" in PAGE
    assert f"```yaml\n{(MIGRATE / 'slowapi.yaml').read_text()}```" in PAGE
