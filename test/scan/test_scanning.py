"""The search for bright blobs with a scripted scorer, and each step against loops."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from explain_cnn_ros.model.windows import PERSON_ASPECT, PERSON_SHARE, crop
from explain_cnn_ros.scan.candidates import Candidate, suppress
from explain_cnn_ros.scan.dense import DensePass, Windows, dense_windows, pass_of
from explain_cnn_ros.scan.scanning import (
    ScanSettings,
    confirm,
    fuse_windows,
    propose,
    pyramid_scales,
    require_searchable,
    rescore,
    scan,
)

WIDTH, HEIGHT = 64, 128

#: Threshold of the decision.
THRESHOLD = 0.5


class BlobScorer:
    """Finds bright upright blobs on dark ground that are as large as a person in a window, near its middle."""

    info = SimpleNamespace(input_size=(WIDTH, HEIGHT))
    has_dense_pass = True
    proposer: Any = None
    searches_exactly = True

    def locate(
        self, windows: NDArray[np.uint8], search: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        located = [self.locate_one(window.mean(2)) for window in windows]
        return np.array([s for s, _ in located], np.float32), np.array([o for _, o in located], np.float32)

    @staticmethod
    def locate_one(window: NDArray[np.float64]) -> tuple[float, tuple[float, float, float]]:
        """Score brightness [128, 64]; other heights, distances from the centre and cut blobs reduce the score."""
        bright = window > 50
        rows, columns = bright.any(1).nonzero()[0], bright.any(0).nonzero()[0]
        if len(rows) == 0:
            return -8.0, (0.3, -0.3, 0.3)
        size = math.log((rows[-1] - rows[0] + 1) / (HEIGHT * PERSON_SHARE))
        across = (columns[0] + columns[-1] + 1 - WIDTH) / 2
        down = (rows[0] + rows[-1] + 1 - HEIGHT) / 2
        cut = rows[0] == 0 or rows[-1] == HEIGHT - 1 or columns[0] == 0 or columns[-1] == WIDTH - 1
        faint = (235 - window[bright].mean()) / 20
        score = 7 - 12 * abs(size) - 3 * (across / 16) ** 2 - 3 * (down / 32) ** 2 - 8 * cut - faint
        return float(score), (across / HEIGHT, down / HEIGHT, size)

    def logits(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.locate(windows)[0]

    def probability(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        return 1 / (1 + np.exp(-self.logits(windows).clip(-50, 50)))

    def locate_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows, columns = (image.shape[0] - HEIGHT) // 32 + 1, (image.shape[1] - WIDTH) // 32 + 1
        windows = [
            image[32 * i : 32 * i + HEIGHT, 32 * j : 32 * j + WIDTH] for i in range(rows) for j in range(columns)
        ]
        scores, offsets = self.locate(np.stack(windows))
        return scores.reshape(rows, columns), offsets.reshape(rows, columns, 3)

    def propose_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.proposed(image, self.proposer.window)

    def proposed(
        self, image: NDArray[np.uint8], window: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Judge windows of half the size, every 8 pixels, enlarged to the size of the others, and less strictly."""
        width, height = window
        rows, columns = (image.shape[0] - height) // 8 + 1, (image.shape[1] - width) // 8 + 1
        windows = [
            image[8 * i : 8 * i + height, 8 * j : 8 * j + width].repeat(2, 0).repeat(2, 1)
            for i in range(rows)
            for j in range(columns)
        ]
        scores, offsets = self.locate(np.stack(windows))
        return scores.reshape(rows, columns) / 2 + 2, offsets.reshape(rows, columns, 3)


