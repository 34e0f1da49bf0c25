"""A request as the service wants it. Nothing is left out that a policy could look at, and nothing is interpreted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from quotad.address import Network, client_address, parse
from quotad.decision import Headers
from quotad.headers import first, values
from quotad.notices import Notices
from quotad.v1 import decision_pb2 as pb

MAX_HEADERS = 256
MAX_HEADER_BYTES = 48 * 1024
"""The service takes 64 KiB a request. More than this is answered 431 here, so that size can buy no unchecked pass."""


def fits(scope: dict[str, Any]) -> bool:
    headers: Headers = scope["headers"]
    size = sum(len(name) + len(value) + 16 for name, value in headers) + len(target(scope))
    return len(headers) <= MAX_HEADERS and size <= MAX_HEADER_BYTES


def target(scope: dict[str, Any]) -> str:
    """The path with its query, as the client sent it."""
    raw = scope.get("raw_path")
    path = raw.split(b"?")[0].decode("latin-1") if raw else quote(scope["path"])
    query = scope.get("query_string", b"")
    return f"{path}?{query.decode('latin-1')}" if query else path


def peer(scope: dict[str, Any]) -> str:
    """Empty when there is no address: a unix socket, or a test client."""
    client = scope.get("client")
    return client[0] if client and parse(str(client[0])) is not None else ""


def http_request(scope: dict[str, Any]) -> pb.HttpRequest:
    headers: Headers = scope["headers"]
    scheme = scope.get("scheme", "http")
    return pb.HttpRequest(
        method=scope.get("method", "GET"),
        scheme={"ws": "http", "wss": "https"}.get(scheme, scheme),
        host=first(headers, b"host") or "",
        path=target(scope),
        peer_address=peer(scope),
        headers=[
            pb.Header(name=name.decode("latin-1").lower(), value=value.decode("latin-1")) for name, value in headers
        ],
    )


def client_of(scope: dict[str, Any], trusted: Sequence[Network], notices: Notices) -> str:
    """The client's address where the service has not said it; empty when there is none."""
    forwarded = values(scope["headers"], b"x-forwarded-for")
    if forwarded and not trusted:
        notices.once("W101", "X-Forwarded-For came, and trusted_proxies is empty: every client counts as the proxy")
    address = client_address(peer(scope), forwarded, trusted)
    if address is None:
        no_address(notices)
        return ""
    return str(address)


def no_address(notices: Notices) -> None:
    notices.once("W104", "a request without a client address: policies by `ip` refuse it")
