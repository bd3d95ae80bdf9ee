"""Frame -> regions: image pyramid, fully convolutional pass, fusion, non-maximum suppression, exact re-scoring.

The network says of each window how likely it holds a person, and where in it the person is. Windows are moved onto
their persons; those that agree become one, which is then looked at as an exact crop.
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

from explain_cnn_ros.fusion import fuse
from explain_cnn_ros.options import option, require, validate
from explain_cnn_ros.regions import (
    PERSON_ASPECT,
    PERSON_SHARE,
    Candidate,
    Region,
    crop,
    probability,
    suppress,
    to_region,
)

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
    def locate(
        self, windows: NDArray[np.uint8], search: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
    def locate_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


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


def rescore(
    scorer: WindowScorer, frame: NDArray[np.uint8], candidates: Sequence[Candidate], search: bool = False
) -> tuple[list[Candidate], NDArray[np.float32]]:
    """Each candidate in whole pixels, scored as an exact crop, as in training; and its offsets [N, 3].

    Args:
        search: they will be looked at once more; see `PersonClassifier.locate`.
    """
    # Whole pixels first: the region that is returned is the one that was scored.
    whole = [
        dataclasses.replace(c, x=round(c.x), y=round(c.y), width=round(c.width), height=round(c.height))
        for c in candidates
    ]
    windows = np.stack([crop(frame, c.x, c.y, c.width, c.height, scorer.info.input_size) for c in whole])
    scores, offsets = scorer.locate(windows, search)
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
    found, offsets = rescore(scorer, frame, chosen, search=settings.refine)
    if settings.refine:
        found, _ = rescore(scorer, frame, [c.moved(offset) for c, offset in zip(found, offsets, strict=True)])
        found = suppress(found, settings.overlap_max, settings.candidates_max, key=lambda c: c.support)
    regions = sorted((to_region(c) for c in found), key=lambda r: -r.probability)
    return [r for r in regions if r.probability >= scorer.threshold] or regions[:1]
