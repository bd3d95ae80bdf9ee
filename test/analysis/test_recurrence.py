"""The lift and its interval, against simulation and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain_cnn_ros.analysis.recurrence import Selections, lift


def test_by_hand() -> None:
    ratio, low, high = lift(9, 20, 4, 30)
    assert ratio == pytest.approx((9.5 / 21) / (4.5 / 31))
    deviation = math.sqrt(1 / 9.5 - 1 / 21 + 1 / 4.5 - 1 / 31)
    assert (low, high) == pytest.approx((ratio * math.exp(-1.96 * deviation), ratio * math.exp(1.96 * deviation)))


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_is_an_interval_whatever_there_is(a: int, more_a: int, b: int, more_b: int) -> None:
    ratio, low, high = lift(a, a + more_a, b, b + more_b)
    assert 0 < low < ratio < high < math.inf
    back, *interval = lift(b, b + more_b, a, a + more_a)
    assert (back, *interval) == pytest.approx((1 / ratio, 1 / high, 1 / low))


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.2), (0.1, 0.1), (0.9, 0.6)])
def test_the_interval_holds_the_truth_as_often_as_it_says(p: float, q: float) -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for a, b in zip(rng.binomial(60, p, 2000), rng.binomial(80, q, 2000), strict=True):
        _, low, high = lift(int(a), 60, int(b), 80)
        inside += low <= p / q <= high
    assert 0.93 <= inside / 2000 <= 0.98


def test_the_neuron_that_marks_errors_comes_first() -> None:
    """One neuron comes with errors, and 200 others come at random."""
    rng, selections = np.random.default_rng(1), Selections()
    for frame in range(200):
        attention = frame % 4 == 0
        selections.frames[attention] += 1
        for channel in range(200):
            if rng.random() < 0.3:
                selections.add("m", 5, "conv3_1", channel, attention)
        if rng.random() < (0.9 if attention else 0.2):
            selections.add("m", 7, "conv3_3", 11, attention)
    first, second, *_ = found = selections.recurring("m", 10)
    assert (first.layer, first.layer_name, first.channel) == (7, "conv3_3", 11)
    assert (first.attention_frames, first.confident_frames) == (50, 150)
    assert first.low > 2.5 > second.low
    assert len(found) == 10
    assert [r.low for r in found] == sorted((r.low for r in found), reverse=True)
    assert selections.recurring("other", 10) == []
