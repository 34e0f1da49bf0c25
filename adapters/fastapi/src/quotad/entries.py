"""The facts of a request for a check that the application asks for: the names that quotad's configuration knows.

They are sent, not judged. What is beyond the service's bounds is left out, and a policy that needs it refuses.
"""

from __future__ import annotations

from collections.abc import Mapping

MAX_ENTRIES = 32
MAX_BYTES = 256


def entries(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The request's own facts, then the caller's, which replace. Claims give way where there are too many."""
    kept = {name: value for name, value in own.items() if value and is_short(name) and is_short(value)}
    for name in list(kept)[::-1]:
        if len(kept.keys() | given.keys()) <= MAX_ENTRIES:
            break
        if name.startswith("claim:"):
            del kept[name]
    return {**kept, **given}


def is_short(text: str) -> bool:
    return len(text.encode()) <= MAX_BYTES and not any(letter < " " or letter == "\x7f" for letter in text)