class ProposingScorer(BlobScorer):
    """Has a proposer, and must not search without it."""

    proposer = SimpleNamespace(window=(WIDTH // 2, HEIGHT // 2))

    def locate_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        raise AssertionError("the classifier itself judged all windows")


class StillScorer(BlobScorer):
    """Reports every person as centred, so windows are not moved."""

    def locate(
        self, windows: NDArray[np.uint8], search: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scores, offsets = super().locate(windows)
        return scores, np.zeros_like(offsets)


class JudgingScorer(ProposingScorer):
    """Judges windows of another size and aspect ratio, and neither all windows of an image nor their offsets."""

    info = SimpleNamespace(input_size=(96, 80), architecture="resnet18")
    has_dense_pass = False

    def __init__(self) -> None:
        self.seen: list[int] = []

    def locate(
        self, windows: NDArray[np.uint8], search: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The middle of a window, half as wide as it is tall, is that of the others."""
        assert windows.shape[1:] == (80, 96, 3)
        self.seen.append(len(windows))
        middle = np.stack([crop(window, 28, 0, 40, 80, (WIDTH, HEIGHT)) for window in windows])
        scores, offsets = BlobScorer.locate(self, middle)
        return scores, np.zeros_like(offsets)

    def propose_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return BlobScorer().proposed(image, self.proposer.window)


@pytest.fixture(scope="module", params=[BlobScorer, ProposingScorer])
def scorer(request: pytest.FixtureRequest) -> BlobScorer:
    searching: BlobScorer = request.param()
    return searching


@pytest.fixture(scope="module")
def still() -> StillScorer:
    return StillScorer()


def street(width: int, height: int, *blobs: tuple[float, float, float], bright: int = 235) -> NDArray[np.uint8]:
    """Draw dim noise with bright blobs (left, top, height) that have the proportions of a person."""
    frame = np.random.default_rng(0).integers(10, 30, (height, width, 3), dtype=np.uint8)
    for left, top, tall in blobs:
        right, bottom = left + tall * PERSON_ASPECT, top + tall
        frame[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] = bright
    return frame


def common_over_all(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Compute the intersection over union of two boxes (x, y, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


class TestScan:
    @pytest.mark.parametrize(
        ("left", "top", "tall"),
        [(100, 80, 60), (150, 60, 96), (37, 21, 130), (203, 40, 180), (90, 5, 230), (260, 150, 75)],
    )
    def test_finds_the_person(self, scorer: BlobScorer, left: int, top: int, tall: int) -> None:
        regions = scan(scorer, street(320, 240, (left, top, tall)), ScanSettings(), THRESHOLD)
        assert len(regions) == 1
        assert regions[0].probability >= THRESHOLD
        assert common_over_all(regions[0].person_box, (left, top, tall * PERSON_ASPECT, tall)) > 0.8

    @pytest.mark.parametrize(("left", "top"), [(2, 70), (279, 70), (140, 2), (140, 142), (2, 2), (279, 142)])
    def test_finds_the_person_at_the_border(self, scorer: BlobScorer, left: int, top: int) -> None:
        """The margin of the person's window lies outside of the frame."""
        regions = scan(scorer, street(320, 240, (left, top, 96)), ScanSettings(), THRESHOLD)
        assert common_over_all(regions[0].person_box, (left, top, 96 * PERSON_ASPECT, 96)) > 0.5

    def test_finds_several(self, scorer: BlobScorer) -> None:
        blobs = [(32, 60, 96), (150, 30, 150), (250, 100, 80)]
        regions = scan(scorer, street(320, 240, *blobs), ScanSettings(), THRESHOLD)
        assert len(regions) == 3
        for left, top, tall in blobs:
            box = (left, top, tall * PERSON_ASPECT, tall)
            assert sum(common_over_all(r.person_box, box) > 0.5 for r in regions) == 1

    def test_best_first(self, scorer: BlobScorer) -> None:
        frame = street(320, 240, (32, 60, 96), bright=210)
        frame = np.maximum(frame, street(320, 240, (150, 60, 96), bright=250))
        frame = np.maximum(frame, street(320, 240, (250, 60, 96), bright=230))
        regions = scan(scorer, frame, ScanSettings(), THRESHOLD)
        assert [round(r.person_box[0] / 10) for r in regions] == pytest.approx([15, 25, 3], abs=1)
        assert [r.probability for r in regions] == sorted((r.probability for r in regions), reverse=True)

    def test_below_the_threshold_only_the_best_is_returned(self, scorer: BlobScorer) -> None:
        """Only the better one of two faint blobs is returned; beside a bright blob, no faint one is."""
        faint = np.maximum(street(320, 240, (32, 60, 96), bright=60), street(320, 240, (150, 60, 96), bright=95))
        regions = scan(scorer, faint, ScanSettings(), THRESHOLD)
        assert len(regions) == 1
        assert regions[0].probability < THRESHOLD
        assert common_over_all(regions[0].person_box, (150, 60, 96 * PERSON_ASPECT, 96)) > 0.5
        regions = scan(scorer, np.maximum(faint, street(320, 240, (250, 60, 96))), ScanSettings(), THRESHOLD)
        assert len(regions) == 1
        assert regions[0].probability >= THRESHOLD

    @pytest.mark.parametrize("refine", [True, False])
    @pytest.mark.parametrize(
        ("width", "height"), [(1, 1), (1, 300), (300, 1), (20, 10), (63, 127), (64, 128), (97, 55)]
    )
    def test_frames_of_any_size_have_at_least_one_region(
        self, scorer: BlobScorer, width: int, height: int, refine: bool
    ) -> None:
        regions = scan(scorer, street(width, height), ScanSettings(refine=refine), THRESHOLD)
        assert len(regions) == 1
        assert 0 <= regions[0].probability < THRESHOLD
        assert regions[0].width > 0 and regions[0].height > 0

    def test_a_frame_of_one_person_alone(self, scorer: BlobScorer) -> None:
        """The frame is smaller than the window and has no margins."""
        frame = street(60, 110, (10, 7, 96))
        regions = scan(scorer, frame, ScanSettings(), THRESHOLD)
        assert common_over_all(regions[0].person_box, (10, 7, 96 * PERSON_ASPECT, 96)) > 0.5
        assert regions[0].probability > THRESHOLD

    @pytest.mark.parametrize("settings", [ScanSettings(), ScanSettings(refine=False)])
    def test_probability_is_that_of_the_region(self, scorer: BlobScorer, settings: ScanSettings) -> None:
        """The region in whole pixels was scored, so its explanation is about the same decision."""
        for tall in (61, 83, 117):
            frame = street(320, 240, (33, 21, tall), (170, 40, 1.3 * tall))
            for region in scan(scorer, frame, settings, THRESHOLD):
                window = crop(frame, region.x, region.y, region.width, region.height, (WIDTH, HEIGHT))
                assert region.probability == pytest.approx(float(scorer.probability(window[None])[0]), rel=1e-5)

    def test_refining_moves_once_more(self) -> None:
        """This scorer returns half of each offset, so each move halves the distance."""

        class Hesitant(BlobScorer):
            def locate(
                self, windows: NDArray[np.uint8], search: bool = False
            ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
                scores, offsets = super().locate(windows)
                return scores, offsets / 2

        distances = {True: 0.0, False: 0.0}
        for left, top in [(40, 40), (51, 47), (75, 61)]:
            frame = street(180, 180, (left, top, 96))
            for refined in distances:
                settings = ScanSettings(90, 100, candidates_max=1, refine=refined)
                x, y, _, _ = scan(Hesitant(), frame, settings, THRESHOLD)[0].person_box
                distances[refined] += math.hypot(x - left, y - top)
        assert distances[True] < 0.75 * distances[False]

    @pytest.mark.parametrize("refine", [True, False])
    def test_what_is_returned_was_scored_exactly(self, refine: bool) -> None:
        """This scorer is imprecise in a search; its imprecise scores must not be returned."""

        class Rough(BlobScorer):
            searches_exactly = False

            def locate(
                self, windows: NDArray[np.uint8], search: bool = False
            ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
                scores, offsets = super().locate(windows)
                return scores + 0.5 * search, offsets

        frame, settings = street(180, 180, (51, 47, 96)), ScanSettings(90, 100, refine=refine)
        for region in scan(Rough(), frame, settings, THRESHOLD):
            window = crop(frame, region.x, region.y, region.width, region.height, (WIDTH, HEIGHT))
            assert region.probability == pytest.approx(float(BlobScorer().probability(window[None])[0]), rel=1e-5)

    def test_is_repeatable(self, scorer: BlobScorer) -> None:
        frame = street(320, 240, (32, 60, 96), (150, 30, 150))
        assert scan(scorer, frame, ScanSettings(), THRESHOLD) == scan(scorer, frame, ScanSettings(), THRESHOLD)

    def test_heights_outside_of_the_range_are_not_looked_for(self, scorer: BlobScorer) -> None:
        settings = ScanSettings(person_height_min=80, person_height_max=120)
        for region in scan(scorer, street(320, 240, (150, 30, 200)), settings, THRESHOLD):
            # Each of two moves may change the size by a quarter.
            assert 80 / 1.65 / PERSON_SHARE - 1 <= region.height <= 120 * 1.25 * 1.65 / PERSON_SHARE + 1

    def test_alone_is_not_enough_beside_persons_that_have_support(self) -> None:
        """One window of the dense pass has a high score at a place where no other window finds anything."""

        class Mistaken(BlobScorer):
            def locate_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
                scores, offsets = super().locate_densely(image)
                scores[0, 0], offsets[0, 0] = 20.0, 0.0
                return scores, offsets

            def locate(
                self, windows: NDArray[np.uint8], search: bool = False
            ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
                scores, offsets = super().locate(windows)
                return np.maximum(scores, 1.0), offsets

        frame = street(320, 240, (200, 100, 96))
        settings = ScanSettings(person_height_min=96, person_height_max=96)
        (region,) = scan(Mistaken(), frame, settings, THRESHOLD)
        assert common_over_all(region.person_box, (200, 100, 96 * PERSON_ASPECT, 96)) > 0.8

    def test_candidates_max_bounds_the_crops(self, scorer: BlobScorer) -> None:
        frame = street(320, 240, (32, 60, 96), (150, 30, 150), (250, 100, 80))
        assert len(scan(scorer, frame, ScanSettings(candidates_max=1), THRESHOLD)) == 1


class TestPyramid:
    @given(
        height=st.integers(1, 3000),
        window=st.sampled_from([128, 160]),
        smallest=st.integers(8, 400),
        largest=st.integers(0, 1000),
        step=st.floats(1.05, 2),
    )
    def test_persons_from_smallest_to_largest_fit(
        self, height: int, window: int, smallest: int, largest: int, step: float
    ) -> None:
        assume(largest == 0 or largest >= smallest)
        scales = pyramid_scales(height, window, ScanSettings(smallest, largest, scale_step=step))
        fits = PERSON_SHARE * window
        assert scales[0] * smallest == pytest.approx(fits)
        for one, following in itertools.pairwise(scales):
            assert one / following == pytest.approx(step)
        wanted = largest or max(height, smallest)
        assert scales[-1] * wanted <= fits * (1 + 1e-6)
        if len(scales) > 1:
            assert scales[-2] * wanted > fits * (1 - 1e-6)

    def test_by_hand(self) -> None:
        """Persons of 60, 75, 93.75 and 117.2 pixels become 96 of 128 pixels high."""
        assert pyramid_scales(480, 128, ScanSettings(60, 100)) == pytest.approx([1.6, 1.28, 1.024, 0.8192])
        assert pyramid_scales(480, 128, ScanSettings(48, 96, scale_step=2.0)) == pytest.approx([2.0, 1.0])
        assert pyramid_scales(480, 128, ScanSettings(96, 96)) == [1.0]

    def test_of_a_frame_lower_than_the_smallest_person(self) -> None:
        assert pyramid_scales(20, 128, ScanSettings(60)) == [1.6]


class TestRequireSearchable:
    """A frame of one row of ten million pixels would need gigabytes for its margins."""

    @pytest.mark.parametrize("size", [(10_000_000, 1), (1, 10_000_000), (2_000_000, 2)])
    def test_narrow_frames_are_refused(self, size: tuple[int, int]) -> None:
        frame = np.broadcast_to(np.uint8(7), (size[1], size[0], 3))
        with pytest.raises(ValueError, match=f"a frame of {size[0]} x {size[1]} pixels is too narrow to be searched"):
            propose(BlobScorer(), frame, ScanSettings())

    @pytest.mark.parametrize("size", [(1, 1), (640, 480), (20_000, 1), (1, 5000), (10_000, 10_000), (16_000, 4000)])
    def test_others_are_not(self, size: tuple[int, int]) -> None:
        require_searchable(size, (32, 64), pyramid_scales(size[1], 64, ScanSettings()))


class TestDenseWindows:
    """The tests are about the pass of the classifier. Its windows have 64 x 128 pixels and a stride of 32."""

    @pytest.fixture
    def dense(self, still: StillScorer) -> DensePass:
        return pass_of(still, proposer=True)

    @pytest.mark.parametrize(("width", "height"), [(100, 150), (64, 128), (30, 40), (129, 131)])
    def test_are_crops_at_the_frames_own_scale(
        self, dense: DensePass, still: StillScorer, width: int, height: int, gather
    ) -> None:
        frame = street(width, height, (10, 10, 96))
        windows = dense_windows(dense, frame, [1.0])
        assert windows.aspect == WIDTH / HEIGHT
        np.testing.assert_allclose(windows.places[:, 2], math.log(HEIGHT))
        for (x, y, _), score in zip(windows.places, windows.scores, strict=True):
            window = gather(frame, round(x - WIDTH / 2), round(y - HEIGHT / 2), WIDTH, HEIGHT)
            assert score == pytest.approx(float(still.logits(window[None])[0]), rel=1e-5)
        assert len(np.unique(windows.places, axis=0)) == len(windows)

    @pytest.mark.parametrize(("width", "height"), [(100, 150), (320, 240), (30, 40)])
    @pytest.mark.parametrize("scale", [0.3, 0.8, 1.0, 1.6])
    @pytest.mark.parametrize("stride", [8, 32])
    def test_persons_cover_the_frame(self, width: int, height: int, scale: float, stride: int) -> None:
        """The persons of the windows reach from the first to the last pixel, a stride of the level apart."""

        class Still(StillScorer):
            proposer = SimpleNamespace(window=(WIDTH // 2, HEIGHT // 2)) if stride == 8 else None

        persons = dense_windows(pass_of(Still(), proposer=True), street(width, height), [scale]).person_boxes
        for axis, extent in ((0, width), (1, height)):
            starts = np.unique(persons[:, axis].round(6))
            assert starts[0] == pytest.approx(0, abs=1 / scale)
            assert starts[-1] + persons[0, axis + 2] >= extent - 1 / scale
            np.testing.assert_allclose(np.diff(starts), stride / scale, atol=1e-5)

    def test_levels_are_scaled_back(self, dense: DensePass) -> None:
        """At half the scale, a blob of 192 pixels is scored like a blob of 96 pixels."""
        windows = dense_windows(dense, street(200, 300, (60, 48, 192)), [0.5])
        best = int(windows.scores.argmax())
        assert math.exp(windows.places[best, 2]) == pytest.approx(256)
        assert common_over_all(tuple(windows.person_boxes[best]), (60, 48, 192 * PERSON_ASPECT, 192)) > 0.5

    def test_levels_come_in_order(self, dense: DensePass) -> None:
        heights = np.exp(dense_windows(dense, street(100, 150), [1.6, 0.8]).places[:, 2]).round(6).tolist()
        assert heights == sorted(heights)
        assert set(heights) == {80.0, 160.0}

    @pytest.mark.parametrize("scale", [0.5, 1.0])
    def test_are_moved_onto_the_person(self, scorer: BlobScorer, scale: float) -> None:
        """All windows that show the whole blob are moved onto it and resized."""
        blob = (90, 70, 90 / scale)
        frame = street(round(320 / scale), round(260 / scale), blob)
        dense = pass_of(scorer, proposer=True)
        windows = dense_windows(dense, frame, [scale * dense.window[1] / HEIGHT])
        found = windows[windows.scores > 0]
        assert len(found)
        for box in found.person_boxes:
            assert common_over_all(tuple(box), (*blob[:2], blob[2] * PERSON_ASPECT, blob[2])) > 0.85


class TestPassOf:
    def test_the_proposer_is_used_if_it_exists_and_is_wanted(self) -> None:
        for scorer, wanted, stride in [
            (BlobScorer(), True, 32),
            (ProposingScorer(), False, 32),
            (ProposingScorer(), True, 8),
        ]:
            assert pass_of(scorer, wanted).stride == stride
        assert pass_of(ProposingScorer(), proposer=True).window == (WIDTH // 2, HEIGHT // 2)

    def test_without_the_proposer_the_classifier_judges_all_windows(self) -> None:
        with pytest.raises(AssertionError, match="all windows"):
            scan(ProposingScorer(), street(100, 150), ScanSettings(proposer=False), THRESHOLD)


class TestWithoutADensePass:
    """Networks of torchvision judge the windows that the proposer proposes, in their own aspect ratio."""

    BLOBS = ((32, 60, 96), (150, 30, 150), (250, 100, 80))

    def test_finds_the_persons(self) -> None:
        regions = scan(JudgingScorer(), street(320, 240, *self.BLOBS), ScanSettings(), THRESHOLD)
        assert len(regions) == 3
        for left, top, tall in self.BLOBS:
            box = (left, top, tall * PERSON_ASPECT, tall)
            assert sum(common_over_all(r.person_box, box) > 0.5 for r in regions) == 1
        assert all(r.width == pytest.approx(1.2 * r.height, abs=1.2) for r in regions)

    def test_windows_keep_centre_and_height(self) -> None:
        frame, settings = street(320, 240, *self.BLOBS), ScanSettings(candidates_max=9)
        narrow, wide = (propose(scorer, frame, settings) for scorer in (ProposingScorer(), JudgingScorer()))
        assert len(wide) >= 3
        for one, other in zip(narrow, wide, strict=True):
            np.testing.assert_allclose(one.place, other.place, rtol=1e-12)
            assert (one.score, one.support) == (other.score, other.support)
            assert (one.width / one.height, other.width / other.height) == (0.5, pytest.approx(1.2))

    @pytest.mark.parametrize("refine", [True, False])
    def test_each_window_is_judged_once(self, refine: bool) -> None:
        """There are no offsets onto which it could be moved."""
        scorer, frame = JudgingScorer(), street(320, 240, *self.BLOBS)
        regions = scan(scorer, frame, ScanSettings(refine=refine), THRESHOLD)
        assert scorer.seen == [len(propose(JudgingScorer(), frame, ScanSettings()))]
        for region in regions:
            window = crop(frame, region.x, region.y, region.width, region.height, (96, 80))
            assert region.probability == pytest.approx(float(scorer.probability(window[None])[0]), rel=1e-5)

    def test_the_proposer_is_needed(self) -> None:
        scorer = JudgingScorer()
        with pytest.raises(
            ValueError, match=r"resnet18 cannot .* the proposer is switched off: set scan.proposer to true"
        ):
            scan(scorer, street(100, 150), ScanSettings(proposer=False), THRESHOLD)
        scorer.proposer = None
        with pytest.raises(ValueError, match="resnet18 cannot judge all windows of a frame, and there is no proposer"):
            scan(scorer, street(100, 150), ScanSettings(), THRESHOLD)


class TestConfirm:
    """The scorer is imprecise in a search: each score is changed by a number that belongs to the blob's position."""

    class Rough(BlobScorer):
        searches_exactly = False

        def __init__(self) -> None:
            self.judged_exactly = 0

        def locate(
            self, windows: NDArray[np.uint8], search: bool = False
        ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            scores, offsets = super().locate(windows)
            if search:
                return (scores + 0.9 * np.sin(100 * scores)).astype(np.float32), offsets
            self.judged_exactly += len(windows)
            return scores, offsets

    @given(seed=st.integers(0, 10_000), threshold=st.floats(0.02, 0.98))
    def test_no_decision_differs_and_the_best_is_exact(self, seed: int, threshold: float) -> None:
        rng = np.random.default_rng(seed)
        bright = rng.integers(80, 255, 4)
        frame = street(480, 160)
        for i, brightness in enumerate(bright):
            frame = np.maximum(frame, street(480, 160, (20 + 120 * i, 30, 96), bright=int(brightness)))
        windows = [Candidate(20 + 120 * i - 12, 14, WIDTH, HEIGHT, 0.0) for i in range(4)]
        rough, exact = self.Rough(), BlobScorer()
        found, _ = rescore(rough, frame, windows, search=True)
        confirmed = confirm(rough, frame, found, threshold)
        truth = {c.x: c.score for c in rescore(exact, frame, windows)[0]}
        for c in confirmed:
            decided, true = c.to_region().probability >= threshold, 1 / (1 + math.exp(-truth[c.x]))
            assert decided == (true >= threshold) or true == pytest.approx(threshold, abs=1e-6)
        assert confirmed[0].score == pytest.approx(truth[confirmed[0].x], rel=1e-6)
        assert [c.score for c in confirmed] == sorted((c.score for c in confirmed), reverse=True)
        assert rough.judged_exactly <= len(windows)


class TestAgree:
    def test_windows_of_one_person_become_one_with_their_support(self) -> None:
        rng = np.random.default_rng(0)
        places = [(132 + rng.normal(), 114 + rng.normal(), math.log(128)) for _ in range(10)]
        windows = Windows(np.array(places), np.full(10, 9.0), 0.5)
        fused = suppress(fuse_windows(windows), 0.5, 10, key=lambda c: c.support)
        assert len(fused) == 1
        assert (fused[0].x, fused[0].y) == pytest.approx((100, 50), abs=1)
        assert (fused[0].width, fused[0].height) == pytest.approx((64, 128), rel=1e-6)
        assert 9 < fused[0].support < 10
        assert fused[0].score == 9.0

    def test_unsure_windows_support_less(self) -> None:
        places = np.tile([32, 64, math.log(128)], (4, 1))
        support = [fuse_windows(Windows(places, np.full(4, score), 0.5))[0].support for score in (9.0, 0.0, -3.0)]
        assert support == pytest.approx([4 / (1 + math.exp(-s)) for s in (9.0, 0.0, -3.0)], rel=1e-6)

    def test_a_window_that_stands_alone_loses_to_many_that_agree(self) -> None:
        """The single window has a higher score than each of the others."""
        many = [(132 + 2 * i, 114, math.log(128)) for i in range(5)]
        windows = Windows(np.array([(162, 124, math.log(128)), *many]), np.array([8.0, *[3.0] * 5]), 0.5)
        best = suppress(fuse_windows(windows), 0.3, 10, key=lambda c: c.support)[0]
        assert best.x == pytest.approx(104, abs=2)


class TestRescore:
    frame = street(320, 240, (100, 80, 96))

    def test_scores_exact_crops(self, scorer: BlobScorer, gather) -> None:
        frame = street(320, 240, (100, 80, 96))
        candidates = [Candidate(*place, 64, 128, 0) for place in ((88, 64), (20, 3), (-30, -50), (300, 200))]
        found, offsets = rescore(scorer, frame, candidates)
        for candidate, exact, offset in zip(candidates, found, offsets, strict=True):
            window = gather(frame, candidate.x, candidate.y, WIDTH, HEIGHT)
            assert (exact.x, exact.y, exact.width, exact.height) == (candidate.x, candidate.y, WIDTH, HEIGHT)
            score, expected = scorer.locate(window[None])
            assert exact.score == pytest.approx(float(score[0]))
            assert offset.tolist() == expected[0].tolist()
        assert found[0].score > 2

    @given(x=st.floats(-50, 300), y=st.floats(-50, 300), height=st.floats(20, 300))
    def test_the_region_is_what_was_scored(self, x: float, y: float, height: float) -> None:
        scorer, frame = BlobScorer(), self.frame
        ((exact,), _) = rescore(scorer, frame, [Candidate(x, y, height / 2, height, 0)])
        region = exact.to_region()
        assert all(isinstance(v, int) for v in (region.x, region.y, region.width, region.height))
        assert abs(region.x - x) <= 0.5 and abs(region.y - y) <= 0.5
        window = crop(frame, region.x, region.y, region.width, region.height, (WIDTH, HEIGHT))
        assert region.probability == pytest.approx(float(scorer.probability(window[None])[0]), rel=1e-5)


class TestScanSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *[("person_height_min", v) for v in (7, 0, -60, 60.5)],
            *[("person_height_max", v) for v in (59, -1)],
            *[("scale_step", v) for v in (1.0, 0.5, math.nan, math.inf)],
            *[("candidates_max", v) for v in (0, -1)],
            *[("overlap_max", v) for v in (0.0, 1.1, math.nan)],
            ("refine", 1),
            ("proposer", 0),
        ],
    )
    def test_nonsense_is_refused_by_name(self, name: str, value: object) -> None:
        with pytest.raises(ValueError, match=f"^{name} is "):
            ScanSettings(**{name: value})

    def test_equal_heights_are_allowed(self) -> None:
        assert ScanSettings(person_height_min=90, person_height_max=90).person_height_max == 90
