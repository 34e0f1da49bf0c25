"""`quotad.testing`: what an application's tests can bring about."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from sample import make
from support import Socket, address, ask, eventually

from quotad import Rule, Shield, local
from quotad.errors import Cause, NoDecision
from quotad.leases import Keeper
from quotad.testing import FakeDecisions, Policy, Route
from quotad.v1 import decision_pb2 as pb

POLICIES = [Policy("auth", 2, 60), Policy("ai", 3, 60, ["user"]), Policy("sockets", 1, None, ["user"])]
ROUTES = [Route("POST /login", ["auth"]), Route("/ai/**", ["ai"], True), Route("/ws/**", ["sockets"], True)]


def shield(fake: FakeDecisions, **options: Any) -> Shield:
    return Shield(make(), environment="development", transport=fake, **options)


def bearer(user: str) -> dict[str, str]:
    return {"authorization": f"Bearer {FakeDecisions.token(user)}"}


async def test_time_passes_when_the_test_says_so() -> None:
    fake, peer = FakeDecisions(POLICIES, ROUTES), address()
    app = shield(fake)
    statuses = [(await ask(app, "POST", "/login", peer=peer)).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    fake.advance(59)
    refused = await ask(app, "POST", "/login", peer=peer)
    assert (refused.status, refused["retry-after"], refused["ratelimit-policy"]) == (429, "1", '"auth";q=2;w=60')
    assert refused["x-frame-options"] == "DENY"
    fake.advance(1)
    assert (await ask(app, "POST", "/login", peer=peer)).status == 200
    assert fake.calls == ["Authorize"] * 5


async def test_it_denies_goes_down_stalls_and_comes_back() -> None:
    fake = FakeDecisions(POLICIES, ROUTES)
    app = shield(fake, deadline=0.01, rules=[Rule("/plain", on_unavailable=local("1/hour"))])
    fake.deny("auth")
    assert (await ask(app, "POST", "/login")).status == 429
    for trouble in (fake.down, fake.stall):
        fake.restore()
        assert (await ask(app, "POST", "/login")).status == 200
        trouble()
        assert (await ask(app, "POST", "/login")).status == 503
    peer = address()
    assert [(await ask(app, "GET", "/plain", peer=peer)).status for _ in range(2)] == [200, 429]


async def test_a_local_limit_charges_what_the_request_costs() -> None:
    fake = FakeDecisions(POLICIES, ROUTES)
    fake.down()
    app = shield(fake, rules=[Rule("/plain", cost=3, on_unavailable=local("5/hour"))])
    peer = address()
    assert [(await ask(app, "GET", "/plain", peer=peer)).status for _ in range(2)] == [200, 429]


async def test_policies_of_a_rule_are_charged_with_those_of_the_route() -> None:
    fake = FakeDecisions([*POLICIES, Policy("one", 1, None, ["ip"])], ROUTES)
    app, peer = shield(fake, rules=[Rule("/ai/**", policies=["auth"]), Rule("/ws/**", policies=["one"])]), address()
    statuses = [(await ask(app, "POST", "/ai/translate", headers=bearer("ann"), peer=peer)).status for _ in range(3)]
    assert (statuses, fake.calls) == ([200, 200, 429], ["Authorize"] * 3)
    socket = await Socket(app, "/ws/silent", bearer("ann"), peer=peer).opened()
    other = await Socket(app, "/ws/silent", bearer("bob"), peer=peer).opened()
    assert (other.sent[0]["status"], fake.held("one"), fake.held("sockets")) == (429, 1, 1)
    socket.leave()
    await eventually(lambda: fake.held("one") == fake.held("sockets") == 0)
    socket.task.cancel()


async def test_a_local_limit_counts_the_client_that_the_service_saw() -> None:
    class BehindProxies(FakeDecisions):
        def _Authorize(self, request: pb.AuthorizeRequest) -> pb.AuthorizeResponse:
            answer = super()._Authorize(request)
            answer.client_address = request.http.peer_address.replace("10.0.0.", "203.0.113.")
            return answer

        def _CheckLimit(self, request: pb.CheckLimitRequest) -> pb.CheckLimitResponse:
            assert request.entries["ip"] == "203.0.113.7"
            raise NoDecision(Cause.AWAY, "the fake is away")

    limit = local("2/hour")
    app = shield(BehindProxies(), on_unavailable=limit)
    statuses = [(await ask(app, "POST", "/dependency", peer="10.0.0.7")).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert not limit.hit("203.0.113.7", 1).allowed


async def test_tokens_and_revocation() -> None:
    fake = FakeDecisions(POLICIES, ROUTES)
    app = shield(fake)
    assert (await ask(app, "POST", "/ai/translate")).status == 401
    answer = await ask(app, "POST", "/ai/translate", headers=bearer("alice"))
    assert (answer.status, answer.json()) == (200, {"user": "alice"})
    fake.revoke("alice")
    assert (await ask(app, "POST", "/ai/translate", headers=bearer("alice"))).status == 401


async def test_leases_are_held_given_back_lost_and_revoked(monkeypatch: Any) -> None:
    fake = FakeDecisions(POLICIES, ROUTES)
    app = shield(fake)
    first = await Socket(app, "/ws/silent", bearer("alice")).opened()
    second = await Socket(app, "/ws/silent", bearer("alice")).opened()
    assert (first.kinds, second.sent[0]["status"], fake.held("sockets")) == (["websocket.accept"], 429, 1)
    first.leave()
    await eventually(lambda: fake.held("sockets") == 0)
    first.task.cancel()
    third = await Socket(app, "/ws/silent", bearer("alice")).opened()
    fake.revoke("alice")
    await renewed(app)
    assert await third.closed() == 4401
    fourth = await Socket(app, "/ws/silent", bearer("bob")).opened()
    fake.lose_leases()
    other = await Socket(shield(fake), "/ws/silent", bearer("bob")).opened()
    await renewed(app)
    assert await fourth.closed() == 1013
    assert other.kinds == ["websocket.accept"]
    for socket in (third, fourth, other):
        socket.task.cancel()


async def test_a_lost_lease_whose_place_is_free_is_taken_again() -> None:
    fake = FakeDecisions(POLICIES, ROUTES)
    app = shield(fake)
    socket = await Socket(app, "/ws/silent", bearer("alice")).opened()
    fake.lose_leases()
    await renewed(app)
    assert (socket.kinds, fake.held("sockets")) == (["websocket.accept"], 1)
    assert fake.calls == ["Authorize", "RenewConnections", "AcquireConnection"]
    socket.task.cancel()


async def test_an_outage_closes_no_socket() -> None:
    fake = FakeDecisions(POLICIES, ROUTES)
    app = shield(fake)
    socket = await Socket(app, "/ws/silent", bearer("alice")).opened()
    fake.down()
    await renewed(app)
    assert (socket.kinds, fake.calls[-1]) == (["websocket.accept"], "RenewConnections")
    fake.restore()
    await renewed(app)
    assert (socket.kinds, fake.held("sockets")) == (["websocket.accept"], 1)
    socket.task.cancel()


async def test_a_crowd_that_comes_and_goes_leaves_nothing_behind() -> None:
    fake = FakeDecisions([Policy("sockets", 5, None, ["user"])], [Route("/ws/**", ["sockets"], True)])
    app, chance = shield(fake), random.Random(7)

    async def one(number: int) -> None:
        path = chance.choice(["/ws/silent", "/ws/echo"])
        socket = await Socket(app, path, bearer(f"user-{number % 40}")).opened()
        for _ in range(chance.randrange(30)):
            socket.text("x")
        await asyncio.sleep(chance.random() / 100)  # how long the visit is
        end = chance.choice(["leave", "cancel", "both"])
        if end != "cancel":
            socket.leave()
        if end != "leave":
            socket.task.cancel()
        else:
            await asyncio.sleep(0.05)  # time in which a chatty client's end stays unseen
            socket.task.cancel()
        await asyncio.gather(socket.task, return_exceptions=True)

    await asyncio.gather(*(one(number) for number in range(400)))
    keeper = app._runtimes.current().keeper
    await eventually(lambda: len(keeper) == 0 and not keeper._tasks - {keeper._renewer})
    assert fake.held("sockets") == 0
    assert fake.calls.count("Authorize") == 400


async def renewed(app: Shield) -> None:
    """As when the time of the next renewal has come."""
    keeper: Keeper = app._runtimes.current().keeper
    fake = app.settings.transport
    assert isinstance(fake, FakeDecisions)
    before = len(fake.calls)
    for lease in keeper._held.values():
        lease.renew_at = 0.0  # in the past
    keeper._sooner.set()
    await eventually(lambda: len(fake.calls) > before)
    await asyncio.sleep(0)  # lets the answer arrive


async def test_the_fixture_is_an_empty_fake(decisions: FakeDecisions) -> None:
    assert (await ask(shield(decisions), "GET", "/plain")).status == 200
    assert decisions.calls == ["Authorize"]
    decisions.down()
    try:
        await shield(decisions).revoke_subject("fake", "alice")
    except NoDecision:
        pass
    else:
        raise AssertionError("a revocation that nobody kept was called done")
