"""Cookie attributes, and logging out against the real service."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from fastapi import Request, Response
from sample import make
from support import Quotad, Redis, Socket, ask, bearer, running

from quotad import ConfigurationError
from quotad.cookies import SessionCookie, logout

ATTRIBUTES = "; HttpOnly; Secure; SameSite=Strict"


def test_a_cookie_is_set_and_deleted_by_the_same_attributes() -> None:
    response = Response()
    cookie = SessionCookie("refresh_token", max_age=60)
    cookie.set(response, "a.b-c_d")
    cookie.delete(response)
    set_header, delete_header = response.headers.getlist("set-cookie")
    assert set_header == f"__Host-refresh_token=a.b-c_d; Max-Age=60; Path=/{ATTRIBUTES}"
    assert delete_header == f"__Host-refresh_token=; Max-Age=0; Path=/{ATTRIBUTES}"


def test_a_path_changes_the_prefix_and_development_drops_it() -> None:
    path = SessionCookie("refresh_token", path="/api/v1/auth")
    assert path.header("x", 1) == f"__Secure-refresh_token=x; Max-Age=1; Path=/api/v1/auth{ATTRIBUTES}"
    development = SessionCookie("refresh_token", environment="development")
    assert development.header("x", 1) == "refresh_token=x; Max-Age=1; Path=/; HttpOnly; SameSite=Strict"


@pytest.mark.parametrize(
    "wrong",
    [{"name": "__Host-a"}, {"name": "a b"}, {"name": ""}, {"path": "auth"}, {"path": "/;Domain=x"}]
    + [{"same_site": "none"}, {"environment": "prod"}],
)
def test_a_cookie_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        SessionCookie(**({"name": "a"} | wrong))


@pytest.mark.parametrize("value", ["a;b", "a b", 'a"b', "a\nb", "ä", "a,b", "x" * 4096])
def test_a_value_that_would_break_out_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="cookie"):
        SessionCookie("a").set(Response(), value)


def app_with_logout() -> Any:
    app, cookie = make(), SessionCookie("refresh_token")

    @app.post("/me")
    async def log_out(request: Request, response: Response) -> dict[str, str]:
        await logout(response, cookie, everywhere=request.query_params.get("everywhere") == "1")
        return {}

    return app


@pytest.mark.parametrize("everywhere", [0, 1])
async def test_logout_revokes_deletes_the_cookie_and_closes_the_sockets(shielded: Any, everywhere: int) -> None:
    app, user = shielded(app_with_logout()), f"user-{uuid4().hex}"
    here, other = bearer(user), bearer(user)
    own = await Socket(app, "/ws/silent", here).opened()
    others = await Socket(app, "/ws/silent", other).opened()
    answer = await ask(app, "POST", f"/me?everywhere={everywhere}", headers=here)
    assert (answer.status, answer["set-cookie"]) == (200, f"__Host-refresh_token=; Max-Age=0; Path=/{ATTRIBUTES}")
    assert (await ask(app, "GET", "/me", headers=here)).status == 401
    assert await own.closed() == 4401
    if everywhere:
        assert await others.closed() == 4401
    assert (await ask(app, "GET", "/me", headers=other)).status == (401 if everywhere else 200)
    others.leave()
    others.task.cancel()


async def test_logout_without_a_token_is_401(shielded: Any) -> None:
    assert (await ask(shielded(app_with_logout()), "POST", "/me")).status == 401


async def test_revocation_keys_of_the_application_itself_keep_working(
    tmp_path: Any, redis: Redis, shielded: Any
) -> None:
    def with_key(text: str) -> str:
        return text.replace("    issuer:", '    revoked_key: "blacklisted_access_token:{jti}"\n    issuer:')

    server: Quotad
    with running(tmp_path, redis.url, with_key) as server:
        app, token_id = shielded(make(), target=server.target), uuid4().hex
        headers = bearer("alice", token_id=token_id)
        assert (await ask(app, "GET", "/me", headers=headers)).status == 200
        assert redis.command("SET", f"blacklisted_access_token:{token_id}", "1", "EX", "60").startswith(b"+OK")
        assert (await ask(app, "GET", "/me", headers=headers)).status == 401
