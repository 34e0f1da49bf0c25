"""Answers that the adapter must give without the service: byte for byte what the service would have sent."""

from __future__ import annotations

import json

from quotad.decision import Decision, Headers

UNAVAILABLE = "The limit cannot be checked now. Please try again later."
TEMPORARY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
QUOTA = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class Bodies:
    """`problem`: RFC 9457, as the service's `http.error_body: problem`; else the uniform schema."""

    def __init__(self, *, problem: bool) -> None:
        self._problem = problem

    def unavailable(self) -> Decision:
        return self._refusal(503, "RATE_LIMIT_UNAVAILABLE", UNAVAILABLE, kind=TEMPORARY, retry_after=1)

    def token_unavailable(self) -> Decision:
        message = "The token cannot be checked now. Please try again later."
        return self._refusal(503, "TOKEN_CHECK_UNAVAILABLE", message, kind=TEMPORARY, retry_after=1)

    def token_missing(self) -> Decision:
        refusal = self._refusal(401, "TOKEN_MISSING", "A token is required.")
        refusal.headers.append((b"www-authenticate", b"Bearer"))
        return refusal

    def token_invalid(self) -> Decision:
        refusal = self._refusal(401, "TOKEN_INVALID", "The token is not valid.")
        challenge = b'Bearer error="invalid_token", error_description="the token is not valid"'
        refusal.headers.append((b"www-authenticate", challenge))
        return refusal

    def not_configured(self) -> Decision:
        return self._refusal(503, "NOT_CONFIGURED", "The request cannot be judged now.", kind=TEMPORARY)

    def malformed(self) -> Decision:
        return self._refusal(400, "REQUEST_MALFORMED", "The request is not well formed.")

    def too_large(self) -> Decision:
        return self._refusal(431, "REQUEST_HEADERS_TOO_LARGE", "The request's headers are too large.")

    def origin(self) -> Decision:
        return self._refusal(403, "ORIGIN_NOT_ALLOWED", "Connections from this origin are not allowed.")

    def limited_here(self, retry_after: int) -> Decision:
        message = "Too many requests. Please try again later."
        return self._refusal(429, "RATE_LIMIT_EXCEEDED", message, kind=QUOTA, retry_after=retry_after)

    def internal(self) -> Decision:
        return self._refusal(500, "INTERNAL_SERVER_ERROR", "Something went wrong. Please try again later.")

    def _refusal(
        self, status: int, code: str, message: str, *, kind: str = "about:blank", retry_after: int | None = None
    ) -> Decision:
        # Members in the service's order, and no spaces.
        body = (
            {"type": kind, "title": message, "status": status, "code": code}
            if self._problem
            else {"status": "error", "code": code, "message": message, "details": []}
        )
        headers: Headers = [] if retry_after is None else [(b"retry-after", str(retry_after).encode())]
        headers.append((b"cache-control", b"no-store"))
        return Decision(
            allowed=False,
            reason=code.lower(),
            mode="local" if status == 429 else "failed_closed",
            status=status,
            headers=headers,
            content_type="application/problem+json" if self._problem else "application/json",
            body=json.dumps(body, separators=(",", ":")).encode(),
            retry_after=retry_after,
        )
