"""Intervals of shares and of lifts, against simulation and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from explain_cnn_ros.analysis.intervals import (
    RECORDINGS_MIN,
    lift,
    mcnemar,
    mean_interval,
    share_interval,
    wilson,
)


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


def test_wilson_by_hand() -> None:
    z = 1.96**2
    assert wilson(0, 10) == (0.0, pytest.approx(z / (10 + z)))
    assert wilson(10, 10) == (pytest.approx(10 / (10 + z)), 1.0)
    # The textbook's example: 5 of 10.
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_is_an_interval_around_the_share(count: int, more: int) -> None:
    low, high = wilson(count, count + more)
    assert 0 <= low < high <= 1
    if count + more:
        assert low <= count / (count + more) <= high
    assert wilson(more, count + more) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("p", [0.03, 0.3, 0.9])
def test_wilson_contains_the_truth_as_often_as_it_says(p: float) -> None:
    counts = np.random.default_rng(2).binomial(60, p, 2000)
    inside = [low <= p <= high for low, high in (wilson(int(count), 60) for count in counts)]
    assert 0.92 <= np.mean(inside) <= 0.985


def test_recordings_that_differ_widen_the_interval() -> None:
    """In half of the recordings everything changes, in the others nothing does: the number of frames means little."""
    extreme = [(100, 100), (0, 100)] * 3
    low, high = share_interval(extreme)
    narrow = wilson(300, 600)
    assert low < 0.25 < narrow[0]
    assert high > 0.75 > narrow[1]
    assert share_interval(extreme) == (low, high)
    few = extreme[: RECORDINGS_MIN - 1]
    assert share_interval(few) == wilson(200, 400)
    assert share_interval([*few, (0, 0)]) == wilson(200, 400)
    assert share_interval([]) == (0.0, 1.0)


def test_recordings_that_are_alike_leave_it_as_it_is() -> None:
    alike = [(30, 100)] * 8
    assert share_interval(alike) == wilson(240, 800)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_binomial_test(better: int, worse: int) -> None:
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert mcnemar(better, worse) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_large_numbers() -> None:
    assert mcnemar(20_000, 0) == 0.0
    assert mcnemar(3000, 3100) == pytest.approx(binomtest(3000, 6100).pvalue, rel=1e-6)


def test_the_interval_of_a_mean_of_shares() -> None:
    assert mean_interval([(30, 100)]) == pytest.approx(wilson(30, 100))
    # Twice the same group: the width falls by the square root of 2.
    low, high = wilson(30, 100)
    assert mean_interval([(30, 100)] * 2) == pytest.approx((0.3 - (0.3 - low) / 2**0.5, 0.3 + (high - 0.3) / 2**0.5))


def test_the_interval_of_a_mean_contains_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    inside = []
    for a, b in zip(rng.binomial(264, 0.98, 1500), rng.binomial(593, 0.9, 1500), strict=True):
        low, high = mean_interval([(int(a), 264), (int(b), 593)])
        inside.append(low <= 0.94 <= high)
    assert 0.93 <= np.mean(inside) <= 0.98
