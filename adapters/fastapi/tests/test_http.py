"""HTTP: one answer of the service a request, all headers on every response, nothing else touched."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import ORIGIN
from fastapi import Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from sample import make, variable
from support import Quotad, address, ask, bearer, eventually, http_scope, token

from quotad import RateLimitExceeded, Rule, Shield
from quotad.events import Decided, Event
from quotad.fastapi import limit
from quotad.transport import GrpcTransport

SECURITY = {
    "strict-transport-security": "max-age=63072000; includeSubDomains",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "strict-origin-when-cross-origin",
}


async def test_the_fourth_login_of_an_address_is_refused_with_the_services_own_bytes(shielded: Any) -> None:
    app, peer = shielded(make()), address()
    for left in (2, 1, 0):
        answer = await ask(app, "POST", "/login", peer=peer)
        assert (answer.status, answer.json()) == (200, {"hello": "world"})
        assert answer["ratelimit"].startswith(f'"auth-per-ip";r={left};t=')
        assert answer["ratelimit-policy"] == '"auth-per-ip";q=3;w=86400'
        assert answer.all("retry-after") == []
    refused = await ask(app, "POST", "/signup", peer=peer, headers={"origin": ORIGIN})
    assert refused.status == 429
    assert refused["content-type"] == "application/json"
    assert refused["content-length"] == str(len(refused.body))
    assert 86300 < int(refused["retry-after"]) <= 86400
    assert refused["cache-control"] == "no-store"
    assert refused["access-control-allow-origin"] == ORIGIN
    assert refused.body.startswith(b'{"status":"error","code":"RATE_LIMIT_EXCEEDED","message":"Too many')
    assert (await ask(app, "POST", "/login")).status == 200, "another address"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/plain", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/plain", 405),
        ("GET", "/boom", 500),
        ("GET", "/mounted/boom", 500),
        ("GET", "/mounted/nowhere", 404),
        ("GET", "/me", 401),
        ("POST", "/account", 500),
        ("OPTIONS", "/plain", 405),
    ],
)
async def test_every_response_has_each_header_once(shielded: Any, method: str, path: str, status: int) -> None:
    answer = await ask(shielded(make()), method, path, headers={"origin": ORIGIN})
    assert answer.status == status
    for name, value in SECURITY.items():
        assert answer[name] == value
    assert answer["access-control-allow-origin"] == ORIGIN
    assert answer["access-control-allow-credentials"] == "true"
    assert answer["access-control-expose-headers"] == "RateLimit, RateLimit-Policy, Retry-After"
    assert answer["vary"] == "Origin"
    names = [name for name, _ in answer.headers]
    assert len(names) == len(set(names))


async def test_an_exception_reaches_the_server_after_a_response_with_headers(shielded: Any) -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("bare")

    answer = await ask(shielded(bare), "GET", "/")
    assert (answer.status, str(answer.error)) == (500, "bare")
    assert answer["x-frame-options"] == "DENY"
    assert answer.json()["code"] == "INTERNAL_SERVER_ERROR"


async def test_the_applications_own_headers_are_replaced_or_kept_but_never_doubled(shielded: Any) -> None:
    answer = await ask(shielded(make()), "GET", "/own-headers", headers={"origin": ORIGIN})
    assert answer["x-frame-options"] == "DENY"
    assert answer["vary"] == "Accept, Origin"
    assert answer["access-control-allow-origin"] == ORIGIN
    assert answer.all("server") == answer.all("x-powered-by") == []
    kept = shielded(make(), keep_headers=["X-Frame-Options"], security_headers={"Referrer-Policy": None, "X-A": "b"})
    answer = await ask(kept, "GET", "/own-headers")
    assert answer["x-frame-options"] == "SAMEORIGIN"
    assert answer.all("referrer-policy") == []
    assert answer["x-a"] == "b"


async def test_the_docs_pages_work_outside_production_only(shielded: Any) -> None:
    staging = await ask(shielded(make(), environment="staging"), "GET", "/docs")
    assert "https://cdn.jsdelivr.net" in staging["content-security-policy"]
    production = await ask(shielded(make()), "GET", "/docs")
    assert production["content-security-policy"] == SECURITY["content-security-policy"]
    other = await ask(shielded(make(), environment="staging"), "GET", "/plain")
    assert other["content-security-policy"] == SECURITY["content-security-policy"]


async def test_identity_headers_are_the_services_word(shielded: Any) -> None:
    app = shielded(make())
    forged = {"x-user-id": "admin", "x_user_id": "admin"}
    assert (await ask(app, "GET", "/plain", headers=forged)).json() == {"user": None, "forged": None}
    answer = await ask(app, "POST", "/ai/translate", headers=forged | bearer("alice"))
    assert (answer.status, answer.json()) == (200, {"user": "alice"})


async def test_tokens_are_checked_by_the_route_and_their_claims_are_handed_over(shielded: Any) -> None:
    app = shielded(make())
    missing = await ask(app, "GET", "/me")
    assert (missing.status, missing["www-authenticate"], missing.json()["code"]) == (401, "Bearer", "TOKEN_MISSING")
    wrong = await ask(app, "GET", "/me", headers={"authorization": f"Bearer {token('a')}x"})
    assert (wrong.status, wrong.json()["code"]) == (401, "TOKEN_INVALID")
    good = await ask(app, "GET", "/me", headers=bearer("alice", plan="gold"))
    assert (good.status, good.json()) == (200, {"user": "alice", "plan": "gold"})
    assert (await ask(app, "GET", "/maybe")).json() == {"user": None}
    assert (await ask(app, "GET", "/maybe", headers=bearer("bob"))).json() == {"user": "bob"}


@pytest.mark.parametrize("claims", [{"jti": None}, {"jti": ""}, {"exp": None}, {"exp": 2**53}, {"sub": None}])
async def test_a_token_that_could_not_be_revoked_or_never_ends_is_refused(
    shielded: Any, claims: dict[str, Any]
) -> None:
    app = shielded(make())
    answer = await ask(app, "GET", "/me", headers=bearer("alice", **claims))
    assert (answer.status, answer.json()["code"]) == (401, "TOKEN_INVALID")


@pytest.mark.parametrize("path", ["/dependency", "/mounted/dependency", "/decorated"])
async def test_a_limit_of_a_handler_refuses_with_the_registered_handler(shielded: Any, path: str) -> None:
    app, peer = shielded(make()), address()
    method = "GET" if path == "/decorated" else "POST"
    for _ in range(3):
        answer = await ask(app, method, path, peer=peer)
        assert (answer.status, answer.body) == (200, b'"in"')
        assert answer["ratelimit-policy"] == '"auth-per-ip";q=3;w=86400'
    refused = await ask(app, method, path, peer=peer)
    assert (refused.status, refused.json()["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert refused.error is None
    for name in ("retry-after", "ratelimit", "cache-control", "content-type", *SECURITY):
        assert refused[name]


async def test_a_limit_takes_entries_cost_and_skip_from_the_request(shielded: Any) -> None:
    app, account = shielded(make()), address()
    assert (await ask(app, "POST", f"/account?account={account}&cost=2")).status == 200
    assert (await ask(app, "POST", f"/account?account={account}")).status == 429
    assert (await ask(app, "POST", f"/account?account={account}", headers={"x-skip": "yes"})).status == 200
    assert (await ask(app, "POST", f"/account?account={address()}")).status == 200
    too_long = await ask(app, "POST", f"/account?account={'x' * 300}")
    assert (too_long.status, too_long.json()["code"]) == (400, "REQUEST_MALFORMED")


async def test_a_handler_peeks_without_charging_and_checks_with_a_cost(shielded: Any) -> None:
    app, account = shielded(make()), address()
    assert (await ask(app, "GET", f"/inside?account={account}")).json() == {"left": [2, 0, 0], "after": False}
    assert (await ask(app, "GET", f"/inside?account={account}")).status == 429


async def test_bodies_stream_as_they_come(shielded: Any) -> None:
    inner = make()
    app = shielded(inner)
    chunks: list[bytes] = []
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        chunks.append(message.get("body", b"start"))

    task = asyncio.ensure_future(app(http_scope("GET", "/stream", None, address()), receive, send))
    await eventually(lambda: b"first" in chunks)
    assert b"second" not in chunks
    inner.state.release.set()
    await task
    assert chunks[:3] == [b"start", b"first", b"second"]


async def test_background_tasks_and_context_variables_are_untouched(shielded: Any) -> None:
    inner = make()
    variable.set("set outside")
    app = shielded(inner)
    assert (await ask(app, "GET", "/threaded")).body == b'"set outside"'
    assert (await ask(app, "GET", "/background")).status == 200
    assert inner.state.background == ["set in the handler"]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the calls that go to the service from now on."""
    calls: list[str] = []
    call = GrpcTransport.call

    async def seen(self: GrpcTransport, rpc: Any, request: Any, timeout: float) -> Any:
        calls.append(rpc.name)
        return await call(self, rpc, request, timeout)

    monkeypatch.setattr(GrpcTransport, "call", seen)
    return calls


