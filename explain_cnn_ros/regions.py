"""Windows of a frame: where the person in one is, what two of them share, and their pixels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: Share of the window's height that a person takes in the training windows (INRIA: 96 of 128 pixels).
PERSON_SHARE = 0.75

#: Share of the window's width that a person of that height takes (0.41 of the height: Dollar et al. 2012).
PERSON_ASPECT = 0.41

#: A window is moved no further than training has shown it: shares of its height, and a factor's logarithm.
OFFSET_MAX = (0.15, 0.15, 0.25)


@dataclass(frozen=True)
class Region:
    """A window of the frame, in pixels of the frame, and its P(person). It may reach outside of the frame."""

    x: int
    y: int
    width: int
    height: int
    probability: float

    @property
    def person_box(self) -> tuple[float, float, float, float]:
        """(x, y, width, height) of the person in the middle of the window: the window without its margins."""
        return person_box(self)


@dataclass(frozen=True)
class Candidate:
    """A window before it is rounded to whole pixels.

    x, y, width, height: in pixels of the frame.
    score: logit difference.
    support: how many windows it stands for; see `fusion`.
    """

    x: float
    y: float
    width: float
    height: float
    score: float
    support: float = 1.0

    @property
    def place(self) -> tuple[float, float, float]:
        """Centre x, centre y, and logarithm of the height: what `fusion` works with."""
        return (self.x + self.width / 2, self.y + self.height / 2, math.log(self.height))

    def moved(self, offset: NDArray[np.float32]) -> Candidate:
        """Moved onto its person, who is found at (right, below) of its middle and of a size.

        Args:
            offset: [3], shares of the window's height, and the logarithm of the size: 0 fits the window.
        """
        right, below, size = np.clip(offset.astype(np.float64), np.negative(OFFSET_MAX), OFFSET_MAX)
        factor = math.exp(size)
        centre_x = self.x + self.width / 2 + right * self.height
        centre_y = self.y + self.height / 2 + below * self.height
        width, height = self.width * factor, self.height * factor
        return dataclasses.replace(self, x=centre_x - width / 2, y=centre_y - height / 2, width=width, height=height)


def crop(frame: NDArray[np.uint8], x: float, y: float, width: float, height: float, size: tuple[int, int]) -> Any:
    """Cut a box out of the frame and resize it to `size` (width, height); outside of the frame its edge is repeated."""
    left, top = round(x), round(y)
    right, bottom = max(left + 1, round(x + width)), max(top + 1, round(y + height))
    pad = (max(0, -top), max(0, bottom - frame.shape[0]), max(0, -left), max(0, right - frame.shape[1]))
    # A box wholly outside still has the nearest edge to show.
    inside: Any = frame[
        min(max(top, 0), frame.shape[0] - 1) : max(bottom, 1),
        min(max(left, 0), frame.shape[1] - 1) : max(right, 1),
    ]
    if any(pad):
        inside = cv2.copyMakeBorder(inside, *pad, cv2.BORDER_REPLICATE)[: bottom - top, : right - left]
    shrinks = inside.shape[0] > size[1]
    return cv2.resize(inside, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def suppress(
    candidates: Sequence[Candidate],
    overlap_max: float,
    keep_max: int,
    key: Callable[[Candidate], float] = lambda candidate: candidate.score,
) -> list[Candidate]:
    """Non-maximum suppression: what is kept, best first by `key`.

    A window is dropped when the person in it shares more than `overlap_max` of the smaller of the two
    persons with a better one: legs and torsos go with their person.
    """
    if not candidates:
        return []
    boxes = np.array([person_box(c) for c in candidates])
    kept: list[int] = []
    for index in np.argsort([-key(c) for c in candidates], kind="stable"):
        if len(kept) == keep_max:
            break
        if not kept or overlap(boxes[index], boxes[kept]).max() <= overlap_max:
            kept.append(int(index))
    return [candidates[i] for i in kept]


def person_box(window: Region | Candidate) -> tuple[float, float, float, float]:
    """(x, y, width, height) of the person in the middle of a window: the window without its margins."""
    height = window.height * PERSON_SHARE
    width = height * PERSON_ASPECT
    return (window.x + (window.width - width) / 2, window.y + (window.height - height) / 2, width, height)


def overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area shared by a box (x, y, width, height) [4] with each of others [N, 4], over the smaller area: [N]."""
    left = np.maximum(box[0], others[:, 0])
    top = np.maximum(box[1], others[:, 1])
    right = np.minimum(box[0] + box[2], others[:, 0] + others[:, 2])
    bottom = np.minimum(box[1] + box[3], others[:, 1] + others[:, 3])
    shared = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
    return shared / np.minimum(box[2] * box[3], others[:, 2] * others[:, 3])


def to_region(candidate: Candidate) -> Region:
    """A candidate in whole pixels with P(person) for its logit difference."""
    x, y, width, height = (round(side) for side in (candidate.x, candidate.y, candidate.width, candidate.height))
    return Region(x, y, width, height, probability(candidate.score))


def probability(score: float) -> float:
    """P(person) for a logit difference."""
    return (1 + math.tanh(score / 2)) / 2
