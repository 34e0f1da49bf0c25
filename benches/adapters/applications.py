"""The same application three times: bare, behind Shield, with slowapi. Each is asked `GET /hello`."""

import os

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

HELLO = {"hello": "world"}
MOST = 4_000_000_000
"""A limit that is counted and never reached."""


def bare() -> FastAPI:
    app = FastAPI()

    @app.get("/hello")
    async def hello() -> JSONResponse:
        return JSONResponse(HELLO)

    return app


def shielded() -> object:
    """By a route of quotad: one call a request."""
    from quotad import Shield

    # A busy machine must be slow, not an outage.
    return Shield(bare(), os.environ["QUOTAD"], environment="development", deadline=10.0)


def slowapi() -> FastAPI:
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded
    from slowapi.util import get_remote_address

    limiter = Limiter(key_func=get_remote_address, storage_uri=os.environ["REDIS"])
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

    @app.get("/hello")
    @limiter.limit(f"{MOST}/hour")
    async def hello(request: Request) -> JSONResponse:
        return JSONResponse(HELLO)

    return app
