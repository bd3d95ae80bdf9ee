"""The search of a frame on a GPU: the same steps as in `scanning`, in few large operations.

The frame is uploaded once. Pyramid, dense pass, fusion, suppression, crops and both judgements of the crops follow
without a wait of the host, in shapes that depend on the size of the frame and on the settings alone. One download
brings the candidates to the host, which confirms the best one and the doubtful ones as `scanning.confirm` does. The
host therefore waits twice. If the confirmed score of the best window is lower than the score of the next window, the
next window is confirmed as well, which is one additional wait.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain_cnn_ros.model.classifier import BATCH, WindowClassifier
from explain_cnn_ros.model.network import OFFSET_UNITS
from explain_cnn_ros.model.output import margin
from explain_cnn_ros.model.windows import PERSON_SHARE, Region
from explain_cnn_ros.scan.candidates import OFFSET_MAX, Candidate, suppress
from explain_cnn_ros.scan.dense import WINDOWS_MAX, DensePass, pass_of
from explain_cnn_ros.scan.grouping import first_of, fuse, keep_best
from explain_cnn_ros.scan.pyramid import Pyramid
from explain_cnn_ros.scan.scanning import (
    CROP_MARGIN_MIN,
    HEIGHT_TOLERANCE,
    START_OVERLAP_MAX,
    ScanSettings,
    confirm,
    pyramid_scales,
    require_searchable,
)

#: Maximum number of windows that start a fusion, best first. Street frames have up to 230.
STARTS_MAX = 512

#: Maximum number of pyramids that are cached, for different sizes of frames or settings.
PYRAMIDS = 4


class DeviceSearch:
    """Searches frames on the device of a classifier. It was not tried on a GPU yet; the tests run it on a CPU.

    Args:
        classifier: The classifier. Its weights may change between frames.

    Raises:
        ValueError: The classifier has no dense pass.
    """

    def __init__(self, classifier: WindowClassifier) -> None:
        if not classifier.has_dense_pass:
            raise ValueError(
                f"search_on_device is set, but {classifier.info.architecture} cannot search on the device, which only "
                "VGGs of this package can: leave it off"
            )
        self._classifier = classifier
        info, device = classifier.info, classifier.device
        self._confirmer = Confirmer(classifier.network, info, device, autocast=classifier.autocast)
        self._pyramid = functools.lru_cache(PYRAMIDS)(Pyramid.prepare)
        # These numbers are uploaded only once, because the host waits for such an upload.
        self._units = torch.tensor(OFFSET_UNITS, device=device)
        self._limits = torch.tensor(OFFSET_MAX, device=device)
        self._low: tuple[tuple[torch.dtype, list[int]], Any] | None = None

    def scan(self, frame: NDArray[np.uint8], settings: ScanSettings, threshold: float) -> list[Region]:
        """Search a frame for persons; see `scanning.scan`.

        Args:
            frame: uint8 [H, W, 3] RGB.
            settings: Settings of the search.
            threshold: Regions below this P(person) are left out, except the best one.

        Returns:
            The regions, best first; always at least one. P(person) of the best region, and of those near the threshold,
            is exact.
        """
        judged = self._search(frame, settings).cpu().tolist()
        moved = [
            Candidate(*last[:6])
            for first, last in zip(judged[0], judged[-1], strict=True)
            if first[6] and first[4] >= CROP_MARGIN_MIN
        ]
        found = moved or [Candidate(*row[:6]) for row in judged[0] if row[6]]
        kept = suppress(found, settings.overlap_max, settings.candidates_max, key=lambda c: c.support)
        regions = [c.to_region() for c in confirm(self._confirmer, frame, kept, threshold)]
        return [r for r in regions if r.probability >= threshold] or regions[:1]

    @torch.inference_mode()
    def _search(self, frame: NDArray[np.uint8], settings: ScanSettings) -> Tensor:
        """Return the candidates after each judgement, [1 or 2, C, 7]: box, margin, support, and 1 if it exists."""
        classifier = self._classifier
        dense = pass_of(classifier, settings.proposer)
        height, width, _ = frame.shape
        scales = tuple(pyramid_scales(height, dense.window[1], settings))
        require_searchable((width, height), dense.window, scales)
        pyramid = self._pyramid((width, height), scales, dense.window, dense.stride, classifier.device)
        pixels = classifier.to_pixels(frame[None])[0].permute(1, 0, 2).contiguous()
        places, scores = self._windows(pyramid, pixels, settings.proposer)
        modes, *rest = candidates_of(places, scores, dense, settings)
        tall = modes[:, 2:].exp()
        boxes = torch.cat([tall * dense.window[0] / dense.window[1], tall], 1)
        boxes = torch.cat([modes[:, :2] - boxes / 2, boxes], 1)
        rows = []
        for _ in range(2 if settings.refine else 1):
            boxes = torch.cat([boxes[:, :2].round(), boxes[:, 2:].round().clamp(min=1)], 1)
            margins, moves = self._judge(pyramid, pixels, boxes)
            rows.append(torch.cat([boxes, torch.stack([margins, *rest], 1)], 1))
            boxes = moved_boxes(boxes, moves)
        return torch.stack(rows)

    def _windows(self, pyramid: Pyramid, pixels: Tensor, proposer: bool) -> tuple[Tensor, Tensor]:
        """Return places [K, 3] and margins [K] of the best windows of the dense pass, best first."""
        classifier, network, judged = self._classifier, self._network(), []
        for level in pyramid.levels(pixels):
            batch = classifier.normalise(level)
            if proposer and classifier.proposer is not None:
                # It costs little in float32, and in bfloat16 it loses some of the smallest persons.
                numbers = classifier.proposer(batch)
            else:
                numbers = torch.cat(network.dense_forward(batch.to(self._dtype)), 1).float()
            judged.append(numbers[0].flatten(1))
        numbers = torch.cat(judged, 1)
        logits, offsets = numbers[: -len(OFFSET_UNITS)], numbers[-len(OFFSET_UNITS) :]
        margins = logits[0] if len(logits) == 1 else margin(logits.T, classifier.info.targets)
        # Windows of equal margins stay in their order, as on the host.
        margins, best = (part[:WINDOWS_MAX] for part in margins.sort(descending=True, stable=True))
        return pyramid.places[best] + pyramid.reaches[best] * self._moves(offsets.T[best]), margins

    def _judge(self, pyramid: Pyramid, pixels: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return margins [C] and moves [C, 3] of boxes [C, 4] in whole pixels, scored as exact crops."""
        classifier, network, parts = self._classifier, self._network(), []
        for part in boxes.split(BATCH):
            windows = pyramid.canvas.crops(pixels, part, classifier.info.input_size)
            parts.append(network.forward_with_offsets(classifier.normalise(windows).to(self._dtype)))
        logits, offsets = (torch.cat(part).float() for part in zip(*parts, strict=True))
        return margin(logits, classifier.info.targets), self._moves(offsets)

    def _moves(self, offsets: Tensor) -> Tensor:
        return (offsets * self._units).clamp(-self._limits, self._limits)

    @property
    def _dtype(self) -> torch.dtype:
        return self._classifier.search_autocast or torch.float32

    def _network(self) -> Any:
        """Return the classifier's network in the data type of the search. It is cached until the weights change."""
        network = self._classifier.network
        if self._dtype == torch.float32:
            return network
        # Autocast would convert the weights in every pass.
        key = (self._dtype, [0 if p.is_inference() else p._version for p in network.parameters()])
        if self._low is None or self._low[0] != key:
            self._low = (key, copy.deepcopy(network).to(self._dtype))
        return self._low[1]


