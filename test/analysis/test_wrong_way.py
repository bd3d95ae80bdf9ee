"""The neurons that pushed the wrong way, from hand-made explanations with known sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from explain_cnn_ros.analysis.intervals import lift
from explain_cnn_ros.analysis.tables import table_of
from explain_cnn_ros.analysis.wrong_way import FALSE_ALARM, MISSED, WrongWays

#: Influence of a neuron: layer, channel and signed score.
Influence = tuple[int, int, float]


class Frames:
    """Tables of frames whose neurons have given influences."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.neurons: list[dict[str, Any]] = []
        self.regions: list[dict[str, Any]] = []

    def add(
        self,
        label: bool | None,
        person: bool,
        output: float | None,
        *influences: Influence,
        window: bool | None = None,
        **row: Any,
    ) -> None:
        """Add a frame. Each neuron belongs to the metric that would select it.

        Args:
            label: Label of the frame.
            person: The decision.
            output: Output of the best window.
            *influences: The selected neurons.
            window: Label of the best window; None for that of the frame.
            **row: Further columns of the frame.
        """
        frame = {"source": "walk", "frame": len(self.frames)}
        wrong = None if label is None else label != person
        decided = {"label": label, "person": person, "wrong": wrong, "output": output, "trigger": "wrong"}
        self.frames.append(frame | decided | row)
        own = label if window is None else window
        self.regions += [frame | {"region": 0, "label": own}, frame | {"region": 1, "label": not own}]
        for layer, channel, score in influences:
            metric = "influence" if (score > 0) == person else "counter_influence"
            neuron = {"metric": metric, "layer": layer, "layer_name": f"conv{layer}", "channel": channel}
            self.neurons.append(frame | neuron | {"score": score})

    def sums(self, drop: str = "") -> WrongWays:
        """Add all frames, in two parts, without the neurons of one metric."""
        found, middle = WrongWays(), len(self.frames) // 2
        for frames in (self.frames[:middle], self.frames[middle:]):
            kept = {frame["frame"] for frame in frames}
            neurons = [n for n in self.neurons if n["frame"] in kept and n["metric"] != drop]
            regions = [region for region in self.regions if region["frame"] in kept]
            found.add(table_of("frames", frames), table_of("neurons", neurons), table_of("regions", regions))
        return found


@pytest.fixture
def frames() -> Frames:
    return Frames()


def test_a_window_that_shows_another_place_than_the_missed_person_does_not_count(frames: Frames) -> None:
    """The neurons that argue against a tree are right, although a person elsewhere in the frame was missed."""
    frames.add(True, False, -4.0, (5, 1, -1.0), window=False)
    frames.add(True, False, -4.0, (5, 2, -1.0), window=True)
    found = frames.sums()
    assert (found.frames[MISSED, True], found.frames[FALSE_ALARM, False]) == (1, 0)
    assert [neuron.channel for neuron in found.neurons(MISSED, 10)] == [2]


def test_exact_numbers(frames: Frames) -> None:
    # Two missed persons with margins -4 and -2; channel 1 argues against the person in both, channel 2 in one.
    frames.add(True, False, -4.0, (5, 1, -1.0), (5, 2, -3.0), (5, 3, 0.5))
    frames.add(True, False, -2.0, (5, 1, -1.0), (5, 3, 0.5))
    # Two persons that were found; channel 1 argues against one of them.
    frames.add(True, True, 5.0, (5, 1, -0.25), (5, 3, 2.0))
    frames.add(True, True, 5.0, (5, 3, 2.0))
    # A false alarm, in which the same channel 3 pushes the wrong way.
    frames.add(False, True, 2.0, (5, 3, 0.5), (5, 1, -0.25))
    found = frames.sums()
    assert dict(found.frames) == {
        (MISSED, True): 2,
        (MISSED, False): 2,
        (FALSE_ALARM, True): 1,
    }
    second, first = found.neurons(MISSED, 10)[::-1]
    assert (first.kind, first.layer, first.layer_name, first.channel) == (MISSED, 5, "conv5", 2)
    # 3 of 4; and (1 of 4, 1 of 2).
    assert (first.wrong.selected, first.wrong.push, first.wrong.share) == (1, 3.0, 0.75)
    assert (second.channel, second.wrong.selected, second.wrong.push) == (1, 2, 1.0)
    assert second.wrong.share == pytest.approx((0.25 + 0.5) / 2)
    assert second.right is not None
    assert first.right is not None
    assert (second.right.frames, second.right.selected, second.right.push, second.right.share) == (2, 1, 0.25, 0.05)
    assert (first.right.selected, first.right.push, first.right.share) == (0, 0.0, None)
    assert second.lift == lift(2, 2, 1, 2)
    (alarm,) = found.neurons(FALSE_ALARM, 10)
    assert (alarm.channel, alarm.wrong.selected, alarm.wrong.share) == (3, 1, 0.25)
    assert alarm.right is alarm.lift is None
    assert found.neurons(MISSED, 1) == [first]


def test_only_explained_frames_with_labels_count(frames: Frames) -> None:
    frames.add(True, False, -4.0, (5, 1, -1.0))
    frames.add(None, False, -4.0, (5, 1, -9.0), trigger="low_confidence")
    frames.add(True, False, None, trigger=None)
    assert dict(frames.sums().frames) == {(MISSED, True): 1}
    (only,) = frames.sums().neurons(MISSED, 10)
    assert only.wrong.push == 1.0


def test_a_margin_that_contradicts_the_decision_has_no_shares(frames: Frames) -> None:
    """With a high threshold, "no person" may be decided although the output argues for the person."""
    frames.add(True, False, 1.0, (5, 1, -2.0))
    (only,) = frames.sums().neurons(MISSED, 10)
    assert (only.wrong.push, only.wrong.share) == (2.0, None)


def test_without_opposing_neurons_there_is_no_comparison(frames: Frames) -> None:
    frames.add(True, False, -4.0, (5, 1, -1.0))
    frames.add(True, True, 4.0, (5, 1, -1.0))
    (compared,) = frames.sums().neurons(MISSED, 10)
    assert compared.right is not None
    (alone,) = frames.sums(drop="counter_influence").neurons(MISSED, 10)
    assert alone.right is alone.lift is None
    assert alone.wrong == compared.wrong


def test_nothing_at_all(frames: Frames) -> None:
    assert frames.sums().neurons(MISSED, 10) == []
    frames.add(True, True, 5.0, (5, 1, -0.25), (5, 3, 2.0))
    found = frames.sums()
    assert found.neurons(MISSED, 10) == found.neurons(FALSE_ALARM, 10) == []


@pytest.mark.parametrize("order", [lambda rows: rows, lambda rows: rows[::-1]])
def test_ties_have_one_order(frames: Frames, order: Callable[[list[Any]], list[Any]]) -> None:
    frames.add(True, False, -4.0, *order([(5, 9, -1.0), (5, 2, -1.0), (3, 40, -1.0)]))
    assert [(n.layer, n.channel) for n in frames.sums().neurons(MISSED, 10)] == [(3, 40), (5, 2), (5, 9)]
