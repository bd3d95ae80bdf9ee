"""Decisions about frames: their regions, their threshold, and their confidence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.options import option
from explain_cnn_ros.scan import dense
from explain_cnn_ros.scan.candidates import probability_of
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import REGIONS, Decider, Decision, DecisionSettings
from explain_cnn_ros.scan.scanning import DOUBT, ScanSettings

Frame = NDArray[np.uint8]

#: Settings of a search that is fast in a small frame.
SCAN = ScanSettings(person_height_min=48, person_height_max=60, candidates_max=6)


@pytest.fixture(scope="module")
def frames(picture: Callable[..., Frame]) -> list[Frame]:
    """Frames of several sizes; one of them has the size of the window."""
    return [
        picture(width, height, seed) for seed, (width, height) in enumerate([(60, 80), (32, 64), (40, 30), (7, 90)])
    ]


class ScriptedClassifier(PersonClassifier):
    """Finds persons of given probabilities in each frame, and records how it was called."""

    def __init__(self, like: PersonClassifier, probabilities: Sequence[float], threshold: float = 0.6) -> None:
        info = dataclasses.replace(like.info, threshold=threshold)
        super().__init__(like.network, info, "cpu")
        self.found = [Region(10 * i, 0, 32, 64, p) for i, p in enumerate(probabilities)]
        self.scans: list[tuple[ScanSettings | None, float | None]] = []
        self.batches: list[int] = []

    def scan(self, frame: Frame, settings: ScanSettings | None = None, threshold: float | None = None) -> list[Region]:
        self.scans.append((settings, threshold))
        limit = self.threshold if threshold is None else threshold
        return [region for region in self.found if region.probability >= limit] or self.found[:1]

    def probability(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(windows))
        return np.full(len(windows), self.found[0].probability, np.float32)


@pytest.fixture
def scripted(thin_classifier: PersonClassifier) -> Callable[..., ScriptedClassifier]:
    return lambda *probabilities, threshold=0.6: ScriptedClassifier(thin_classifier, probabilities, threshold)


class TestWhole:
    settings = DecisionSettings(regions="whole")

    def test_has_one_region_that_is_the_frame_resized_to_a_window(
        self, thin_classifier: PersonClassifier, frames: list[Frame]
    ) -> None:
        for frame in frames:
            decision = Decider(thin_classifier, self.settings).decide(frame)
            (region,) = decision.regions
            p = float(thin_classifier.probability(thin_classifier.resize(frame)[None])[0])
            assert region == Region(0, 0, frame.shape[1], frame.shape[0], p)
            assert region.covers((frame.shape[1], frame.shape[0]))
            assert isinstance(region.probability, float)
            assert decision.region is region
            assert decision.probability == p

    def test_many_frames_are_decided_like_each_alone(
        self, thin_classifier: PersonClassifier, frames: list[Frame]
    ) -> None:
        decider = Decider(thin_classifier, dataclasses.replace(self.settings, threshold=0.4))
        together = decider.decide_all(frames)
        assert len(together) == len(frames)
        for decision, frame in zip(together, frames, strict=True):
            alone = decider.decide(frame)
            assert decision.probability == pytest.approx(alone.probability, rel=1e-5)
            assert dataclasses.replace(decision, regions=()) == dataclasses.replace(alone, regions=())
            assert dataclasses.replace(decision.region, probability=0) == dataclasses.replace(
                alone.region, probability=0
            )

    def test_many_frames_go_through_the_network_together(self, scripted, frames: list[Frame]) -> None:
        classifier = scripted(0.9)
        Decider(classifier, self.settings).decide_all(frames)
        assert classifier.batches == [len(frames)]
        assert classifier.scans == []


class RoundingClassifier(PersonClassifier):
    """Has given margins in float32, which 8-bit integers change by given errors."""

    def __init__(self, like: PersonClassifier, margins: NDArray[np.float32], errors: NDArray[np.float32]) -> None:
        super().__init__(like.network, dataclasses.replace(like.info, threshold=0.9), "cpu")
        self.search_int8 = True
        self.margins, self.errors = margins, errors
        self.in_float32: list[int] = []

    def resize(self, image: Frame) -> Frame:
        return image

    def locate(self, windows: NDArray[np.uint8], search: bool = False) -> tuple[NDArray[np.float32], ...]:
        assert search
        return (self.margins + self.errors)[windows[:, 0, 0, 0]], np.zeros((len(windows), 3), np.float32)

    def probability(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.in_float32 += windows[:, 0, 0, 0].tolist()
        return np.asarray(probability_of(self.margins[windows[:, 0, 0, 0]]), np.float32)


class TestWholeWithIntegers:
    margins = np.arange(-9, 9, 0.15).astype(np.float32)
    frames = tuple(np.full((64, 32, 3), i, np.uint8) for i in range(len(margins)))

    @pytest.mark.parametrize("confidence", [0.0, 0.5, 0.75, 0.95, 1.0])
    @pytest.mark.parametrize("threshold", [0.0, 0.02, 0.5, 0.99])
    @pytest.mark.parametrize("error", [-DOUBT, -0.36, 0.36, DOUBT])
    def test_no_decision_differs(self, thin_classifier, confidence: float, threshold: float, error: float) -> None:
        settings = DecisionSettings(regions="whole", threshold=threshold, confidence_threshold=confidence)
        classifier = RoundingClassifier(thin_classifier, self.margins, np.full_like(self.margins, 0.999 * error))
        decisions = Decider(classifier, settings, fast=True).decide_all(self.frames)
        exact = probability_of(self.margins)
        assert [d.person for d in decisions] == [p >= (threshold or 0.9) for p in exact]
        assert [d.low_confidence for d in decisions] == [max(p, 1 - p) < confidence for p in exact]

    def test_only_windows_in_doubt_are_judged_in_float32(self, thin_classifier) -> None:
        """P(person) of the others is that of the integers."""
        margins = np.array([-9, -3, -2, 0, 3, 3.5, 9], np.float32)  # the threshold's margin is 2.2
        classifier = RoundingClassifier(thin_classifier, margins, np.full_like(margins, 0.1))
        decisions = Decider(classifier, DecisionSettings(regions="whole"), fast=True).decide_all(
            self.frames[: len(margins)]
        )
        assert classifier.in_float32 == [2, 3, 4]
        shown = margins + np.where(np.isin(np.arange(len(margins)), [2, 3, 4]), 0, 0.1)
        assert [d.probability for d in decisions] == pytest.approx(
            probability_of(shown.astype(float)).tolist(), rel=1e-5
        )

    def test_without_doubt_the_float32_network_does_not_run(self, thin_classifier) -> None:
        classifier = RoundingClassifier(thin_classifier, np.array([-9, 9], np.float32), np.zeros(2, np.float32))
        Decider(classifier, DecisionSettings(regions="whole"), fast=True).decide_all(self.frames[:2])
        assert classifier.in_float32 == []


class TestScan:
    settings = DecisionSettings(regions="scan", scan=SCAN)

    def test_is_the_default(self, scripted, frames: list[Frame]) -> None:
        assert DecisionSettings().regions == "scan"
        classifier = scripted(0.9)
        decider = Decider(classifier)
        assert decider.settings == DecisionSettings()
        decider.decide(frames[0])
        assert (classifier.scans, classifier.batches) == ([(ScanSettings(), 0.6)], [])

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 200), (200, 1), (20, 20), (32, 64), (31, 63), (64, 128)])
    def test_images_that_are_windows_or_smaller_have_a_region(
        self, thin_classifier: PersonClassifier, picture, width: int, height: int
    ) -> None:
        """The region has a probability, and shares pixels with the image."""
        decision = Decider(thin_classifier).decide(picture(width, height))
        for region in decision.regions:
            assert 0.0 <= region.probability <= 1.0
            assert region.width > 0
            assert region.height > 0
            assert region.x < width
            assert region.y < height
            assert region.x + region.width > 0
            assert region.y + region.height > 0

    def test_has_the_regions_that_the_classifier_finds(
        self, thin_classifier: PersonClassifier, frames: list[Frame]
    ) -> None:
        for frame in frames:
            decision = Decider(thin_classifier, self.settings).decide(frame)
            assert decision.regions == tuple(thin_classifier.scan(frame, SCAN))

    def test_many_frames_are_decided_like_each_alone(
        self, thin_classifier: PersonClassifier, frames: list[Frame]
    ) -> None:
        decider = Decider(thin_classifier, self.settings)
        assert decider.decide_all(frames) == [decider.decide(frame) for frame in frames]

    def test_passes_settings_and_threshold_on(self, scripted, frames: list[Frame]) -> None:
        classifier = scripted(0.9)
        Decider(classifier, self.settings).decide_all(frames[:2])
        Decider(classifier, dataclasses.replace(self.settings, threshold=0.3)).decide(frames[0])
        assert classifier.scans == [(SCAN, 0.6), (SCAN, 0.6), (SCAN, 0.3)]
        assert classifier.batches == []

    def test_keeps_the_regions_that_reach_the_threshold_in_force(self, scripted, frames: list[Frame]) -> None:
        """The threshold of the weights is 0.6. A lower threshold keeps more regions, a higher one fewer."""
        classifier = scripted(0.9, 0.7, 0.65, 0.5, 0.2)
        for threshold, expected in ((0.0, 3), (0.1, 5), (0.5, 4), (0.65, 3), (0.66, 2), (0.8, 1), (0.95, 1)):
            decider = Decider(classifier, dataclasses.replace(self.settings, threshold=threshold))
            decision = decider.decide(frames[0])
            assert [region.probability for region in decision.regions] == [0.9, 0.7, 0.65, 0.5, 0.2][:expected]
            assert decision.person is (threshold < 0.95)

    def test_the_threshold_reaches_the_real_search(
        self, thin_classifier: PersonClassifier, picture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The lowest threshold keeps all regions. Another one keeps those that reach it, but at least the best."""
        # A network without training finds no windows that agree.
        monkeypatch.setattr(dense, "SUPPORT_MIN", 0.0)
        # With 8-bit integers, the threshold decides which regions are judged in float32.
        monkeypatch.setattr(thin_classifier, "search_int8", False)
        frame = picture(220, 160)
        everything = Decider(thin_classifier, dataclasses.replace(self.settings, threshold=1e-9)).decide(frame)
        assert len(everything.regions) > 2
        limit = everything.regions[1].probability
        for threshold in (limit, math.nextafter(limit, 1), 0.999):
            settings = dataclasses.replace(self.settings, threshold=threshold)
            decision = Decider(thin_classifier, settings).decide(frame)
            reached = tuple(region for region in everything.regions if region.probability >= threshold)
            assert decision.regions == (reached or everything.regions[:1])
            assert decision.threshold == threshold


