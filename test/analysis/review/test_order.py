"""The scores of windows, their reasons in words, and the order in which windows are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from explain_cnn_ros.analysis.review.order import in_order
from explain_cnn_ros.analysis.review.scores import Scores, reasons, scores_of
from explain_cnn_ros.analysis.review.windows import DecidedWindows, ReviewedAnalysis

SECOND = 10**9
START = 1_700_000_000 * SECOND

#: Places that do not overlap, and one that overlaps the first one by a third.
LEFT, RIGHT, NEAR_LEFT = (0, 0, 40, 80), (100, 0, 40, 80), (20, 0, 40, 80)


def scored(analysis: ReviewedAnalysis) -> tuple[DecidedWindows, Scores]:
    return analysis.windows, scores_of(analysis.windows, analysis.threshold)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_doubt_is_the_distance_from_the_threshold_on_the_scale_of_the_margin(tables) -> None:
    found = [0.5, 0.9, 0.1, 1 / (1 + math.exp(-1)), 1.0, 0.0]
    _, scores = scored(tables.add("walk", found, times=[START + i * 10 * SECOND for i in range(6)]).read())
    expected = [1.0, 0.2, 0.2, 0.5378828, 2e-7, 2e-7]
    assert scores.doubt == pytest.approx(expected, abs=1e-7)
    # With a threshold of 0.5, it is twice the probability of the other decision.
    assert scores.doubt[:3] == pytest.approx([2 * min(p, 1 - p) for p in found[:3]])
    _, scores = scored(tables.read(threshold=0.9))
    assert scores.doubt[1] == pytest.approx(1.0)
    assert scores.doubt[0] == pytest.approx(1 - math.tanh(logit(0.9) / 2))


@pytest.mark.parametrize(
    ("found", "times", "expected"),
    [
        ([0.9, 0.9, 0.1, 0.9, 0.9], None, {2: math.tanh((logit(0.9) - logit(0.1)) / 2)}),
        ([0.1, 0.9, 0.2], None, {1: math.tanh((logit(0.9) - logit(0.2)) / 2)}),
        ([0.1, 0.9, 0.1, 0.9, 0.1], None, dict.fromkeys((1, 2, 3), math.tanh(logit(0.9)))),
        ([0.9, 0.1, 0.1, 0.9], None, {}),
        ([0.1, 0.9], None, {}),
        ([0.1, None, 0.9, 0.1], None, {}),
        ([0.1, 0.9, 0.1], (0, 1.0, 2.0), {1: math.tanh(logit(0.9))}),
        ([0.1, 0.9, 0.1], (0, 1.001, 2.0), {}),
    ],
)
def test_a_decision_that_differs_from_those_before_and_after(tables, found, times, expected) -> None:
    stamps = [START + round(t * SECOND) for t in times] if times else ()
    windows, scores = scored(tables.add("walk", found, times=stamps).read())
    differing = {int(windows.frame[i]): scores.disagreement[i] for i in np.flatnonzero(scores.disagreement)}
    assert differing == pytest.approx(expected, abs=1e-6)


def test_frames_of_another_recording_are_no_neighbours(tables) -> None:
    analysis = tables.add("a", [0.1, 0.9]).add("b", [0.1, 0.1]).read()
    assert not scored(analysis)[1].disagreement.any()


def test_windows_are_compared_with_those_in_the_same_place(tables) -> None:
    """A flicker is found beside a person who is always there."""
    person, flicker = (0.99, *LEFT), (0.9, *RIGHT)
    analysis = tables.add("walk", [[person], [person, flicker], [person], [(0.99, *NEAR_LEFT)]]).read()
    windows, scores = scored(analysis)
    # Without a window in the place, the threshold's margin of 0 stands for that of the frame.
    assert scores.disagreement.tolist() == pytest.approx([0, 0, math.tanh(logit(0.9) / 2), 0, 0], abs=1e-6)
    assert (windows.frame[2], windows.region[2].tolist()) == (1, list(RIGHT))
    assert reasons(windows, scores, 2, 0.5) == [
        "differs from the frames before and after, in which nobody was found here"
    ]


def test_nobody_between_persons_in_the_same_place(tables) -> None:
    seen = [(0.99, *RIGHT), (0.9, *LEFT)]
    windows, scores = scored(tables.add("walk", [seen, [(0.2, *NEAR_LEFT)], seen]).read())
    expected = math.tanh((logit(0.9) - logit(0.2)) / 2)
    assert scores.disagreement[2] == pytest.approx(expected, abs=1e-6)
    assert "in which a person was found here" in reasons(windows, scores, 2, 0.5)[0]
    elsewhere = [[(0.9, *RIGHT)], [(0.2, *NEAR_LEFT)], [(0.9, *RIGHT)]]
    _, scores = scored(type(tables)(tables.folder / "other").add("walk", elsewhere).read())
    assert not scores.disagreement[1]


def test_influence_that_contradicts_itself(tables) -> None:
    tables.add("walk", [0.999] * 6, times=[START + i * 10 * SECOND for i in range(6)])
    tables.prove("walk", 0, 8.0, -4.0).prove("walk", 1, 8.0, -6.0).prove("walk", 2, 8.0, -9.0)
    tables.prove("walk", 3, 8.0, 0.0, disagrees=True).prove("walk", 4, 0.0, -1.0)
    windows, scores = scored(tables.read())
    assert scores.contradiction.tolist() == [0, 0.5, 1, 1, 0, 0]
    said = [reasons(windows, scores, i, 0.5)[0] for i in range(6)]
    assert said[1] == (
        "contradictory influence: opposing neurons carry almost as much as supporting ones (6.0 against 8.0)"
    )
    assert said[3] == "contradictory influence: silencing the neurons changes the output otherwise than predicted"
    assert said[0] == said[4] == said[5] == "confident: P(person) 0.999 (threshold 0.50)"


def test_proofs_belong_to_the_best_window_of_their_frame(tables) -> None:
    tables.add("walk", [[(0.99, *LEFT), (0.98, *RIGHT)]]).prove("walk", 0, 1.0, -1.0)
    assert scored(tables.read())[1].contradiction.tolist() == [1, 0]


def test_the_strongest_reason_comes_first(tables) -> None:
    tables.add("walk", [0.1, 0.6, 0.1]).prove("walk", 1, 2.0, -1.7)
    windows, scores = scored(tables.read())
    assert scores.total[1] == pytest.approx(0.8 + math.tanh((logit(0.6) - logit(0.1)) / 2) + 0.7, abs=1e-6)
    assert [text.split(" ")[0] for text in reasons(windows, scores, 1, 0.5)] == [
        "differs", "doubtful:", "contradictory",
    ]  # fmt: skip
    assert "doubtful: P(person) 0.60 (threshold 0.50)" in reasons(windows, scores, 1, 0.5)
    windows, scores = scored(type(tables)(tables.folder / "other").add("walk", [1.0, 0.00001]).read())
    assert reasons(windows, scores, 0, 0.5) == ["confident: P(person) above 0.9999 (threshold 0.50)"]
    assert reasons(windows, scores, 1, 0.5) == ["confident: P(person) below 0.0001 (threshold 0.50)"]


def order(analysis: ReviewedAnalysis, score: Sequence[float]) -> list[tuple[str, int, int]]:
    """Recording, frame and left edge of the windows, in their order."""
    windows = analysis.windows
    return [
        (windows.sources[windows.source[i]], int(windows.frame[i]), int(windows.region[i][0]))
        for i in in_order(windows, np.array(score))
    ]


def test_near_duplicates_come_when_everything_else_was_shown(tables) -> None:
    """One of each second and place, then the next one of each."""
    tables.add("a", [[(0.9, *LEFT), (0.8, *RIGHT)], [(0.9, *LEFT)], [(0.9, *LEFT)]])
    tables.add("b", [[(0.9, *LEFT)], [(0.9, *LEFT)]], times=[START, START + SECOND])
    found = order(tables.read(), [0.5, 0.1, 0.6, 0.4, 0.3, 0.2])
    assert found == [("a", 1, 0), ("b", 0, 0), ("b", 1, 0), ("a", 0, 100), ("a", 0, 0), ("a", 2, 0)]


def test_equal_scores_are_in_the_order_of_the_recordings(tables) -> None:
    times = [START + i * SECOND for i in range(4)]
    analysis = tables.add("b", [0.9] * 4, times=times).add("a", [0.9] * 2, times=times[:2]).read()
    expected = [("b", i, 0) for i in range(4)] + [("a", i, 0) for i in range(2)]
    assert order(analysis, [1.0] * 6) == expected


def overlap(a: Any, b: Any) -> float:
    """Count the pixels."""
    boxes = [{(x, y) for x in range(r[0], r[0] + r[2]) for y in range(r[1], r[1] + r[3])} for r in (a, b)]
    return len(boxes[0] & boxes[1]) / len(boxes[0] | boxes[1])


def literal_order(windows: DecidedWindows, score: Sequence[float]) -> list[int]:
    """The documented order, slowly."""
    left, found = sorted(range(len(windows)), key=lambda i: -score[i]), []
    while left:
        round_: list[int] = []
        for i in left:
            if not any(
                windows.source[i] == windows.source[j]
                and abs(windows.log_time[i] - windows.log_time[j]) < SECOND
                and overlap(windows.region[i].tolist(), windows.region[j].tolist()) >= 0.5
                for j in round_
            ):
                round_.append(i)
        found += round_
        left = [i for i in left if i not in round_]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_order_is_as_documented(tables, seed) -> None:
    rng = np.random.default_rng(seed)
    for source in ("a", "b"):
        frames = [
            [(0.9, int(rng.integers(-5, 30)), int(rng.integers(0, 20)), 10, 20) for _ in range(rng.integers(1, 4))]
            for _ in range(20)
        ]
        tables.add(source, frames, times=[START + int(t) for t in np.sort(rng.integers(0, 5 * SECOND, 20))])
    windows = tables.read().windows
    score = rng.integers(0, 5, len(windows)).astype(float)
    assert list(in_order(windows, score)) == literal_order(windows, score.tolist())


def test_analyses_without_regions_have_the_best_window_of_each_frame(tables) -> None:
    frames = [[(0.9, *LEFT), (0.8, *RIGHT)], None, [(0.3, *RIGHT)]]
    with_regions, without = tables.add("a", frames).read(), tables.read(regions=False)
    assert len(with_regions.windows) == 3
    assert without.windows.frame.tolist() == [0, 2]
    assert without.windows.region.tolist() == [list(LEFT), list(RIGHT)]
    assert without.windows.person.tolist() == [True, False]
