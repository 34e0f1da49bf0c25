"""The fixture `decisions` for tests of applications: a `FakeDecisions` without policies, to be filled by the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from quotad.testing import FakeDecisions


@pytest.fixture
def decisions() -> FakeDecisions:
    from quotad.testing import FakeDecisions

    return FakeDecisions()
