"""The labels of the regions of a frame, from the labels of the frame and of boxes in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from explain_cnn_ros.analysis.labels import Box, FrameLabels
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.decider import Decision
from explain_cnn_ros.training.detection import assign, lies_on, overlaps_one


@dataclass(frozen=True)
class LabelledRegions:
    """The labels of the regions that were judged in a frame.

    Attributes:
        frame: The label of the frame: what the decision should have been. None if it is unknown.
        regions: For each region of the decision, whether it shows a person; None if it is unknown.
        missed: Boxes of persons that none of the regions shows.
    """

    frame: bool | None
    regions: tuple[bool | None, ...]
    missed: tuple[Box, ...]


def label_regions(decision: Decision, labels: FrameLabels, whole: bool = False) -> LabelledRegions:
    """Label the regions of a decision.

    A region shows the person of a box if their intersection over union is at least 0.5 (PASCAL VOC); each person
    belongs to one region, the most confident ones first. The other regions that overlap a box without a person to the
    same degree, or that lie in a frame without further persons, show none. If a frame is known to show a person
    somewhere, its best region is taken for this person, as long as there are no boxes of persons. Regions that lie on
    an ignored box by at least a half, and show no other person, have no label.

    If the decision is "person", the label of the frame is that of the best region. Otherwise, it is whether anybody is
    in the frame.

    Args:
        decision: The decision about the frame.
        labels: The labels of the frame.
        whole: Whether the only region is the whole frame, so that boxes in it say nothing about its own extent.
    """
    if whole:
        person = True if labels.persons else labels.person
        return LabelledRegions(person, (person,) * len(decision.regions), ())
    regions = decision.regions
    shown = assign(regions, labels.persons)
    found = [_label(region, person is not None, labels) for region, person in zip(regions, shown, strict=True)]
    if labels.person and not labels.persons and found:
        found[0] = True
    missed = tuple(box for index, box in enumerate(labels.persons) if index not in shown)
    return LabelledRegions(_of_frame(decision, labels, found), tuple(found), missed)


def _label(region: Region, is_person: bool, labels: FrameLabels) -> bool | None:
    if is_person:
        return True
    if lies_on(region, labels.ignored):
        return None
    return False if labels.person is False or overlaps_one(region, labels.others) else None


def _of_frame(decision: Decision, labels: FrameLabels, found: Sequence[bool | None]) -> bool | None:
    best = found[0] if found else None
    if decision.person:
        return best
    if labels.persons or labels.person:
        return True
    return best if labels.person is None else False
