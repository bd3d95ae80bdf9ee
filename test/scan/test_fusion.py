"""Mean shift against loops, and for windows around known persons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain_cnn_ros.scan.fusion import SHIFTS, WIDTHS, fuse


def around(rng: np.random.Generator, centre: tuple[float, float, float], count: int, spread: float = 0.3):
    """Draw windows around one place; the spread is in widths of the kernel."""
    height = math.exp(centre[2])
    return np.array(centre) + spread * rng.normal(size=(count, 3)) * [WIDTHS[0] * height, WIDTHS[1] * height, WIDTHS[2]]


def by_loops(places, weights, starts):
    """Compute `fuse` number by number."""
    ends, support = [], []
    for start in starts.tolist():

        def near(mode, place, weight):
            height = math.exp(mode[2])
            across = (place[0] - mode[0]) / (WIDTHS[0] * height)
            down = (place[1] - mode[1]) / (WIDTHS[1] * height)
            size = (place[2] - mode[2]) / WIDTHS[2]
            return weight * math.exp(-(across**2 + down**2 + size**2) / 2)

        mode = list(start)
        for _ in range(SHIFTS):
            shares = [
                near(mode, place, weight) for place, weight in zip(places.tolist(), weights.tolist(), strict=True)
            ]
            if sum(shares) > 0:
                mode = [
                    sum(share * place[i] for share, place in zip(shares, places.tolist(), strict=True)) / sum(shares)
                    for i in range(3)
                ]
        ends.append(mode)
        support.append(sum(near(mode, p, w) for p, w in zip(places.tolist(), weights.tolist(), strict=True)))
    return np.array(ends), np.array(support)


@given(seed=st.integers(0, 1000), count=st.integers(1, 12), starts=st.integers(1, 4))
def test_is_mean_shift(seed, count, starts):
    rng = np.random.default_rng(seed)
    places = np.stack([rng.uniform(0, 60, count), rng.uniform(0, 60, count), rng.uniform(4, 5, count)], axis=1)
    weights, first = rng.uniform(0, 1, count), places[rng.integers(0, count, starts)]
    found, expected = fuse(places, weights, first), by_loops(places, weights, first)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-9)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-9)


def test_two_persons_stay_apart_and_each_is_found_from_anywhere_near():
    rng = np.random.default_rng(0)
    left, right = (100.0, 200.0, math.log(120)), (160.0, 200.0, math.log(120))
    places = np.concatenate([around(rng, left, 20), around(rng, right, 30)])
    modes, support = fuse(places, np.ones(50), np.concatenate([places[:5], places[-5:]]))
    np.testing.assert_allclose(modes[:5], np.tile(places[:20].mean(0), (5, 1)), rtol=0.01)
    np.testing.assert_allclose(modes[5:], np.tile(places[20:].mean(0), (5, 1)), rtol=0.01)
    assert (support[:5] < 20).all()
    assert (support[5:] > support[0]).all()


def test_what_counts_more_pulls_more():
    places = np.array([[100.0, 100.0, 5.0], [104.0, 100.0, 5.0]])
    (mode,), _ = fuse(places, np.array([1.0, 3.0]), places[:1])
    assert 102.5 < mode[0] < 104


def test_a_window_by_itself_stays_where_it_is():
    place = np.array([[10.0, 20.0, 4.0]])
    modes, support = fuse(place, np.array([0.7]), place)
    assert modes.tolist() == place.tolist()
    assert support.tolist() == [0.7]


def test_nothing_counts():
    place = np.array([[10.0, 20.0, 4.0]])
    modes, support = fuse(place, np.zeros(1), place)
    assert modes.tolist() == place.tolist()
    assert support.tolist() == [0.0]


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_does_not_depend_on_the_frames_resolution(factor):
    rng = np.random.default_rng(1)
    places = around(rng, (100.0, 200.0, math.log(120)), 20, spread=1.0)
    scaled = places * [factor, factor, 1] + [0, 0, math.log(factor)]
    one, other = (fuse(p, np.ones(20), p[:3]) for p in (places, scaled))
    np.testing.assert_allclose(one[0] * [factor, factor, 1] + [0, 0, math.log(factor)], other[0])
    np.testing.assert_allclose(one[1], other[1])
