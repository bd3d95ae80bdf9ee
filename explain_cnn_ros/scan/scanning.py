"""The search of a frame for persons.

An image pyramid goes through the network fully convolutionally. The network says of each window how likely it shows a
person, and where in the window the person is. Windows are moved onto their persons, windows that agree are fused into
one, and each of these is scored again as an exact crop.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.model.windows import PERSON_ASPECT, PERSON_SHARE, Region, crop
from explain_cnn_ros.options import option, require, validate
from explain_cnn_ros.scan.candidates import Candidate, probability_of, suppress
from explain_cnn_ros.scan.fusion import fuse

#: Stride of the fully convolutional pass, in pixels of a pyramid level.
STRIDE = 32

#: Windows of the fully convolutional pass below this margin (P(person) 0.018) are discarded.
MARGIN_MIN = -4.0

#: Minimum support of a fused window, in windows of P(person) 1 at exactly its place.
SUPPORT_MIN = 2.0

#: A person may be this much smaller than the smallest requested height: heights are known to a tenth.
HEIGHT_TOLERANCE = 0.9

#: If the persons of several windows overlap by more than this, only one of the windows starts a fusion.
START_OVERLAP_MAX = 0.8


@dataclass(frozen=True)
class ScanSettings:
    """Settings of the search.

    Raises:
        ValueError: A value is out of range; the message names the field and what is expected.
    """

    person_height_min: int = option(
        60, "Height of the smallest persons that are searched for, in pixels of the frame.", 8, 10_000
    )
    person_height_max: int = option(
        0,
        "Height of the largest persons that are searched for, in pixels of the frame; 0: the frame's height.",
        0,
        10_000,
    )
    scale_step: float = option(1.25, "Ratio of neighbouring pyramid levels.", 1.05, 2.0)
    candidates_max: int = option(24, "Maximum number of windows that are scored as exact crops, best first.", 1, 1000)
    overlap_max: float = option(
        0.5,
        "If two persons share more than this part of the smaller one, only the better one is kept.",
        0.05,
        1.0,
    )
    refine: bool = option(True, "Centre each region on its person again, at the cost of one more crop each.")

    def __post_init__(self) -> None:
        validate(self)
        require(
            self.person_height_max == 0 or self.person_height_max >= self.person_height_min,
            "person_height_max",
            self.person_height_max,
            f"0, or at least person_height_min ({self.person_height_min})",
        )


class WindowScorer(Protocol):
    """The part of a classifier that a search needs; see `WindowClassifier`."""

    @property
    def info(self) -> Any: ...
    def locate(
        self, windows: NDArray[np.uint8], search: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
    def locate_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


def pyramid_scales(frame_height: int, window_height: int, settings: ScanSettings) -> list[float]:
    """Compute the factors by which the frame is resized, largest first.

    At these scales, persons from the minimum to the maximum height fit the window.
    """
    smallest = settings.person_height_min
    largest = settings.person_height_max or max(frame_height, smallest)
    levels = 1 + math.ceil(math.log(largest / smallest) / math.log(settings.scale_step) - 1e-9)
    first = PERSON_SHARE * window_height / smallest
    return [first / settings.scale_step**level for level in range(levels)]


def dense_candidates(scorer: WindowScorer, frame: NDArray[np.uint8], scales: Sequence[float]) -> Iterator[Candidate]:
    """Yield every window of every pyramid level, moved onto its person, with its score from the dense pass."""
    window_width, window_height = scorer.info.input_size
    # The margin of persons at the border lies outside of the frame, so the frame is extended by it.
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


def rescore(
    scorer: WindowScorer, frame: NDArray[np.uint8], candidates: Sequence[Candidate], search: bool = False
) -> tuple[list[Candidate], NDArray[np.float32]]:
    """Round candidates to whole pixels and score them as exact crops, as in training.

    Args:
        scorer: The classifier.
        frame: uint8 [H, W, 3] RGB.
        candidates: The windows, N of them.
        search: The windows are scored again afterwards; see `WindowClassifier.locate`.

    Returns:
        The windows with their new scores, and their offsets [N, 3].
    """
    # Rounding comes first, so that the returned region is the one that was scored.
    whole = [
        dataclasses.replace(c, x=round(c.x), y=round(c.y), width=round(c.width), height=round(c.height))
        for c in candidates
    ]
    windows = np.stack([crop(frame, c.x, c.y, c.width, c.height, scorer.info.input_size) for c in whole])
    scores, offsets = scorer.locate(windows, search)
    return [dataclasses.replace(c, score=float(score)) for c, score in zip(whole, scores, strict=True)], offsets


def fuse_candidates(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Fuse candidates that agree on a person, and sum up their support. Several of the results may share a place."""
    places = np.array([c.place for c in candidates])
    weights = np.array([probability_of(c.score) for c in candidates])
    chosen = suppress(candidates, START_OVERLAP_MAX, len(candidates))
    modes, supports = fuse(places, weights, np.array([c.place for c in chosen]))
    fused = []
    for start, (x, y, size), support in zip(chosen, modes.tolist(), supports.tolist(), strict=True):
        height = math.exp(size)
        width = height * start.width / start.height
        fused.append(Candidate(x - width / 2, y - height / 2, width, height, start.score, support))
    return fused


def scan(scorer: WindowScorer, frame: NDArray[np.uint8], settings: ScanSettings, threshold: float) -> list[Region]:
    """Search a frame for persons.

    Args:
        scorer: The classifier.
        frame: uint8 [H, W, 3] RGB.
        settings: Settings of the search.
        threshold: Regions below this P(person) are left out, except the best one.

    Returns:
        The regions, best first; always at least one.
    """
    scales = pyramid_scales(frame.shape[0], scorer.info.input_size[1], settings)
    candidates = list(dense_candidates(scorer, frame, scales))
    plausible = [c for c in candidates if c.score >= MARGIN_MIN] or [max(candidates, key=lambda c: c.score)]
    height_min = HEIGHT_TOLERANCE * settings.person_height_min / PERSON_SHARE
    fused = fuse_candidates(plausible)
    supported = [c for c in fused if c.support >= SUPPORT_MIN and c.height >= height_min]
    # A frame always has a region: if none has enough support, the best one is scored all the same.
    chosen = supported or [max(fused, key=lambda c: c.support)]
    chosen = suppress(chosen, settings.overlap_max, settings.candidates_max, key=lambda c: c.support)
    found, offsets = rescore(scorer, frame, chosen, search=settings.refine)
    if settings.refine:
        found, _ = rescore(scorer, frame, [c.moved(offset) for c, offset in zip(found, offsets, strict=True)])
        found = suppress(found, settings.overlap_max, settings.candidates_max, key=lambda c: c.support)
    regions = sorted((c.to_region() for c in found), key=lambda r: -r.probability)
    return [r for r in regions if r.probability >= threshold] or regions[:1]
