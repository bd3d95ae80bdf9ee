"""Recordings for the tests of the readers."""

from __future__ import annotations

from pathlib import Path

import pytest
from bag_kit import SAMPLE, BagKit, Studio


@pytest.fixture
def kit() -> BagKit:
    return BagKit()


@pytest.fixture(scope="session")
def studio() -> Studio:
    return Studio()


@pytest.fixture(scope="session")
def sample() -> Path:
    """The recording that ships with the repository."""
    return SAMPLE