async def test_one_call_a_request(shielded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    app = shielded(make())
    await ask(app, "POST", "/login")
    await ask(app, "OPTIONS", "/login", headers={"origin": ORIGIN, "access-control-request-method": "POST"})
    assert calls == ["Authorize"]
    alone = shielded(make(), authorize=False)
    calls.clear()
    answer = await ask(alone, "POST", "/dependency")
    assert (calls, answer.status, answer["x-frame-options"]) == (["CheckLimit"], 200, "DENY")


async def test_what_a_client_can_make_too_large_is_refused_and_never_let_pass(shielded: Any) -> None:
    app = shielded(make(), on_unavailable="open")
    many = await ask(app, "GET", "/me", headers={f"x-{number}": "y" for number in range(300)})
    large = await ask(app, "GET", "/me", headers={"cookie": "c" * 50_000})
    host = await ask(app, "GET", "/me", headers={"host": "h" * 300})
    assert [many.status, large.status, host.status] == [431, 431, 400]
    assert host["x-frame-options"] == "DENY"


async def test_an_unknown_policy_is_503_and_never_let_pass(shielded: Any) -> None:
    inner = make()
    inner.post("/typo", dependencies=[limit("typo")])(lambda: "in")
    answer = await ask(shielded(inner, on_unavailable="open"), "POST", "/typo")
    assert (answer.status, answer.json()["code"]) == (503, "NOT_CONFIGURED")


async def test_an_application_without_starlette_has_the_same_refusals(server: Quotad, shielded: Any) -> None:
    from quotad import current

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await current().check("auth-per-ip", cost=4)

    answer = await ask(shielded(plain), "GET", "/")
    assert (answer.status, answer.error) == (429, None)
    assert "costs more than its limit" in answer.json()["message"]


async def test_an_error_builder_makes_the_body(shielded: Any) -> None:
    def build(scope: Any, decision: Any) -> tuple[int, bytes, str]:
        return decision.status, f"<p>{decision.reason}</p>".encode(), "text/html"

    answer = await ask(shielded(make(), error=build), "GET", "/me")
    assert (answer.status, answer.body, answer["content-type"]) == (401, b"<p>token_missing</p>", "text/html")
    assert answer["www-authenticate"] == "Bearer"


async def test_a_skipped_path_asks_nothing_and_still_believes_no_identity_header(shielded: Any) -> None:
    app = shielded(make(), target="127.0.0.1:1", rules=[Rule("/plain", skip=True)])
    answer = await ask(app, "GET", "/plain", headers={"x-user-id": "admin", "x_user_id": "admin"})
    assert (answer.status, answer.json()) == (200, {"user": None, "forged": None})
    assert answer["x-frame-options"] == "DENY"
    assert (await ask(app, "GET", "/maybe")).status == 503


async def test_a_rule_says_what_a_request_of_a_route_costs(shielded: Any) -> None:
    def cost(scope: Any) -> int:
        return len(scope["query_string"])

    app, peer = shielded(make(), rules=[Rule("POST /login", cost=cost)]), address()
    assert (await ask(app, "POST", "/login?ab", peer=peer))["ratelimit"].startswith('"auth-per-ip";r=1')
    assert (await ask(app, "POST", "/login?ab", peer=peer)).status == 429
    assert (await ask(app, "POST", "/login?a", peer=peer)).status == 200


async def test_the_headers_of_a_route_and_of_a_dependency_are_one_list(shielded: Any) -> None:
    inner, account = make(), address()
    inner.post("/ai/both", dependencies=[limit("per-account", entries={"account": account})])(lambda: "in")
    app, headers = shielded(inner), bearer(f"both-{account}")
    answer = await ask(app, "POST", "/ai/both", headers=headers)
    assert answer["ratelimit-policy"] == '"ai-per-user";q=5;w=86400, "per-account";q=2;w=86400'
    await ask(app, "POST", "/ai/both", headers=headers)
    refused = await ask(app, "POST", "/ai/both", headers=headers)
    assert (refused.status, refused["ratelimit-policy"]) == (429, answer["ratelimit-policy"])
    assert ', "per-account";r=0;t=' in refused["ratelimit"]


async def test_everything_that_charges_has_a_request_id_of_its_own(
    shielded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[str] = []
    call = GrpcTransport.call

    async def seen(self: GrpcTransport, rpc: Any, request: Any, timeout: float) -> Any:
        ids.append(request.request_id)
        return await call(self, rpc, request, timeout)

    monkeypatch.setattr(GrpcTransport, "call", seen)
    app = shielded(make())
    for path in ("/login", "/dependency", f"/account?account={address()}"):
        await ask(app, "POST", path, headers={"x-request-id": "chosen by the client"})
    assert len(ids) == len(set(ids)) == 5
    assert all(len(one) == 32 for one in ids)


@pytest.mark.parametrize(
    ("proxy", "options"),
    [
        # The service says who the client is, by `http.trusted_proxies` of its configuration.
        ("127.0.0.9", {}),
        # It is not asked by Authorize, so our own list holds.
        ("10.0.0.9", {"authorize": False, "trusted_proxies": ["10.0.0.0/8"]}),
    ],
)
async def test_a_check_of_the_application_counts_the_client_behind_trusted_proxies(
    shielded: Any, proxy: str, options: dict[str, Any]
) -> None:
    app, client = shielded(make(), **options), address()
    forwarded = [{"x-forwarded-for": f"6.6.6.{number}, {client}, {proxy}"} for number in range(4)]
    statuses = [(await ask(app, "POST", "/dependency", headers=headers, peer=proxy)).status for headers in forwarded]
    assert statuses == [200, 200, 200, 429]
    another = {"x-forwarded-for": f"6.6.6.6, {address()}, {proxy}"}
    assert (await ask(app, "POST", "/dependency", headers=another, peer=proxy)).status == 200


async def test_policies_of_a_rule_are_charged_in_the_call_of_the_route_all_or_none(
    shielded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch)
    app = shielded(make(), rules=[Rule("/ai/**", policies=["auth-per-ip"])])
    peer, user = address(), f"user-{address()}"
    for left in (2, 1, 0):
        answer = await ask(app, "POST", "/ai/translate", headers=bearer(user), peer=peer)
        assert (answer.status, answer.json()) == (200, {"user": user})
        assert answer["ratelimit"].startswith(f'"auth-per-ip";r={left};t=')
    refused = await ask(app, "POST", "/ai/translate", headers=bearer(user), peer=peer)
    assert (refused.status, refused.json()["details"][0]["policy"]) == (429, "auth-per-ip")
    assert calls == ["Authorize"] * 4
    # Three calls and not four: what was refused charged the route's own policy nothing.
    other = await ask(app, "POST", "/ai/translate", headers=bearer(user))
    assert '"ai-per-user";r=1;' in other["ratelimit"]
    # A path without a route is held to them too.
    plain = shielded(make(), rules=[Rule("/plain", policies=["auth-per-ip"])])
    assert [(await ask(plain, "GET", "/plain", peer=peer)).status for peer in (peer, address())] == [429, 200]
    typo = shielded(make(), on_unavailable="open", rules=[Rule("/plain", policies=["typo"])])
    assert (await ask(typo, "GET", "/plain")).json()["code"] == "NOT_CONFIGURED"


async def test_usual_mistakes_are_warned_of_once(shielded: Any, caplog: pytest.LogCaptureFixture) -> None:
    inner = make()
    inner.add_middleware(CORSMiddleware, allow_origins=["*"])
    inner.post("/by-user", dependencies=[limit("ai-per-user")])(lambda: "in")
    app = shielded(inner, trusted_proxies=["0.0.0.0/0"], on_unavailable="open")
    untrusting = shielded(make(), authorize=False)
    for _ in range(2):
        assert (await ask(app, "POST", "/by-user")).status == 403
        await ask(untrusting, "POST", "/dependency", headers={"x-forwarded-for": "203.0.113.7"})
        await ask(app, "POST", "/dependency", peer="testclient")
    codes = sorted(record.getMessage()[:4] for record in caplog.records if record.name == "quotad")
    assert codes == ["W101", "W102", "W103", "W104", "W106", "W109"]
    assert "warnings.md#w101" in caplog.text


async def test_the_handler_of_an_application_itself_is_kept(shielded: Any) -> None:
    inner = make()

    @inner.exception_handler(RateLimitExceeded)
    async def own(request: Request, error: RateLimitExceeded) -> JSONResponse:
        return JSONResponse({"wait": error.decision.retry_after}, error.decision.status)

    answer = await ask(shielded(inner), "GET", f"/inside?account={address()}")
    assert answer.status == 200
    account = address()
    await ask(shielded(inner), "GET", f"/inside?account={account}")
    refused = await ask(shielded(inner), "GET", f"/inside?account={account}")
    assert refused.status == 429
    assert refused.json()["wait"] > 86_000
    assert refused["x-frame-options"] == "DENY"


async def test_without_a_shield_a_dependency_says_so() -> None:
    answer = await ask(make(), "POST", "/dependency")
    assert (answer.status, "Shield" in str(answer.error)) == (500, True)


async def test_as_middleware_it_works_but_for_the_headers_of_a_500(server: Quotad) -> None:
    inner, peer = make(), address()
    inner.add_middleware(Shield, target=server.target, environment="development", deadline=10.0)
    statuses = [(await ask(inner, "POST", "/dependency", peer=peer)).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    missing = await ask(inner, "GET", "/nowhere")
    assert (missing.status, missing["x-frame-options"]) == (404, "DENY")
    assert (await ask(inner, "GET", "/boom")).status == 500


async def test_an_event_says_what_was_decided(shielded: Any) -> None:
    events: list[Event] = []
    app = shielded(make(), on_event=events.append)
    await ask(app, "POST", "/login")
    await ask(app, "GET", "/me")
    allowed, denied = events
    assert isinstance(allowed, Decided)
    assert isinstance(denied, Decided)
    assert (allowed.rpc, allowed.allowed, allowed.route, allowed.policies) == (
        "Authorize",
        True,
        "auth",
        ("auth-per-ip",),
    )
    assert (denied.allowed, denied.reason, denied.route) == (False, "token_missing", "me")
    assert 0.0 < allowed.seconds < 10.0
