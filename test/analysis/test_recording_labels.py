"""The labels of each recording and of its frames: the literal rule is the oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explain_cnn_ros.analysis.labels import FrameLabels, Label
from explain_cnn_ros.analysis.recording_labels import LabelsBySource, RecordingLabels

SECOND = 10**9
START = 1_700_000_000 * SECOND
BOXES = (None, (1.0, 2.0, 3.0, 4.0), (9.0, 2.0, 3.0, 4.0))


def literal(labels: Sequence[Label], log_time: int, recording_start: int) -> FrameLabels:
    """Look at every label. Of several labels of the same box, the last one counts."""
    found = {}
    for label in labels:
        seconds = (log_time - (0 if label.absolute else recording_start)) / 10**9
        if label.start <= seconds < label.end:
            found[label.box] = label
    whole = found.pop(None, None)
    return FrameLabels(
        None if whole is None else whole.person,
        tuple(label.box for label in found.values() if label.person and not label.ignore),
        tuple(label.box for label in found.values() if not label.person and not label.ignore),
        tuple(label.box for label in found.values() if label.ignore),
    )


#: Times from the start of the recording or from 1970, which often are the same.
TIMES = st.one_of(st.integers(0, 12).map(float), st.floats(0, 12), st.integers(0, 12).map(lambda t: START / SECOND + t))
STARTS, ENDS = TIMES | st.just(-math.inf), TIMES | st.just(math.inf)
LABELS = st.builds(Label, STARTS, ENDS, st.booleans(), box=st.sampled_from(BOXES))
IGNORED = st.builds(Label, STARTS, ENDS, st.just(False), box=st.sampled_from(BOXES[1:]), ignore=st.just(True))


@given(
    st.lists(LABELS | IGNORED, max_size=12),
    st.lists(st.integers(-2, 14).map(lambda t: t * SECOND) | st.integers(-SECOND, 14 * SECOND), max_size=8),
    st.sampled_from([0, START]),
)
@settings(max_examples=150, deadline=None)
def test_the_same_as_by_the_literal_rule(labels: list[Label], times: list[int], recording_start: int) -> None:
    found = RecordingLabels(labels, recording_start)
    for time in [*times, *(round(label.start * SECOND) for label in labels if math.isfinite(label.start))]:
        log_time = recording_start + time
        assert found.at(log_time) == literal(labels, log_time, recording_start)


class CountedTime(float):
    """A time that counts its comparisons with others."""

    comparisons = 0

    def __lt__(self, other: float) -> bool:
        CountedTime.comparisons += 1
        return float(self) < other

    def __le__(self, other: float) -> bool:
        CountedTime.comparisons += 1
        return float(self) <= other

    def __gt__(self, other: float) -> bool:
        CountedTime.comparisons += 1
        return float(self) > other

    def __ge__(self, other: float) -> bool:
        CountedTime.comparisons += 1
        return float(self) >= other

    __hash__ = float.__hash__


def test_a_frame_is_not_compared_with_every_label() -> None:
    """A label of the whole recording at the beginning of the list does not change that."""
    labels = [Label(CountedTime(0), CountedTime(5000), False)]
    labels += [Label(CountedTime(i), CountedTime(i + 1), True, box=(i, 0, 9, 9)) for i in range(4096)]
    found = RecordingLabels(labels, 0)
    CountedTime.comparisons = 0
    assert found.at(4000 * SECOND) == FrameLabels(False, ((4000, 0, 9, 9),))
    assert 0 < CountedTime.comparisons < 20


@pytest.mark.parametrize("sources", [("data/run1", "data/run10"), ("data/run10", "data/run1")])
def test_the_whole_path_of_a_recording_means_this_recording_only(sources: tuple[str, str]) -> None:
    """Times that are counted from the start of a recording would also fit other recordings."""
    labels = LabelsBySource(
        [Label(0, 9, False, "data/run"), Label(2, 3, True, "data/run1"), Label(4, 5, True, "run10")], sources
    )

    def at(source: str) -> list[bool | None]:
        return [labels.of(source, START).at(START + seconds * SECOND).person for seconds in (1, 2, 4, 9)]

    assert at("data/run1") == [False, True, False, None]
    assert at("data/run10") == [False, False, True, None]


def test_without_the_recording_its_path_is_a_part_of_others() -> None:
    labels = LabelsBySource([Label(2, 3, True, "data/run1")], ["data/run10", "data/run11"])
    assert [labels.of(source, 0).at(2 * SECOND).person for source in ("data/run10", "data/run11")] == [True, True]


def test_labels_of_a_recording_are_sorted_once() -> None:
    labels = LabelsBySource([Label(0, 1, True, "a"), Label(0, 1, False, "b")], ["a", "b"])
    first = labels.of("a", 0)
    assert labels.of("a", 0) is first
    assert labels.of("b", 0).at(0).person is False
    assert labels.of("a", 0).at(0).person is True
    assert labels.of("a", SECOND).at(SECOND).person is True
