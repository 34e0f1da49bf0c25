"""The service is stopped, stalled, restarted: what requests get, how long they wait, what is charged."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sample import make
from support import Quotad, Redis, Socket, address, ask, bearer, config, eventually, free_port, running

from quotad import ConfigurationError, Rule, Shield, local
from quotad.breaker import FAILURES
from quotad.events import BreakerChanged, Event, Unavailable

DEAD = "127.0.0.1:1"


def shield_on(target: str, **options: Any) -> Shield:
    return Shield(make(), target, environment="development", **options)


@pytest.mark.parametrize("cause", ["dead", "stalled"])
async def test_each_rule_says_what_happens_without_an_answer(own_server: Quotad, cause: str) -> None:
    rules = [Rule("POST /login", on_unavailable=local("2/day")), Rule("/plain", on_unavailable="open")]
    events: list[Event] = []
    app = shield_on(own_server.target, rules=rules, on_event=events.append)
    own_server.stop() if cause == "dead" else own_server.stall()
    closed = await ask(app, "POST", "/signup")
    assert (closed.status, closed["retry-after"]) == (503, "1")
    assert closed.body == (
        b'{"status":"error","code":"RATE_LIMIT_UNAVAILABLE",'
        b'"message":"The limit cannot be checked now. Please try again later.","details":[]}'
    )
    assert closed["x-frame-options"] == "DENY"
    peer = address()
    opened = await ask(app, "GET", "/plain", headers={"x-user-id": "admin", "X_User_Id": "admin"})
    assert (opened.status, opened.json()) == (200, {"user": None, "forged": None})
    assert opened.all("ratelimit") == []
    logins = [await ask(app, "POST", "/login", peer=peer) for _ in range(3)]
    assert [login.status for login in logins] == [200, 200, 429]
    assert int(logins[2]["retry-after"]) > 86_000
    assert logins[2].json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert (await ask(app, "POST", "/login")).status == 200, "another address"
    handled = [event.handled for event in events if isinstance(event, Unavailable)]
    assert handled == ["closed", "open", "local", "local", "local", "local"]


async def test_what_passes_unchecked_is_not_logged_in() -> None:
    app = shield_on(DEAD, on_unavailable="open")
    answer = await ask(app, "GET", "/me", headers=bearer("alice"))
    assert (answer.status, answer.json()["code"]) == (503, "TOKEN_CHECK_UNAVAILABLE")
    assert (await ask(app, "GET", "/maybe", headers=bearer("alice"))).json() == {"user": None}


async def test_a_stalled_service_costs_its_deadline_a_few_times_only(own_server: Quotad) -> None:
    events: list[Event] = []
    app = shield_on(own_server.target, on_unavailable="open", deadline=0.2, on_event=events.append)
    assert (await ask(app, "GET", "/plain")).status == 200
    own_server.stall()
    began = time.monotonic()
    for _ in range(FAILURES):
        assert (await ask(app, "GET", "/plain")).status == 200
    waited = time.monotonic() - began
    assert waited >= FAILURES * 0.2
    assert BreakerChanged(is_open=True) in events
    began = time.monotonic()
    for _ in range(20):
        assert (await ask(app, "GET", "/plain")).status == 200
    assert time.monotonic() - began < 20 * 0.2, "the breaker is open: not one deadline for each"
    own_server.signal(signal.SIGCONT)
    await asyncio.sleep(1.1)  # the breaker's pause
    assert (await ask(app, "GET", "/plain")).status == 200
    assert BreakerChanged(is_open=False) in events


async def test_it_is_back_within_two_seconds_of_a_restart_under_load(own_server: Quotad) -> None:
    app = shield_on(own_server.target, on_unavailable="open", deadline=1.0)
    stop, exact = asyncio.Event(), list[float]()

    async def load() -> None:
        while not stop.is_set():
            answer = await ask(app, "POST", "/login")
            assert answer.status == 200
            if answer.all("ratelimit"):
                exact.append(time.monotonic())
            await asyncio.sleep(0.01)  # a hundred requests a second

    task = asyncio.ensure_future(load())
    await eventually(lambda: len(exact) > 10)
    own_server.stop()
    assert (await ask(app, "POST", "/login")).all("ratelimit") == []
    await asyncio.to_thread(own_server.start)
    ready = time.monotonic()
    await eventually(lambda: bool(exact) and exact[-1] > ready)
    back = next(at for at in exact if at > ready) - ready
    stop.set()
    await task
    assert back < 2.0


async def test_an_open_socket_outlives_a_restart_of_the_service(own_server: Quotad) -> None:
    app = shield_on(own_server.target, deadline=5.0)
    socket = await Socket(app, "/ws/silent", bearer("alice")).opened()
    own_server.stop()
    await asyncio.to_thread(own_server.start)
    keeper = app._runtimes.current().keeper
    (lease,) = keeper._held.values()
    # The embedded store has forgotten the lease: it is lost, and the place is free, so it is taken again.
    renewed = lease.renew_at
    await eventually(lambda: lease.renew_at > renewed + 1.0)
    assert (socket.kinds, lease.ended) == (["websocket.accept"], None)
    other = await Socket(app, "/ws/silent", bearer("alice")).opened()
    third = await Socket(app, "/ws/silent", bearer("alice")).opened()
    assert third.sent[0]["status"] == 429
    for one in (socket, other):
        one.leave()
        one.task.cancel()


async def test_a_policy_that_leaves_the_choice_to_the_caller_does_not_open_the_breaker(tmp_path: Path) -> None:
    server = Quotad(tmp_path, config(tmp_path, f"redis://127.0.0.1:{free_port()}")).start()
    try:
        app = shield_on(server.target, on_unavailable="closed", deadline=10.0)
        for _ in range(2 * FAILURES):
            answer = await ask(app, "GET", "/undecided")
            assert (answer.status, answer.json()["code"]) == (503, "RATE_LIMIT_UNAVAILABLE")
        assert not app._runtimes.current().client.breaker.is_open
        denied = await ask(app, "GET", "/closed")
        # The service's own words and ours are the same, but for the policy that only the service knows.
        assert (denied.status, denied.json() | {"details": []}) == (answer.status, answer.json())
        assert set(denied.headers) ^ set(answer.headers) == {
            ("content-length", denied["content-length"]),
            ("content-length", answer["content-length"]),
        }
        assert (await ask(app, "POST", "/login")).status == 200, "local, by the service"
    finally:
        server.stop()


async def test_the_redis_of_quotad_is_killed_under_load_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    redis = Redis(tmp_path, port)
    with running(tmp_path, redis.url) as server:
        app, stop, seen = shield_on(server.target, deadline=10.0), asyncio.Event(), list[tuple[str, int, str]]()

        async def load(method: str, path: str) -> None:
            while not stop.is_set():
                answer = await ask(app, method, path)
                code = answer.json().get("code", "") if answer.status != 200 else ""
                seen.append((path, answer.status, code))
                await asyncio.sleep(0.005)  # two hundred requests a second each

        paths = [("POST", "/login"), ("GET", "/closed"), ("GET", "/undecided")]
        inner = app.app
        for _, path in paths[1:]:
            inner.get(path)(lambda: "in")
        loads = [asyncio.ensure_future(load(*path)) for path in paths]
        everything = {(path, 200, "") for _, path in paths}
        await eventually(lambda: set(seen) == everything)
        redis.stop()
        unavailable = {("/closed", 503, "RATE_LIMIT_UNAVAILABLE"), ("/undecided", 503, "RATE_LIMIT_UNAVAILABLE")}
        await eventually(lambda: set(seen) >= unavailable)
        redis = await asyncio.to_thread(Redis, tmp_path, port)
        await eventually(lambda: set(seen[-30:]) == everything)
        stop.set()
        await asyncio.gather(*loads)
        # Log-ins were decided throughout, by quotad's own memory while Redis was away.
        assert set(seen) == everything | unavailable
        assert not app._runtimes.current().client.breaker.is_open
    redis.stop()


def test_local_limits_divide_by_the_replicas_and_need_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = local("8/minute", replicas=4)
    assert [shared.hit("a", 1).allowed for _ in range(3)] == [True, True, False]
    assert shared.hit("b", 2).allowed
    assert [shared.hit(key, 0).allowed for key in ("b", "c", "c", "c")] == [False, True, True, True]
    with pytest.raises(ConfigurationError, match="ten per minute"):
        local("ten per minute")
    monkeypatch.setitem(sys.modules, "limits", None)
    with pytest.raises(ConfigurationError, match=r"quotad\[local\]"):
        local("1/minute")


async def test_a_warm_start_connects_before_the_first_request(own_server: Quotad) -> None:
    app = shield_on(own_server.target)
    sent: list[str] = []
    messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]
    seen: list[bool] = []

    async def receive() -> dict[str, Any]:
        if sent:
            seen.append(await app._runtimes.current().client.ready(0.001))
        return messages.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert (sent, seen) == (["lifespan.startup.complete", "lifespan.shutdown.complete"], [True])


async def test_an_application_without_lifespan_is_served_and_says_so_as_before(own_server: Quotad) -> None:
    async def plain(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    app = Shield(plain, own_server.target, environment="development", deadline=10.0)

    async def never() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    with pytest.raises(NotImplementedError):
        await app({"type": "lifespan"}, never, never)  # type: ignore[arg-type]
    assert (await ask(app, "GET", "/")).body == b"hello"


def test_two_event_loops_of_one_process_are_served(own_server: Quotad) -> None:
    app = shield_on(own_server.target, deadline=10.0)
    statuses: list[int] = []
    both = threading.Barrier(2)

    async def many() -> None:
        both.wait()
        for _ in range(20):
            statuses.append((await ask(app, "POST", "/login")).status)
        await app.close()

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 40
    statuses.append(asyncio.run(ask(app, "POST", "/login")).status)
    assert statuses[-1] == 200, "a third loop, after the others are closed"


FORKS = """
import asyncio, os, sys
from sample import make
from support import ask, bearer
from quotad import Shield

app = Shield(make(), sys.argv[1], environment="development", deadline=10.0)
children = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        async def work():
            answers = [await ask(app, "GET", "/me", headers=bearer(f"user-{number}")) for _ in range(5)]
            await app.close()
            return all(answer.json()["user"] == f"user-{number}" for answer in answers)
        os._exit(0 if asyncio.run(work()) else 1)
    children.append(pid)
statuses = [os.waitpid(pid, 0)[1] for pid in children]
print("statuses", statuses)
"""


def test_workers_that_are_forked_after_the_import_have_channels_of_their_own(own_server: Quotad) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", FORKS, own_server.target],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "statuses [0, 0, 0]" in done.stdout, done.stdout + done.stderr
