"""Cookies for refresh tokens and sessions, and logging out.

Promise: a cookie is HttpOnly, SameSite=Strict and Secure, and it is deleted by the attributes that it was set with;
browsers keep what is deleted by others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from quotad.claims import Claims
from quotad.context import current
from quotad.cors import Environment
from quotad.errors import ConfigurationError, RateLimitExceeded
from quotad.transport import REVOKE
from quotad.v1 import decision_pb2 as pb

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*")
PATH = re.compile(r"/[!-:<-~]*")
MAX_BYTES = 4096
REVOKE_SECONDS = 1.0


@dataclass(frozen=True)
class SessionCookie:
    """`SessionCookie("refresh_token")` is `__Host-refresh_token` for the whole host.

    With a `path` other than `/` the prefix is `__Secure-`: `__Host-` wants `Path=/`. Neither has a Domain, so no other
    host of the site gets it. `same_site="lax"`: for who comes back from another site, such as by OAuth; Strict cookies
    do not come along on that first navigation. Outside development the cookie is Secure, always.
    """

    name: str
    max_age: int = 7 * 24 * 3600
    path: str = "/"
    same_site: Literal["strict", "lax"] = "strict"
    environment: str = "production"

    def __post_init__(self) -> None:
        Environment.read(self.environment)
        if not NAME.fullmatch(self.name) or self.name.lower().startswith(("__host-", "__secure-", "__http-")):
            raise ConfigurationError(f"cookie {self.name!r}: a name of letters, digits, - and _, without a prefix")
        if not PATH.fullmatch(self.path):
            raise ConfigurationError(f"cookie {self.name!r}: path {self.path!r} does not begin with / or has a `;`")
        if self.same_site not in ("strict", "lax"):
            raise ConfigurationError(f"cookie {self.name!r}: same_site is strict or lax")

    @property
    def full_name(self) -> str:
        """As the browser sends it, so the name to read it by."""
        if not self._is_secure:
            return self.name
        return f"__Host-{self.name}" if self.path == "/" else f"__Secure-{self.name}"

    def set(self, response: Any, value: str) -> None:
        """Adds the header to a response of Starlette, or anything else whose `headers` has `append`."""
        if not VALUE.fullmatch(value):
            raise ValueError(f"cookie {self.name!r}: the value has letters that a cookie cannot hold; encode it")
        if len(self.full_name) + len(value) > MAX_BYTES:
            raise ValueError(f"cookie {self.name!r}: browsers drop more than {MAX_BYTES} bytes")
        response.headers.append("set-cookie", self.header(value, self.max_age))

    def delete(self, response: Any) -> None:
        response.headers.append("set-cookie", self.header("", 0))

    def read(self, connection: Any) -> str | None:
        """The value of a request. It is not checked: hand it to who made it."""
        value: str | None = connection.cookies.get(self.full_name)
        return value

    def header(self, value: str, max_age: int) -> str:
        secure = "; Secure" if self._is_secure else ""
        site = self.same_site.capitalize()
        return f"{self.full_name}={value}; Max-Age={max_age}; Path={self.path}; HttpOnly{secure}; SameSite={site}"

    @property
    def _is_secure(self) -> bool:
        return Environment.read(self.environment) is not Environment.DEVELOPMENT


async def logout(response: Any, cookie: SessionCookie | None = None, *, everywhere: bool = False) -> None:
    """Revokes the token of this request, deletes the cookie, and ends the sockets that the token holds in this process
    at once; other processes learn it at their next renewal. `everywhere`: all that was issued to the subject.

    Raises `NoDecision` when the service cannot keep the revocation: an answer that says "logged out" would be false.
    """
    context = current()
    claims = context.claims
    if claims is None:
        bodies = context.settings.bodies
        raise RateLimitExceeded(bodies.token_unavailable() if context.is_unchecked else bodies.token_missing())
    by_subject = everywhere or not claims.token_id
    await context.runtime.client.call(REVOKE, revocation(claims, by_subject=by_subject), REVOKE_SECONDS)
    context.runtime.keeper.end_token(claims.issuer, claims.subject, "" if by_subject else claims.token_id)
    if cookie is not None:
        cookie.delete(response)


def revocation(claims: Claims, *, by_subject: bool) -> pb.RevokeTokenRequest:
    if by_subject:
        return pb.RevokeTokenRequest(
            subject=pb.RevokeTokenRequest.Subject(issuer=claims.issuer, subject=claims.subject)
        )
    target = pb.RevokeTokenRequest.TokenId(
        issuer=claims.issuer, id=claims.token_id, expires_at=claims.reference.expires_at
    )
    return pb.RevokeTokenRequest(token_id=target)
