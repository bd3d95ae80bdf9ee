"""Frame -> regions: image pyramid, fully convolutional pass, fusion, non-maximum suppression, exact re-scoring.

The network says of each window how likely it holds a person, and where in it the person is. Windows are moved onto
their persons; those that agree become one, which is then looked at as an exact crop.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.fusion import fuse
from explain_cnn_ros.options import option, require, validate

#: Share of the window's height that a person takes in the training windows (INRIA: 96 of 128 pixels).
PERSON_SHARE = 0.75

#: Share of the window's width that a person of that height takes (0.41 of the height: Dollar et al. 2012).
PERSON_ASPECT = 0.41

#: Distance of the fully convolutional pass's windows, pixels of a pyramid level.
STRIDE = 32

#: Logit difference (P(person) of 0.018) below which a window of the fully convolutional pass is not looked at again.
HOPELESS = -4.0

#: Support, in windows that are sure and of the very same place, below which a fused window is not looked at again.
SUPPORT_MIN = 2.0

#: A person may turn out to be this much smaller than the smallest that are looked for: heights are known to a tenth.
HEIGHT_TOLERANCE = 0.9

#: Windows whose persons overlap by more than this are shifted from one of them only.
START_OVERLAP_MAX = 0.8

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
class ScanSettings:
    """How a frame is searched."""

    person_height_min: int = option(60, "Height of the smallest persons looked for, pixels of the frame.", 8, 10_000)
    person_height_max: int = option(
        0, "Height of the largest persons looked for, pixels of the frame; 0: the frame's height.", 0, 10_000
    )
    scale_step: float = option(1.25, "Ratio of neighbouring pyramid levels.", 1.05, 2.0)
    candidates_max: int = option(24, "Windows that are looked at closely, best first.", 1, 1000)
    overlap_max: float = option(
        0.5, "Of two persons that share more than this part of the smaller one, the better is kept.", 0.05, 1.0
    )
    refine: bool = option(True, "Centre each region on its person once more: one more crop each.")

    def __post_init__(self) -> None:
        validate(self)
        require(
            self.person_height_max == 0 or self.person_height_max >= self.person_height_min,
            "person_height_max",
            self.person_height_max,
            f"0, or at least person_height_min ({self.person_height_min})",
        )


class WindowScorer(Protocol):
    """What scanning needs of a classifier: see the methods of PersonClassifier."""

    @property
    def threshold(self) -> float: ...
    @property
    def info(self) -> Any: ...
    def locate(self, windows: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
    def locate_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


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


def pyramid_scales(frame_height: int, window_height: int, settings: ScanSettings) -> list[float]:
    """Factors by which the frame is resized, largest first: person heights from min to max fit the window."""
    smallest = settings.person_height_min
    largest = settings.person_height_max or max(frame_height, smallest)
    levels = 1 + math.ceil(math.log(largest / smallest) / math.log(settings.scale_step) - 1e-9)
    first = PERSON_SHARE * window_height / smallest
    return [first / settings.scale_step**level for level in range(levels)]


def dense_candidates(scorer: WindowScorer, frame: NDArray[np.uint8], scales: Sequence[float]) -> Iterator[Candidate]:
    """Every window of every pyramid level, moved onto its person, with its score from the fully convolutional pass."""
    window_width, window_height = scorer.info.input_size
    # Persons at the border have their margin outside of the frame: widen the frame by it.
    margin_y = round(window_height * (1 - PERSON_SHARE) / 2)
    margin_x = round(window_width / 2 - window_height * PERSON_SHARE * PERSON_ASPECT / 2)
    for scale in scales:
        width = max(1, round(frame.shape[1] * scale))
        height = max(1, round(frame.shape[0] * scale))
        level: Any = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        right = margin_x + max(window_width, -(-(width + 2 * margin_x) // STRIDE) * STRIDE) - (width + 2 * margin_x)
        below = margin_y + max(window_height, -(-(height + 2 * margin_y) // STRIDE) * STRIDE) - (height + 2 * margin_y)
        level = cv2.copyMakeBorder(level, margin_y, below, margin_x, right, cv2.BORDER_REPLICATE)
        scores, offsets = scorer.locate_densely(level)
        for (row, column), score in np.ndenumerate(scores):
            yield Candidate(
                (column * STRIDE - margin_x) / scale,
                (row * STRIDE - margin_y) / scale,
                window_width / scale,
                window_height / scale,
                float(score),
            ).moved(offsets[row, column])


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


def rescore(
    scorer: WindowScorer, frame: NDArray[np.uint8], candidates: Sequence[Candidate]
) -> tuple[list[Candidate], NDArray[np.float32]]:
    """Each candidate in whole pixels, scored as an exact crop, as in training; and its offsets [N, 3]."""
    # Whole pixels first: the region that is returned is the one that was scored.
    whole = [
        dataclasses.replace(c, x=round(c.x), y=round(c.y), width=round(c.width), height=round(c.height))
        for c in candidates
    ]
    windows = np.stack([crop(frame, c.x, c.y, c.width, c.height, scorer.info.input_size) for c in whole])
    scores, offsets = scorer.locate(windows)
    return [dataclasses.replace(c, score=float(score)) for c, score in zip(whole, scores, strict=True)], offsets


def agree(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that agree on a person become one, with their support; a place may have several of them still."""
    places = np.array([c.place for c in candidates])
    weights = np.array([probability(c.score) for c in candidates])
    chosen = suppress(candidates, START_OVERLAP_MAX, len(candidates))
    modes, supports = fuse(places, weights, np.array([c.place for c in chosen]))
    fused = []
    for start, (x, y, size), support in zip(chosen, modes.tolist(), supports.tolist(), strict=True):
        height = math.exp(size)
        width = height * start.width / start.height
        fused.append(Candidate(x - width / 2, y - height / 2, width, height, start.score, support))
    return fused


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


def scan(scorer: WindowScorer, frame: NDArray[np.uint8], settings: ScanSettings) -> list[Region]:
    """Regions of a frame, uint8 [H, W, 3] RGB, that hold a person, best first; always at least one."""
    scales = pyramid_scales(frame.shape[0], scorer.info.input_size[1], settings)
    candidates = list(dense_candidates(scorer, frame, scales))
    hopeful = [c for c in candidates if c.score >= HOPELESS] or [max(candidates, key=lambda c: c.score)]
    height_min = HEIGHT_TOLERANCE * settings.person_height_min / PERSON_SHARE
    fused = agree(hopeful)
    supported = [c for c in fused if c.support >= SUPPORT_MIN and c.height >= height_min]
    # Without any, the best one is looked at all the same: a frame always has a region.
    chosen = supported or [max(fused, key=lambda c: c.support)]
    chosen = suppress(chosen, settings.overlap_max, settings.candidates_max, key=lambda c: c.support)
    found, offsets = rescore(scorer, frame, chosen)
    if settings.refine:
        found, _ = rescore(scorer, frame, [c.moved(offset) for c, offset in zip(found, offsets, strict=True)])
        found = suppress(found, settings.overlap_max, settings.candidates_max, key=lambda c: c.support)
    regions = sorted((to_region(c) for c in found), key=lambda r: -r.probability)
    return [r for r in regions if r.probability >= scorer.threshold] or regions[:1]


def to_region(candidate: Candidate) -> Region:
    """A candidate in whole pixels with P(person) for its logit difference."""
    x, y, width, height = (round(side) for side in (candidate.x, candidate.y, candidate.width, candidate.height))
    return Region(x, y, width, height, probability(candidate.score))


def probability(score: float) -> float:
    """P(person) for a logit difference."""
    return (1 + math.tanh(score / 2)) / 2
