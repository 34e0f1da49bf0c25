"""Fixtures: one quotad for the run, one application for each test; coroutines as tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Quotad, Redis, free_port, running

from quotad import Shield

ORIGIN = "https://app.example.com"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs `async def` tests, each in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), 120))
    return True


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quotad]:
    """A quotad for every test that does not stop it."""
    with running(tmp_path_factory.mktemp("quotad")) as server:
        yield server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Quotad]:
    """A quotad for a test that stops, stalls or restarts it."""
    with running(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    redis = Redis(tmp_path_factory.mktemp("redis"), free_port())
    yield redis
    redis.stop()


@pytest.fixture
def shielded(server: Quotad) -> Any:
    """Makes a Shield over an application."""

    def shield(app: Any, **options: Any) -> Shield:
        settings: dict[str, Any] = {"environment": "production", "origins": [ORIGIN], "deadline": 10.0}
        return Shield(app, options.pop("target", server.target), **(settings | options))

    return shield
