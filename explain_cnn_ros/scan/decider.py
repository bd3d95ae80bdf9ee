"""The decision about a frame: which regions it has, whether one of them shows a person, and how sure that is.

The node, the analysis of recordings and the experiments all decide here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.model.windows import Region, check_image, crop
from explain_cnn_ros.options import option, validate
from explain_cnn_ros.scan.candidates import margin_of, probability_of
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import DOUBT, ScanSettings

#: Ways to turn a frame into windows: the frame is searched for persons, or the whole frame is resized to one window.
SCAN, WHOLE = "scan", "whole"
REGIONS = (SCAN, WHOLE)

#: A third way, for callers that pass the regions to `Decider.judge`: they come from a detector.
DETECTIONS = "detections"


@dataclass(frozen=True)
class DecisionSettings:
    """Settings of the decision about a frame.

    Raises:
        ValueError: A value is out of range; the message names the field and what is expected.
    """

    regions: str = option(
        "scan",
        "Windows of a frame: scan (the frame is searched for persons) or whole (the whole frame is resized to one "
        "window; only for images that are windows, which one person fills).",
        choices=REGIONS,
    )
    threshold: float = option(
        0.0,
        "The decision is person if P(person) is at least this; 0: the threshold that belongs to the weights.",
        0.0,
        0.999,
    )
    confidence_threshold: float = option(
        0.75, "A decision has low confidence if max(p, 1 - p) is below this; 0: no decision has.", 0.0, 1.0
    )
    scan: ScanSettings = field(default_factory=ScanSettings)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Decision:
    """The decision about one frame.

    Attributes:
        regions: The regions that were judged, best first. At least one, unless a detector found nobody.
        threshold: The decision is "person" if P(person) of the best region is at least this.
        low_confidence: Whether max(p, 1 - p) of the best region is below the confidence threshold.
    """

    regions: tuple[Region, ...]
    threshold: float
    low_confidence: bool

    @property
    def region(self) -> Region:
        """The best region: the one that is explained.

        Raises:
            ValueError: There are no regions.
        """
        if not self.regions:
            raise ValueError("the detector found nobody in this image: name the region to explain")
        return self.regions[0]

    @property
    def probability(self) -> float:
        """P(person) of the frame: that of its best region; 0 if there are no regions."""
        return self.region.probability if self.regions else 0.0

    @property
    def person(self) -> bool:
        """Whether the decision is "person"."""
        return self.probability >= self.threshold


class Decider:
    """Decides frames, one by one or many together.

    Args:
        classifier: The classifier that judges the windows.
        settings: Settings of the decisions; None for the defaults. It may be replaced between frames.
        fast: Whether frames of `whole` may be judged by 8-bit integers, if the processor is faster with them. Frames in
            doubt are judged in float32 as well, so that the same frames are "person", and the same have low confidence.
            P(person) of the others differs a little. Searching (`scan`) always works like this.
    """

    def __init__(
        self, classifier: PersonClassifier, settings: DecisionSettings | None = None, fast: bool = False
    ) -> None:
        self.classifier = classifier
        self.fast = fast
        self.settings = settings or DecisionSettings()

    @property
    def threshold(self) -> float:
        """The threshold in force: that of the settings, or else that of the weights."""
        return self.settings.threshold or self.classifier.threshold

    def decide(self, frame: NDArray[np.uint8]) -> Decision:
        """Decide one frame, uint8 [H, W, 3] RGB.

        Raises:
            ValueError: The frame has another type or shape, or no pixels.
        """
        return self.decide_all([frame])[0]

    def decide_all(self, frames: Sequence[NDArray[np.uint8]]) -> list[Decision]:
        """Decide frames, uint8 [H, W, 3] RGB, of any sizes; with `whole` they go through the network together.

        Raises:
            ValueError: A frame has another type or shape, or no pixels.
        """
        if self.settings.regions == DETECTIONS:
            raise ValueError("the regions of a frame come from a detector: pass them to `judge`")
        if self.settings.regions == SCAN:
            found = [self.classifier.scan(frame, self.settings.scan, self.threshold) for frame in frames]
        else:
            found = self._whole(frames)
        return [self._decision(regions) for regions in found]

    def judge(self, frame: NDArray[np.uint8], regions: Sequence[Region]) -> Decision:
        """Decide one frame by given regions, for instance those of `detections.person_windows`.

        Args:
            frame: uint8 [H, W, 3] RGB.
            regions: The regions, in pixels of the frame; their probabilities are not used. They may reach out of the
                frame. Without any, the decision is "no person", and its probability is 0.

        Returns:
            The decision, with all regions, best first.

        Raises:
            ValueError: The frame has another type or shape, or no pixels.
        """
        check_image(frame)
        if not regions:
            return self._decision([])
        size = self.classifier.info.input_size
        windows = np.stack([crop(frame, r.x, r.y, r.width, r.height, size) for r in regions])
        judged = [
            dataclasses.replace(region, probability=p)
            for region, p in zip(regions, self._probabilities(windows), strict=True)
        ]
        return self._decision(sorted(judged, key=lambda region: -region.probability))

    def _whole(self, frames: Sequence[NDArray[np.uint8]]) -> list[list[Region]]:
        if not frames:
            return []
        windows = np.stack([self.classifier.resize(frame) for frame in frames])
        return [
            [Region(0, 0, frame.shape[1], frame.shape[0], p)]
            for frame, p in zip(frames, self._probabilities(windows), strict=True)
        ]

    def _probabilities(self, windows: NDArray[np.uint8]) -> list[float]:
        if not (self.fast and self.classifier.search_int8):
            return self.classifier.probability(windows).tolist()
        margins, _ = self.classifier.locate(windows, search=True)
        probabilities = probability_of(margins.astype(np.float64))
        # 8-bit integers change a margin by less than DOUBT.
        unsure = np.abs(margins) <= margin_of(self.settings.confidence_threshold) + DOUBT
        doubtful = unsure | (np.abs(margins - margin_of(self.threshold)) <= DOUBT)
        if doubtful.any():
            probabilities[doubtful] = self.classifier.probability(windows[doubtful])
        return probabilities.tolist()

    def _decision(self, regions: Sequence[Region]) -> Decision:
        p = regions[0].probability if regions else 0.0
        return Decision(tuple(regions), self.threshold, max(p, 1 - p) < self.settings.confidence_threshold)
