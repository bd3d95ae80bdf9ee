"""The pyramid on the device has the levels and windows of the dense pass on the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from explain_cnn_ros.scan.dense import DensePass, dense_windows
from explain_cnn_ros.scan.pyramid import Pyramid
from explain_cnn_ros.scan.scanning import ScanSettings, pyramid_scales

#: Windows and strides of the classifier and of the proposer.
PASSES = [((64, 128), 32), ((32, 64), 8)]


class StillJudge:
    """Moves no window, and records the levels that it judges."""

    def __init__(self, window: tuple[int, int], stride: int) -> None:
        self.levels: list[NDArray[np.uint8]] = []
        self.dense = DensePass(self, window, stride, 0.0, 0.0)

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.levels.append(image)
        (width, height), stride = self.dense.window, self.dense.stride
        shape = (image.shape[0] - height) // stride + 1, (image.shape[1] - width) // stride + 1
        return np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32)


@pytest.mark.parametrize(("window", "stride"), PASSES)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 300), (300, 1), (30, 40), (64, 128), (203, 177)])
def test_levels_and_windows_are_those_of_the_host(
    window: tuple[int, int], stride: int, width: int, height: int
) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    judge = StillJudge(window, stride)
    scales = pyramid_scales(height, window[1], ScanSettings(person_height_min=40))
    expected = dense_windows(judge.dense, frame, scales)
    pyramid = Pyramid.prepare((width, height), scales, window, stride, torch.device("cpu"))
    rows = torch.from_numpy(frame).permute(0, 2, 1).float().contiguous()
    levels = [level[0].permute(1, 2, 0).numpy() for level in pyramid.levels(rows)]
    assert [level.shape for level in levels] == [level.shape for level in judge.levels]
    for level, on_host, scale in zip(levels, judge.levels, scales, strict=True):
        difference = np.abs(level - on_host)
        assert difference.max() <= 1
        # A frame that is one pixel wide has few different pixels, which the margins repeat.
        assert scale >= 1 or difference.mean() < (0.1 if min(width, height) == 1 else 0.01)
    np.testing.assert_allclose(pyramid.places.numpy(), expected.places, rtol=1e-6, atol=1e-4)


def test_offsets_move_windows_as_on_the_host() -> None:
    """Offsets are shares of the window's height, and the logarithm of the size."""
    window, stride = PASSES[1]
    scales = (0.8, 0.5)
    offset = np.array([0.1, -0.05, 0.2], np.float32)

    def judge(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scores, offsets = StillJudge(window, stride)(image)
        return scores, offsets + offset

    frame = np.zeros((150, 130, 3), np.uint8)
    expected = dense_windows(DensePass(judge, window, stride, 0.0, 0.0), frame, scales).places
    pyramid = Pyramid.prepare((130, 150), scales, window, stride, torch.device("cpu"))
    places = pyramid.places + pyramid.reaches * torch.from_numpy(offset)
    np.testing.assert_allclose(places.numpy(), expected, rtol=1e-6, atol=1e-4)
