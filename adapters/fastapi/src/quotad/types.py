"""Text types for Pydantic models. Needs `quotad[pydantic]`.

They trim, bring text to one form (NFC) and refuse what has no place in a name or a title: control, bidirectional and
invisible characters, and the beginning of a tag. What they do not do: make text safe to put into a page, a query or a
shell. Escape on output, bind parameters, keep a Content-Security-Policy. Never use them for passwords.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, StringConstraints

TAG = re.compile(r"<[A-Za-z/!?]")
SLUG = r"^[a-z0-9]+(?:-[a-z0-9]+)*$"
HOST = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+", re.I)
JOINERS = "\u200c\u200d"
"""Invisible, and needed: by Persian and Indian scripts, and in emoji."""


def tidied(text: object) -> object:
    """Trimmed and in NFC, so that lengths are those of what is kept. Anything but text is left to Pydantic."""
    return unicodedata.normalize("NFC", text).strip() if isinstance(text, str) else text


def without_markup(text: str) -> str:
    """`I <3 you` and `5<6` pass; `<b`, `</p`, `<!--` do not, closed or not."""
    if TAG.search(text):
        raise ValueError("text with markup is not accepted here")
    return text


def one_line(text: str) -> str:
    return visible(text, kept="")


def lines(text: str) -> str:
    return visible(text.replace("\r\n", "\n"), kept="\n\t")


def visible(text: str, *, kept: str) -> str:
    """Refuses control (Cc), format (Cf: bidirectional, zero-width), surrogate, private and unassigned characters, and
    line separators."""
    for letter in text:
        if letter in kept or letter in JOINERS:
            continue
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
            raise ValueError("text with control or invisible characters is not accepted here")
    return text


def person(text: str) -> str:
    """Letters of any script, marks, spaces and what stands between names. `O'Brien` and `María-José` are names."""
    if not any(unicodedata.category(letter)[0] == "L" for letter in text):
        raise ValueError("a name has a letter")
    for letter in text:
        if unicodedata.category(letter)[0] not in "LM" and letter not in " '’.-·," + JOINERS:
            raise ValueError("a name has letters, spaces, apostrophes, hyphens and dots")
    return text


def https_url(text: str) -> str:
    """https, a host name with a dot, no user, no address: what an application may link to. Whoever fetches it must look
    at the address that the name has then."""
    if any(letter <= " " or letter in '\\"<>^`{|}\x7f' or ord(letter) > 0x7E for letter in text):
        raise ValueError("a URL has no spaces, quotes or letters beyond ASCII")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError("not a URL") from error
    if parts.scheme != "https" or not text.startswith("https://"):
        raise ValueError("only https:// is accepted here")
    if "@" in parts.netloc or not HOST.fullmatch(parts.hostname or "") or port == 0:
        raise ValueError("a URL has a host name, and no user")
    if (parts.hostname or "").rsplit(".", 1)[-1].isdigit():
        raise ValueError("a URL has a host name, not an address")
    return text


PlainText = Annotated[
    str,
    BeforeValidator(tidied),
    StringConstraints(min_length=1, max_length=255),
    AfterValidator(one_line),
    AfterValidator(without_markup),
]
"""One line: a title, a subject."""

MultilineText = Annotated[
    str,
    BeforeValidator(tidied),
    StringConstraints(min_length=1, max_length=10_000),
    AfterValidator(lines),
    AfterValidator(without_markup),
]
"""Several lines, tabs included: a comment, a description."""

PersonName = Annotated[
    str, BeforeValidator(tidied), StringConstraints(min_length=1, max_length=100), AfterValidator(person)
]
"""What somebody is called."""

SlugText = Annotated[str, BeforeValidator(tidied), StringConstraints(min_length=1, max_length=64, pattern=SLUG)]
"""`my-room-7`: what stands in a path."""

SafeUrl = Annotated[
    str, BeforeValidator(tidied), StringConstraints(min_length=1, max_length=2048), AfterValidator(https_url)
]
"""An https URL to somebody's page."""
