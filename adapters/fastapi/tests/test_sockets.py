"""Sockets and streams against the real service: opened by leave, held by the transport, ended by the service's word."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from conftest import ORIGIN
from fastapi import WebSocket
from sample import make
from support import Quotad, Socket, address, ask, bearer, eventually, http_scope, running, token

from quotad import Context, Messages, RateLimitExceeded, Rule, Shield, current
from quotad.transport import RENEW, REVOKE, GrpcTransport
from quotad.v1 import decision_pb2 as pb


def user() -> str:
    return f"user-{uuid4().hex}"


def refused(socket: Socket) -> int:
    assert socket.kinds == ["websocket.http.response.start", "websocket.http.response.body"]
    return int(socket.sent[0]["status"])


async def leave_all(*sockets: Socket) -> None:
    for socket in sockets:
        socket.leave()
        socket.task.cancel()
    await asyncio.gather(*(socket.task for socket in sockets), return_exceptions=True)


async def test_the_socket_over_the_limit_is_refused_with_429_before_it_opens(shielded: Any) -> None:
    app, headers = shielded(make()), bearer(user())
    first = await Socket(app, "/ws/silent", headers).opened()
    second = await Socket(app, "/ws/echo", headers).opened()
    third = await Socket(app, "/ws/silent", headers).opened()
    assert first.kinds == second.kinds == ["websocket.accept"]
    assert refused(third) == 429
    sent = dict(third.sent[0]["headers"])
    assert sent[b"ratelimit-policy"] == b'"sockets-per-user";q=2;qu="concurrent-requests"'
    assert sent[b"x-frame-options"] == b"DENY"
    assert b"RATE_LIMIT_EXCEEDED" in third.sent[1]["body"]
    await leave_all(first, second)


@pytest.mark.parametrize("path", ["/ws/silent", "/ws/echo"])
async def test_the_lease_is_free_when_the_client_leaves_even_if_the_handler_never_reads(
    shielded: Any, path: str
) -> None:
    inner = make()
    app, headers = shielded(inner), bearer(user())
    for _ in range(3):
        both = [await Socket(app, path, headers).opened() for _ in range(2)]
        assert [socket.kinds for socket in both] == [["websocket.accept"]] * 2
        for socket in both:
            socket.leave()
        await eventually(lambda: len(app._runtimes.current().keeper) == 0)
        await eventually(lambda: not app._runtimes.current().keeper._tasks - {app._runtimes.current().keeper._renewer})
        assert path == "/ws/echo" or not any(socket.task.done() for socket in both)
        for socket in both:
            socket.task.cancel()


async def test_a_handler_whose_client_has_left_is_cancelled_if_so_wished(shielded: Any) -> None:
    inner = make()
    app = shielded(inner, cancel_after=0.01)
    socket = await Socket(app, "/ws/silent", bearer(user())).opened()
    socket.leave()
    await socket.task
    assert inner.state.ended == ["silent"]


async def test_messages_reach_the_handler_in_order_and_so_does_the_end(shielded: Any) -> None:
    inner = make()
    socket = await Socket(shielded(inner), "/ws/echo", bearer(user())).opened()
    for number in range(100):
        socket.text(str(number))
    socket.leave()
    await socket.task
    assert inner.state.ended == ["echo"]
    texts = [message["text"] for message in socket.sent[1:]]
    assert texts == [str(number) for number in range(len(texts))]


async def test_a_foreign_origin_is_refused_before_a_lease_is_taken(shielded: Any) -> None:
    app, headers = shielded(make()), bearer(user())
    for _ in range(3):
        foreign = await Socket(app, "/ws/silent", headers | {"origin": "https://evil.example"}).opened()
        assert refused(foreign) == 403
        assert b"ORIGIN_NOT_ALLOWED" in foreign.sent[1]["body"]
    own = await Socket(app, "/ws/silent", headers | {"origin": ORIGIN}).opened()
    assert own.kinds == ["websocket.accept"]
    await leave_all(own)


async def test_a_socket_without_a_good_token_is_refused_with_401(shielded: Any) -> None:
    app = shielded(make())
    assert refused(await Socket(app, "/ws/silent").opened()) == 401
    wrong = await Socket(app, f"/ws/silent?token={token('a')}x").opened()
    assert refused(wrong) == 401
    good = await Socket(app, f"/ws/silent?token={token('a')}").opened()
    assert good.kinds == ["websocket.accept"]
    await leave_all(good)


async def test_a_server_without_the_extension_gets_a_close(shielded: Any) -> None:
    app = shielded(make())
    socket = await Socket(app, "/ws/silent", extension=False).opened()
    assert socket.kinds == ["websocket.close"]
    told = shielded(make(), accept_then_close=4429)
    socket = await Socket(told, "/ws/silent").opened()
    await eventually(lambda: socket.task.done())
    assert [message["type"] for message in socket.sent] == ["websocket.accept", "websocket.close"]
    assert socket.sent[1]["code"] == 4429


async def test_a_revoked_token_is_refused_on_http_and_sockets_and_closes_an_open_one(
    shielded: Any, server: Quotad
) -> None:
    app, name, token_id = shielded(make()), user(), uuid4().hex
    headers = bearer(name, token_id=token_id)
    silent = await Socket(app, "/ws/silent", headers).opened()
    assert (await ask(app, "GET", "/me", headers=headers)).status == 200
    elsewhere = GrpcTransport(server.target)
    target = pb.RevokeTokenRequest.TokenId(issuer="example-app", id=token_id)
    answer = await elsewhere.call(REVOKE, pb.RevokeTokenRequest(token_id=target), 10.0)
    assert answer.newly_revoked
    revoked = await ask(app, "GET", "/me", headers=headers)
    assert (revoked.status, revoked.json()["code"]) == (401, "TOKEN_INVALID")
    assert refused(await Socket(app, "/ws/silent", headers).opened()) == 401
    assert await silent.closed() == 4401
    await elsewhere.close()


async def test_an_expired_token_closes_an_open_socket(shielded: Any) -> None:
    # The leeway of 30 s is the service's default, so the token is over already when it opens the socket.
    app = shielded(make())
    socket = await Socket(app, "/ws/silent", bearer(user(), seconds=-28, iat=int(time.time()) - 60)).opened()
    assert socket.kinds == ["websocket.accept"]
    assert await socket.closed() == 4401


async def test_revoking_a_subject_closes_its_sockets_of_this_process_at_once(shielded: Any) -> None:
    app, name = shielded(make()), user()
    socket = await Socket(app, "/ws/silent", bearer(name)).opened()
    assert await app.revoke_subject("example-app", name) is True
    assert await socket.closed() == 4401
    assert await app.revoke_subject("example-app", name) in (True, False)
    assert len(app._runtimes.current().keeper) == 0


async def test_all_leases_of_a_process_are_renewed_in_one_call_and_outlive_their_ttl(
    shielded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    call = GrpcTransport.call

    async def counted(self: GrpcTransport, rpc: Any, request: Any, timeout: float) -> Any:
        answer = await call(self, rpc, request, timeout)
        if rpc is RENEW:
            assert {one.state for one in answer.renewals} == {pb.RenewConnectionsResponse.STATE_HELD}
            batches.append(len(request.connections))
        return answer

    monkeypatch.setattr(GrpcTransport, "call", counted)
    app = shielded(make())
    sockets = [await Socket(app, "/ws/silent", bearer(user())).opened() for _ in range(20)]
    # The TTL is 3 s and the renewals come each second: after the fourth, all would be over without them.
    await eventually(lambda: len(batches) >= 4)
    assert batches == [20] * len(batches)
    assert all(socket.kinds == ["websocket.accept"] for socket in sockets)
    await leave_all(*sockets)


ROOMS = """policies:
  - name: sockets-per-room
    domain: rooms
    partition: ["header:x-room"]
    algorithm: concurrency
    limit: 1
    lease_ttl: 3s
