"""Fixtures of the tests of explanations in few large operations."""

from __future__ import annotations

import pytest

from explain_cnn_ros.explain.vgg.batched import explaining


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch) -> None:
    """The tests do not depend on the memory that other programs leave free."""
    monkeypatch.setattr(explaining, "free_memory", lambda _: 2**40)
