"""What needs no service: addresses, rules, the breaker, headers."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from quotad import Claims, ConfigurationError, Lease, Rule, Shield
from quotad.address import client_address, networks, parse, partition
from quotad.bodies import Bodies
from quotad.breaker import FAILURES, OPEN_SECONDS, Breaker
from quotad.events import BreakerChanged, Decided, Events, LeaseEnded, Settled, Unavailable
from quotad.headers import vary_origin
from quotad.leases import batches
from quotad.opentelemetry import OpenTelemetry
from quotad.rules import ANY, Rules
from quotad.runtime import Runtimes
from quotad.testing import FakeDecisions
from quotad.v1 import decision_pb2 as pb


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", ["1.1.1.1"], "203.0.113.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ],
)
def test_the_client_is_found_from_the_right_past_trusted_proxies_only(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert str(client_address(peer, forwarded, networks(["10.0.0.0/8"]))) == client


def test_a_subscriber_is_an_ipv4_address_or_a_64_of_ipv6() -> None:
    def cut(text: str) -> str:
        address = parse(text)
        assert address is not None
        return partition(address)

    assert cut("203.0.113.7") == cut("::ffff:203.0.113.7") == "203.0.113.7"
    assert cut("2001:db8:1:2:3:4:5:6") == cut("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert parse("testclient") is parse("") is None


def scope(method: str, path: str, raw: str | None = None) -> dict[str, Any]:
    return {"method": method, "path": path, "raw_path": (raw or path).encode()}


def test_rules_match_like_the_services_routes_and_the_first_holds() -> None:
    login = Rule("POST,PUT /v1/login", cost=2)
    one, deep = Rule("/v1/*/items"), Rule("/v1/**")
    rules = Rules([login, one, deep])
    assert rules.find(scope("POST", "/v1/login")) is login
    assert rules.find(scope("POST", "/v1/login/")) is login
    assert rules.find(scope("POST", "//v1/./x/../login;a=b")) is login
    assert rules.find(scope("GET", "/v1/login")) is deep
    assert rules.find(scope("GET", "/v1/a/items")) is one
    assert rules.find(scope("GET", "/v1")) is deep
    assert rules.find(scope("GET", "/v2")) is ANY
    for wrong in ("v1", "/v*", "post /x", "POST  /x"):
        with pytest.raises(ConfigurationError):
            Rules([Rule(wrong)])


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (Rule("/a", policies="auth"), {}),
        (Rule("/a", policies=["auth"], skip=True), {}),
        (Rule("/a", policies=["auth"]), {"authorize": False}),
    ],
)
def test_policies_that_nobody_would_ask_about_are_a_mistake(rule: Rule, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="policies"):
        Shield(None, environment="development", transport=FakeDecisions(), rules=[rule], **options)


def test_the_user_of_a_token_is_the_services_word() -> None:
    claims = Claims.read(pb.Claims(issuer="https://a", subject="ann", user="https://a~ann"))
    assert claims.entries() == {"user": "https://a~ann"}


def test_a_path_that_reads_in_two_ways_is_never_skipped() -> None:
    rules = Rules([Rule("/health/**", skip=True)])
    assert rules.find(scope("GET", "/health/live")).skip
    for path, raw in (
        ("/health/../me", None),
        ("/me/../health/live", None),
        ("/health/live/", None),
        ("/health/live", "/health%2flive"),
        ("/health//live", None),
        ("/health;x/live", None),
    ):
        assert not rules.find(scope("GET", path, raw)).skip, path


def test_the_breaker_opens_after_five_failures_in_a_row_and_tries_once_a_second() -> None:
    now, changes = [0.0], list[bool]()
    breaker = Breaker(clock=lambda: now[0], changed=changes.append)
    for _ in range(FAILURES - 1):
        breaker.failed()
    breaker.succeeded()
    for _ in range(FAILURES):
        assert breaker.admits()
        breaker.failed()
    assert changes == [True]
    assert not breaker.admits()
    for _ in range(3):
        now[0] += OPEN_SECONDS
        assert [breaker.admits(), breaker.admits()] == [True, False]
        breaker.failed()
    now[0] += OPEN_SECONDS
    assert breaker.admits()
    breaker.succeeded()
    assert changes == [True, False]
    assert breaker.admits()


def test_a_try_that_never_ends_keeps_the_breaker_open_no_longer_than_a_pause() -> None:
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])
    for _ in range(FAILURES):
        breaker.failed()
    now[0] += OPEN_SECONDS
    assert breaker.admits()
    now[0] += OPEN_SECONDS
    assert breaker.admits()


def test_vary_is_one_header_that_names_origin_once() -> None:
    assert vary_origin([]) == [(b"vary", b"Origin")]
    assert vary_origin([(b"vary", b"Accept"), (b"vary", b"origin")]) == [(b"vary", b"Accept, origin")]
    assert vary_origin([(b"vary", b"*")]) == [(b"vary", b"*")]


def test_answers_without_the_service_have_its_two_forms() -> None:
    message = "The limit cannot be checked now. Please try again later."
    uniform, problem = Bodies(problem=False).unavailable(), Bodies(problem=True).unavailable()
    expected = {"status": "error", "code": "RATE_LIMIT_UNAVAILABLE", "message": message, "details": []}
    assert list(json.loads(uniform.body).items()) == list(expected.items())
    kind = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
    expected = {"type": kind, "title": message, "status": 503, "code": "RATE_LIMIT_UNAVAILABLE"}
    assert list(json.loads(problem.body).items()) == list(expected.items())
    assert (uniform.content_type, problem.content_type) == ("application/json", "application/problem+json")


async def test_a_child_process_uses_nothing_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(FakeDecisions):
        async def close(self) -> None:
            raise AssertionError("the parent's channel was closed in the child")

    settings = Shield(None, environment="development", transport=Closed()).settings
    runtimes = Runtimes(settings)
    parents = runtimes.current()
    assert runtimes.current() is parents
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert runtimes.current() is not parents


def test_events_become_metrics_without_anything_that_a_client_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    class Instrument:
        def __init__(self, name: str) -> None:
            self.name = name

        def add(self, value: float, labels: dict[str, Any]) -> None:
            seen.append((self.name, labels))

        record = add

    class Meter:
        def create_counter(self, name: str, **_: Any) -> Instrument:
            return Instrument(name)

        create_histogram = create_counter

    monkeypatch.setattr("quotad.opentelemetry.get_meter", lambda name: Meter())
    count = OpenTelemetry()
    for event in (
        Decided("Authorize", False, "limit_exceeded", "exact", "auth", ("auth-per-ip",), 0.001),
        Unavailable("away", "closed"),
        BreakerChanged(True),
        LeaseEnded("lost"),
        Settled("failed"),
    ):
        count(event)
    assert seen == [
        (
            "quotad.decisions",
            {"rpc": "Authorize", "outcome": "deny", "reason": "limit_exceeded", "mode": "exact", "route": "auth"},
        ),
        ("quotad.decision.duration", {"rpc": "Authorize"}),
        ("quotad.unavailable", {"cause": "away", "handled": "closed"}),
        ("quotad.breaker.changes", {"state": "open"}),
        ("quotad.leases.ended", {"state": "lost"}),
        ("quotad.settlements", {"state": "failed"}),
    ]


def test_a_callback_that_raises_harms_nobody() -> None:
    def broken(event: object) -> None:
        raise RuntimeError("broken")

    Events(broken).emit(LeaseEnded("lost"))


def test_renewals_are_cut_by_number_and_by_bytes() -> None:
    def lease(size: int) -> Lease:
        return Lease(pb.Connection(lease_id="x" * size), lambda _: None)

    assert [len(batch) for batch in batches([lease(32)] * 10_000)] == [4096, 4096, 1808]
    assert max(sum(one.connection.ByteSize() for one in batch) for batch in batches([lease(3_000)] * 1_000)) < 1 << 20
