"""Labels of the regions of a frame."""

from __future__ import annotations

import pytest

from explain_cnn_ros.analysis.labels import Box, FrameLabels
from explain_cnn_ros.analysis.region_labels import LabelledRegions, label_regions
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.decider import Decision

LEFT, RIGHT, FAR = (0, 0), (200, 0), (400, 0)


def region(place: tuple[int, int], probability: float, height: int = 128) -> Region:
    return Region(*place, height // 2, height, probability)


def person(place: tuple[int, int], shift: int = 0) -> Box:
    """The box of a person that a region at the place shows."""
    x, y, width, height = region(place, 1).person_box
    return x + shift, y, width, height


def decision(*regions: Region) -> Decision:
    return Decision(regions, 0.5, False)


TWO = decision(region(LEFT, 0.9), region(RIGHT, 0.6))
NOBODY = decision(region(LEFT, 0.4))


@pytest.mark.parametrize(
    ("decided", "labels", "expected"),
    [
        (TWO, FrameLabels(), (None, (None, None), ())),
        # Labels of the frame alone.
        (TWO, FrameLabels(False), (False, (False, False), ())),
        (TWO, FrameLabels(True), (True, (True, None), ())),
        (NOBODY, FrameLabels(False), (False, (False,), ())),
        (NOBODY, FrameLabels(True), (True, (True,), ())),
        # Boxes of persons, complete and not.
        (TWO, FrameLabels(None, (person(RIGHT),)), (None, (None, True), ())),
        (TWO, FrameLabels(False, (person(RIGHT),)), (False, (False, True), ())),
        (TWO, FrameLabels(False, (person(FAR),)), (False, (False, False), (person(FAR),))),
        (TWO, FrameLabels(True, (person(FAR),)), (None, (None, None), (person(FAR),))),
        (NOBODY, FrameLabels(None, (person(FAR),)), (True, (None,), (person(FAR),))),
        (NOBODY, FrameLabels(False, (person(LEFT),)), (True, (True,), ())),
        # Boxes without a person.
        (TWO, FrameLabels(None, (), (person(LEFT),)), (False, (False, None), ())),
        (NOBODY, FrameLabels(None, (), (person(LEFT),)), (False, (False,), ())),
        (NOBODY, FrameLabels(None, (), (person(FAR),)), (None, (None,), ())),
        # Boxes that are ignored.
        (TWO, FrameLabels(False, (), (), (person(LEFT),)), (None, (None, False), ())),
        (TWO, FrameLabels(False, (person(LEFT),), (), (person(LEFT),)), (True, (True, False), ())),
        (NOBODY, FrameLabels(None, (), (), (person(FAR),)), (None, (None,), ())),
        # A detector that found nobody.
        (decision(), FrameLabels(False, (person(FAR),)), (True, (), (person(FAR),))),
        (decision(), FrameLabels(True), (True, (), ())),
        (decision(), FrameLabels(), (None, (), ())),
    ],
)
def test_labels(decided: Decision, labels: FrameLabels, expected: tuple) -> None:
    assert label_regions(decided, labels) == LabelledRegions(*expected)


def test_the_overlap_decides() -> None:
    """The box of a person is 39 pixels wide: shifted by 13 it overlaps by a half."""
    near, beside = person(LEFT, 12), person(LEFT, 14)
    assert label_regions(TWO, FrameLabels(False, (near,))).regions == (True, False)
    assert label_regions(TWO, FrameLabels(False, (beside,))).regions == (False, False)
    assert label_regions(TWO, FrameLabels(None, (), (beside,))).regions == (None, None)


def test_a_person_belongs_to_the_best_region() -> None:
    same = decision(region(LEFT, 0.9), region((4, 0), 0.8))
    assert label_regions(same, FrameLabels(False, (person((4, 0)),))).regions == (True, False)


def test_whole_frames() -> None:
    """The boxes say whether there is a person."""
    whole = decision(Region(0, 0, 640, 480, 0.7))
    for labels, expected in [
        (FrameLabels(None, (person(FAR),)), True),
        (FrameLabels(False, (person(FAR),)), True),
        (FrameLabels(False), False),
        (FrameLabels(None, (), (person(FAR),)), None),
    ]:
        assert label_regions(whole, labels, whole=True) == LabelledRegions(expected, (expected,), ())
