import os

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from quotad import Shield
from quotad.fastapi import limit


def account(request: HTTPConnection) -> dict[str, str]:
    return {"account": request.headers.get("x-account", "")}


def url(request: HTTPConnection) -> dict[str, str]:
    return {"url": request.url.path}


app = FastAPI()


@app.post("/login", dependencies=[limit("auth")])
async def login() -> str:
    return "in"


@app.post("/signup", dependencies=[limit("auth")])
async def signup() -> str:
    return "in"


@app.get("/report", dependencies=[limit("report", entries=account)])
async def report() -> str:
    return "report"


@app.get("/export", dependencies=[limit("export", cost=4)])
async def export() -> str:
    return "export"


@app.get("/items/{number}", dependencies=[limit("item", entries=url)])
async def item(number: int) -> int:
    return number


@app.get("/health")
async def health() -> str:
    return "fine"


app = Shield(app, os.environ["QUOTAD"], authorize=False)