class TestThreshold:
    def test_is_that_of_the_weights_if_the_settings_have_none(self, scripted, frames: list[Frame]) -> None:
        decider = Decider(scripted(0.9, threshold=0.83), DecisionSettings(threshold=0.0))
        assert decider.threshold == 0.83
        assert decider.decide(frames[0]).threshold == 0.83

    def test_of_the_settings_comes_first(self, scripted, frames: list[Frame]) -> None:
        decider = Decider(scripted(0.9, threshold=0.83), DecisionSettings(threshold=0.95))
        assert decider.threshold == 0.95
        decision = decider.decide(frames[0])
        assert decision.threshold == 0.95
        assert not decision.person

    def test_follows_the_settings_when_they_are_replaced(self, scripted, frames: list[Frame]) -> None:
        decider = Decider(scripted(0.9), DecisionSettings(threshold=0.95))
        assert not decider.decide(frames[0]).person
        decider.settings = DecisionSettings(threshold=0.5)
        assert decider.threshold == 0.5
        assert decider.decide(frames[0]).person
        decider.settings = DecisionSettings(regions="scan")
        assert decider.threshold == 0.6
        assert decider.decide(frames[0]).regions == tuple(decider.classifier.scan(frames[0]))

    @pytest.mark.parametrize(("probability", "person"), [(0.59, False), (0.6, True), (0.61, True)])
    def test_is_reached_by_an_equal_probability(self, probability: float, person: bool) -> None:
        assert Decision((Region(0, 0, 8, 8, probability),), 0.6, False).person is person

    def test_the_best_region_decides(self) -> None:
        decision = Decision((Region(0, 0, 8, 8, 0.7), Region(8, 0, 8, 8, 0.4)), 0.6, False)
        assert (decision.region, decision.probability, decision.person) == (decision.regions[0], 0.7, True)


