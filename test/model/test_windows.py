"""Windows: the boxes of their persons, and their pixels against loops."""

from __future__ import annotations

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain_cnn_ros.model.windows import Region, check_image, crop, person_box
from explain_cnn_ros.scan.classifier import PersonClassifier


class TestCrop:
    @given(
        x=st.integers(-60, 60),
        y=st.integers(-60, 60),
        width=st.integers(1, 50),
        height=st.integers(1, 50),
        frame_width=st.integers(1, 40),
        frame_height=st.integers(1, 40),
    )
    def test_is_a_gather(
        self, gather, x: int, y: int, width: int, height: int, frame_width: int, frame_height: int
    ) -> None:
        """At scale 1, a crop equals a gather for boxes inside, partly outside and entirely outside of the frame."""
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
    def test_is_resized(self, picture, gather, box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
        frame = picture(80, 90)
        source = gather(frame, *box)
        how = cv2.INTER_AREA if box[3] > size[1] else cv2.INTER_LINEAR
        np.testing.assert_array_equal(crop(frame, *box, size), cv2.resize(source, size, interpolation=how))

    def test_shrinking_averages(self) -> None:
        """Each pixel of the result is the mean of 2 x 2 pixels."""
        frame = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 4
        expected = frame.reshape(2, 2, 2, 2, 3).mean((1, 3))
        np.testing.assert_array_equal(crop(frame, 0, 0, 4, 4, (2, 2)), expected)

    def test_rounds_to_whole_pixels(self, picture) -> None:
        frame = picture(80, 90)
        np.testing.assert_array_equal(crop(frame, 9.6, 20.4, 29.9, 39.7, (30, 40)), frame[20:60, 10:40])

    def test_is_never_empty(self, picture) -> None:
        frame = picture(8, 9)
        np.testing.assert_array_equal(crop(frame, 3, 4, 0.2, 0.2, (1, 1))[0, 0], frame[4, 3])

    def test_leaves_the_frame_alone(self, picture) -> None:
        frame = picture(80, 90)
        before = frame.copy()
        crop(frame, 0, 0, 80, 90, (80, 90))[:] = 0
        crop(frame, -5, -5, 20, 20, (20, 20))[:] = 0
        np.testing.assert_array_equal(frame, before)


class TestRegion:
    def test_person_box(self) -> None:
        """The box is 96 of the window's 128 pixels high, 0.41 times as wide as high, and centred."""
        assert Region(10, 20, 64, 128, 0.5).person_box == pytest.approx((10 + 32 - 19.68, 36, 39.36, 96))

    def test_person_box_of_any_window(self) -> None:
        """A window needs no more than a position and a size, which need not be whole numbers."""
        window = SimpleNamespace(x=10.5, y=20.25, width=64.0, height=128.0)
        assert person_box(window) == pytest.approx((10.5 + 32 - 19.68, 36.25, 39.36, 96))

    @pytest.mark.parametrize(
        ("region", "whole"),
        [
            ((0, 0, 640, 480), True),
            ((1, 0, 640, 480), False),
            ((0, -1, 640, 480), False),
            ((0, 0, 639, 480), False),
            ((0, 0, 640, 481), False),
            ((0, 0, 480, 640), False),
        ],
    )
    def test_covers_only_the_whole_frame(self, region: tuple[int, int, int, int], whole: bool) -> None:
        assert Region(*region, 0.5).covers((640, 480)) is whole
        assert Region(*region, math.nan).covers((640, 480)) is whole


BAD_IMAGES = [
    (np.zeros((10, 10), np.uint8), r"uint8 \[10, 10\]"),
    (np.zeros((10, 10, 4), np.uint8), r"uint8 \[10, 10, 4\]"),
    (np.zeros((1, 10, 10, 3), np.uint8), r"uint8 \[1, 10, 10, 3\]"),
    (np.zeros((10, 10, 3), np.float32), r"float32 \[10, 10, 3\]"),
    (np.zeros((0, 10, 3), np.uint8), "empty .10 x 0 pixels"),
    (np.zeros((10, 0, 3), np.uint8), "empty .0 x 10 pixels"),
    (None, "NoneType"),
    ([[1, 2, 3]], "list"),
]


@pytest.mark.parametrize(("image", "reason"), BAD_IMAGES)
def test_bad_images_are_refused(vgg11_classifier: PersonClassifier, image, reason: str) -> None:
    for refuse in (check_image, vgg11_classifier.scan, vgg11_classifier.resize):
        with pytest.raises(ValueError, match=f"the image is {reason}"):
            refuse(image)


def test_good_images_are_not() -> None:
    check_image(np.zeros((1, 1, 3), np.uint8))
    check_image(np.zeros((10, 20, 3), np.uint8)[::-2, :, ::-1])
