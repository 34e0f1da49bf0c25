"""Warnings: each has a code and a section of docs/adapters/warnings.md, and is said once a process."""

from __future__ import annotations

import logging

log = logging.getLogger("quotad")
HELP = "docs/adapters/warnings.md"
"""In quotad's own tree."""


class Notices:
    """Says each code once; a change of state, such as the breaker's, each time it happens."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def once(self, code: str, text: str) -> None:
        if code not in self._said:
            self._said.add(code)
            self.change(code, text)

    def change(self, code: str, text: str) -> None:
        log.warning("%s: %s (%s#%s)", code, text, HELP, code.lower())
