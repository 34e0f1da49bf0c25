"""Dependencies and decorators for FastAPI and Starlette. Needs `quotad[fastapi]`.

    @app.post("/login", dependencies=[limit("auth-per-ip")])
    @app.post("/translate", dependencies=[limit("ai-per-user", cost=3)])

A request that the service's routes already limit needs none of this: `Shield` asks once, before the application. Each
`limit` asks once more, because which handler will run is not known before; `Rule(..., policies=[...])` asks in the one
call. Who uses only `limit` gives `Shield(..., authorize=False)` and has one call a request too.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ParamSpec, TypeVar

from fastapi import Depends
from starlette.requests import HTTPConnection

from quotad.charge import SETTLE_SECONDS, Actual, Charge, SentResponse, checked_seconds
from quotad.claims import Claims
from quotad.context import Context, current
from quotad.decision import Decision
from quotad.errors import RateLimitExceeded
from quotad.leases import Lease

Params = ParamSpec("Params")
Result = TypeVar("Result")
Entries = Mapping[str, str] | Callable[[HTTPConnection], Mapping[str, str] | Awaitable[Mapping[str, str]]]
Units = int | Callable[[HTTPConnection], int | Awaitable[int]]
Skip = Callable[[HTTPConnection], bool | Awaitable[bool]]


def limit(
    *policies: str,
    cost: Units | None = None,
    entries: Entries | None = None,
    skip: Skip | None = None,
    settle: Callable[[HTTPConnection, SentResponse], Actual | Awaitable[Actual]] | None = None,
    settle_within: float = SETTLE_SECONDS,
) -> Any:
    """A dependency that charges these policies, all or none, and raises `RateLimitExceeded`.

    `cost`, `entries` and `skip` may be functions of the request, or of the WebSocket before it is accepted. By
    themselves the entries are `ip`, `user`, `claim:NAME`, `method` and `route`.

    With `settle` the cost is an estimate. When the response is out whole, `settle` says what the request really cost; a
    handler that raises, or whose client leaves, leaves the estimate charged. A socket has no response: use `reserve`.
    """
    checked_seconds(settle_within)

    async def dependency(connection: HTTPConnection) -> None:
        if skip is not None and await settled(skip(connection)):
            return
        units = await settled(cost(connection)) if callable(cost) else cost
        more = await settled(entries(connection)) if callable(entries) else entries
        context = of(connection)
        if settle is None or connection.scope["type"] != "http":
            await context.check(*policies, cost=units, entries=more)
            return
        units = None if units is None else max(0, units)
        await context.check_and_settle(
            *policies, cost=units, entries=more, settle=(settle, connection), settle_within=settle_within
        )

    return Depends(dependency)


def hold(*policies: str, entries: Entries | None = None) -> Any:
    """A dependency that takes a lease for as long as the response streams or the socket is open."""

    async def dependency(connection: HTTPConnection) -> Lease:
        more = await settled(entries(connection)) if callable(entries) else entries
        return await of(connection).lease(*policies, entries=more)

    return Depends(dependency)


def limited(*policies: str, cost: int | None = None) -> Callable[[Callable[Params, Result]], Callable[Params, Any]]:
    """`limit` as a decorator of a handler, with or without `async`: for applications without dependencies."""

    def decorate(handler: Callable[Params, Result]) -> Callable[Params, Any]:
        if inspect.iscoroutinefunction(handler):

            @functools.wraps(handler)
            async def checked(*args: Params.args, **kwargs: Params.kwargs) -> Any:
                await current().check(*policies, cost=cost)
                return await handler(*args, **kwargs)

            return checked

        @functools.wraps(handler)
        async def threaded(*args: Params.args, **kwargs: Params.kwargs) -> Any:
            await current().check(*policies, cost=cost)
            return await asyncio.to_thread(handler, *args, **kwargs)

        return threaded

    return decorate


async def check(*policies: str, cost: int | None = None, entries: Mapping[str, str] | None = None) -> Decision:
    """Inside a handler: charges, and raises `RateLimitExceeded`."""
    return await current().check(*policies, cost=cost, entries=entries)


async def peek(*policies: str, entries: Mapping[str, str] | None = None) -> Decision:
    """Inside a handler: what a check would say now. Charges nothing."""
    return await current().peek(*policies, entries=entries)


def reserve(
    *policies: str,
    cost: int | None = None,
    entries: Mapping[str, str] | None = None,
    settle_within: float = SETTLE_SECONDS,
) -> AbstractAsyncContextManager[Charge]:
    """Inside a handler: charges an estimate for the block, which says by `Charge.settle` what it really was. A block
    that raises or is cancelled leaves the estimate charged. Raises `RateLimitExceeded`.

        async with reserve("ai-per-user", cost=100) as charge:
            charge.settle((await answer(prompt)).tokens)
    """
    return current().reserve(*policies, cost=cost, entries=entries, settle_within=settle_within)


@asynccontextmanager
async def lease(*policies: str, entries: Mapping[str, str] | None = None) -> AsyncIterator[Lease]:
    """Inside a handler: holds a lease for the block, and no longer than the transport lives."""
    context = current()
    held = await context.lease(*policies, entries=entries)
    try:
        yield held
    finally:
        context.give_back(held)


async def optional_claims(connection: HTTPConnection) -> Claims | None:
    """The token's claims; None when the route asks for no token, or nobody could check it."""
    return of(connection).claims


async def claims(connection: HTTPConnection) -> Claims:
    """As a dependency: the claims of a checked token. 401 without a token, 503 when nobody could check it: what
    `on_unavailable` lets pass is not logged in."""
    context = of(connection)
    if context.claims is None:
        bodies = context.settings.bodies
        raise RateLimitExceeded(bodies.token_unavailable() if context.is_unchecked else bodies.token_missing())
    return context.claims


def of(connection: HTTPConnection) -> Context:
    context = connection.scope.get("quotad")
    if not isinstance(context, Context):
        raise RuntimeError("quotad: no Shield is in front of this application; wrap it: app = Shield(app, ...)")
    return context


async def settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


__all__ = [
    "RateLimitExceeded",
    "check",
    "claims",
    "hold",
    "lease",
    "limit",
    "limited",
    "optional_claims",
    "peek",
    "reserve",
]
