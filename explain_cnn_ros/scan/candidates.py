"""Candidate windows of a search: how they move onto their persons, and which of them are suppressed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.model.windows import Region, person_box

#: Maximum offset by which a window is moved, as shares of its height and as the logarithm of a factor. The training
#: shows no larger offsets.
OFFSET_MAX = (0.15, 0.15, 0.25)


@dataclass(frozen=True)
class Candidate:
    """A window whose edges are not rounded to whole pixels yet.

    Attributes:
        x: Left edge, in pixels of the frame.
        y: Top edge, in pixels of the frame.
        width: Width, in pixels of the frame.
        height: Height, in pixels of the frame.
        score: Margin: log-sum-exp of the logits of persons minus that of the other classes.
        support: Number of windows that this one stands for; see `fusion`.
    """

    x: float
    y: float
    width: float
    height: float
    score: float
    support: float = 1.0

    @property
    def place(self) -> tuple[float, float, float]:
        """Centre x, centre y and logarithm of the height, as `fusion` needs them."""
        return (self.x + self.width / 2, self.y + self.height / 2, math.log(self.height))

    def moved(self, offset: NDArray[np.float32]) -> Candidate:
        """Return the window moved onto its person.

        Args:
            offset: The person's centre relative to the window's, to the right and below, as shares of the window's
                height, and the logarithm of the person's size (0 fits the window): [3].
        """
        right, below, size = np.clip(offset.astype(np.float64), np.negative(OFFSET_MAX), OFFSET_MAX)
        factor = math.exp(size)
        centre_x = self.x + self.width / 2 + right * self.height
        centre_y = self.y + self.height / 2 + below * self.height
        width, height = self.width * factor, self.height * factor
        return dataclasses.replace(self, x=centre_x - width / 2, y=centre_y - height / 2, width=width, height=height)

    def to_region(self) -> Region:
        """Round to whole pixels, and convert the margin to P(person)."""
        x, y, width, height = (round(side) for side in (self.x, self.y, self.width, self.height))
        return Region(x, y, width, height, float(probability_of(self.score)))


def probability_of(score: Any) -> Any:
    """Convert a margin, or an array of margins, to P(person)."""
    return (1 + np.tanh(np.divide(score, 2))) / 2


def margin_of(probability: float) -> float:
    """Convert P(person) to the margin; 0 and 1 become very large margins."""
    inside = min(max(probability, 1e-12), 1 - 1e-12)
    return math.log(inside / (1 - inside))


def suppress(
    candidates: Sequence[Candidate],
    overlap_max: float,
    keep_max: int,
    key: Callable[[Candidate], float] = lambda candidate: candidate.score,
) -> list[Candidate]:
    """Apply non-maximum suppression.

    A window is dropped if its person shares more than `overlap_max` of the smaller person's area with the person of
    a better window. So legs and torsos are dropped together with their person.

    Args:
        candidates: The windows.
        overlap_max: Maximum shared area of two persons, as a share of the smaller one.
        keep_max: Maximum number of windows that are kept.
        key: Value of a window; higher is better.

    Returns:
        The windows that are kept, best first.
    """
    if not candidates:
        return []
    boxes = np.array([person_box(c) for c in candidates])
    values = np.array([key(c) for c in candidates])
    return [candidates[i] for i in suppress_boxes(boxes, values, overlap_max, keep_max)]


def suppress_boxes(
    boxes: NDArray[np.float64], values: NDArray[np.float64], overlap_max: float, keep_max: int
) -> list[int]:
    """Apply non-maximum suppression to the boxes of persons; see `suppress`.

    Args:
        boxes: Boxes (x, y, width, height) of persons, [N, 4].
        values: Value of each box, [N]; higher is better.
        overlap_max: Maximum shared area of two persons, as a share of the smaller one.
        keep_max: Maximum number of boxes that are kept.

    Returns:
        The indices of the boxes that are kept, best first.
    """
    kept: list[int] = []
    for index in np.argsort(-values, kind="stable"):
        if len(kept) == keep_max:
            break
        if not kept or overlap(boxes[index], boxes[kept]).max() <= overlap_max:
            kept.append(int(index))
    return kept


def overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the area that a box (x, y, width, height) [4] shares with others [N, 4], over the smaller area: [N]."""
    left = np.maximum(box[0], others[:, 0])
    top = np.maximum(box[1], others[:, 1])
    right = np.minimum(box[0] + box[2], others[:, 0] + others[:, 2])
    bottom = np.minimum(box[1] + box[3], others[:, 1] + others[:, 3])
    shared = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
    return shared / np.minimum(box[2] * box[3], others[:, 2] * others[:, 3])
