"""Persons that are found again from frame to frame, and which of them is followed."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.tracks import ALIKE_MAX, FORGET_AFTER, OVERLAP_MIN, WORSE_MAX, Track, Tracker, overlap

SECOND = 10**9


def region(x: int, y: int = 0, p: float = 0.9, height: int = 128) -> Region:
    return Region(x, y, height // 2, height, p)


def moved(each: Region, right: int) -> Region:
    return dataclasses.replace(each, x=each.x + right)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 0, 10, 20), (0, 0, 10, 20), 1.0),
        ((0, 0, 10, 20), (5, 0, 10, 20), 1 / 3),
        ((0, 0, 10, 20), (10, 0, 10, 20), 0.0),
        ((0, 0, 10, 20), (50, 60, 10, 20), 0.0),
        ((0, 0, 10, 10), (0, 0, 5, 5), 0.25),
    ],
)
def test_overlap(one: tuple, other: tuple, expected: float) -> None:
    assert overlap(one, other) == pytest.approx(expected)
    assert overlap(other, one) == pytest.approx(expected)


def test_the_best_region_is_followed_while_another_one_becomes_better() -> None:
    tracker = Tracker()
    first = tracker.follow([region(0, p=0.99), region(300, p=0.98)], 0)
    assert (first.id, first.region.x, first.frames) == (1, 0, 1)
    second = tracker.follow([region(302, p=0.99), region(4, p=0.9)], SECOND // 5)
    assert (second.id, second.region.x, second.frames) == (1, 4, 2)
    assert second.region.probability == 0.9, "the region of this frame"


def test_a_person_that_becomes_much_worse_is_left() -> None:
    for p, followed in ((1 - WORSE_MAX, 0), (1 - WORSE_MAX - 0.01, 300)):
        tracker = Tracker()
        tracker.follow([region(0, p=1.0), region(300, p=1.0)], 0)
        assert tracker.follow([region(300, p=1.0), region(0, p=p)], SECOND // 5).region.x == followed
        # The other one is followed from then on.
        assert tracker.follow([region(0, p=1.0), region(300, p=0.9)], SECOND // 2).region.x == followed


def test_a_person_that_is_not_found_is_left_for_the_best_one() -> None:
    tracker = Tracker()
    tracker.follow([region(0), region(300, p=0.8)], 0)
    other = tracker.follow([region(300, p=0.8)], SECOND // 5)
    assert (other.id, other.frames) == (2, 2)
    # It is followed although the first person is found again.
    assert tracker.follow([region(0), region(300, p=0.8)], 2 * SECOND // 5).id == 2
    assert tracker.follow([region(0)], 3 * SECOND // 5).id == 1, "it is still known"


def test_persons_that_cross_keep_their_numbers() -> None:
    """Both move by 25 pixels a frame, in opposite directions; at the crossing, the other one is nearer."""
    tracker, ids = Tracker(), []
    for step in range(9):
        one, other = region(25 * step, p=0.9), region(212 - 25 * step, p=0.9)
        followed = tracker.follow([one, other] if step % 2 else [other, one], step * SECOND // 5)
        ids.append((followed.id, followed.region == other))
    assert ids == [(1, True)] * 9


def test_a_fast_person_is_found_where_it_is_expected() -> None:
    """At 30 pixels a frame, the boxes overlap too little; from the second frame, the velocity is known."""
    track = Track(1, region(0), 0)
    assert overlap(track.region.person_box, moved(track.region, 30).person_box) < OVERLAP_MIN
    slow = track.found(region(15), SECOND // 5)
    assert slow.velocity == (75.0, 0.0)
    assert slow.predict(2 * SECOND // 5)[0] == pytest.approx(region(30).person_box[0])
    assert slow.predict(2 * SECOND // 5)[2:] == region(15).person_box[2:]
    faster = slow.found(region(45), 2 * SECOND // 5)
    assert faster.velocity == (112.5, 0.0), "the mean of 75 and 150"
    tracker = Tracker()
    xs = [0, 15, 45, 80, 115, 150, 185]
    assert [tracker.follow([region(x)], i * SECOND // 5).id for i, x in enumerate(xs)] == [1] * 7


def test_gaps_and_jumps_of_the_stamps_begin_new_tracks() -> None:
    tracker = Tracker()
    stamps = [10.0, 10.0 + FORGET_AFTER, 10.1 + 2 * FORGET_AFTER, 3.0, 3.2]
    ids = [tracker.follow([region(0)], round(stamp * SECOND)).id for stamp in stamps]
    assert ids == [1, 1, 2, 3, 3]


def test_equal_stamps_are_no_jump() -> None:
    tracker = Tracker()
    assert [tracker.follow([region(x)], 0).id for x in (0, 3, 6)] == [1, 1, 1]


def test_frames_in_a_burst_do_not_lose_a_person() -> None:
    """Two images may arrive within a millisecond. A move of a few pixels in this time is no high velocity."""
    tracker = Tracker()
    frames = [(0, 0), (4, 1), (4, 34), (0, 67), (3, 68), (3, 101)]
    assert [tracker.follow([region(x)], ms * 10**6).id for x, ms in frames] == [1] * 6


def test_a_region_that_is_no_person_is_followed_in_the_same_way() -> None:
    tracker = Tracker()
    frames = [[region(0, p=0.2)], [region(4, p=0.1)], [region(300, p=0.3)]]
    assert [tracker.follow(regions, i * SECOND // 5).id for i, regions in enumerate(frames)] == [1, 1, 2]


@given(
    st.lists(
        st.lists(
            st.builds(region, st.integers(-50, 600), st.integers(-50, 400), st.floats(0, 1), st.integers(20, 300)),
            min_size=1,
            max_size=6,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_one_of_the_regions_is_followed_and_numbers_are_unique(frames: list[list[Region]]) -> None:
    tracker = Tracker()
    for index, regions in enumerate(frames):
        ordered = sorted(regions, key=lambda r: -r.probability)
        track = tracker.follow(ordered, index * SECOND // 5)
        assert track.region in ordered
        assert track.region.probability >= ordered[0].probability - WORSE_MAX
        ids = [known.id for known in tracker._tracks]
        assert len(ids) == len(set(ids))


def test_the_tallest_of_the_sure_ones_is_followed_first() -> None:
    tracker = Tracker()
    regions = [region(0, p=0.999), region(300, p=0.999 - ALIKE_MAX / 2, height=256), region(600, p=0.9, height=400)]
    assert tracker.follow(regions, 0).region.x == 300
    # It is still followed when a taller one is as sure.
    regions = [region(300, p=0.98, height=256), region(600, p=0.98, height=400)]
    assert tracker.follow(regions, SECOND // 5).region.x == 300
