"""Images and detections of the same stamp: in any order, late, never, and in bounded memory."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from explain_cnn_ros.ros import matching
from explain_cnn_ros.ros.matching import DetectedImage, DetectionMatcher
from explain_cnn_ros.scan.detections import DetectedBox

BOX = DetectedBox(1, 2, 3, 4)


class Bench:
    """A matcher with a clock that only the test moves."""

    def __init__(self, wait: float = 1.0) -> None:
        self.now, self.wait = 100.0, wait
        self.matcher = DetectionMatcher(lambda: self.wait, lambda: self.now)

    def image(self, stamp: int, size: int = 10) -> DetectedImage | None:
        return self.matcher.add_image(stamp, f"image {stamp}", size)

    def boxes(self, stamp: int, *boxes: DetectedBox) -> DetectedImage | None:
        return self.matcher.add_detections(stamp, boxes)

    @property
    def counts(self) -> dict[str, int]:
        return {name: count for name, count in self.matcher.counts.items() if count}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_detections_after_their_image(bench: Bench) -> None:
    assert bench.image(7) is None
    bench.now += 0.9
    assert bench.boxes(7, BOX) == DetectedImage("image 7", (BOX,), 100.0)
    assert bench.boxes(7, BOX) is None, "an image is decided once"
    assert (bench.matcher.waiting, bench.counts) == (0, {"matched": 1})


def test_detections_before_their_image(bench: Bench) -> None:
    assert bench.boxes(7, BOX) is None
    bench.now += 0.5
    assert bench.image(7) == DetectedImage("image 7", (BOX,), 100.5)
    assert bench.image(7) is None


def test_no_boxes_are_detections_as_well(bench: Bench) -> None:
    bench.image(7)
    assert bench.boxes(7) == DetectedImage("image 7", (), 100.0)


def test_a_neighbouring_stamp_does_not_match(bench: Bench) -> None:
    bench.image(10**18)
    assert bench.boxes(10**18 + 1, BOX) is None
    bench.now += 2
    bench.matcher.expire()
    assert bench.counts == {"skipped": 1, "unmatched": 1}


def test_late_detections_are_counted_with_their_delay(bench: Bench) -> None:
    bench.image(7)
    bench.now += 1.5
    assert bench.boxes(7, BOX) is None
    assert bench.counts == {"skipped": 1, "late": 1}
    assert (bench.matcher.lateness, bench.matcher.no_memory) == (1.5, False)
    bench.boxes(6, BOX)
    assert bench.matcher.lateness == 0.0, "the newest detections are not late"
    bench.wait = 2.0
    bench.image(8)
    bench.now += 1.5
    assert bench.boxes(8, BOX) is not None, "the parameter is live"


def test_earlier_images_are_skipped_and_later_ones_wait(bench: Bench) -> None:
    """A detector that is slower than the camera."""
    for stamp in range(1, 6):
        bench.image(stamp)
    assert bench.boxes(3, BOX) == DetectedImage("image 3", (BOX,), 100.0)
    assert bench.boxes(1, BOX) is None
    assert bench.boxes(5, BOX) == DetectedImage("image 5", (BOX,), 100.0)
    assert bench.counts == {"matched": 2, "skipped": 3, "late": 1}
    assert bench.matcher.waiting == 0


def test_detections_that_wait_for_their_image_skip_earlier_images(bench: Bench) -> None:
    bench.image(1)
    bench.boxes(2, BOX)
    assert bench.image(2) is not None
    assert bench.boxes(1, BOX) is None, "decisions are published in the order of the images"


def test_stamps_of_zero_match_nothing(bench: Bench) -> None:
    assert bench.image(0) is None
    assert bench.boxes(0, BOX) is None
    assert bench.image(0) is None
    assert (bench.matcher.waiting, bench.counts) == (0, {"skipped": 2, "unmatched": 1})


def test_stamps_may_jump_back(bench: Bench) -> None:
    """A recording that starts again: images are skipped by their arrival, not by their stamps."""
    bench.image(900)
    bench.image(100)
    assert bench.boxes(100, BOX) == DetectedImage("image 100", (BOX,), 100.0)


def test_two_images_with_one_stamp(bench: Bench) -> None:
    bench.matcher.add_image(7, "first", 10)
    bench.matcher.add_image(7, "second", 10)
    found = bench.boxes(7, BOX)
    assert found is not None and found.message == "second"
    assert bench.counts == {"skipped": 1, "matched": 1}


def test_without_a_stamp_the_newest_image_matches(bench: Bench) -> None:
    assert bench.matcher.add_unstamped([BOX]) is None
    bench.image(1)
    bench.image(2)
    assert bench.matcher.add_unstamped([BOX]) == DetectedImage("image 2", (BOX,), 100.0)
    assert bench.matcher.add_unstamped([BOX]) is None
    assert bench.counts == {"unmatched": 2, "skipped": 1, "matched": 1}


def test_the_memory_of_images_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "BYTES_MAX", 100)
    for stamp in range(1, 5):
        bench.image(stamp, 40)
    assert bench.matcher.waiting == 2
    assert bench.counts == {"skipped": 2, "no memory": 2}
    bench.boxes(1)
    assert bench.matcher.no_memory
    bench.image(5, 1000)
    assert bench.matcher.waiting == 1, "the newest image waits, whatever its size"
    assert bench.boxes(5, BOX) is not None
    monkeypatch.setattr(matching, "IMAGES_MAX", 3)
    for stamp in range(10, 20):
        bench.image(stamp, 0)
    assert bench.matcher.waiting == 3


def test_the_memory_of_detections_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "DETECTIONS_MAX", 3)
    monkeypatch.setattr(matching, "BOXES_MAX", 2)
    for stamp in range(1, 6):
        bench.boxes(stamp, BOX, BOX, BOX)
    assert bench.counts == {"unmatched": 2}
    found = bench.image(5)
    assert found is not None and len(found.boxes) == 2
    monkeypatch.setattr(matching, "REMEMBERED", 2)
    for stamp in range(10, 15):
        bench.image(stamp)
    bench.now += 2
    bench.matcher.expire()
    assert [bench.boxes(stamp) for stamp in range(10, 15)] == [None] * 5
    assert bench.counts["late"] == 2


def test_reset_forgets_everything_except_counts(bench: Bench) -> None:
    bench.image(1)
    bench.boxes(2, BOX)
    bench.matcher.reset()
    assert bench.boxes(1, BOX) is None
    assert bench.image(2) is None
    assert bench.matcher.waiting == 1
    assert bench.matcher.newest_image == 2
