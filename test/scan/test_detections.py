"""Boxes of a detector: the windows around them, what is refused, and the decision about them."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest

from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.model.windows import Region, crop
from explain_cnn_ros.scan.decider import DETECTIONS, Decider, DecisionSettings
from explain_cnn_ros.scan.detections import DetectedBox, person_windows, visible_share

OWN = ModelInfo()
SQUARE = ModelInfo(architecture="resnet18", input_size=(224, 224), source="torchvision")
SIZE = (640, 480)


def windows(*boxes: DetectedBox, info: ModelInfo = OWN, **options: Any) -> list[tuple[int, int, int, int]]:
    found = person_windows(boxes, info, SIZE, **options)
    assert all(math.isnan(region.probability) for region in found.regions)
    return [(r.x, r.y, r.width, r.height) for r in found.regions]


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((100, 60, 40, 96), (88, 44, 64, 128)),  # the person has 0.75 of the height, as in the training
        ((100, 60, 90, 96), (100, 18, 90, 180)),  # a wide box is contained as well
        ((-10, -12, 40, 96), (-22, -28, 64, 128)),  # windows reach out of the frame
        ((100.4, 60.2, 40, 96), (88, 44, 64, 128)),
    ],
)
def test_windows_of_our_networks_have_the_margins_of_their_training(box, window):
    assert windows(DetectedBox(*box)) == [window]
    assert windows(DetectedBox(*box), margin=1.0) == [window], "the margin is for imported networks"


def test_a_window_around_the_person_of_a_region_is_the_region():
    """The inverse of `Region.person_box`."""
    region = Region(200, 60, 160, 320, 0.9)
    assert windows(DetectedBox(*region.person_box)) == [(200, 60, 160, 320)]


@pytest.mark.parametrize(
    ("box", "margin", "window"),
    [
        ((100, 60, 40, 96), 0.0, (72, 60, 96, 96)),
        ((100, 60, 96, 40), 0.0, (100, 32, 96, 96)),
        ((100, 60, 40, 100), 0.25, (45, 35, 150, 150)),
    ],
)
def test_windows_of_imported_networks_have_the_margin_that_is_requested(box, margin, window):
    assert windows(DetectedBox(*box), info=SQUARE, margin=margin) == [window]


def test_classes_are_names_or_ids():
    boxes = [DetectedBox(100 * i, 60, 40, 96, label) for i, label in enumerate(("person", "0", "car", ""))]
    assert len(windows(*boxes)) == 4
    found = person_windows(boxes, OWN, SIZE, ("person", "0"))
    assert [r.x for r in found.regions] == [-12, 88]
    assert found.others == ("car", "") and not found.refused


def test_the_boxes_with_the_highest_scores_are_judged():
    boxes = [DetectedBox(x, 60, 40, 96, "", score) for x, score in ((0, 0.2), (100, math.nan), (200, 0.9), (300, 0.5))]
    assert [x for x, *_ in windows(*boxes, count_max=3)] == [188, 288, -12]
    assert len(windows(*boxes)) == 4


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((700, 60, 40, 96), r"only 0.0% of the box at \(700, 60\), 40 x 96 pixels, lies in the image of 640 x 480"),
        ((636, 60, 80, 96), "only 5.0% of the box"),
        ((-1e300, 0, 1e300, 96), "only 0.0% of the box"),
        ((-1e6, 0, 2e6, 2e6), "only 0.0% of the box"),
        ((-2800, 0, 6000, 480), "only .* of the window around"),
        ((math.nan, 0, 40, 96), "a box has the edges nan, 0 and the size 40 x 96"),
        ((0, 0, math.inf, 96), "inf x 96"),
        ((10, 10, 0, 96), "is smaller than a pixel"),
        ((10, 10, 40, -96), "is smaller than a pixel"),
        ((10, 10, 1e-200, 1e-200), "is smaller than a pixel"),
    ],
)
@pytest.mark.parametrize("info", [OWN, SQUARE], ids=["own", "imported"])
def test_boxes_that_do_not_fit_are_refused_with_the_reason(box, reason, info):
    found = person_windows([DetectedBox(*box), DetectedBox(100, 60, 40, 96)], info, SIZE)
    assert len(found.regions) == 1
    (refused,) = found.refused
    assert re.search(reason, refused), refused


def test_the_visible_share():
    assert visible_share((0, 0, 640, 480), SIZE) == 1.0
    assert visible_share((-320, 0, 640, 480), SIZE) == 0.5
    assert visible_share((640, 0, 10, 10), SIZE) == 0.0


class TestJudging:
    """`Decider.judge`: one frame, and regions from elsewhere."""

    frame = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    regions = (Region(10, 20, 64, 128, math.nan), Region(100, 20, 50, 100, math.nan), Region(-20, 90, 64, 128, 0.3))

    def window(self, region: Region) -> np.ndarray:
        return crop(self.frame, region.x, region.y, region.width, region.height, (32, 64))

    def test_all_regions_are_judged_and_the_best_is_first(self, thin_classifier: Any) -> None:
        decision = Decider(thin_classifier).judge(self.frame, self.regions)
        expected = {(r.x, r.y): float(thin_classifier.probability(self.window(r)[None])[0]) for r in self.regions}
        assert {(r.x, r.y): r.probability for r in decision.regions} == pytest.approx(expected, abs=1e-6)
        values = [r.probability for r in decision.regions]
        assert values == sorted(values, reverse=True)
        assert decision.person == (values[0] >= thin_classifier.threshold)

    def test_nobody(self, thin_classifier: Any) -> None:
        settings = DecisionSettings(confidence_threshold=1.0)
        decision = Decider(thin_classifier, settings).judge(self.frame, [])
        assert (decision.regions, decision.probability, decision.person) == ((), 0.0, False)
        assert not decision.low_confidence
        with pytest.raises(ValueError, match="the detector found nobody in this image: name the region"):
            _ = decision.region

    def test_no_image(self, thin_classifier: Any) -> None:
        with pytest.raises(ValueError, match="expected uint8"):
            Decider(thin_classifier).judge(self.frame.astype(np.float32), [])

    def test_frames_alone_cannot_be_decided(self, thin_classifier: Any) -> None:
        settings = DecisionSettings()
        object.__setattr__(settings, "regions", DETECTIONS)
        with pytest.raises(ValueError, match="pass them to `judge`"):
            Decider(thin_classifier, settings).decide(self.frame)

    def test_only_callers_with_a_detector_offer_it(self) -> None:
        with pytest.raises(ValueError, match="regions is 'detections': it must be one of scan, whole"):
            dataclasses.replace(DecisionSettings(), regions=DETECTIONS)
