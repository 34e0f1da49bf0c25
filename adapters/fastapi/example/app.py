"""An application with accounts, AI calls, sockets and a stream of events, protected by quotad.

quotad --config quotad.yaml
ALLOWED_ORIGINS=https://app.example.com uvicorn app:app --workers 4
"""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from quotad import Rule, SentResponse, Shield, local
from quotad.cookies import SessionCookie, logout
from quotad.fastapi import limit, reserve
from quotad.types import PersonName, PlainText

KEY = Path(os.environ.get("TOKEN_KEY", Path(__file__).parent / "data" / "token.key"))
refresh_cookie = SessionCookie("refresh_token", path="/api/v1/auth")
api = APIRouter(prefix="/api/v1")


class Account(BaseModel):
    email: PlainText
    password: str
    full_name: PersonName | None = None


class Text(BaseModel):
    text: PlainText


def access_token(user: str) -> str:
    now = int(time.time())
    claims = {
        "iss": "example-app",
        "sub": user,
        "jti": uuid.uuid4().hex,
        "iat": now,
        "exp": now + 3600,
        "type": "access",
    }
    return jwt.encode(claims, KEY.read_bytes().removesuffix(b"\n"), "HS256")


@api.post("/auth/signup")
async def signup(account: Account) -> dict[str, str]:
    return {"email": account.email}


@api.post("/auth/login")
async def login(account: Account, response: Response) -> dict[str, str]:
    refresh_cookie.set(response, uuid.uuid4().hex)
    return {"access_token": access_token(account.email)}


@api.post("/auth/forgot-password")
async def forgot_password() -> dict[str, str]:
    return {"status": "sent"}


@api.post("/auth/reset-password")
async def reset_password() -> dict[str, str]:
    return {"status": "changed"}


@api.post("/auth/logout")
async def log_out(response: Response) -> dict[str, str]:
    await logout(response, refresh_cookie)
    return {"status": "logged out"}


# The route counts the calls; what follows counts the tokens of the model, which are known when it has answered.
TOKENS, ESTIMATE = "ai-tokens-per-user", 200


def tokens(request: Request, response: SentResponse) -> int:
    """None, where the request was refused before it came to the model."""
    return int(getattr(request.state, "tokens", 0))


def size(request: Request, response: SentResponse) -> int:
    return response.size if response.status == 200 else 0


@api.post("/ai/transcribe", dependencies=[limit(TOKENS, cost=ESTIMATE, settle=tokens)])
async def transcribe(request: Request, text: Text) -> dict[str, str]:
    request.state.tokens = len(text.text.split())
    return {"user": request.headers["x-user-id"], "text": text.text}


@api.post("/ai/translate")
async def translate(request: Request, text: Text) -> dict[str, str]:
    async with reserve(TOKENS, cost=ESTIMATE) as charge:
        translated = text.text.upper()
        charge.settle(len(translated.split()))
    return {"user": request.headers["x-user-id"], "text": translated}


@api.post("/ai/speak", dependencies=[limit(TOKENS, cost=ESTIMATE, settle=size)])
async def speak(text: Text) -> Response:
    return Response(text.text.encode(), media_type="audio/basic")


@api.websocket("/ws/captions")
async def captions(socket: WebSocket) -> None:
    """Never reads: only the transport can tell that the client has left."""
    await socket.accept()
    await asyncio.Event().wait()


@api.websocket("/ws/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


@api.get("/events")
async def events() -> StreamingResponse:
    async def ticks() -> AsyncIterator[str]:
        while True:
            yield f"data: {int(time.time())}\n\n"
            await asyncio.sleep(1)

    return StreamingResponse(ticks(), media_type="text/event-stream")


@api.get("/broken")
async def broken() -> None:
    raise RuntimeError("something is broken")


inner = FastAPI()
inner.include_router(api)
app = Shield(
    inner,
    os.environ.get("QUOTAD", "127.0.0.1:50051"),
    deadline=float(os.environ.get("QUOTAD_DEADLINE", "0.05")),
    # Log-ins stay limited while quotad is away; everything else is refused with 503.
    rules=[Rule("POST /api/v1/auth/**", on_unavailable=local("10/minute", replicas=4))],
    # A handler that never reads ends too, soon after its client.
    cancel_after=5.0,
)
