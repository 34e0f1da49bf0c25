"""Charges whose cost is known later: an estimate is reserved, the truth settled behind the response."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from fastapi import FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from support import Quotad, Socket, address, ask, eventually, http_scope, running

from quotad import ConfigurationError, Rule, SentResponse, Shield, settle
from quotad.errors import Cause, NoDecision
from quotad.events import Event, Settled
from quotad.fastapi import limit, peek, reserve
from quotad.testing import FakeDecisions, Policy
from quotad.transport import AUTHORIZE, CHECK_LIMIT, SETTLE
from quotad.v1 import decision_pb2 as pb

DAY = 86_400
POLICIES = [Policy("auth-per-ip", 3, DAY), Policy("ai-per-user", 5, DAY, ["user"])]


@pytest.fixture(scope="module")
def settling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quotad]:
    """The real service."""
    with running(tmp_path_factory.mktemp("settle")) as server:
        yield server


class Case:
    """A Shield, what it said, and what is left under a policy."""

    def __init__(self, server: Quotad | None, transport: Any = None, **options: Any) -> None:
        self.events: list[Event] = []
        target = options.pop("target", server.target if server is not None else "127.0.0.1:1")
        if transport is not None:
            options["transport"] = transport
        options = {"environment": "development", "deadline": 10.0, "on_event": self.events.append} | options
        self.app = Shield(application(), target, **options)
        self.peer = address()

    async def ask(self, path: str) -> Any:
        return await ask(self.app, "POST", path, peer=self.peer)

    async def left(self) -> int:
        return int((await self.ask("/left")).body)

    def settled(self) -> list[str]:
        return [event.state for event in self.events if isinstance(event, Settled)]

    async def settles(self) -> None:
        await eventually(lambda: bool(self.settled()))
        assert self.settled() == ["settled"]

    async def nothing_settles(self) -> None:
        """Whatever was to be sent has been sent."""
        await eventually(lambda: not self.app._runtimes.current().keeper._tasks)
        assert self.settled() == []


@pytest.fixture(params=["fake", "service"])
def case(request: pytest.FixtureRequest) -> Any:
    """Makes a `Case` on the fake, and on the real service."""
    if request.param == "fake":
        return lambda **options: Case(None, FakeDecisions(POLICIES), **options)
    server = request.getfixturevalue("settling")
    return lambda **options: Case(server, **options)


def units(request: Any, response: SentResponse) -> int:
    return int(request.query_params["units"])


def application() -> FastAPI:  # noqa: C901
    app = FastAPI()
    app.state.go_on = asyncio.Event()

    @app.post("/left")
    async def left() -> int:
        return (await peek("auth-per-ip")).statuses[0].remaining

    @app.post("/limited", dependencies=[limit("auth-per-ip", cost=3, settle=units)])
    async def limited(request: Request, response: Response) -> str:
        if "status" in request.query_params:
            raise HTTPException(int(request.query_params["status"]))
        if "boom" in request.query_params:
            raise RuntimeError("boom")
        return "done"

    @app.post("/chatty")
    async def chatty() -> Response:
        return Response(b"1", headers={"X-Units": "2"})

    @app.post("/reserved")
    async def reserved(units: int, then: str = "") -> int:
        async with reserve("auth-per-ip", cost=3) as charge:
            charge.settle(3)
            charge.settle(units)
            if then == "raise":
                raise RuntimeError("boom")
            if then == "wait":
                await asyncio.Event().wait()
        return (await peek("auth-per-ip")).statuses[0].remaining

    @app.post("/by-policy")
    async def by_policy() -> None:
        async with reserve("auth-per-ip", "ai-per-user", cost=2, entries={"user": "by-policy"}) as charge:
            charge.settle({"auth-per-ip": 1})

    @app.post("/stream", dependencies=[limit("auth-per-ip", cost=3, settle=units)])
    async def stream() -> StreamingResponse:
        async def chunks() -> Any:
            yield b"first"
            await app.state.go_on.wait()
            yield b"second"

        return StreamingResponse(chunks())

    return app


@pytest.mark.parametrize(("units", "left"), [(1, 2), (3, 0), (0, 3)])
async def test_a_limit_is_settled_to_what_the_response_has_cost(case: Any, units: int, left: int) -> None:
    one = case()
    answer = await one.ask(f"/limited?units={units}")
    assert (answer.status, answer["ratelimit"].split(";t")[0]) == (200, '"auth-per-ip";r=0')
    await one.settles()
    assert await one.left() == left


async def test_what_was_charged_too_little_delays_the_next_request(case: Any) -> None:
    one = case()
    assert (await one.ask("/limited?units=4")).status == 200
    await one.settles()
    refused = await one.ask("/limited?units=0")
    assert (refused.status, refused.json()["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert 0 < int(refused["retry-after"]) <= DAY


async def test_an_answer_of_the_application_with_an_error_is_settled_too(case: Any) -> None:
    one = case()
    assert (await one.ask("/limited?units=0&status=400")).status == 400
    await one.settles()
    assert await one.left() == 3
    two = case()
    assert (await two.ask("/limited?units=1&status=503")).status == 503
    await two.settles()
    assert await two.left() == 2


@pytest.mark.parametrize("path", ["/limited?units=0&boom=yes", "/reserved?units=0&then=raise"])
async def test_a_handler_that_raises_leaves_the_estimate_charged(case: Any, path: str) -> None:
    one = case()
    answer = await one.ask(path)
    assert (answer.status, str(answer.error)) == (500, "boom")
    await one.nothing_settles()
    assert await one.left() == 0


async def test_a_handler_that_is_cancelled_leaves_the_estimate_charged(case: Any) -> None:
    one = case()
    task = asyncio.ensure_future(one.ask("/reserved?units=0&then=wait"))
    await eventually(lambda: one.events != [] and len(one.events) >= 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await one.nothing_settles()
    assert await one.left() == 0


async def test_a_stream_whose_client_leaves_stays_charged_and_one_that_ends_is_settled(case: Any) -> None:
    one = case()
    chunks: list[bytes] = []
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if left.is_set():
            raise OSError("as servers raise it for a client that has left")
        chunks.append(message.get("body", b"start"))

    scope = http_scope("POST", "/stream?units=1", None, one.peer)
    task = asyncio.ensure_future(one.app(scope, receive, send))
    await eventually(lambda: b"first" in chunks)
    left.set()
    one.app.app.state.go_on.set()
    await asyncio.gather(task, return_exceptions=True)
    await one.nothing_settles()
    assert await one.left() == 0
    two = case()
    two.app.app.state.go_on.set()
    assert (await two.ask("/stream?units=1")).body == b"firstsecond"
    await two.settles()
    assert await two.left() == 2


async def test_a_rule_settles_what_its_route_and_its_policies_charged_in_the_one_call(case: Any) -> None:
    seen: list[SentResponse] = []

    def settle(scope: Any, response: SentResponse) -> int:
        assert scope["path"] == "/chatty"
        seen.append(response)
        return int(response.headers["x-units"])

    one = case(rules=[Rule("/chatty", policies=["auth-per-ip"], cost=3, settle=settle)])
    answer = await one.ask("/chatty")
    assert (answer.status, answer["ratelimit"].split(";t")[0]) == (200, '"auth-per-ip";r=0')
    await one.settles()
    assert await one.left() == 1
    assert (seen[0].status, seen[0].size, seen[0].headers["content-length"]) == (200, 1, "1")


async def test_a_block_settles_at_its_end_and_the_last_word_counts(case: Any) -> None:
    one = case()
    assert (await one.ask("/reserved?units=1")).status == 200
    await one.settles()
    assert await one.left() == 2


async def test_a_policy_that_counts_in_another_unit_is_settled_by_name(case: Any) -> None:
    one = case()
    assert (await one.ask("/by-policy")).status == 200
    await one.settles()
    assert await one.left() == 2
    decision = await one.app.outside().peek("ai-per-user", entries={"user": "by-policy"})
    assert decision.statuses[0].remaining == 3


async def test_a_job_reserves_without_a_request(case: Any) -> None:
    one = case()
    user = address()
    async with one.app.reserve("ai-per-user", cost=5, entries={"user": user}) as charge:
        charge.settle(2)
    await one.settles()
    decision = await one.app.outside().peek("ai-per-user", entries={"user": user})
    assert decision.statuses[0].remaining == 3


async def test_an_estimate_of_nothing_reserves_nothing(case: Any) -> None:
    rule = Rule("/chatty", policies=["auth-per-ip"], cost=lambda scope: 0, settle=lambda scope, response: 3)
    one = case(rules=[rule])
    assert (await one.ask("/chatty")).status == 200
    async with one.app.reserve("ai-per-user", cost=0, entries={"user": "nobody"}) as charge:
        charge.settle(2)
    await one.nothing_settles()
    assert await one.left() == 3


async def test_a_response_that_is_never_finished_stays_charged() -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    fake = FakeDecisions(POLICIES)
    one = Case(None, fake, rules=[Rule("/**", policies=["auth-per-ip"], settle=lambda scope, response: 0)])
    one.app.app = half
    assert (await one.ask("/half")).body == b"half"
    await one.nothing_settles()
    assert fake.used("auth-per-ip") == 1


async def test_a_settlement_goes_over_the_wire_as_the_proto_file_has_it() -> None:
    """The fake behind a real gRPC server: what is lost in a message would be lost here."""
    fake, server = FakeDecisions(POLICIES), grpc.aio.server()

    def served(rpc: Any) -> Any:
        async def handle(request: Any, _: Any) -> Any:
            return await fake.call(rpc, request, 1.0)

        return grpc.unary_unary_rpc_method_handler(
            handle, request_deserializer=rpc.asked.FromString, response_serializer=rpc.answered.SerializeToString
        )

    methods = {rpc.name: served(rpc) for rpc in (AUTHORIZE, CHECK_LIMIT, SETTLE)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("quotad.v1.DecisionService", methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        rule = Rule("/chatty", policies=["auth-per-ip"], cost=3, settle=lambda scope, response: 2, settle_within=0.75)
        one = Case(None, rules=[rule], target=f"127.0.0.1:{port}")
        assert (await one.ask("/chatty")).status == 200
        await one.settles()
        assert fake.used("auth-per-ip") == 2
        two = Case(None, target=f"127.0.0.1:{port}")
        assert (await two.ask("/limited?units=1")).status == 200
        await two.settles()
        assert fake.used("auth-per-ip") == 3
        assert fake.calls == ["Authorize", "SettleCost", "Authorize", "CheckLimit", "SettleCost"]
        for case in (one, two):
            await case.app.close()
    finally:
        await server.stop(None)


async def test_a_socket_reserves_nothing_by_its_rule_because_it_has_no_response() -> None:
    fake = FakeDecisions(POLICIES)
    one = Case(None, fake, rules=[Rule("/ws", policies=["auth-per-ip"], settle=lambda scope, response: 0)])

    @one.app.app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        async with reserve("auth-per-ip", cost=2) as charge:
            charge.settle(1)
        await socket.close()

    socket = Socket(one.app, "/ws", peer=one.peer)
    await socket.closed()
    await one.settles()
    assert (len(fake._reserved), fake.used("auth-per-ip")) == (1, 1 + 1)
    await socket.task


class Unsettled(FakeDecisions):
    """Settles after as many tries as it is told to fail."""

    def __init__(self, failures: int, cause: Cause) -> None:
        super().__init__(POLICIES)
        self.failures, self.cause = failures, cause

    def _SettleCost(self, request: pb.SettleCostRequest) -> pb.SettleCostResponse:
        self.failures -= 1
        if self.failures >= 0:
            raise NoDecision(self.cause, "the fake does not settle")
        return super()._SettleCost(request)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "PAUSES", (0.0, 0.0, 0.0))


@pytest.mark.parametrize("cause", [Cause.AWAY, Cause.UNDECIDED])
async def test_a_settlement_is_tried_again_and_then_done_once(at_once: None, cause: Cause) -> None:
    fake = Unsettled(3, cause)
    one = Case(None, fake)
    assert (await one.ask("/limited?units=1")).status == 200
    await one.settles()
    assert (fake.used("auth-per-ip"), fake.calls.count("SettleCost")) == (1, 4)


@pytest.mark.parametrize(("cause", "tries"), [(Cause.AWAY, 4), (Cause.NOT_CONFIGURED, 1)])
async def test_a_settlement_that_fails_is_an_event_and_a_line_and_no_trouble_of_the_response(
    at_once: None, caplog: pytest.LogCaptureFixture, cause: Cause, tries: int
) -> None:
    fake = Unsettled(100, cause)
    one = Case(None, fake)
    answer = await one.ask("/limited?units=1")
    assert (answer.status, answer.error) == (200, None)
    await eventually(lambda: one.settled() == ["failed"])
    assert (fake.used("auth-per-ip"), fake.calls.count("SettleCost")) == (3, tries)
    assert [record.levelno for record in caplog.records if "it stays charged" in record.message] == [logging.WARNING]


@pytest.mark.parametrize("wrong", [lambda request, response: 1 // 0, lambda request, response: "many"])
async def test_a_function_that_raises_or_says_nonsense_harms_no_response(
    caplog: pytest.LogCaptureFixture, wrong: Any
) -> None:
    fake = FakeDecisions(POLICIES)
    one = Case(None, fake, rules=[Rule("/chatty", policies=["auth-per-ip"], cost=3, settle=wrong)])
    answer = await one.ask("/chatty")
    assert (answer.status, answer.error) == (200, None)
    await eventually(lambda: one.settled() == ["failed"])
    assert "stays charged" in caplog.text
    assert fake.used("auth-per-ip") == 3


async def test_the_response_waits_for_no_settlement() -> None:
    known = asyncio.Event()

    async def later(scope: Any, response: SentResponse) -> int:
        await known.wait()
        return 1

    fake = FakeDecisions(POLICIES)
    one = Case(None, fake, rules=[Rule("/chatty", policies=["auth-per-ip"], cost=3, settle=later)])
    assert (await one.ask("/chatty")).status == 200
    assert "SettleCost" not in fake.calls
    known.set()
    await one.settles()


async def test_a_function_that_says_none_leaves_the_charge_as_it_is() -> None:
    fake = FakeDecisions(POLICIES)
    rule = Rule("/chatty", policies=["auth-per-ip"], cost=3, settle=lambda scope, response: None)
    one = Case(None, fake, rules=[rule])
    assert (await one.ask("/chatty")).status == 200
    await one.nothing_settles()
    assert (fake.used("auth-per-ip"), "SettleCost" in fake.calls) == (3, False)


async def test_what_was_charged_by_nobody_is_settled_by_nobody() -> None:
    fake = FakeDecisions(POLICIES)
    fake.down()
    one = Case(None, fake, on_unavailable="open")
    assert (await one.ask("/limited?units=1")).status == 200
    await one.nothing_settles()
    assert "SettleCost" not in fake.calls


async def test_settlements_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    known = asyncio.Event()

    async def later(scope: Any, response: SentResponse) -> int:
        await known.wait()
        return 0

    monkeypatch.setattr(settle, "PENDING", 2)
    fake = FakeDecisions(POLICIES)
    one = Case(None, fake, rules=[Rule("/chatty", policies=["auth-per-ip"], settle=later)])
    assert [(await one.ask("/chatty")).status for _ in range(3)] == [200] * 3
    assert one.settled() == ["failed"]
    known.set()
    await eventually(lambda: one.settled() == ["failed", "settled", "settled"])
    assert (await one.ask("/chatty")).status == 200
    await eventually(lambda: one.settled().count("settled") == 3)


@pytest.mark.parametrize("seconds", [0.0, 3600.1])
def test_times_beyond_the_services_bounds_are_a_mistake(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="settle_within"):
        limit("a", settle=units, settle_within=seconds)
    rule = Rule("/a", settle=units, settle_within=seconds)
    with pytest.raises(ConfigurationError, match="settle_within"):
        Shield(None, environment="development", transport=FakeDecisions(), rules=[rule])


@pytest.mark.parametrize("options", [{"authorize": False}, {"rules": [Rule("/a", skip=True, settle=units)]}])
def test_a_rule_that_could_settle_nothing_is_a_mistake(options: dict[str, Any]) -> None:
    options = {"rules": [Rule("/a", settle=units)]} | options
    with pytest.raises(ConfigurationError, match="settle"):
        Shield(None, environment="development", transport=FakeDecisions(), **options)


# The fake by itself, as the proto file states it.


async def charged(fake: FakeDecisions, cost: int, *policies: str, within: int = 10) -> bytes:
    request = pb.CheckLimitRequest(policies=policies or ["a"], cost=cost, request_id="x", entries={"ip": "1"})
    request.settle_within.seconds = within
    answer = (await fake.call(CHECK_LIMIT, request, 1.0)).decision
    assert answer.reservation.settle_within.seconds == within
    return answer.reservation.ticket


async def settles(fake: FakeDecisions, ticket: bytes, cost: int | None, **costs: int) -> pb.SettleCostResponse:
    return await fake.call(SETTLE, pb.SettleCostRequest(ticket=ticket, cost=cost, policy_costs=costs), 1.0)


async def test_the_fake_keeps_the_first_settlement() -> None:
    fake = FakeDecisions([Policy("a", 10, 60)])
    ticket = await charged(fake, 5)
    first = await settles(fake, ticket, 2)
    assert (first.policies[0].reserved, first.policies[0].cost, first.policies[0].returned) == (5, 2, 3)
    fake.advance(11)
    assert await settles(fake, ticket, 9) == first
    assert fake.used("a") == 2


async def test_the_fake_settles_nothing_after_the_time() -> None:
    fake = FakeDecisions([Policy("a", 10, 60)])
    ticket = await charged(fake, 5)
    fake.advance(10)
    assert (await settles(fake, ticket, 2)).state == pb.SettleCostResponse.STATE_TOO_LATE
    assert fake.used("a") == 5


async def test_the_fake_gives_back_nothing_twice() -> None:
    fake = FakeDecisions([Policy("a", 10, 60)])
    ticket = await charged(fake, 5, within=100)
    fake.advance(60)
    policy = (await settles(fake, ticket, 2)).policies[0]
    assert (policy.returned, policy.charged, policy.remaining, fake.used("a")) == (0, 0, 10, 0)


async def test_the_fake_charges_beyond_the_limit_and_says_the_delay() -> None:
    fake = FakeDecisions([Policy("a", 10, 60), Policy("b", 10, 30)])
    ticket = await charged(fake, 5, "a", "b", within=50)
    fake.advance(20)
    answer = await settles(fake, ticket, 5, a=12)
    a, b = answer.policies
    assert (a.charged, a.remaining, a.beyond_limit, a.delay.seconds, answer.delay.seconds) == (7, 0, 2, 40, 40)
    assert (b.charged, b.returned, b.remaining, b.HasField("delay")) == (0, 0, 5, False)
    check = pb.CheckLimitRequest(policies=["a"], cost=1, entries={"ip": "1"})
    fake.advance(39)
    assert (await fake.call(CHECK_LIMIT, check, 1.0)).decision.retry_after.seconds == 1
    fake.advance(1)
    assert (await fake.call(CHECK_LIMIT, check, 1.0)).decision.outcome == pb.OUTCOME_ALLOW


async def test_the_fake_refuses_what_the_service_refuses() -> None:
    fake = FakeDecisions([Policy("a", 10, 60)])
    ticket = await charged(fake, 5)
    for request in (
        pb.SettleCostRequest(ticket=b"another", cost=1),
        pb.SettleCostRequest(ticket=ticket),
        pb.SettleCostRequest(ticket=ticket, policy_costs={"b": 1}),
    ):
        with pytest.raises(NoDecision, match="malformed"):
            await fake.call(SETTLE, request, 1.0)
    for wrong in ({"cost": 0, "request_id": "x"}, {"cost": 1}):
        check = pb.CheckLimitRequest(policies=["a"], entries={"ip": "1"}, **wrong)  # type: ignore[arg-type]
        check.settle_within.seconds = 1
        with pytest.raises(NoDecision, match="malformed"):
            await fake.call(CHECK_LIMIT, check, 1.0)
    assert fake.used("a") == 5
