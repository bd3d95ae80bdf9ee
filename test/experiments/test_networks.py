"""Results over several networks, by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from explain_cnn_ros.experiments.bootstrap import NOT_MEASURED, Estimate
from explain_cnn_ros.experiments.networks import across, mean_matrix


@dataclass(frozen=True)
class Row:
    name: str
    n: int
    value: Estimate
    share: float
    holds: bool


def row(value: float, name: str = "a", holds: bool = True) -> Row:
    return Row(name, 5, Estimate(value, value - 9, value + 9), value / 10, holds)


def test_mean_and_range() -> None:
    (found,) = across([[row(1.0)], [row(4.0, holds=False)], [row(10.0)]])
    assert found == Row("a", 5, Estimate(5.0, 1.0, 10.0), 0.5, False)


def test_one_network_keeps_its_intervals() -> None:
    assert across([[row(1.0)]]) == [row(1.0)]


def test_what_was_not_measured_stays_so() -> None:
    rows = [Row("a", 5, NOT_MEASURED, math.nan, True)] * 2
    (found,) = across([[r] for r in rows])
    assert str(found.value) == found.value.percent == "—"


def test_different_rows_are_no_table() -> None:
    with pytest.raises(ValueError, match="the networks have different rows: name is a, b"):
        across([[row(1.0)], [row(1.0, "b")]])


def test_matrices() -> None:
    assert mean_matrix([[[1.0, 0.0]], [[0.0, 0.5]]]) == [[0.5, 0.25]]
