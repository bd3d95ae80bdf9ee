"""The best channels by their scores, and the similarity of selections."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from explain_cnn_ros.explain.selection import jaccard, top_channels


class TestTopChannels:
    def test_best_first(self) -> None:
        assert top_channels(torch.tensor([0.1, 0.9, -0.5, 0.4]), 3) == [1, 3, 0]

    def test_ties_go_by_channel(self) -> None:
        scores = torch.zeros(1000)
        scores[500] = 1
        assert top_channels(scores, 5) == [500, 0, 1, 2, 3]

    def test_neurons_without_a_value_are_left_out(self) -> None:
        scores = torch.tensor([math.nan, -3.0, math.nan, 7.0])
        assert top_channels(scores, 3) == [3, 1]
        assert top_channels(torch.full((4,), math.nan), 3) == []

    def test_infinite_scores_have_a_value(self) -> None:
        assert top_channels(torch.tensor([1.0, math.inf, -math.inf, math.nan]), 4) == [1, 0, 2]

    @pytest.mark.parametrize(("channels", "top_n", "expected"), [(1, 5, 1), (3, 3, 3), (6, 5, 5)])
    def test_length(self, channels: int, top_n: int, expected: int) -> None:
        assert len(top_channels(torch.rand(channels), top_n)) == expected

    @given(
        scores=st.lists(st.floats(width=32) | st.just(math.nan), min_size=1, max_size=40),
        top_n=st.integers(1, 10),
    )
    def test_is_pythons_sort(self, scores: list[float], top_n: int) -> None:
        valued = [i for i, s in enumerate(scores) if not math.isnan(s)]
        assert top_channels(torch.tensor(scores), top_n) == sorted(valued, key=lambda i: (-scores[i], i))[:top_n]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [({1, 2, 3}, {2, 3, 4}, 0.5), ({1}, {1}, 1.0), ({1}, {2}, 0.0), (set(), {1}, 0.0), ({(3, 1)}, {(4, 1)}, 0.0)],
)
def test_jaccard(one: set, other: set, expected: float) -> None:
    assert jaccard(one, other) == expected
    assert jaccard(other, one) == expected


def test_jaccard_of_nothing_is_undefined() -> None:
    assert math.isnan(jaccard(set(), set()))