class TestLowConfidence:
    @pytest.mark.parametrize("regions", REGIONS)
    @pytest.mark.parametrize(
        ("probability", "limit", "low"),
        [
            (0.75, 0.75, False),
            (0.7421875, 0.75, True),
            (0.25, 0.75, False),
            (0.2578125, 0.75, True),
            (0.5, 0.75, True),
            (1.0, 0.75, False),
            (0.0, 0.75, False),
            (0.5, 0.0, False),
            (0.5, 0.5, False),
            (0.5, 1.0, True),
            (0.9921875, 1.0, True),
            (1.0, 1.0, False),
            (0.0, 1.0, False),
        ],
    )
    def test_is_below_the_limit_on_the_side_of_the_decision(
        self, scripted, frames: list[Frame], regions: str, probability: float, limit: float, low: bool
    ) -> None:
        """The limit itself is not low. These probabilities are exact in float32, as the classifier returns them."""
        settings = DecisionSettings(regions=regions, confidence_threshold=limit)
        assert Decider(scripted(probability), settings).decide(frames[0]).low_confidence is low

    def test_does_not_depend_on_the_threshold(self, scripted, frames: list[Frame]) -> None:
        for threshold in (0.1, 0.7, 0.99):
            settings = DecisionSettings(threshold=threshold)
            assert Decider(scripted(0.7), settings).decide(frames[0]).low_confidence
            assert not Decider(scripted(0.8), settings).decide(frames[0]).low_confidence

    def test_is_about_the_best_region(self, scripted, frames: list[Frame]) -> None:
        decision = Decider(scripted(0.9, 0.62), DecisionSettings(regions="scan")).decide(frames[0])
        assert len(decision.regions) == 2
        assert not decision.low_confidence


