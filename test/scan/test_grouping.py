"""Suppression and fusion on the device, against those of the host."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from explain_cnn_ros.scan import fusion
from explain_cnn_ros.scan.candidates import suppress_boxes
from explain_cnn_ros.scan.dense import Windows
from explain_cnn_ros.scan.grouping import ROUNDS, first_of, fuse, keep_best


def random_places(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.uniform((0, 0, math.log(80)), (150, 100, math.log(300)), (count, 3))


def expected_of(places: NDArray[np.float64], overlap_max: float) -> list[int]:
    """Suppress on the host; the windows are given best first."""
    ranks = -np.arange(len(places), dtype=float)
    return sorted(suppress_boxes(Windows(places, ranks, 0.5).person_boxes, ranks, overlap_max, len(places)))


class TestKeepBest:
    @given(seed=st.integers(0, 10_000), count=st.integers(1, 30), overlap_max=st.sampled_from([0.05, 0.5, 0.8, 0.95]))
    def test_is_that_of_the_host(self, seed: int, count: int, overlap_max: float) -> None:
        places = random_places(np.random.default_rng(seed), count)
        kept = keep_best(torch.from_numpy(places), torch.ones(count, dtype=torch.bool), overlap_max)
        assert kept.nonzero().flatten().tolist() == expected_of(places, overlap_max)

    def test_no_overlap_is_too_large_for_the_largest_limit(self) -> None:
        """Windows inside of others share all of their area, and rounding makes it no more than that."""
        places = torch.from_numpy(random_places(np.random.default_rng(0), 200)).float()
        assert keep_best(places, torch.ones(200, dtype=torch.bool), 1.0).all()

    @given(seed=st.integers(0, 10_000), valid=st.lists(st.booleans(), min_size=1, max_size=20))
    def test_windows_that_take_no_part_suppress_nothing(self, seed: int, valid: list[bool]) -> None:
        places = random_places(np.random.default_rng(seed), len(valid))
        kept = keep_best(torch.from_numpy(places), torch.tensor(valid), 0.5)
        chosen = np.flatnonzero(valid)
        assert kept.nonzero().flatten().tolist() == chosen[expected_of(places[chosen], 0.5)].tolist()

    @pytest.mark.parametrize("count", [ROUNDS, ROUNDS + 1, 4 * ROUNDS])
    def test_long_chains_keep_all_that_the_host_keeps(self, count: int) -> None:
        """Each window would suppress the next one only."""
        height = 100.0
        width = height * 0.75 * 0.41
        places = np.array([[0.4 * width * index, 0, math.log(height)] for index in range(count)])
        expected = expected_of(places, 0.5)
        assert expected == list(range(0, count, 2))
        kept = keep_best(torch.from_numpy(places), torch.ones(count, dtype=torch.bool), 0.5).nonzero().flatten()
        assert set(expected) <= set(kept.tolist())
        assert count > ROUNDS or kept.tolist() == expected


def test_the_first_that_are_kept() -> None:
    kept = torch.tensor([False, True, False, True, True])
    assert first_of(kept, 2).tolist() == [1, 3]
    assert first_of(kept, 4).tolist() == [1, 3, 4, 0]
    assert first_of(kept, 9).tolist() == [1, 3, 4, 0, 2]


class TestFuse:
    def test_is_that_of_the_host(self) -> None:
        rng = np.random.default_rng(0)
        places, weights = random_places(rng, 60), rng.uniform(0, 1, 60)
        modes, support = fuse(torch.from_numpy(places), torch.from_numpy(weights), torch.from_numpy(places[:20]))
        expected_modes, expected_support = fusion.fuse(places, weights, places[:20])
        np.testing.assert_allclose(modes.numpy(), expected_modes, rtol=1e-9)
        np.testing.assert_allclose(support.numpy(), expected_support, rtol=1e-9)

    def test_in_float32_is_nearly_that_of_the_host(self) -> None:
        rng = np.random.default_rng(1)
        places, weights = random_places(rng, 200) + np.array([1700, 900, 0]), rng.uniform(0, 1, 200)
        modes, support = fuse(*(torch.from_numpy(a).float() for a in (places, weights, places[:50])))
        expected_modes, expected_support = fusion.fuse(places, weights, places[:50])
        np.testing.assert_allclose(modes.numpy(), expected_modes, atol=0.01)
        np.testing.assert_allclose(support.numpy(), expected_support, rtol=1e-3)

    def test_windows_without_weight_stay(self) -> None:
        place = torch.tensor([[10.0, 20.0, 4.0]])
        modes, support = fuse(place, torch.zeros(1), place)
        assert modes.tolist() == place.tolist()
        assert support.tolist() == [0.0]
