"""What every response of this application looks like: limit headers, security headers, CORS."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isawaitable

from quotad.decision import Decision, Headers, encode
from quotad.headers import LISTS, TELLTALE, changed, combined, first, replace, without
from quotad.pump import Message, Send
from quotad.rules import Rule, Scope
from quotad.settings import Settings

DOCS = ("/docs", "/redoc", "/docs/oauth2-redirect")


class Face:
    """Of one request."""

    def __init__(self, settings: Settings, scope: Scope, rule: Rule) -> None:
        self._settings = settings
        self._scope = scope
        self._rule = rule
        self.origin = first(scope["headers"], b"origin")

    def dress(self, headers: Headers, authorized: Decision | None, decisions: Sequence[Decision] = ()) -> Headers:
        """`headers` of a response, with all that belongs on it. The service's answer wins over the application, and
        the application's settings over both."""
        settings = self._settings
        headers = without(headers, TELLTALE)
        answers = [authorized] if authorized is not None else []
        lists = [
            Decision(True, "", "", 200, [header for header in one.headers if header[0] in LISTS]) for one in decisions
        ]
        new = combined(answers + lists)
        # Where the service was not asked, or did not answer: its defaults.
        if authorized is None or not authorized.is_secured:
            new = replace([encode(name, value) for name, value in settings.security.items()], new)
        kept = {name for name, _ in headers} & settings.keep
        headers = replace(headers, [header for header in new if header[0] not in kept])
        if settings.docs_csp and self._scope["path"] in DOCS:
            headers = changed(headers, settings.docs_csp)
        changes = {name: value for name, value in settings.changes.items() if name.lower().encode() not in kept}
        headers = changed(headers, changes)
        headers = changed(headers, dict(self._rule.headers))
        return settings.cors.dress(headers, self.origin)

    async def refusal(self, decision: Decision) -> tuple[int, Headers, bytes]:
        """A decision as a whole response."""
        status, body, content_type = decision.status, decision.body, decision.content_type
        if self._settings.error is not None:
            built = self._settings.error(self._scope, decision)
            status, body, content_type = await built if isawaitable(built) else built
        headers = self.dress([encode("content-type", content_type)] if content_type else [], decision)
        return status, [*headers, encode("content-length", str(len(body)))], body

    async def refuse(self, send: Send, decision: Decision, prefix: str = "http.response") -> None:
        status, headers, body = await self.refusal(decision)
        start: Message = {"type": f"{prefix}.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": f"{prefix}.body", "body": body})

    async def preflight(self, send: Send) -> None:
        """Answered here, for the browser's question is no request of the application and counts nowhere."""
        cors = self._settings.cors.preflight(self.origin or "")
        dressed = [header for header in self.dress([], None) if not header[0].startswith(b"access-control-")]
        await send({"type": "http.response.start", "status": 204, "headers": without(dressed, [b"vary"]) + cors})
        await send({"type": "http.response.body", "body": b""})
