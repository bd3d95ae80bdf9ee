"""A metric that is registered for the time of a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from explain_cnn_ros.explain.metrics import Metric, Reads, register, unregister


@pytest.fixture
def registered_metric() -> Iterator[str]:
    """Register a metric with a title that is not its name, and return its name."""
    entry = Metric(
        name="share_of_zeros",
        title="dead positions",
        reads=Reads.IMAGE,
        function=lambda evidence: (evidence.activation == 0).float().mean((1, 2)),
        meaning="rarely active",
        source="a test",
        colour="#123456",
    )
    register(entry)
    yield entry.name
    unregister(entry.name)
