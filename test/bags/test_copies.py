"""Conversions without needless copies: the same pixels as by the literal conversions, and views where they will do."""

from __future__ import annotations

import array
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from explain_cnn_ros.bags.image_messages import LAYOUTS, to_rgb
from explain_cnn_ros.bags.pixels import grey_to_rgb, stretch, to_8_bits

RNG = np.random.default_rng(11)


def message(encoding: str, padding: int = 0, big_endian: bool = False) -> SimpleNamespace:
    """Make an image of 40 x 30 random pixels."""
    dtype, channels = LAYOUTS[encoding]
    rows = 45 if encoding in ("nv12", "nv21") else 30
    pixels = np.random.default_rng(7).integers(0, 256, (rows, 40 * channels * np.dtype(dtype).itemsize), np.uint8)
    if dtype == "f4":
        pixels = np.random.default_rng(7).uniform(0.5, 9, (rows, 40)).astype("<f4").view(np.uint8)
    if big_endian:
        pixels = pixels.view(dtype).byteswap().view(np.uint8)
    padded = np.pad(pixels, ((0, 0), (0, padding)), constant_values=201)
    data = array.array("B", padded.tobytes())
    return SimpleNamespace(
        width=40, height=30, encoding=encoding, step=padded.shape[1], is_bigendian=int(big_endian), data=data
    )


@pytest.mark.parametrize("padding", [1, 4, 13])
@pytest.mark.parametrize("encoding", LAYOUTS)
def test_the_padding_of_rows_makes_no_difference(encoding: str, padding: int) -> None:
    expected = to_rgb(message(encoding))
    for big_endian in (False, True):
        found = to_rgb(message(encoding, padding, big_endian))
        assert found.shape == (30, 40, 3) and found.dtype == np.uint8
        assert found.flags.c_contiguous
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("encoding", LAYOUTS)
@pytest.mark.parametrize("padding", [0, 4])
def test_the_message_cannot_be_changed_through_its_pixels(encoding: str, padding: int) -> None:
    sent = message(encoding, padding)
    found, data = to_rgb(sent), np.frombuffer(sent.data, np.uint8)
    if encoding == "rgb8" and not padding:
        assert np.shares_memory(found, data), "no copy"
        assert not found.flags.writeable
    else:
        assert not np.shares_memory(found, data)


def test_a_view_outlives_the_message() -> None:
    sent = message("rgb8")
    found, expected = to_rgb(sent), np.frombuffer(sent.data, np.uint8).copy()
    del sent
    assert np.array_equal(found.reshape(-1), expected)


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: np.frombuffer(data, np.uint8)])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono16"])
def test_data_of_rosbags_and_of_ros(kind: Any, encoding: str) -> None:
    expected = to_rgb(message(encoding, 4))
    sent = message(encoding, 4)
    sent.data = kind(bytes(sent.data))
    assert np.array_equal(to_rgb(sent), expected)


def test_grey() -> None:
    for grey in (RNG.integers(0, 256, (9, 7), np.uint8), RNG.integers(0, 256, (9, 7, 1), np.uint8)):
        assert np.array_equal(grey_to_rgb(grey), np.repeat(grey.reshape(9, 7, 1), 3, axis=2))


def test_all_values_of_16_bits() -> None:
    values = np.arange(65536, dtype=np.uint16)
    for shape in ((256, 256), (256, 256, 1), (128, 512), (65536, 1)):
        assert np.array_equal(to_8_bits(values.reshape(shape)).reshape(-1), np.round(values / 257.0))


def literal_stretch(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch as `stretch` says, value by value."""
    finite = sorted(float(value) for value in pixels.flat if np.isfinite(value))
    if not finite:
        return np.zeros(pixels.shape, np.uint8)
    outside = (len(finite) - 1) // 1000
    low, high = finite[0], finite[-1]
    low_inner, high_inner = finite[outside], finite[len(finite) - 1 - outside]
    if high - low > 4 * (high_inner - low_inner):
        low, high = low_inner, high_inner
    results = []
    for value in pixels.flat:
        of_range = (float(value) - low) / max(high - low, 1e-12) if np.isfinite(value) else 0.0
        results.append(round(255 * min(max(of_range, 0.0), 1.0)))
    return np.array(results, np.uint8).reshape(pixels.shape)


@pytest.mark.parametrize("wrong", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (20, 30), (25, 40), (7, 143), (40, 50)])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_stretching(dtype: type, size: tuple[int, int], wrong: int) -> None:
    """Up to three measurements are wrong, at both ends; in the larger images, they do not count."""
    pixels = RNG.integers(3000, 4000, size).astype(dtype)
    if wrong:
        pixels.flat[:: max(1, pixels.size // wrong)] = 60000
        pixels.flat[-1] = 0
    if dtype != np.uint16 and wrong:
        pixels.flat[pixels.size // 2] = np.nan
        pixels.flat[pixels.size // 3] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = stretch(pixels)
    assert found.dtype == np.uint8
    # A quotient may be rounded the other way.
    difference = found.astype(int) - literal_stretch(pixels)
    assert np.abs(difference).max() <= 1
    assert np.mean(difference != 0) < 0.01


def test_one_value() -> None:
    assert not stretch(np.full((5, 4, 1), 900, np.uint16)).any()
    assert stretch(np.full((5, 4, 1), np.nan, np.float32)).tolist() == np.zeros((5, 4, 1)).tolist()
