"""Rates, percentiles, and frames that never came, by a clock that tests turn."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from explain_cnn_ros.ros.statistics import WINDOW, Gaps, RecentValues, Statistics


class Turned:
    """A clock that stands still between turns."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rates_look_back_a_while() -> None:
    clock = Turned()
    recent = RecentValues(clock=clock)
    for _ in range(50):
        clock.now += 0.1
        recent.add()
    assert recent.rate() == pytest.approx(10)
    clock.now += WINDOW / 2
    assert recent.rate() == pytest.approx(5)
    clock.now += WINDOW
    assert recent.rate() == 0


def test_percentiles_are_values_that_were() -> None:
    clock = Turned()
    recent = RecentValues(clock=clock)
    assert math.isnan(recent.percentile(0.5))
    values = random.Random(0).sample(range(100), 37)
    for value in values:
        recent.add(value)
    for share in (0.05, 0.5, 0.95, 1.0):
        assert recent.percentile(share) == np.quantile(values, share, method="inverted_cdf")
    clock.now += WINDOW + 1
    assert math.isnan(recent.percentile(0.5))


@pytest.mark.parametrize("kept", [1.0, 0.9, 0.5, 0.2])
def test_lost_frames_are_seen_by_their_stamps(kept: float) -> None:
    """30 frames a second with 3 ms of jitter, of which a part arrives."""
    draw = random.Random(1)
    gaps = Gaps()
    for i in range(300):
        if draw.random() < kept:
            gaps.add(round(i * 33.3e6 + draw.uniform(-3e6, 3e6)))
    assert gaps.period == pytest.approx(33.3e6, rel=0.2)
    assert gaps.lost == pytest.approx(1 - kept, abs=0.12)


def test_few_frames_say_nothing() -> None:
    gaps = Gaps()
    for i in range(9):
        gaps.add(i * 10**8)
    assert (gaps.period, gaps.lost) == (0, 0)


@pytest.mark.parametrize("jump", [-(10**12), 10**13])
def test_a_clock_that_jumps_loses_nothing(jump: int) -> None:
    """A bag that starts again, or a camera that paused."""
    gaps = Gaps()
    for i in range(40):
        gaps.add(i * 10**8)
    for i in range(40):
        gaps.add(jump + i * 10**8)
    assert gaps.lost == 0
    assert gaps.period == 10**8


def test_counts_by_name() -> None:
    statistics = Statistics(Turned())
    assert math.isnan(statistics.percentile("classified", 0.5))
    assert statistics.rate("classified") == 0
    statistics.add("classified", 0.5)
    assert statistics.count("dropped") == 1
    assert statistics.count("dropped") == 2
    assert statistics.counts == {"classified": 1, "dropped": 2}
    assert statistics.percentile("classified", 0.5) == 0.5
