"""Frame -> regions: image pyramid, fully convolutional pass, exact re-scoring, non-maximum suppression."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.options import option, require, validate

#: Share of the window's height that a person takes in the training windows (INRIA: 96 of 128 pixels).
PERSON_SHARE = 0.75

#: Share of the window's width that a person of that height takes (0.41 of the height: Dollar et al. 2012).
PERSON_ASPECT = 0.41

#: Distance of the fully convolutional pass's windows, pixels of a pyramid level.
STRIDE = 32

#: Logit difference (P(person) of 0.018) below which a window of the fully convolutional pass is not looked at again.
HOPELESS = -4.0


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
    refine: bool = option(True, "Centre each region on its person: ten more crops each.")

    def __post_init__(self) -> None:
        validate(self)
        require(
            self.person_height_max == 0 or self.person_height_max >= self.person_height_min,
            "person_height_max",
            self.person_height_max,
            f"0, or at least person_height_min ({self.person_height_min})",
        )


class WindowScorer(Protocol):
    """What scanning needs of a classifier."""

    @property
    def threshold(self) -> float: ...
    @property
    def info(self) -> Any: ...
    def probability(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]: ...
    def dense_logits(self, image: NDArray[np.uint8]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Candidate:
    """A window before it is rounded to whole pixels: frame coordinates, score is a logit difference."""

    x: float
    y: float
    width: float
    height: float
    score: float


def pyramid_scales(frame_height: int, window_height: int, settings: ScanSettings) -> list[float]:
    """Factors by which the frame is resized, largest first: person heights from min to max fit the window."""
    smallest = settings.person_height_min
    largest = settings.person_height_max or max(frame_height, smallest)
    levels = 1 + math.ceil(math.log(largest / smallest) / math.log(settings.scale_step) - 1e-9)
    first = PERSON_SHARE * window_height / smallest
    return [first / settings.scale_step**level for level in range(levels)]


def dense_candidates(scorer: WindowScorer, frame: NDArray[np.uint8], scales: Sequence[float]) -> Iterator[Candidate]:
    """Every window of every pyramid level with its score from the fully convolutional pass."""
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
        scores = scorer.dense_logits(level)
        for (row, column), score in np.ndenumerate(scores):
            yield Candidate(
                (column * STRIDE - margin_x) / scale,
                (row * STRIDE - margin_y) / scale,
                window_width / scale,
                window_height / scale,
                float(score),
            )


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


def rescore(scorer: WindowScorer, frame: NDArray[np.uint8], candidates: Sequence[Candidate]) -> list[Region]:
    """P(person) of each candidate as an exact crop, as in training."""
    if not candidates:
        return []
    # Whole pixels first: the region that is returned is the one that was scored.
    regions = [Region(round(c.x), round(c.y), round(c.width), round(c.height), math.nan) for c in candidates]
    windows = np.stack([crop(frame, r.x, r.y, r.width, r.height, scorer.info.input_size) for r in regions])
    scores = scorer.probability(windows)
    return [dataclasses.replace(r, probability=float(p)) for r, p in zip(regions, scores, strict=True)]


def suppress(
    candidates: Sequence[Region | Candidate], scores: Sequence[float], overlap_max: float, keep_max: int
) -> list[int]:
    """Non-maximum suppression: indices of what is kept, best first.

    A window is dropped when the person in it shares more than `overlap_max` of the smaller of the two
    persons with a better one: legs and torsos go with their person.
    """
    if not len(candidates):
        return []
    boxes = np.array([person_box(c) for c in candidates])
    kept: list[int] = []
    for index in np.argsort(-np.asarray(scores), kind="stable"):
        if len(kept) == keep_max:
            break
        if not kept or overlap(boxes[index], boxes[kept]).max() <= overlap_max:
            kept.append(int(index))
    return kept


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


def refine(scorer: WindowScorer, frame: NDArray[np.uint8], region: Region) -> Region:
    """Centre a region on its person: the mean of the positions around it, weighted by P(person)."""
    step_x, step_y = region.width / 4, region.height / 8
    around = [
        Candidate(region.x + dx * step_x, region.y + dy * step_y, region.width, region.height, 0.0)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    ]
    found = rescore(scorer, frame, around)
    weights = np.array([r.probability for r in found])
    if weights.sum() <= 0:
        return region
    x, y = (np.average([getattr(c, axis) for c in around], weights=weights) for axis in ("x", "y"))
    centred = rescore(scorer, frame, [Candidate(float(x), float(y), region.width, region.height, 0.0)])[0]
    return max(centred, region, key=lambda r: r.probability)


def scan(scorer: WindowScorer, frame: NDArray[np.uint8], settings: ScanSettings) -> list[Region]:
    """Regions of a frame, uint8 [H, W, 3] RGB, that hold a person, best first; always at least one."""
    scales = pyramid_scales(frame.shape[0], scorer.info.input_size[1], settings)
    candidates = list(dense_candidates(scorer, frame, scales))
    hopeful = [c for c in candidates if c.score >= HOPELESS] or [max(candidates, key=lambda c: c.score)]
    best = suppress(hopeful, [c.score for c in hopeful], 0.8, settings.candidates_max)
    regions = rescore(scorer, frame, [hopeful[i] for i in best])
    kept = [
        regions[i]
        for i in suppress(regions, [r.probability for r in regions], settings.overlap_max, settings.candidates_max)
    ]
    persons = [r for r in kept if r.probability >= scorer.threshold] or kept[:1]
    if settings.refine:
        persons = [refine(scorer, frame, r) for r in persons]
        again = suppress(persons, [r.probability for r in persons], settings.overlap_max, len(persons))
        persons = [persons[i] for i in again]
    return persons
