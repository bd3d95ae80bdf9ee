"""Comparison of regions with labelled persons: detections and false alarms."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.model.windows import PERSON_ASPECT, Region

#: A box (x, y, width, height) in pixels.
Box = tuple[float, float, float, float]

#: A region matches a person if their intersection over union is at least this (PASCAL VOC).
OVERLAP = 0.5


@dataclass(frozen=True)
class PersonLabel:
    """A labelled person in a frame.

    Attributes:
        box: Box (x, y, width, height), in pixels.
        ignore: Whether a region on this person is neither a detection nor a false alarm.
    """

    box: Box
    ignore: bool


@dataclass(frozen=True)
class Matches:
    """Counts over frames.

    Attributes:
        persons: Number of labelled persons that are not ignored.
        found: Number of these that were found.
        false_alarms: Number of regions that match no person.
        frames: Number of frames.
    """

    persons: int = 0
    found: int = 0
    false_alarms: int = 0
    frames: int = 0

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            self.persons + other.persons,
            self.found + other.found,
            self.false_alarms + other.false_alarms,
            self.frames + other.frames,
        )

    @property
    def recall(self) -> float:
        """Share of the persons that were found."""
        return self.found / self.persons if self.persons else float("nan")

    @property
    def false_alarms_per_frame(self) -> float:
        """Mean number of false alarms in a frame."""
        return self.false_alarms / self.frames if self.frames else float("nan")


def read_labels(path: Path) -> dict[str, list[PersonLabel]]:
    """Read labels from a CSV file.

    Args:
        path: The file, with columns frame, x, y, width, height and ignore. A frame without persons has a line with an
            empty box.

    Returns:
        The labels by frame.
    """
    labels: dict[str, list[PersonLabel]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            of_frame = labels.setdefault(row["frame"], [])
            if row["x"]:
                box = (float(row["x"]), float(row["y"]), float(row["width"]), float(row["height"]))
                of_frame.append(PersonLabel(box, bool(int(row["ignore"]))))
    return labels


def standard_aspect(box: Box) -> Box:
    """Return the box with the mean width of persons of its height: widths vary with the pose (Dollar et al. 2012)."""
    x, y, width, height = box
    standard = height * PERSON_ASPECT
    return (x + (width - standard) / 2, y, standard, height)


def intersection(one: Box, other: Box) -> float:
    """Compute the shared area of two boxes."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def intersection_over_union(one: Box, other: Box) -> float:
    """Compute the shared area of two boxes, divided by the area that they cover together."""
    shared = intersection(one, other)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def assign(regions: Sequence[Region], persons: Sequence[Box]) -> list[int | None]:
    """Assign regions to persons, best region first. Each region takes the free person that it overlaps most.

    Args:
        regions: The regions of a frame.
        persons: Boxes of the persons in the frame.

    Returns:
        For each region, the index of its person; None if it overlaps none by at least OVERLAP.
    """
    boxes = [standard_aspect(person) for person in persons]
    free = list(range(len(boxes)))
    assigned: list[int | None] = [None] * len(regions)
    for index in sorted(range(len(regions)), key=lambda i: -regions[i].probability):
        box = regions[index].person_box
        overlaps: NDArray[np.float64] = np.array([intersection_over_union(box, boxes[i]) for i in free])
        if len(overlaps) and overlaps.max() >= OVERLAP:
            assigned[index] = free.pop(int(overlaps.argmax()))
    return assigned


def overlaps_one(region: Region, boxes: Sequence[Box]) -> bool:
    """Return whether the person of a region overlaps one of the boxes by at least OVERLAP."""
    box = region.person_box
    return any(intersection_over_union(box, standard_aspect(other)) >= OVERLAP for other in boxes)


def lies_on(region: Region, boxes: Sequence[Box]) -> bool:
    """Return whether at least half of the person of a region lies on one of the boxes."""
    box = region.person_box
    return any(intersection(box, other) >= 0.5 * box[2] * box[3] for other in boxes)


def match(regions: Sequence[Region], labels: Sequence[PersonLabel]) -> Matches:
    """Match regions with persons; see `assign`.

    A region without a person is a false alarm, unless at least half of it lies on an ignored person.

    Args:
        regions: The regions of a frame.
        labels: The labels of the frame.
    """
    persons = [label.box for label in labels if not label.ignore]
    ignored = [label.box for label in labels if label.ignore]
    assigned = assign(regions, persons)
    found = sum(person is not None for person in assigned)
    false_alarms = sum(
        person is None and not lies_on(region, ignored) for region, person in zip(regions, assigned, strict=True)
    )
    return Matches(len(persons), found, false_alarms, 1)
