"""Choices that change little from frame to frame, on numbers that were worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING, metric
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.selection import top_channels
from explain_cnn_ros.explain.steadying import RunningMean, select, show, stay_at

SECOND = 10**9


class TestRunningMean:
    def test_weights_fall_with_the_age(self) -> None:
        mean = RunningMean(2.0)
        values = [torch.tensor([1.0, -4.0]), torch.tensor([3.0, 0.0]), torch.tensor([-2.0, 8.0])]
        stamps = [5.0, 5.5, 7.0]
        found = [mean.add(value, round(stamp * SECOND)) for value, stamp in zip(values, stamps, strict=True)]
        for k, result in enumerate(found):
            weights = [math.exp(-(stamps[k] - stamp) / 2) for stamp in stamps[: k + 1]]
            expected = sum(w * v for w, v in zip(weights, values, strict=False)) / sum(weights)
            torch.testing.assert_close(result, expected)
        assert mean.count == 3

    def test_of_equal_values_it_is_this_value(self) -> None:
        mean = RunningMean(0.3)
        for stamp in (0, 0, SECOND, 9 * SECOND):
            torch.testing.assert_close(mean.add(torch.tensor([2.5]), stamp), torch.tensor([2.5]))

    def test_it_does_not_change_the_values(self) -> None:
        mean, value = RunningMean(1.0), torch.tensor([1.0])
        first = mean.add(value, 0)
        mean.add(torch.tensor([3.0]), SECOND)
        assert value.tolist() == first.tolist() == [1.0]


def evidence(top_n: int, person: bool = True) -> Any:
    """Select as `Evidence` does."""

    def chosen(name: str, scores: torch.Tensor) -> list[int]:
        return top_channels(metric(name).preferences(scores, person), top_n)

    return SimpleNamespace(select=chosen)


class TestSelect:
    scores: ClassVar = {
        (name, layer): torch.tensor(values)
        for name in (SUPPORTING, OPPOSING)
        for layer, values in {3: [5.0, -2.0, 4.0, 0.0], 4: [-9.0, 4.5, 3.9, -1.0]}.items()
    }

    def test_the_strongest_over_all_layers_of_the_top_of_each(self) -> None:
        assert select(evidence(2), self.scores, (), 3) == {
            (SUPPORTING, 3): [0, 2],
            (SUPPORTING, 4): [1],
            (OPPOSING, 3): [1],
            (OPPOSING, 4): [0, 3],
        }
        assert select(evidence(1), self.scores, (), 3)[SUPPORTING, 3] == [0], "N of each layer at most"

    def test_of_the_other_decision_the_sides_change(self) -> None:
        found = select(evidence(2, person=False), self.scores, (), 3)
        assert (found[SUPPORTING, 4], found[OPPOSING, 4]) == ([0, 3], [1])

    def test_neurons_stay_until_another_one_is_clearly_stronger(self) -> None:
        # 3.9 * 1.25 exceeds 4.0 and 4.5, but not 5.0.
        before = [(SUPPORTING, Neuron(4, 2)), (OPPOSING, Neuron(3, 0)), (SUPPORTING, Neuron(9, 1))]
        found = select(evidence(2), self.scores, before, 2)
        assert {key: channels for key, channels in found.items() if key[0] == SUPPORTING} == {
            (SUPPORTING, 3): [0],
            (SUPPORTING, 4): [2],
        }
        assert self.scores[SUPPORTING, 4].tolist() == pytest.approx([-9.0, 4.5, 3.9, -1.0]), "unchanged"


class TestStayAt:
    # The largest value is at the lower right; near the upper left, the largest is 3.
    contributions = torch.tensor([[1.0, 3.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 6.0]])

    @pytest.mark.parametrize(
        ("last", "position"),
        [
            (0, 1),  # the neighbour with 3
            (4, 1),
            (2, 1),
            (10, 11),
            (8, None),  # 2 is less than half of 6
        ],
    )
    def test_near_the_last_position_if_it_contributes_half(self, last: int, position: int | None) -> None:
        assert stay_at(self.contributions, last) == position

    def test_nothing_contributes(self) -> None:
        assert stay_at(torch.zeros(3, 4), 5) is None
        assert stay_at(-torch.ones(3, 4), 5) is None


class TestShow:
    a, b, c, d = (Neuron(3, channel) for channel in range(4))
    patches: ClassVar = {a: Patch(0, 0, 10, 10), b: Patch(4, 0, 10, 10), c: Patch(50, 0, 10, 10)}

    def test_the_strongest_at_each_place(self) -> None:
        # a and b share 6 of 14 columns.
        assert show({self.a: 3.0, self.b: 2.0, self.c: 1.0, self.d: 9.0}, self.patches, (), 5) == (self.a, self.c)
        assert show({self.a: 2.0, self.b: 3.0, self.c: 4.0}, self.patches, (), 5) == (self.c, self.b)
        assert show({self.a: 2.0, self.b: 3.0, self.c: 4.0}, self.patches, (), 1) == (self.c,)

    def test_who_was_shown_stays_until_another_one_is_twice_as_strong(self) -> None:
        for strength, shown in ((3.9, self.a), (4.1, self.b)):
            assert show({self.a: 2.0, self.b: strength, self.c: 1.0}, self.patches, [self.a], 5) == (shown, self.c)

    def test_two_that_were_shown_may_come_nearer_to_each_other(self) -> None:
        strengths = {self.a: 3.0, self.b: 2.0, self.c: 1.0}
        assert show(strengths, self.patches, [self.a, self.b], 5) == (self.a, self.b, self.c)
        nearer = self.patches | {self.b: Patch(3, 0, 10, 10)}  # 7 of 13
        assert show(strengths, nearer, [self.a, self.b], 5) == (self.a, self.c)
