"""What needs no service: addresses, rules, the breaker, headers."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import ORIGIN

from quotad import ConfigurationError, Rule
from quotad.address import client_address, networks, parse, partition
from quotad.breaker import FAILURES, OPEN_SECONDS, Breaker
from quotad.headers import vary_origin
from quotad.rules import ANY, Rules


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
    assert ORIGIN