"""


async def test_a_lease_of_a_rule_by_any_fact_and_in_any_domain_is_renewed_and_released_as_the_service_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, pb.Connection]] = []
    call = GrpcTransport.call

    async def watched(self: GrpcTransport, rpc: Any, request: Any, timeout: float) -> Any:
        answer = await call(self, rpc, request, timeout)
        if rpc is RENEW:
            seen.extend(
                (pb.RenewConnectionsResponse.State.Name(one.state), asked)
                for one, asked in zip(answer.renewals, request.connections, strict=True)
            )
        return answer

    monkeypatch.setattr(GrpcTransport, "call", watched)
    with running(tmp_path, change=lambda text: text.replace("policies:\n", ROOMS, 1)) as rooms:
        rules = [Rule("/ws/**", policies=["sockets-per-room"])]
        app = Shield(make(), rooms.target, environment="development", deadline=10.0, domain="rooms", rules=rules)
        headers = {"x-room": "blue"}
        first = await Socket(app, "/ws/silent", headers).opened()
        assert first.kinds == ["websocket.accept"]
        # The TTL is 3 s and a renewal comes each second: after the fourth, all would be over without them.
        await eventually(lambda: len(seen) >= 4)
        assert {state for state, _ in seen} == {"STATE_HELD"}
        assert (seen[0][1].domain, dict(seen[0][1].entries)) == ("rooms", {"header:x-room": "blue"})
        assert refused(await Socket(app, "/ws/silent", headers).opened()) == 429
        other = await Socket(app, "/ws/silent", {"x-room": "green"}).opened()
        assert other.kinds == ["websocket.accept"]
        first.leave()
        keeper = app._runtimes.current().keeper
        await eventually(lambda: len(keeper) == 1 and not keeper._tasks - {keeper._renewer})
        again = await Socket(app, "/ws/silent", headers).opened()
        assert again.kinds == ["websocket.accept"]
        await leave_all(first, other, again)
        await app.close()


async def test_a_stream_holds_its_lease_until_the_client_leaves(shielded: Any) -> None:
    inner = make()
    app, headers = shielded(inner), bearer(user())
    chunks: list[bytes] = []
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        chunks.append(message.get("body", b""))

    task = asyncio.ensure_future(app(http_scope("GET", "/events", headers, address()), receive, send))
    await eventually(lambda: b"data: 1\n\n" in chunks)
    second = await ask(app, "GET", "/events", headers=headers)
    assert (second.status, second["ratelimit-policy"]) == (
        429,
        '"streams-per-user";q=1;qu="concurrent-requests"',
    )
    left.set()
    keeper = app._runtimes.current().keeper
    await eventually(lambda: len(keeper) == 0 and not keeper._tasks - {keeper._renewer})
    inner.state.release.set()
    assert (await ask(app, "GET", "/events", headers=headers)).status == 200
    await task


async def test_a_stream_ends_when_its_token_is_revoked(shielded: Any) -> None:
    app, name = shielded(make()), user()
    task = asyncio.ensure_future(ask(app, "GET", "/events", headers=bearer(name)))
    await eventually(lambda: len(app._runtimes.current().keeper) == 1)
    await app.revoke_subject("example-app", name)
    answer = await task
    assert (answer.status, answer.body) == (200, b"data: 1\n\n")


@pytest.mark.parametrize("path", ["/held", "/leased"])
async def test_a_handler_takes_a_lease_of_its_own(shielded: Any, path: str) -> None:
    inner = make()
    app = shielded(inner)
    first = asyncio.ensure_future(ask(app, "GET", path))
    await eventually(lambda: len(app._runtimes.current().keeper) == 1)
    second = await ask(app, "GET", path)
    assert (second.status, second.json()["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    inner.state.release.set()
    assert (await first).status == 200
    keeper = app._runtimes.current().keeper
    await eventually(lambda: len(keeper) == 0 and not keeper._tasks - {keeper._renewer})
    assert (await ask(app, "GET", path)).status == 200


@pytest.mark.parametrize("on_denied", [4429, "drop"])
async def test_messages_are_charged_by_their_cost(shielded: Any, on_denied: Any) -> None:
    limit = Messages("ai-per-user", cost=len, on_denied=on_denied)
    inner = make()
    app = shielded(inner, rules=[Rule("/ws/**", messages=limit)])
    socket = await Socket(app, "/ws/echo", bearer(user())).opened()
    for text in ("ab", "cde", "f"):
        socket.text(text)
    if on_denied == "drop":
        socket.leave()
        await socket.task
    else:
        assert await socket.closed() == 4429
        await socket.task
    texts = [message["text"] for message in socket.sent if message["type"] == "websocket.send"]
    assert texts == ["ab", "cde"]
    assert inner.state.ended == ["echo"]


async def test_a_dependency_refuses_a_socket_before_it_is_accepted(shielded: Any) -> None:
    app = shielded(make(), rules=[Rule("/limited-socket", cost=1)])
    peer = address()
    for _ in range(3):
        assert (await ask(app, "POST", "/dependency", peer=peer)).status == 200
    socket = Socket(app, "/limited-socket", peer=peer)
    await socket.opened()
    assert refused(socket) == 429


async def test_everything_is_given_back_at_the_end_of_the_process(shielded: Any, server: Quotad) -> None:
    name = user()
    app = shielded(make())
    both = [await Socket(app, "/ws/silent", bearer(name)).opened() for _ in range(2)]
    await app.close()
    other: Shield = shielded(make())
    again = await Socket(other, "/ws/silent", bearer(name)).opened()
    assert again.kinds == ["websocket.accept"]
    await leave_all(*both, again)


async def test_a_lease_that_is_taken_after_the_client_has_left_is_not_kept(shielded: Any) -> None:
    inner = make()
    left, taken = asyncio.Event(), asyncio.Event()
    contexts: list[Context] = []

    @inner.websocket("/late")
    async def late(socket: WebSocket) -> None:
        contexts.append(current())
        await socket.accept()
        await left.wait()
        await current().lease("streams-per-user", entries={"user": "late"})
        taken.set()
        await asyncio.Event().wait()

    app = shielded(inner)
    socket = await Socket(app, "/late").opened()
    socket.leave()
    await eventually(lambda: contexts[0].is_over)
    left.set()
    await taken.wait()
    assert len(app._runtimes.current().keeper) == 0
    socket.task.cancel()


@pytest.mark.parametrize("handled", [True, False])
async def test_a_check_that_refuses_in_an_open_socket_closes_it(shielded: Any, handled: bool) -> None:
    inner = make()

    @inner.websocket("/checks")
    async def checks(socket: WebSocket) -> None:
        await socket.accept()
        await current().check("per-account", cost=3, entries={"account": user()})

    app = shielded(inner)
    if not handled:
        del inner.exception_handlers[RateLimitExceeded]
    socket = await Socket(app, "/checks").opened()
    assert await socket.closed() == 4429
    await socket.task
