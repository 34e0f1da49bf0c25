"""The application of the adapter's own tests, with what only a browser can show: cookies, and pages."""

from __future__ import annotations

import os
import uuid

import sample
from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from quotad import Rule, Shield
from quotad.cookies import SessionCookie, logout

ENVIRONMENT = os.environ["ENVIRONMENT"]
SCRIPT = "document.documentElement.dataset.script = 'ran'"
INLINE = f"<!doctype html><title>page</title><p>A page.</p><script>{SCRIPT}</script>"

session = SessionCookie("session", environment=ENVIRONMENT)
refresh = SessionCookie("refresh_token", path="/session", environment=ENVIRONMENT)
inner = sample.make()


@inner.post("/limited/{name}")
async def limited(name: str) -> dict[str, str]:
    return {"name": name}


@inner.post("/session/login")
async def login(response: Response) -> dict[str, str]:
    session.set(response, uuid.uuid4().hex)
    refresh.set(response, uuid.uuid4().hex)
    return {"status": "in"}


@inner.post("/session/logout")
async def log_out(response: Response) -> dict[str, str]:
    await logout(response, refresh)
    session.delete(response)
    return {"status": "out"}


@inner.get("/session/cookies")
@inner.post("/session/cookies")
async def cookies(request: Request) -> list[str]:
    return sorted(request.cookies)


@inner.get("/page")
@inner.get("/pages/own-policy")
async def page() -> HTMLResponse:
    return HTMLResponse(INLINE)


app = Shield(
    inner,
    os.environ["QUOTAD"],
    environment=ENVIRONMENT,
    # A machine that is busy must be no outage.
    deadline=10.0,
    rules=[Rule("/pages/own-policy", headers=(("Content-Security-Policy", "default-src 'self'"),))],
)
