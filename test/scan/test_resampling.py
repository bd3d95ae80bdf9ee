"""Resizing by matrix products gives the pixels of OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from explain_cnn_ros.model.windows import crop
from explain_cnn_ros.scan.resampling import Axis, Canvas

CPU = torch.device("cpu")

#: Size of the windows, small enough for many examples.
SIZE = (8, 16)


def as_rows(frame: NDArray[np.uint8]) -> Tensor:
    """Convert a frame [H, W, 3] to [H, 3, W]."""
    return torch.from_numpy(frame).permute(0, 2, 1).float().contiguous()


def noise(width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


class TestAxis:
    @pytest.mark.parametrize(
        ("length", "count"), [(1, 1), (7, 1), (7, 7), (10, 5), (480, 384), (301, 97), (97, 96), (1280, 64)]
    )
    def test_averages_like_inter_area(self, length: int, count: int) -> None:
        image = np.random.default_rng(0).uniform(0, 255, (length, 4)).astype(np.float32)
        expected = cv2.resize(image, (4, count), interpolation=cv2.INTER_AREA)
        resized = Axis.of(length, CPU).resize(count, shrinks=True) @ torch.from_numpy(image)
        np.testing.assert_allclose(resized.numpy(), expected.reshape(count, 4), atol=2e-3)

    @pytest.mark.parametrize(("length", "count"), [(1, 1), (1, 9), (7, 7), (10, 20), (97, 301), (40, 64)])
    def test_interpolates_like_inter_linear(self, length: int, count: int) -> None:
        image = np.random.default_rng(0).uniform(0, 255, (length, 4)).astype(np.float32)
        expected = cv2.resize(image, (4, count), interpolation=cv2.INTER_LINEAR)
        resized = Axis.of(length, CPU).resize(count, shrinks=False) @ torch.from_numpy(image)
        np.testing.assert_allclose(resized.numpy(), expected, atol=2e-3)

    @given(begin=st.integers(-60, 60), length=st.integers(1, 90), count=st.integers(1, 20), shrinks=st.booleans())
    def test_weights_sum_to_one(self, begin: int, length: int, count: int, shrinks: bool) -> None:
        """No brightness is lost outside of the frame, because the edge pixels are repeated."""
        interval = torch.tensor([float(begin)]), torch.tensor([float(length)])
        weights = Axis.of(31, CPU).weights(*interval, count, torch.tensor([shrinks]))
        assert weights.shape == (1, count, 31)
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.sum(2).numpy(), 1, atol=1e-5)


boxes = st.integers(2, 70).flatmap(
    lambda height: st.tuples(st.integers(-60, 60), st.integers(-60, 60), st.just(round(height / 2)), st.just(height))
)


class TestCrops:
    @given(
        size=st.sampled_from([(1, 1), (1, 30), (30, 1), (23, 37), (40, 30)]),
        chosen=st.lists(boxes, min_size=1, max_size=4),
    )
    def test_are_those_of_the_host(self, size: tuple[int, int], chosen: list[tuple[int, int, int, int]]) -> None:
        """OpenCV rounds the weights of INTER_LINEAR, so a pixel may differ by one level."""
        frame = noise(*size)
        crops = Canvas.of(*size, CPU).crops(as_rows(frame), torch.tensor(chosen, dtype=torch.float32), SIZE)
        expected = np.stack([crop(frame, *box, SIZE) for box in chosen])
        assert crops.shape == (len(chosen), 3, SIZE[1], SIZE[0])
        difference = np.abs(crops.permute(0, 2, 3, 1).numpy() - expected)
        assert difference.max() <= 1

    def test_of_an_enlarged_photo_differ_in_few_pixels(self, picture) -> None:
        frame = picture(120, 90)
        box = (31, -7, 33, 66)
        crops = Canvas.of(120, 90, CPU).crops(as_rows(frame), torch.tensor([box]).float(), (64, 128))
        difference = np.abs(crops[0].permute(1, 2, 0).numpy() - crop(frame, *box, (64, 128)))
        assert difference.max() <= 1
        assert difference.mean() < 0.2

    def test_are_whole_numbers(self, picture) -> None:
        crops = Canvas.of(50, 40, CPU).crops(as_rows(picture(50, 40)), torch.tensor([[3.0, 2, 17, 34]]), SIZE)
        assert (crops == crops.round()).all()