@pytest.mark.parametrize("regions", REGIONS)
def test_no_frames(thin_classifier: PersonClassifier, regions: str) -> None:
    assert Decider(thin_classifier, DecisionSettings(regions=regions)).decide_all([]) == []


@pytest.mark.parametrize("regions", REGIONS)
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (np.zeros((10, 10), np.uint8), r"uint8 \[10, 10\]"),
        (np.zeros((10, 10, 3), np.float32), r"float32 \[10, 10, 3\]"),
        (np.zeros((0, 10, 3), np.uint8), "empty .10 x 0 pixels"),
        (None, "NoneType"),
    ],
)
def test_bad_frames_are_refused(
    thin_classifier: PersonClassifier, frames: list[Frame], regions: str, bad: Frame, reason: str
) -> None:
    decider = Decider(thin_classifier, DecisionSettings(regions=regions, scan=SCAN))
    with pytest.raises(ValueError, match=f"the image is {reason}"):
        decider.decide(bad)
    with pytest.raises(ValueError, match=f"the image is {reason}"):
        decider.decide_all([frames[2], bad])


@pytest.mark.parametrize("regions", REGIONS)
def test_frames_are_left_alone(thin_classifier: PersonClassifier, frames: list[Frame], regions: str) -> None:
    before = [frame.copy() for frame in frames]
    Decider(thin_classifier, DecisionSettings(regions=regions, scan=SCAN)).decide_all(frames)
    assert all(np.array_equal(frame, copy) for frame, copy in zip(frames, before, strict=True))


class TestDecisionSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *[("regions", v) for v in ("window", "", None, 1)],
            *[("threshold", v) for v in (-0.1, 1.0, math.nan, "0.5")],
            *[("confidence_threshold", v) for v in (-0.1, 1.1, math.inf, None)],
        ],
    )
    def test_nonsense_is_refused_by_name(self, name: str, value: object) -> None:
        with pytest.raises(ValueError, match=f"^{name} is "):
            DecisionSettings(**{name: value})

    def test_settings_with_more_fields_serve_as_well(self, scripted, frames: list[Frame]) -> None:
        """The node and the analysis hand their own settings to a decider."""

        @dataclass(frozen=True)
        class More(DecisionSettings):
            rate: float = option(1.0, "Frames per second.", 0.0)

        assert Decider(scripted(0.7), More(threshold=0.65, rate=2.0)).decide(frames[0]).person
        with pytest.raises(ValueError, match=r"^rate is "):
            More(rate=-1.0)
        with pytest.raises(ValueError, match=r"^regions is "):
            More(regions="window")

    def test_is_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            DecisionSettings().threshold = 0.5
