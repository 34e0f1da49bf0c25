"""Response headers: replaced, never doubled.

Promise: a name that the service or the adapter sets stands once, whatever the application sent; list headers of
several decisions (RateLimit, RateLimit-Policy) are one list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from quotad.decision import Decision, Headers, encode

SECURITY: Mapping[str, str] = {
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}
"""The service's defaults, for answers that it was not asked about: preflights, skipped paths, outages."""

DOCS_CSP = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    "font-src https://fonts.gstatic.com; img-src 'self' data: https://fastapi.tiangolo.com https://cdn.redoc.ly; "
    "connect-src 'self'; worker-src blob:; frame-ancestors 'none'"
)
"""What FastAPI's /docs and /redoc load; set on these pages, outside production only."""

LISTS = (b"ratelimit", b"ratelimit-policy")
TELLTALE = (b"server", b"x-powered-by")


def values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]


def first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    return next(iter(values(headers, name)), None)


def replace(headers: Headers, new: Iterable[tuple[bytes, bytes]]) -> Headers:
    """`headers` with `new` in the place of all of the same names."""
    new = list(new)
    names = {name for name, _ in new}
    return [header for header in headers if header[0].lower() not in names] + new


def without(headers: Headers, names: Iterable[bytes]) -> Headers:
    barred = set(names)
    return [header for header in headers if header[0].lower() not in barred]


def combined(decisions: Sequence[Decision]) -> Headers:
    """The headers of every decision that was taken for one request; a later one replaces, lists grow."""
    told: dict[bytes, bytes] = {}
    for decision in decisions:
        for name, value in decision.headers:
            told[name] = told[name] + b", " + value if name in LISTS and name in told else value
    return list(told.items())


def changed(headers: Headers, changes: Mapping[str, str | None]) -> Headers:
    """`changes`: name to value; None takes the header away."""
    kept = without(headers, (name.lower().encode() for name in changes))
    return kept + [encode(name, value) for name, value in changes.items() if value is not None]


def vary_origin(headers: Headers) -> Headers:
    """With Origin in Vary, beside what the application put there, as one header."""
    fields = [field.strip() for value in values(headers, b"vary") for field in value.split(",") if field.strip()]
    if "*" not in fields and not any(field.lower() == "origin" for field in fields):
        fields.append("Origin")
    return replace(headers, [encode("vary", ", ".join(fields))])
