"""Dense passes: a network judges all windows of an image pyramid, and the windows are moved onto their persons.

There are two networks for it. The classifier itself judges windows every 32 pixels, if it is a VGG of this package. A
proposer, if there is one, judges windows on images of half the resolution, every 8 of their pixels, in a fraction of
the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.model.network import TOTAL_STRIDE
from explain_cnn_ros.model.proposer import PROPOSER_STRIDE
from explain_cnn_ros.model.windows import PERSON_ASPECT, PERSON_SHARE
from explain_cnn_ros.scan.candidates import OFFSET_MAX

#: Margins (float32 [h, w]) and offsets (float32 [h, w, 3]) of all windows of an image.
Judged = tuple[NDArray[np.float32], NDArray[np.float32]]

#: Windows of the classifier below this margin (P(person) 0.018) are discarded, and windows of the proposer below 0.
MARGIN_MIN, PROPOSER_MARGIN_MIN = -4.0, 0.0

#: Minimum support of a fused window, in windows of P(person) 1 at exactly its place: of the classifier's windows, and
#: of the proposer's, which are four times as many on the same area.
SUPPORT_MIN, PROPOSER_SUPPORT_MIN = 2.0, 5.0

#: Maximum number of windows of a frame that are fused, best first. Crowded frames have about 2,000.
WINDOWS_MAX = 4000


class DenseScorer(Protocol):
    """The part of a classifier that a dense pass needs; see `WindowClassifier`."""

    @property
    def info(self) -> Any: ...
    @property
    def proposer(self) -> Any: ...
    @property
    def has_dense_pass(self) -> bool: ...
    def locate_densely(self, image: NDArray[np.uint8]) -> Judged: ...
    def propose_densely(self, image: NDArray[np.uint8]) -> Judged: ...


@dataclass(frozen=True)
class DensePass:
    """A network that judges all windows of an image.

    Attributes:
        judge: Judges an image, uint8 [H, W, 3] RGB.
        window: Size (width, height) of the windows, in pixels of the image.
        stride: Distance of neighbouring windows, in pixels of the image.
        margin_min: Windows below this margin are discarded.
        support_min: Minimum support of a fused window.
    """

    judge: Callable[[NDArray[np.uint8]], Judged]
    window: tuple[int, int]
    stride: int
    margin_min: float
    support_min: float


def pass_of(scorer: DenseScorer, proposer: bool) -> DensePass:
    """Return the dense pass of a classifier.

    Args:
        scorer: The classifier.
        proposer: Use the proposer if the classifier has one.

    Raises:
        ValueError: The classifier has no dense pass, and no proposer that may be used.
    """
    if proposer and scorer.proposer is not None:
        minima = PROPOSER_MARGIN_MIN, PROPOSER_SUPPORT_MIN
        return DensePass(scorer.propose_densely, scorer.proposer.window, PROPOSER_STRIDE, *minima)
    if not scorer.has_dense_pass:
        lacks = "the proposer is switched off" if scorer.proposer is not None else "there is no proposer"
        raise ValueError(
            f"{scorer.info.architecture} cannot judge all windows of a frame, and {lacks}: set scan.proposer to true, "
            "load the weights from a file, which adds a proposer, or resize whole frames (regions: whole)"
        )
    return DensePass(scorer.locate_densely, scorer.info.input_size, TOTAL_STRIDE, MARGIN_MIN, SUPPORT_MIN)


@dataclass(frozen=True)
class Windows:
    """Windows whose edges are not rounded to whole pixels, M of them.

    Attributes:
        places: Centre x, centre y (pixels of the frame) and logarithm of the height, float64 [M, 3].
        scores: Margins, float64 [M].
        aspect: Width of each window as a share of its height.
    """

    places: NDArray[np.float64]
    scores: NDArray[np.float64]
    aspect: float

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: NDArray[Any]) -> Windows:
        return Windows(self.places[chosen], self.scores[chosen], self.aspect)

    @property
    def person_boxes(self) -> NDArray[np.float64]:
        """Boxes (x, y, width, height) of the persons in the middle of the windows, [M, 4]."""
        height = np.exp(self.places[:, 2]) * PERSON_SHARE
        width = height * PERSON_ASPECT
        return np.stack([self.places[:, 0] - width / 2, self.places[:, 1] - height / 2, width, height], axis=1)


def dense_windows(dense: DensePass, frame: NDArray[np.uint8], scales: Sequence[float]) -> Windows:
    """Judge every window of every pyramid level, and move each onto its person.

    Args:
        dense: The dense pass.
        frame: uint8 [H, W, 3] RGB.
        scales: Factors by which the frame is resized, so that persons of some height fit the window of the pass.

    Returns:
        All windows, in the order of the levels, rows and columns.
    """
    parts = [_level(dense, frame, scale) for scale in scales]
    width, height = dense.window
    return Windows(np.concatenate([p for p, _ in parts]), np.concatenate([s for _, s in parts]), width / height)


def _level(dense: DensePass, frame: NDArray[np.uint8], scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    window_width, window_height = dense.window
    # The margin of persons at the border lies outside of the frame, so the frame is extended by it.
    margin_y = round(window_height * (1 - PERSON_SHARE) / 2)
    margin_x = round(window_width / 2 - window_height * PERSON_SHARE * PERSON_ASPECT / 2)
    width, height = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    level: Any = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    right = _beyond(width, margin_x, window_width, dense.stride)
    below = _beyond(height, margin_y, window_height, dense.stride)
    scores, offsets = dense.judge(cv2.copyMakeBorder(level, margin_y, below, margin_x, right, cv2.BORDER_REPLICATE))
    rows, columns = np.indices(scores.shape).reshape(2, -1)
    limits = np.array(OFFSET_MAX)
    moves = np.clip(offsets.reshape(-1, 3).astype(np.float64), -limits, limits)
    tall = window_height / scale
    x = (columns * dense.stride - margin_x + window_width / 2) / scale + moves[:, 0] * tall
    y = (rows * dense.stride - margin_y + window_height / 2) / scale + moves[:, 1] * tall
    return np.stack([x, y, math.log(tall) + moves[:, 2]], axis=1), scores.ravel().astype(np.float64)


def _beyond(side: int, margin: int, window: int, stride: int) -> int:
    """Return the pixels after a side, so that it is a multiple of the stride and at least as long as a window."""
    extended = side + 2 * margin
    return margin + max(window, -(-extended // stride) * stride) - extended
