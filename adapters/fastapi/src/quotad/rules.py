"""What the application says about its own paths: what to do without an answer, costs, what to leave alone.

Limits are not written here. They belong to the service's policies; which of them hold, its routes or `policies` say.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from quotad.charge import SETTLE_SECONDS, Settle
from quotad.errors import ConfigurationError
from quotad.local import Local

Scope = dict[str, Any]
OnUnavailable = Literal["open", "closed"] | Local
"""Without an answer: let it pass unchecked, refuse it with 503, or count it in this process."""
Cost = int | Callable[[Scope], int | Awaitable[int]]
"""Units, or a function of the ASGI scope that says them."""

METHODS = re.compile(r"(?:([A-Z,]+) )?(/\S*)")


@dataclass(frozen=True, slots=True)
class Messages:
    """A limit on what a socket's client sends. `cost` is a function of a message's text or bytes, or a number.

    `on_denied`: a close code, or `drop`: the application does not see the message.
    """

    policy: str
    cost: int | Callable[[str | bytes], int] = 1
    on_denied: int | Literal["drop"] = 4429


@dataclass(frozen=True, slots=True)
class Rule:
    """`path`: `/exact`, `/v1/*` for one segment, `/v1/**` for any depth; methods before it: `POST,PUT /v1/**`.

    The first rule that matches holds; what it leaves None is the Shield's own. `skip` asks nothing about the request.
    `policies` are consulted beside those of the service's route, in the same call; one that counts connections holds
    the socket or response. `cost` is for all of them.
    """

    path: str
    policies: Sequence[str] = ()
    on_unavailable: OnUnavailable | None = None
    cost: Cost | None = None
    deadline: float | None = None
    skip: bool = False
    messages: Messages | None = None
    settle: Settle | None = None
    """Of responses: a function of the ASGI scope and the `SentResponse` that says what the request really cost. Then
    `cost` is an estimate, which stays charged where nobody settles it."""
    settle_within: float = SETTLE_SECONDS
    headers: tuple[tuple[str, str | None], ...] = ()
    """Changes to the response's headers on these paths; None takes one away."""


class Pattern:
    """A rule's `path`, ready to match."""

    def __init__(self, rule: Rule) -> None:
        read = METHODS.fullmatch(rule.path)
        if read is None:
            raise ConfigurationError(f"rule {rule.path!r}: write /path, /path/*, /path/** or `POST /path`")
        self.rule = rule
        self._methods = frozenset((read[1] or "").split(",")) - {""}
        pieces = [self._piece(rule, piece) for piece in read[2].strip("/").split("/") if piece]
        self._path = re.compile("".join(pieces) or "/")

    @staticmethod
    def _piece(rule: Rule, piece: str) -> str:
        match piece:
            case "*":
                return "/[^/]+"
            case "**":
                return "(?:/.*)?"
            case _ if "*" in piece:
                raise ConfigurationError(f"rule {rule.path!r}: `*` stands for a whole segment")
            case _:
                return "/" + re.escape(piece)

    def matches(self, method: str, path: str) -> bool:
        return (not self._methods or method in self._methods) and self._path.fullmatch(path) is not None


class Rules:
    """All of them, in order."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._patterns = [Pattern(rule) for rule in rules]

    def find(self, scope: Scope) -> Rule:
        """A path that can be read in two ways is never skipped: what the application makes of it, nobody here knows."""
        sent, method = scope["path"], scope.get("method", "GET")
        path = normalised(sent)
        for pattern in self._patterns:
            if pattern.matches(method, path) and not (pattern.rule.skip and not is_plain(scope, path)):
                return pattern.rule
        return ANY


ANY = Rule("/**")


def normalised(path: str) -> str:
    segments = [segment.split(";")[0] for segment in path.replace("\\", "/").split("/")]
    return posixpath.normpath("/" + "/".join(segment for segment in segments if segment))


def is_plain(scope: Scope, path: str) -> bool:
    raw = scope.get("raw_path")
    return scope["path"] == path and (raw is None or raw.split(b"?")[0] == path.encode())
