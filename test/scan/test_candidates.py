"""Candidates: how they move onto their persons, how much they overlap, and which of them are suppressed."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from explain_cnn_ros.model.network import OFFSET_UNITS
from explain_cnn_ros.model.windows import Region, person_box
from explain_cnn_ros.scan.candidates import OFFSET_MAX, Candidate, overlap, probability_of, suppress
from explain_cnn_ros.training.augmentation import Placement


class TestMoved:
    def test_by_hand(self) -> None:
        """The person is a tenth of the height to the right, 0.05 above, and 1.2 times as large."""
        window = Candidate(100, 50, 64, 128, 3.0)
        moved = window.moved(np.array([0.1, -0.05, math.log(1.2)], np.float32))
        assert (moved.width, moved.height, moved.score) == (pytest.approx(76.8), pytest.approx(153.6), 3.0)
        assert moved.x + moved.width / 2 == pytest.approx(132 + 12.8)
        assert moved.y + moved.height / 2 == pytest.approx(114 - 6.4)

    def test_is_what_training_means(self) -> None:
        """A training window that is moved by its own offset fits the person."""
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


def test_person_box_is_that_of_the_region() -> None:
    assert person_box(Candidate(10, 20, 64, 128, 0)) == Region(10, 20, 64, 128, 0.5).person_box


@pytest.mark.parametrize(
    ("score", "probability"), [(0, 0.5), (2.0, 0.880797), (-4, 0.0179862), (9000, 1.0), (-9000, 0.0)]
)
def test_probability_of_a_score(score: float, probability: float) -> None:
    assert probability_of(score) == pytest.approx(probability, rel=1e-5)
    assert Candidate(0, 0, 64, 128, score).to_region().probability == pytest.approx(probability, rel=1e-5)


def test_regions_are_rounded_to_whole_pixels() -> None:
    region = Candidate(-3.6, 10.4, 63.7, 127.4, 0.0).to_region()
    assert region == Region(-4, 10, 64, 127, 0.5)
    assert all(isinstance(side, int) for side in (region.x, region.y, region.width, region.height))


def test_place_is_centre_and_logarithm_of_the_height() -> None:
    assert Candidate(100, 50, 64, 128, 3.0).place == pytest.approx((132, 114, math.log(128)))
