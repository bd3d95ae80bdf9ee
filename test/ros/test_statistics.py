"""Rates, percentiles, and frames that never came, by a clock that tests turn."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from explain_cnn_ros.ros.statistics import WINDOW, Gaps, RecentValues, Statistics, _lost


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


#: Milliseconds between the stamps of frames that all arrive, by the frame's number.
JITTER: dict[str, Callable[[int, random.Random], float]] = {
    "even": lambda i, draw: 33.3,
    "18 to 47 ms": lambda i, draw: draw.uniform(18, 47),
    "standard deviation of 5 ms": lambda i, draw: draw.gauss(33.3, 5),
    "pairs in a burst": lambda i, draw: 5 if i % 2 else 61.6,
    "pairs in a burst, a multiple apart": lambda i, draw: 5 if i % 2 else 60,
    "one late frame of eight": lambda i, draw: {6: 58.3, 7: 8.3}.get(i % 8, 33.3),
    "0 to 66 ms": lambda i, draw: draw.uniform(0.1, 66),
    "half the rate in the dark": lambda i, draw: 33.3 if i < 100 else 66.6,
}


@pytest.mark.parametrize("name", JITTER)
def test_stamps_that_jitter_are_no_loss(name: str) -> None:
    draw, gaps, stamp = random.Random(1), Gaps(), 0
    for i in range(240):
        stamp += round(JITTER[name](i, draw) * 1e6)
        gaps.add(stamp)
    assert gaps.lost < 0.02


#: Milliseconds between the stamps of cameras that repeat a pattern.
PATTERNS: dict[str, tuple[float, ...]] = {
    "33 and 100 in turn": (33.3, 100),
    "20 of 30": (33.3, 66.7),
    "24 of 30": (33.3, 33.3, 33.3, 66.7),
    "25 of 30": (33.3, 33.3, 33.3, 33.3, 66.7),
    "3:2 pulldown": (33.3, 50),
    "pairs": (33.3, 200),
    "threes": (33.3, 33.3, 200),
}


@pytest.mark.parametrize("jitter", [0.0, 3.0])
@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_are_no_loss(name: str, jitter: float) -> None:
    """Not in one reading, neither at the beginning nor later."""
    draw, gaps, stamp = random.Random(1), Gaps(), 0.0
    for i in range(240):
        gaps.add(round((stamp + draw.uniform(-jitter, jitter)) * 1e6))
        assert gaps.lost < 0.02, i
        stamp += PATTERNS[name][i % len(PATTERNS[name])]


@pytest.mark.parametrize("kept", [0.95, 0.8, 0.5])
@pytest.mark.parametrize("name", ["33 and 100 in turn", "20 of 30", "24 of 30", "25 of 30"])
def test_frames_that_a_pattern_lacks_are_loss(name: str, kept: float) -> None:
    draw, gaps, stamp, found = random.Random(2), Gaps(), 0.0, []
    for i in range(1200):
        if draw.random() < kept:
            gaps.add(round((stamp + draw.uniform(-1, 1)) * 1e6))
        stamp += PATTERNS[name][i % len(PATTERNS[name])]
        found += [gaps.lost] if i % 40 == 39 and i > 120 else []
    assert np.median(found) == pytest.approx(1 - kept, abs=0.04)


@pytest.mark.parametrize(("arrive", "missing"), [(10, 20), (20, 4), (5, 5), (7, 3)])
def test_hiccups_are_loss(arrive: int, missing: int) -> None:
    """Some frames arrive, and the next ones do not."""
    gaps = Gaps()
    for i in range(900):
        if i % (arrive + missing) < arrive:
            gaps.add(i * 33_300_000)
    assert gaps.lost == pytest.approx(missing / (arrive + missing), abs=0.04)


@pytest.mark.parametrize("after", [8, 20, 29, 35, 200])
@pytest.mark.parametrize(("before", "then"), [(33.3, 66.7), (66.7, 33.3), (33.3, 100), (100, 33.3), (33.3, 40)])
def test_another_rate_is_no_loss(before: float, then: float, after: int) -> None:
    """Not in one reading."""
    draw, gaps, stamp = random.Random(1), Gaps(), 0.0
    for i in range(after + 120):
        gaps.add(round((stamp + draw.uniform(-2, 2)) * 1e6))
        assert gaps.lost < 0.02, i
        stamp += before if i < after else then


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


def test_a_pause_after_few_frames_is_no_loss() -> None:
    gaps = Gaps()
    for i in range(30):
        gaps.add(i * 10**8 + (5 * 10**9 if i > 5 else 0))
    assert gaps.lost == 0


def test_counts_by_name() -> None:
    statistics = Statistics(Turned())
    assert math.isnan(statistics.percentile("classified", 0.5))
    assert statistics.rate("classified") == 0
    statistics.add("classified", 0.5)
    assert statistics.count("dropped") == 1
    assert statistics.count("dropped") == 2
    assert statistics.counts == {"classified": 1, "dropped": 2}
    assert statistics.percentile("classified", 0.5) == 0.5


def test_a_clock_that_is_set_is_no_loss() -> None:
    """A driver stamps with 0 until its clock is set. The gap of 50 years is neither loss, nor does it take long."""
    gaps = Gaps()
    for stamp in [0] * 20 + [1_750_000_000 * 10**9 + i * 33_333_333 for i in range(40)]:
        gaps.add(stamp)
    assert gaps.lost == 0
    assert gaps.period == pytest.approx(33_333_333)


def test_a_gap_of_billions_of_periods_is_counted_at_once() -> None:
    """Such a gap arises when both clocks of a machine are set while frames arrive."""
    assert _lost([1] * 40 + [5 * 10**10] + [1] * 40) == pytest.approx(1)
