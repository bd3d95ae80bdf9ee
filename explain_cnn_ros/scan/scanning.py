"""The search of a frame for persons.

A dense pass judges all windows of an image pyramid: how likely each shows a person, and where in the window the person
is. Windows are moved onto their persons, and windows that agree are fused into one. The classifier judges each of these
as an exact crop, moves it onto its person again, and judges it once again. If the processor is faster with 8-bit
integers, only windows near the threshold, and the best one, are judged in float32.

Networks of torchvision have no dense pass, so a proposer always proposes their windows. They judge each of these once,
in the aspect ratio of their own input.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.model.windows import PERSON_SHARE, Region, crop
from explain_cnn_ros.options import option, require, validate
from explain_cnn_ros.scan.candidates import Candidate, margin_of, probability_of, suppress, suppress_boxes
from explain_cnn_ros.scan.dense import WINDOWS_MAX, DenseScorer, Windows, dense_windows, pass_of
from explain_cnn_ros.scan.fusion import fuse

#: A person may be this much smaller than the smallest requested height: heights are known to a tenth.
HEIGHT_TOLERANCE = 0.9

#: Crops below this margin (P(person) 0.018) at the place where the dense pass found them are not judged again.
CROP_MARGIN_MIN = -4.0

#: Crops whose margin is this near to that of the threshold are judged in float32. On the 5,609 windows of INRIA, 8-bit
#: integers change a margin by at most 0.36 (bench/scan.py).
DOUBT = 1.0

#: Maximum number of pixels of a resized frame with its margins. More pixels are allowed if the resized frame without
#: its margins has at least a quarter of them.
PADDED_MAX = 16_000_000

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
    refine: bool = option(
        True,
        "Centre each region on its person again, at the cost of one more crop each. Networks of torchvision cannot.",
    )
    proposer: bool = option(
        True,
        "Let the small network of the weights propose the windows that the classifier judges, which takes a fraction "
        "of the time. If False, and with weights that have no such network, the classifier judges all windows. "
        "Networks of torchvision cannot, so it must be True for them.",
    )

    def __post_init__(self) -> None:
        validate(self)
        require(
            self.person_height_max == 0 or self.person_height_max >= self.person_height_min,
            "person_height_max",
            self.person_height_max,
            f"0, or at least person_height_min ({self.person_height_min})",
        )


class WindowScorer(DenseScorer, Protocol):
    """The part of a classifier that a search needs; see `WindowClassifier`."""

    @property
    def searches_exactly(self) -> bool: ...
    def locate(
        self, windows: NDArray[np.uint8], search: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


def pyramid_scales(frame_height: int, window_height: int, settings: ScanSettings) -> list[float]:
    """Compute the factors by which the frame is resized, largest first.

    At these scales, persons from the minimum to the maximum height fit the window.
    """
    smallest = settings.person_height_min
    largest = settings.person_height_max or max(frame_height, smallest)
    levels = 1 + math.ceil(math.log(largest / smallest) / math.log(settings.scale_step) - 1e-9)
    first = PERSON_SHARE * window_height / smallest
    return [first / settings.scale_step**level for level in range(levels)]


def require_searchable(frame_size: tuple[int, int], window: tuple[int, int], scales: Sequence[float]) -> None:
    """Check that a frame is not so narrow that its margins would take much more memory than the frame.

    Args:
        frame_size: Size (width, height) of the frame, in pixels.
        window: Size (width, height) of the windows of the dense pass, in pixels of the resized frame.
        scales: Factors by which the frame is resized.

    Raises:
        ValueError: The frame is too narrow.
    """
    for scale in scales:
        resized = [max(1, round(side * scale)) for side in frame_size]
        padded = math.prod(map(max, resized, window))
        if padded > max(PADDED_MAX, 4 * math.prod(resized)):
            raise ValueError(
                f"a frame of {frame_size[0]} x {frame_size[1]} pixels is too narrow to be searched for persons: "
                "cut it to a usual shape"
            )


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


def fuse_windows(windows: Windows) -> list[Candidate]:
    """Fuse windows that agree on a person, and sum up their support. Several of the results may share a place."""
    starts = suppress_boxes(windows.person_boxes, windows.scores, START_OVERLAP_MAX, len(windows))
    weights = probability_of(windows.scores)
    modes, supports = fuse(windows.places, weights, windows.places[starts])
    fused = []
    for start, (x, y, size), support in zip(starts, modes.tolist(), supports.tolist(), strict=True):
        height = math.exp(size)
        width = height * windows.aspect
        fused.append(Candidate(x - width / 2, y - height / 2, width, height, float(windows.scores[start]), support))
    return fused


def with_aspect(candidate: Candidate, aspect: float) -> Candidate:
    """Return a window with the same centre and height, whose width is `aspect` times its height."""
    width = candidate.height * aspect
    return dataclasses.replace(candidate, x=candidate.x + (candidate.width - width) / 2, width=width)


def propose(scorer: WindowScorer, frame: NDArray[np.uint8], settings: ScanSettings) -> list[Candidate]:
    """Find the windows that may show persons by a dense pass.

    Args:
        scorer: The classifier.
        frame: uint8 [H, W, 3] RGB.
        settings: Settings of the search.

    Returns:
        At most `candidates_max` windows, those with the most support first; always at least one. Their aspect ratio is
        that of the classifier's input.

    Raises:
        ValueError: The classifier has no dense pass, and no proposer that may be used; or the frame is too narrow.
    """
    dense = pass_of(scorer, settings.proposer)
    scales = pyramid_scales(frame.shape[0], dense.window[1], settings)
    require_searchable((frame.shape[1], frame.shape[0]), dense.window, scales)
    windows = dense_windows(dense, frame, scales)
    best = np.argsort(-windows.scores, kind="stable")[:WINDOWS_MAX]
    plausible = best[windows.scores[best] >= dense.margin_min]
    fused = fuse_windows(windows[plausible if len(plausible) else best[:1]])
    height_min = HEIGHT_TOLERANCE * settings.person_height_min / PERSON_SHARE
    supported = [c for c in fused if c.support >= dense.support_min and c.height >= height_min]
    # A frame always has a region: if none has enough support, the best one is scored all the same.
    chosen = supported or [max(fused, key=lambda c: c.support)]
    kept = suppress(chosen, settings.overlap_max, settings.candidates_max, key=lambda c: c.support)
    width, height = scorer.info.input_size
    return kept if width / height == windows.aspect else [with_aspect(c, width / height) for c in kept]


def confirm(
    scorer: WindowScorer, frame: NDArray[np.uint8], candidates: Sequence[Candidate], threshold: float
) -> list[Candidate]:
    """Judge windows in float32 whose decision a lower precision might change, and the best window.

    Args:
        scorer: The classifier.
        frame: uint8 [H, W, 3] RGB.
        candidates: Windows with whole pixels, which were scored in the precision of the search.
        threshold: The decision is "person" if P(person) is at least this.

    Returns:
        The windows, best first. The first one and those near the threshold have exact scores.
    """
    exact: list[Candidate] = []
    rest = sorted(candidates, key=lambda c: -c.score)
    if scorer.searches_exactly:
        return rest
    near = margin_of(threshold)
    doubtful = [c for c in rest if abs(c.score - near) <= DOUBT]
    # The score of the best window may fall below that of the second one, which then is the best.
    while rest and (doubtful or not exact or rest[0].score > max(c.score for c in exact)):
        batch = list(dict.fromkeys([rest[0], *doubtful]))
        rest = [c for c in rest if c not in batch]
        exact += rescore(scorer, frame, batch)[0]
        doubtful = []
    return sorted([*exact, *rest], key=lambda c: -c.score)


def scan(scorer: WindowScorer, frame: NDArray[np.uint8], settings: ScanSettings, threshold: float) -> list[Region]:
    """Search a frame for persons.

    Args:
        scorer: The classifier.
        frame: uint8 [H, W, 3] RGB.
        settings: Settings of the search.
        threshold: Regions below this P(person) are left out, except the best one.

    Returns:
        The regions, best first; always at least one. P(person) of the best region, and of those near the threshold, is
        exact.

    Raises:
        ValueError: The classifier has no dense pass, and no proposer that may be used; or the frame is too narrow.
    """
    found, offsets = rescore(scorer, frame, propose(scorer, frame, settings), search=True)
    if settings.refine and scorer.has_dense_pass:
        moved = [c.moved(o) for c, o in zip(found, offsets, strict=True) if c.score >= CROP_MARGIN_MIN]
        if moved:
            found, _ = rescore(scorer, frame, moved, search=True)
        found = suppress(found, settings.overlap_max, settings.candidates_max, key=lambda c: c.support)
    regions = [c.to_region() for c in confirm(scorer, frame, found, threshold)]
    return [r for r in regions if r.probability >= threshold] or regions[:1]