class Confirmer(WindowClassifier):
    """Judges windows in the precision of decisions, with one wait for the device."""

    @property
    def searches_exactly(self) -> bool:
        """Whether a search uses the same precision and the same crops as a decision."""
        return False

    def locate(
        self, windows: NDArray[np.uint8], search: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute the margins of windows; the offsets are 0, because the windows are not moved any more."""
        return margin(self.logits(windows), self.info.targets).cpu().numpy(), np.zeros(
            (len(windows), len(OFFSET_UNITS)), np.float32
        )


def candidates_of(
    places: Tensor, margins: Tensor, dense: DensePass, settings: ScanSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Fuse windows that agree on a person, and suppress those with less support; see `scanning.propose`.

    Args:
        places: Centre x, centre y and logarithm of the height of the windows, best first, [K, 3].
        margins: Margins of the windows, [K].
        dense: The dense pass that they come from.
        settings: Settings of the search.

    Returns:
        Places [C, 3] and support [C] of the candidates, and whether each exists, bool [C]. Those that exist come first,
        in the order of their support. The first one always exists.
    """
    plausible = (margins >= dense.margin_min) | _is_first(margins)
    starts_a_fusion = keep_best(places, plausible, START_OVERLAP_MAX)
    starts = first_of(starts_a_fusion, STARTS_MAX)
    modes, support = fuse(places, margins.sigmoid() * plausible, places[starts])
    height_min = HEIGHT_TOLERANCE * settings.person_height_min / PERSON_SHARE
    enough = starts_a_fusion[starts] & (support >= dense.support_min) & (modes[:, 2] >= math.log(height_min))
    # Modes without enough support come after the others: no mode has more support than there are windows.
    value = torch.where(enough, support, support - WINDOWS_MAX)
    _, order = torch.where(starts_a_fusion[starts], value, -torch.inf).sort(descending=True, stable=True)
    modes, support, enough = modes[order], support[order], enough[order]
    # A frame always has a region: if none has enough support, the best one is scored all the same.
    exists = keep_best(modes, enough | _is_first(support), settings.overlap_max)
    chosen = first_of(exists, settings.candidates_max)
    return modes[chosen], support[chosen], exists[chosen]


def moved_boxes(boxes: Tensor, moves: Tensor) -> Tensor:
    """Move boxes (x, y, width, height) [N, 4] onto their persons; see `Candidate.moved`.

    Args:
        boxes: The boxes.
        moves: The person's centre relative to the box's, to the right and below, as shares of the box's height, and the
            logarithm of the person's size, [N, 3].
    """
    sizes = boxes[:, 2:] * moves[:, 2:].exp()
    return torch.cat([boxes[:, :2] + (boxes[:, 2:] - sizes) / 2 + moves[:, :2] * boxes[:, 3:], sizes], 1)


def _is_first(values: Tensor) -> Tensor:
    return torch.arange(len(values), device=values.device) == 0
