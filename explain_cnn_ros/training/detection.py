"""Regions against labelled persons: who was found, and what was a false alarm."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.regions import PERSON_ASPECT, Region

Box = tuple[float, float, float, float]

#: Intersection over union from which on a region is on a person (PASCAL VOC).
OVERLAP = 0.5


@dataclass(frozen=True)
class Label:
    """A person in a frame, (x, y, width, height) in pixels; `ignore`: neither a hit nor a false alarm."""

    box: Box
    ignore: bool


@dataclass(frozen=True)
class Matches:
    """Counts over frames."""

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
        """False alarms, a frame."""
        return self.false_alarms / self.frames if self.frames else float("nan")


def read_labels(path: Path) -> dict[str, list[Label]]:
    """Labels by frame name, from a CSV file `frame,x,y,width,height,ignore`; no persons: empty boxes."""
    labels: dict[str, list[Label]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            of_frame = labels.setdefault(row["frame"], [])
            if row["x"]:
                box = (float(row["x"]), float(row["y"]), float(row["width"]), float(row["height"]))
                of_frame.append(Label(box, bool(int(row["ignore"]))))
    return labels


def standard_aspect(box: Box) -> Box:
    """The box at the width that a person of its height has: arms and legs move, heights do not (Dollar et al. 2012)."""
    x, y, width, height = box
    standard = height * PERSON_ASPECT
    return (x + (width - standard) / 2, y, standard, height)


def intersection(one: Box, other: Box) -> float:
    """Shared area of two boxes."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def intersection_over_union(one: Box, other: Box) -> float:
    """Shared area over covered area."""
    shared = intersection(one, other)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def match(regions: Sequence[Region], labels: Sequence[Label]) -> Matches:
    """Match regions, best first, each with the label that it overlaps most and that is still free.

    What is left over lies on an ignored person (half of it at least), or is a false alarm.
    """
    persons = [standard_aspect(label.box) for label in labels if not label.ignore]
    ignored = [label.box for label in labels if label.ignore]
    free = list(range(len(persons)))
    false_alarms = 0
    for region in sorted(regions, key=lambda r: -r.probability):
        box = region.person_box
        overlaps: NDArray[np.float64] = np.array([intersection_over_union(box, persons[i]) for i in free])
        if len(overlaps) and overlaps.max() >= OVERLAP:
            del free[int(overlaps.argmax())]
        elif not any(intersection(box, other) >= 0.5 * box[2] * box[3] for other in ignored):
            false_alarms += 1
    return Matches(len(persons), len(persons) - len(free), false_alarms, 1)
