import os

from fastapi import FastAPI, Request
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address


def account(request: Request) -> str:
    return request.headers.get("x-account", "")


limiter = Limiter(key_func=get_remote_address, storage_uri=os.environ["REDIS"], strategy="moving-window")
auth = limiter.shared_limit("3/day", scope="auth")
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


@app.post("/login")
@auth
async def login(request: Request) -> str:
    return "in"


@app.post("/signup")
@auth
async def signup(request: Request) -> str:
    return "in"


@app.get("/report")
@limiter.limit("2/day", key_func=account)
async def report(request: Request) -> str:
    return "report"


@app.get("/export")
@limiter.limit("10/day", cost=4)
async def export(request: Request) -> str:
    return "export"


@app.get("/items/{number}")
@limiter.limit("2/day")
async def item(request: Request, number: int) -> int:
    return number


@app.get("/health")
@limiter.exempt
async def health(request: Request) -> str:
    return "fine"
