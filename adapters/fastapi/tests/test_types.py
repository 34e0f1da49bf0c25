"""What the text types take and refuse."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from quotad.types import MultilineText, PersonName, PlainText, SafeUrl, SlugText


def taken(kind: Any, text: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(text)
    except ValidationError:
        return None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("  I <3 you ", "I <3 you"),
        ("5<6 and 7>6", "5<6 and 7>6"),
        ("Select * from the menu; DROP TABLE users", "Select * from the menu; DROP TABLE users"),
        ("e\u0301", "é"),
        ("👩‍👧 می‌خواهم", "👩‍👧 می‌خواهم"),
        ("<img src=x onerror=alert(1)", None),
        ("<b>A</b>", None),
        ("</p", None),
        ("<!--x", None),
        ("<?php", None),
        ("a\nb", None),
        ("a\u202eb", None),
        ("a\u200bb", None),
        ("a\u2028b", None),
        ("a\x00b", None),
        ("   ", None),
        ("x" * 256, None),
        (" " * 300 + "x", "x"),
        (7, None),
    ],
)
def test_plain_text(text: Any, kept: str | None) -> None:
    assert taken(PlainText, text) == kept


def test_several_lines() -> None:
    assert taken(MultilineText, "a\r\n\tb\n") == "a\n\tb"
    assert taken(MultilineText, "a\n<script>") is None
    assert taken(MultilineText, "a\x1b[31m") is None


@pytest.mark.parametrize("name", ["Ann O'Brien", "María-José", "李小龙", "Jean d’Arc", "J. R. Smith", "Nguyễn Văn A"])
def test_names_of_people(name: str) -> None:
    assert taken(PersonName, name) == name


@pytest.mark.parametrize("name", ["<b>A</b>", "A;B", "https://x", "42", "...", "A\u202eB", "A\nB", "A{{7*7}}"])
def test_what_nobody_is_called(name: str) -> None:
    assert taken(PersonName, name) is None


def test_slugs() -> None:
    assert taken(SlugText, "my-room-7") == "my-room-7"
    for wrong in ("My-Room", "a--b", "-a", "a/b", "a b", "ä", "a\nb", "../x"):
        assert taken(SlugText, wrong) is None


def test_urls() -> None:
    assert taken(SafeUrl, " https://example.com/a?b=c#d ") == "https://example.com/a?b=c#d"
    wrong = ["http://example.com", "javascript:alert(1)", "https://user:pw@example.com", "https://127.0.0.1/"]
    wrong += ["https://[::1]/", "https://localhost/", "//example.com", "https:example.com", "https://example.com\\@x.y"]
    wrong += [
        "https://exa mple.com",
        "https://example.com:99999",
        "https://2130706433/",
        "data:text/html,x",
        "https://",
    ]
    for text in wrong:
        assert taken(SafeUrl, text) is None, text
