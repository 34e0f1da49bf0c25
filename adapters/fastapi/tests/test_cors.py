"""CORS by environment, and what does not start."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import ORIGIN
from sample import make
from support import address, ask

from quotad import ConfigurationError, Shield

PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}


@pytest.mark.parametrize(
    "origins",
    [
        [],
        ["*"],
        ["null"],
        ["https://a.example/"],
        ["http://a.example"],
        ["https://A.example"],
        ["a.example"],
        ["https://a.example", "https://*.example"],
        ["https://a.example/path"],
        ["https://a.example\n"],
        "https://a.example",
    ],
)
@pytest.mark.parametrize("environment", ["staging", "production", ""])
def test_an_unsafe_list_of_origins_does_not_start(origins: Any, environment: str) -> None:
    with pytest.raises(ConfigurationError, match="origin"):
        Shield(make(), environment=environment, origins=origins)


def test_the_environment_and_the_origins_come_from_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    monkeypatch.delenv("ALLOWED_ORIGINS", raising=False)
    with pytest.raises(ConfigurationError, match="ALLOWED_ORIGINS"):
        Shield(make())
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://a.example, https://b.example:8443")
    shield = Shield(make())
    assert shield.settings.cors.origins == {"https://a.example", "https://b.example:8443"}
    monkeypatch.setenv("ENVIRONMENT", "developement")
    with pytest.raises(ConfigurationError, match="developement"):
        Shield(make())


def test_a_slip_in_a_setting_does_not_start() -> None:
    for wrong in (
        {"orgins": []},
        {"cors": "of"},
        {"error_body": "json"},
        {"on_unavailable": "opne"},
        {"deadline": 0},
        {"trusted_proxies": ["10.0.0.1/8"]},
    ):
        with pytest.raises(ConfigurationError):
            Shield(make(), environment="development", **wrong)  # type: ignore[arg-type]


def test_plain_text_stays_on_this_machine() -> None:
    for target in ("quotad:50051", "10.0.0.1:50051", "dns:///quotad:50051", ""):
        with pytest.raises(ConfigurationError, match="target"):
            Shield(make(), target, environment="development")
    for target in ("localhost:50051", "127.0.0.1:1", "[::1]:1", "unix:/run/quotad.sock", "dns:///localhost:1"):
        Shield(make(), target, environment="development")
    Shield(make(), "quotad:50051", environment="development", insecure=True)


async def test_a_preflight_is_answered_before_anything_is_counted(shielded: Any) -> None:
    app, peer = shielded(make()), address()
    for _ in range(10):
        answer = await ask(app, "OPTIONS", "/login", headers=PREFLIGHT | {"origin": ORIGIN}, peer=peer)
        assert (answer.status, answer.body) == (204, b"")
    assert answer["access-control-allow-origin"] == ORIGIN
    assert answer["access-control-allow-credentials"] == "true"
    assert "POST" in answer["access-control-allow-methods"]
    assert "Content-Type" in answer["access-control-allow-headers"]
    assert answer["vary"] == "Origin"
    assert answer["x-frame-options"] == "DENY"
    assert answer.all("access-control-expose-headers") == []
    assert (await ask(app, "POST", "/login", peer=peer))["ratelimit"].startswith('"auth-per-ip";r=2')


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.com.evil.example", "*"])
async def test_a_foreign_origin_gets_no_cors_header_and_no_error(shielded: Any, origin: str) -> None:
    app = shielded(make())
    for method, headers in (("OPTIONS", PREFLIGHT), ("GET", {})):
        answer = await ask(app, method, "/plain", headers=headers | {"origin": origin})
        assert answer.status in (200, 204)
        assert [name for name, _ in answer.headers if name.startswith("access-control-")] == []
        assert answer["vary"] == "Origin"


async def test_development_lets_every_origin_read_without_credentials(shielded: Any) -> None:
    app = shielded(make(), environment="development", origins=[])
    answer = await ask(app, "GET", "/plain", headers={"origin": "http://localhost:3000"})
    assert answer["access-control-allow-origin"] == "*"
    assert answer.all("access-control-allow-credentials") == []


async def test_switched_off_it_takes_the_applications_own_cors_headers_away_too(shielded: Any) -> None:
    app = shielded(make(), cors="off", origins=[])
    answer = await ask(app, "GET", "/own-headers", headers={"origin": ORIGIN})
    assert [name for name, _ in answer.headers if name.startswith("access-control-")] == []
