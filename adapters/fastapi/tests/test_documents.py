"""What the documents name is there: tests, files, links."""

from __future__ import annotations

import json
import re

import pytest
from support import ROOT

AUDIT = (ROOT / "docs" / "security-audit.md").read_text()
NAMED = re.findall(r"`([\w./-]+\.(?:py|rs|json))::([^`]+)`", AUDIT)
DOCUMENTS = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "adapters").glob("*/README.md")]


def has(file: str, name: str) -> bool:
    """Whether this test stands in this file: a function of Python or Rust, or a vector of the contract."""
    path = ROOT / file
    if not path.is_file():
        return False
    text = path.read_text()
    if path.suffix == ".json":
        return name in {vector["name"] for vector in json.loads(text)}
    word = "def" if path.suffix == ".py" else "fn"
    return re.search(rf"^ *(?:async )?{word} {re.escape(name)}\(", text, re.MULTILINE) is not None


def test_every_test_of_the_security_audit_exists() -> None:
    assert len(NAMED) > 40
    assert [f"{file}::{name}" for file, name in NAMED if not has(file, name)] == []


def test_every_row_of_the_security_audit_names_a_test() -> None:
    checklist = AUDIT.split("## What is left to the application")[0]
    rows = [
        line for line in checklist.splitlines() if line.startswith("|") and not line.startswith(("|---", "| what "))
    ]
    assert len(rows) > 20
    assert [row for row in rows if "::" not in row.split("|")[-2]] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: object) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)  # type: ignore[attr-defined]
    targets = {target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target}
    folder = document.parent  # type: ignore[attr-defined]
    assert [target for target in targets if target and not (folder / target).exists()] == []
