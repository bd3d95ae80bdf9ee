"""Finding bright blobs with a real scorer, and each step against loops."""

from __future__ import annotations

import dataclasses
import itertools
import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from explain_cnn_ros.network import OFFSET_UNITS
from explain_cnn_ros.scanning import (
    OFFSET_MAX,
    PERSON_ASPECT,
    PERSON_SHARE,
    Candidate,
    Region,
    ScanSettings,
    agree,
    crop,
    dense_candidates,
    overlap,
    person_box,
    pyramid_scales,
    rescore,
    scan,
    suppress,
    to_region,
)
from explain_cnn_ros.training.augmentation import Placement

WIDTH, HEIGHT = 64, 128


class BlobScorer:
    """Finds bright upright blobs on dark ground that are as large as a person in a window, near its middle."""

    threshold = 0.5
    info = SimpleNamespace(input_size=(WIDTH, HEIGHT))

    def locate(self, windows: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        located = [self.locate_one(window.mean(2)) for window in windows]
        return np.array([s for s, _ in located], np.float32), np.array([o for _, o in located], np.float32)

    @staticmethod
    def locate_one(window: NDArray[np.float64]) -> tuple[float, tuple[float, float, float]]:
        """Of brightness [128, 64]: less for other heights, for every pixel astray, and for what is cut off."""
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


class StillScorer(BlobScorer):
    """Takes every person for centred: windows stay where they are."""

    def locate(self, windows: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scores, offsets = super().locate(windows)
        return scores, np.zeros_like(offsets)


@pytest.fixture(scope="module")
def scorer() -> BlobScorer:
    return BlobScorer()


@pytest.fixture(scope="module")
def still() -> StillScorer:
    return StillScorer()


def street(width: int, height: int, *blobs: tuple[float, float, float], bright: int = 235) -> NDArray[np.uint8]:
    """Dim noise with bright blobs of a person's proportions: (left, top, height) each."""
    frame = np.random.default_rng(0).integers(10, 30, (height, width, 3), dtype=np.uint8)
    for left, top, tall in blobs:
        right, bottom = left + tall * PERSON_ASPECT, top + tall
        frame[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] = bright
    return frame


def common_over_all(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def gather(frame: NDArray[np.uint8], left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
    """Pixel by pixel; beyond the frame, the nearest of its pixels."""
    result = np.empty((height, width, 3), np.uint8)
    for row in range(height):
        for column in range(width):
            y = min(max(top + row, 0), frame.shape[0] - 1)
            x = min(max(left + column, 0), frame.shape[1] - 1)
            result[row, column] = frame[y, x]
    return result


class TestScan:
    @pytest.mark.parametrize(
        ("left", "top", "tall"),
        [(100, 80, 60), (150, 60, 96), (37, 21, 130), (203, 40, 180), (90, 5, 230), (260, 150, 75)],
    )
    def test_finds_the_person(self, scorer: BlobScorer, left: int, top: int, tall: int) -> None:
        regions = scan(scorer, street(320, 240, (left, top, tall)), ScanSettings())
        assert len(regions) == 1
        assert regions[0].probability >= scorer.threshold
        assert common_over_all(regions[0].person_box, (left, top, tall * PERSON_ASPECT, tall)) > 0.8

    @pytest.mark.parametrize(("left", "top"), [(2, 70), (279, 70), (140, 2), (140, 142), (2, 2), (279, 142)])
    def test_finds_the_person_at_the_border(self, scorer: BlobScorer, left: int, top: int) -> None:
        """Whose margin lies outside of the frame."""
        regions = scan(scorer, street(320, 240, (left, top, 96)), ScanSettings())
        assert common_over_all(regions[0].person_box, (left, top, 96 * PERSON_ASPECT, 96)) > 0.5

    def test_finds_several(self, scorer: BlobScorer) -> None:
        blobs = [(32, 60, 96), (150, 30, 150), (250, 100, 80)]
        regions = scan(scorer, street(320, 240, *blobs), ScanSettings())
        assert len(regions) == 3
        for left, top, tall in blobs:
            box = (left, top, tall * PERSON_ASPECT, tall)
            assert sum(common_over_all(r.person_box, box) > 0.5 for r in regions) == 1

    def test_best_first(self, scorer: BlobScorer) -> None:
        frame = street(320, 240, (32, 60, 96), bright=210)
        frame = np.maximum(frame, street(320, 240, (150, 60, 96), bright=250))
        frame = np.maximum(frame, street(320, 240, (250, 60, 96), bright=230))
        regions = scan(scorer, frame, ScanSettings())
        assert [round(r.person_box[0] / 10) for r in regions] == pytest.approx([15, 25, 3], abs=1)
        assert [r.probability for r in regions] == sorted((r.probability for r in regions), reverse=True)

    def test_below_the_threshold_only_the_best_is_returned(self, scorer: BlobScorer) -> None:
        """The fainter of two faint blobs is not; and beside a bright one, no faint one is."""
        faint = np.maximum(street(320, 240, (32, 60, 96), bright=60), street(320, 240, (150, 60, 96), bright=95))
        regions = scan(scorer, faint, ScanSettings())
        assert len(regions) == 1
        assert regions[0].probability < scorer.threshold
        assert common_over_all(regions[0].person_box, (150, 60, 96 * PERSON_ASPECT, 96)) > 0.5
        regions = scan(scorer, np.maximum(faint, street(320, 240, (250, 60, 96))), ScanSettings())
        assert len(regions) == 1
        assert regions[0].probability >= scorer.threshold

    @pytest.mark.parametrize("refine", [True, False])
    @pytest.mark.parametrize(
        ("width", "height"), [(1, 1), (1, 300), (300, 1), (20, 10), (63, 127), (64, 128), (97, 55)]
    )
    def test_frames_of_any_size_have_at_least_one_region(
        self, scorer: BlobScorer, width: int, height: int, refine: bool
    ) -> None:
        regions = scan(scorer, street(width, height), ScanSettings(refine=refine))
        assert len(regions) == 1
        assert 0 <= regions[0].probability < scorer.threshold
        assert regions[0].width > 0 and regions[0].height > 0

    def test_a_frame_of_one_person_alone(self, scorer: BlobScorer) -> None:
        """Smaller than the window and without margins."""
        frame = street(60, 110, (10, 7, 96))
        regions = scan(scorer, frame, ScanSettings())
        assert common_over_all(regions[0].person_box, (10, 7, 96 * PERSON_ASPECT, 96)) > 0.5
        assert regions[0].probability > scorer.threshold

    @pytest.mark.parametrize("settings", [ScanSettings(), ScanSettings(refine=False)])
    def test_probability_is_that_of_the_region(self, scorer: BlobScorer, settings: ScanSettings) -> None:
        """The region in whole pixels is what was scored: an explanation of it is of the same decision."""
        for tall in (61, 83, 117):
            frame = street(320, 240, (33, 21, tall), (170, 40, 1.3 * tall))
            for region in scan(scorer, frame, settings):
                window = crop(frame, region.x, region.y, region.width, region.height, (WIDTH, HEIGHT))
                assert region.probability == pytest.approx(float(scorer.probability(window[None])[0]), rel=1e-5)

    def test_refining_moves_once_more(self) -> None:
        """A scorer that sees half of the way there: with the dense pass alone a quarter is left of what was a half."""

        class Hesitant(BlobScorer):
            def locate(self, windows: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
                scores, offsets = super().locate(windows)
                return scores, offsets / 2

        distances = {True: 0.0, False: 0.0}
        for left, top in [(40, 40), (51, 47), (75, 61)]:
            frame = street(180, 180, (left, top, 96))
            for refined in distances:
                settings = ScanSettings(90, 100, candidates_max=1, refine=refined)
                x, y, _, _ = scan(Hesitant(), frame, settings)[0].person_box
                distances[refined] += math.hypot(x - left, y - top)
        assert distances[True] < 0.75 * distances[False]

    def test_is_repeatable(self, scorer: BlobScorer) -> None:
        frame = street(320, 240, (32, 60, 96), (150, 30, 150))
        assert scan(scorer, frame, ScanSettings()) == scan(scorer, frame, ScanSettings())

    def test_heights_outside_of_the_range_are_not_looked_for(self, scorer: BlobScorer) -> None:
        settings = ScanSettings(person_height_min=80, person_height_max=120)
        for region in scan(scorer, street(320, 240, (150, 30, 200)), settings):
            # Each of two moves may change the size by a quarter.
            assert 80 / 1.65 / PERSON_SHARE - 1 <= region.height <= 120 * 1.25 * 1.65 / PERSON_SHARE + 1

    def test_alone_is_not_enough_beside_persons_that_have_support(self) -> None:
        """One window of the dense pass is sure of a spot in which no other one sees anything."""

        class Mistaken(BlobScorer):
            def locate_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
                scores, offsets = super().locate_densely(image)
                scores[0, 0], offsets[0, 0] = 20.0, 0.0
                return scores, offsets

            def locate(self, windows: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
                scores, offsets = super().locate(windows)
                return np.maximum(scores, 1.0), offsets

        frame = street(320, 240, (200, 100, 96))
        settings = ScanSettings(person_height_min=96, person_height_max=96)
        (region,) = scan(Mistaken(), frame, settings)
        assert common_over_all(region.person_box, (200, 100, 96 * PERSON_ASPECT, 96)) > 0.8

    def test_candidates_max_bounds_the_crops(self, scorer: BlobScorer) -> None:
        frame = street(320, 240, (32, 60, 96), (150, 30, 150), (250, 100, 80))
        assert len(scan(scorer, frame, ScanSettings(candidates_max=1))) == 1


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
        """Persons of 60, 75, 93.75 and 117.2 pixels take 96 of 128: the trial's pyramid and one level more."""
        assert pyramid_scales(480, 128, ScanSettings(60, 100)) == pytest.approx([1.6, 1.28, 1.024, 0.8192])
        assert pyramid_scales(480, 128, ScanSettings(48, 96, scale_step=2.0)) == pytest.approx([2.0, 1.0])
        assert pyramid_scales(480, 128, ScanSettings(96, 96)) == [1.0]

    def test_of_a_frame_lower_than_the_smallest_person(self) -> None:
        assert pyramid_scales(20, 128, ScanSettings(60)) == [1.6]


class TestDenseCandidates:
    @pytest.mark.parametrize(("width", "height"), [(100, 150), (64, 128), (30, 40), (129, 131)])
    def test_are_crops_at_the_frames_own_scale(self, still: StillScorer, width: int, height: int) -> None:
        frame = street(width, height, (10, 10, 96))
        candidates = list(dense_candidates(still, frame, [1.0]))
        for c in candidates:
            assert (c.width, c.height) == (WIDTH, HEIGHT)
            window = gather(frame, round(c.x), round(c.y), WIDTH, HEIGHT)
            assert c.score == pytest.approx(float(still.logits(window[None])[0]), rel=1e-5)
        assert len({(c.x, c.y) for c in candidates}) == len(candidates)

    @pytest.mark.parametrize(("width", "height"), [(100, 150), (320, 240), (30, 40)])
    @pytest.mark.parametrize("scale", [0.3, 0.8, 1.0, 1.6])
    def test_persons_cover_the_frame(self, still: StillScorer, width: int, height: int, scale: float) -> None:
        """From its first to its last pixel, no more than 32 pixels of the level apart."""
        persons = [person_box(c) for c in dense_candidates(still, street(width, height), [scale])]
        for axis, extent in ((0, width), (1, height)):
            starts = sorted({p[axis] for p in persons})
            assert starts[0] == pytest.approx(0, abs=1 / scale)
            assert starts[-1] + persons[0][axis + 2] >= extent - 1 / scale
            assert all(b - a == pytest.approx(32 / scale) for a, b in itertools.pairwise(starts))

    def test_levels_are_scaled_back(self, still: StillScorer) -> None:
        """A blob of 192 pixels at half the scale is scored like one of 96."""
        whole = max(dense_candidates(still, street(200, 300, (60, 48, 192)), [0.5]), key=lambda c: c.score)
        assert (whole.width, whole.height) == (128, 256)
        assert common_over_all(person_box(whole), (60, 48, 192 * PERSON_ASPECT, 192)) > 0.5

    def test_levels_come_in_order(self, still: StillScorer) -> None:
        heights = [c.height for c in dense_candidates(still, street(100, 150), [1.6, 0.8])]
        assert heights == sorted(heights)
        assert set(heights) == {80.0, 160.0}

    @pytest.mark.parametrize("scale", [0.5, 1.0])
    def test_are_moved_onto_the_person(self, scorer: BlobScorer, scale: float) -> None:
        """From wherever a whole blob is seen, and its size as well."""
        blob = (90, 70, 90 / scale)
        frame = street(round(320 / scale), round(260 / scale), blob)
        candidates = [c for c in dense_candidates(scorer, frame, [scale]) if c.score > 0]
        assert candidates
        for c in candidates:
            assert common_over_all(person_box(c), (*blob[:2], blob[2] * PERSON_ASPECT, blob[2])) > 0.9


class TestAgree:
    def test_windows_of_one_person_become_one_with_their_support(self) -> None:
        rng = np.random.default_rng(0)
        windows = [Candidate(100 + rng.normal(), 50 + rng.normal(), 64, 128, 9.0) for _ in range(10)]
        fused = suppress(agree(windows), 0.5, 10, key=lambda c: c.support)
        assert len(fused) == 1
        assert (fused[0].x, fused[0].y) == pytest.approx((100, 50), abs=1)
        assert (fused[0].width, fused[0].height) == pytest.approx((64, 128), rel=1e-6)
        assert 9 < fused[0].support < 10
        assert fused[0].score == 9.0

    def test_unsure_windows_support_less(self) -> None:
        support = [agree([Candidate(0, 0, 64, 128, score)] * 4)[0].support for score in (9.0, 0.0, -3.0)]
        assert support == pytest.approx([4 / (1 + math.exp(-s)) for s in (9.0, 0.0, -3.0)], rel=1e-6)

    def test_a_window_that_stands_alone_loses_to_many_that_agree(self) -> None:
        """Even where it is surer than they are."""
        many = [Candidate(100 + 2 * i, 50, 64, 128, 3.0) for i in range(5)]
        alone = Candidate(130, 60, 64, 128, 8.0)
        best = suppress(agree([alone, *many]), 0.3, 10, key=lambda c: c.support)[0]
        assert best.x == pytest.approx(104, abs=2)


class TestMoved:
    def test_by_hand(self) -> None:
        """A person a tenth of the height to the right and 0.05 above, and 1.2 times as large."""
        window = Candidate(100, 50, 64, 128, 3.0)
        moved = window.moved(np.array([0.1, -0.05, math.log(1.2)], np.float32))
        assert (moved.width, moved.height, moved.score) == (pytest.approx(76.8), pytest.approx(153.6), 3.0)
        assert moved.x + moved.width / 2 == pytest.approx(132 + 12.8)
        assert moved.y + moved.height / 2 == pytest.approx(114 - 6.4)

    def test_is_what_training_means(self) -> None:
        """A window drawn around a training person, moved by its own offset, is the window that fits the person."""
        rng = np.random.default_rng(0)
        for _ in range(50):
            p = dataclasses.replace(Placement.draw(rng), mirror=False)
            x, y = 48 + p.right - p.height / 4, 80 + p.below - p.height / 2
            offset = np.array(p.offset()) * OFFSET_UNITS
            moved = Candidate(x, y, p.height / 2, p.height, 0).moved(offset.astype(np.float32))
            assert (moved.x, moved.y, moved.width, moved.height) == pytest.approx((16, 16, 64, 128), abs=1e-3)

    @given(offset=hnp.arrays(np.float32, 3, elements=st.floats(-100, 100, width=32)))
    def test_never_far(self, offset: NDArray[np.float32]) -> None:
        moved = Candidate(0, 0, 64, 128, 0).moved(offset)
        assert abs(moved.x + moved.width / 2 - 32) <= OFFSET_MAX[0] * 128 + 1e-6
        assert abs(moved.y + moved.height / 2 - 64) <= OFFSET_MAX[1] * 128 + 1e-6
        assert abs(math.log(moved.height / 128)) <= OFFSET_MAX[2] + 1e-6
        assert moved.width * 2 == pytest.approx(moved.height)


class TestCrop:
    @given(
        x=st.integers(-60, 60),
        y=st.integers(-60, 60),
        width=st.integers(1, 50),
        height=st.integers(1, 50),
        frame_width=st.integers(1, 40),
        frame_height=st.integers(1, 40),
    )
    def test_is_a_gather(self, x: int, y: int, width: int, height: int, frame_width: int, frame_height: int) -> None:
        """At scale 1, wherever the box lies: inside, partly outside or wholly."""
        frame = np.random.default_rng(0).integers(0, 256, (frame_height, frame_width, 3), dtype=np.uint8)
        expected = gather(frame, x, y, width, height)
        np.testing.assert_array_equal(crop(frame, x, y, width, height, (width, height)), expected)

    @pytest.mark.parametrize(
        "box",
        [
            (10, 20, 30, 40),
            (-100, 20, 30, 40),
            (100, 20, 30, 40),
            (10, -70, 30, 40),
            (10, 95, 30, 40),
            (-40, -50, 30, 40),
            (-20, -20, 120, 140),
            (70, 80, 30, 40),
            (-30, 20, 30, 40),
            (10, 90, 30, 40),
        ],
    )
    @pytest.mark.parametrize("size", [(15, 20), (64, 128), (30, 40)])
    def test_is_resized(self, box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
        frame = street(80, 90, (20, 10, 70))
        source = gather(frame, *box)
        how = cv2.INTER_AREA if box[3] > size[1] else cv2.INTER_LINEAR
        np.testing.assert_array_equal(crop(frame, *box, size), cv2.resize(source, size, interpolation=how))

    def test_shrinking_averages(self) -> None:
        """By hand: each result pixel is the mean of 2 x 2."""
        frame = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 4
        expected = frame.reshape(2, 2, 2, 2, 3).mean((1, 3))
        np.testing.assert_array_equal(crop(frame, 0, 0, 4, 4, (2, 2)), expected)

    def test_rounds_to_whole_pixels(self) -> None:
        frame = street(80, 90)
        np.testing.assert_array_equal(crop(frame, 9.6, 20.4, 29.9, 39.7, (30, 40)), frame[20:60, 10:40])

    def test_is_never_empty(self) -> None:
        frame = street(8, 9)
        np.testing.assert_array_equal(crop(frame, 3, 4, 0.2, 0.2, (1, 1))[0, 0], frame[4, 3])

    def test_leaves_the_frame_alone(self) -> None:
        frame = street(80, 90)
        before = frame.copy()
        crop(frame, 0, 0, 80, 90, (80, 90))[:] = 0
        crop(frame, -5, -5, 20, 20, (20, 20))[:] = 0
        np.testing.assert_array_equal(frame, before)


class TestRescore:
    frame = street(320, 240, (100, 80, 96))

    def test_scores_exact_crops(self, scorer: BlobScorer) -> None:
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
        region = to_region(exact)
        assert all(isinstance(v, int) for v in (region.x, region.y, region.width, region.height))
        assert abs(region.x - x) <= 0.5 and abs(region.y - y) <= 0.5
        window = crop(frame, region.x, region.y, region.width, region.height, (WIDTH, HEIGHT))
        assert region.probability == pytest.approx(float(scorer.probability(window[None])[0]), rel=1e-5)

    @pytest.mark.parametrize(
        ("score", "probability"), [(0, 0.5), (2.0, 0.880797), (-4, 0.0179862), (9000, 1.0), (-9000, 0.0)]
    )
    def test_probability_of_a_score(self, score: float, probability: float) -> None:
        assert to_region(Candidate(0, 0, 64, 128, score)).probability == pytest.approx(probability, rel=1e-5)


boxes = st.tuples(st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 30), st.integers(1, 30))


class TestOverlap:
    @given(box=boxes, others=st.lists(boxes, min_size=1, max_size=5))
    def test_counts_pixels(self, box, others) -> None:
        def pixels(b) -> set[tuple[int, int]]:
            return {(x, y) for x in range(b[0], b[0] + b[2]) for y in range(b[1], b[1] + b[3])}

        expected = [len(pixels(box) & pixels(o)) / min(len(pixels(box)), len(pixels(o))) for o in others]
        actual = overlap(np.array(box, float), np.array(others, float))
        np.testing.assert_allclose(actual, expected, rtol=1e-12)

    def test_a_part_lies_wholly_in_its_whole(self) -> None:
        assert overlap(np.array([0.0, 0, 40, 96]), np.array([[10.0, 50, 20, 40]])).tolist() == [1.0]


class TestSuppress:
    @given(
        places=st.lists(
            st.tuples(st.integers(0, 60), st.integers(0, 60), st.sampled_from([64, 96, 128, 200])), max_size=12
        ),
        scores=hnp.arrays(float, 12, elements=st.integers(0, 6).map(float)),
        overlap_max=st.sampled_from([0.05, 0.3, 0.5, 0.8, 1.0]),
        keep_max=st.integers(1, 13),
    )
    def test_is_greedy(self, places, scores, overlap_max: float, keep_max: int) -> None:
        scores = scores[: len(places)].tolist()
        windows = [Candidate(x, y, height / 2, height, s) for (x, y, height), s in zip(places, scores, strict=True)]
        kept: list[int] = []
        for index in sorted(range(len(windows)), key=lambda i: (-scores[i], i)):
            x, y, width, height = person_box(windows[index])
            shares = []
            for other in (person_box(windows[k]) for k in kept):
                across = max(0, min(x + width, other[0] + other[2]) - max(x, other[0]))
                down = max(0, min(y + height, other[1] + other[3]) - max(y, other[1]))
                shares.append(across * down / min(width * height, other[2] * other[3]))
            if all(share <= overlap_max for share in shares) and len(kept) < keep_max:
                kept.append(index)
        assert suppress(windows, overlap_max, keep_max) == [windows[i] for i in kept]

    def test_a_torso_goes_with_its_person(self) -> None:
        person, torso = Candidate(0, 0, 64, 128, 0.9), Candidate(12, 30, 32, 64, 0.8)
        neighbour = Candidate(40, 0, 64, 128, 0.7)
        assert suppress([torso, neighbour, person], 0.5, 10) == [person, neighbour]

    def test_nothing(self) -> None:
        assert suppress([], 0.5, 10) == []


class TestRegion:
    def test_person_box(self) -> None:
        """96 of the window's 128 pixels high, and 0.41 of that wide, in the middle."""
        assert Region(10, 20, 64, 128, 0.5).person_box == pytest.approx((10 + 32 - 19.68, 36, 39.36, 96))

    def test_person_box_of_a_candidate(self) -> None:
        assert person_box(Candidate(10, 20, 64, 128, 0)) == Region(10, 20, 64, 128, 0.5).person_box


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
        ],
    )
    def test_nonsense_is_refused_by_name(self, name: str, value: object) -> None:
        with pytest.raises(ValueError, match=f"^{name} is "):
            ScanSettings(**{name: value})

    def test_equal_heights_are_allowed(self) -> None:
        assert ScanSettings(person_height_min=90, person_height_max=90).person_height_max == 90
