"""Identity headers: what the application is told about the caller, and what a client must not tell it.

Must never: let a spelling of such a header pass that an application could read as it.
"""

from __future__ import annotations

from collections.abc import Iterable

from quotad.decision import Headers, encode
from quotad.v1 import decision_pb2 as pb


def spelling(name: str) -> str:
    """CGI, WSGI and PHP know a header by its letters and digits alone: `X_User_Id` is `x-user-id` to them."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def shaped(headers: Headers, added: Iterable[pb.Header], removed: Iterable[str]) -> Headers:
    """A request's headers as the application sees them."""
    barred = {spelling(name) for name in removed}
    kept = [header for header in headers if spelling(header[0].decode("latin-1")) not in barred]
    return kept + [encode(header.name, header.value) for header in added]
