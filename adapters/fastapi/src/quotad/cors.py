"""CORS by environment, and the Origin of WebSocket handshakes, which CORS does not cover.

Promise: outside development an origin is allowed only by being in the list, letter by letter; there is no pattern, no
reflection, no `null`. A list that cannot be meant so is an error while the application is put together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from quotad.decision import Headers, encode
from quotad.errors import ConfigurationError
from quotad.headers import first, vary_origin, without

EXPOSED = "RateLimit, RateLimit-Policy, Retry-After"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS = ("Accept", "Accept-Language", "Authorization", "Content-Type", "X-CSRF-Token", "X-Request-ID")
MAX_AGE_SECONDS = 600
ORIGIN = re.compile(r"https://[a-z0-9.-]+(:[0-9]{1,5})?")


class Environment(Enum):
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"

    @classmethod
    def read(cls, text: str) -> Environment:
        """Not set is production: who forgets it must not be open for it."""
        try:
            return cls((text or "production").strip().lower())
        except ValueError:
            known = ", ".join(one.value for one in cls)
            raise ConfigurationError(f"environment {text!r} is none of {known}") from None


@dataclass(frozen=True, slots=True)
class Cors:
    """`origins` None: any, without credentials (development). `is_off`: no page of another origin reads anything."""

    origins: frozenset[str] | None
    credentials: bool = True
    methods: Sequence[str] = METHODS
    request_headers: Sequence[str] = REQUEST_HEADERS
    is_off: bool = False

    def allows(self, origin: str) -> bool:
        return not self.is_off and (self.origins is None or origin in self.origins)

    def is_preflight(self, method: str, headers: Headers) -> bool:
        return (
            method == "OPTIONS"
            and first(headers, b"origin") is not None
            and first(headers, b"access-control-request-method") is not None
        )

    def preflight(self, origin: str) -> Headers:
        """The answer's headers. An origin that is not allowed gets none of them, and no error."""
        headers = self.dress([], origin)
        if self.allows(origin):
            headers += [
                encode("access-control-allow-methods", ", ".join(self.methods)),
                encode("access-control-allow-headers", ", ".join(self.request_headers)),
                encode("access-control-max-age", str(MAX_AGE_SECONDS)),
            ]
            headers = without(headers, [b"access-control-expose-headers"])
        return headers

    def dress(self, headers: Headers, origin: str | None) -> Headers:
        """`headers` with ours in the place of any CORS header that the application set itself."""
        headers = [header for header in headers if not header[0].lower().startswith(b"access-control-")]
        if self.is_off:
            return headers
        headers = vary_origin(headers)
        if origin is None or not self.allows(origin):
            return headers
        if self.origins is None:
            headers.append((b"access-control-allow-origin", b"*"))
        else:
            headers.append(encode("access-control-allow-origin", origin))
            if self.credentials:
                headers.append((b"access-control-allow-credentials", b"true"))
        headers.append(encode("access-control-expose-headers", EXPOSED))
        return headers


def cors_for(environment: Environment, origins: Sequence[str], *, credentials: bool = True) -> Cors:
    """Raises `ConfigurationError` for a list that is empty, or holds what cannot be meant."""
    if environment is Environment.DEVELOPMENT:
        return Cors(origins=None, credentials=False)
    where = f"in {environment.value}"
    if not origins:
        raise ConfigurationError(
            f"no allowed origins {where}: set ALLOWED_ORIGINS=https://app.example.com (commas between several), "
            'or cors="off" when no browser page of another origin uses this API'
        )
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise ConfigurationError(f"allowed origin {origin!r} {where}: {why(origin)}")
    return Cors(origins=frozenset(origins), credentials=credentials)


def why(origin: str) -> str:
    if origin == "*":
        return "`*` lets every page in; write each origin"
    if origin == "null":
        return "`null` is the origin of sandboxed frames and files of anybody"
    if origin.endswith("/"):
        return "browsers send origins without a trailing slash; it would never match"
    if origin.startswith("http://"):
        return "plain http; anybody on the way can be that origin"
    return "not an origin; write https://HOST or https://HOST:PORT in lower case, nothing else"
