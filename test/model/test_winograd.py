"""Winograd convolutions against PyTorch's convolutions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from explain_cnn_ros.model import winograd
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.winograd import WinogradConv2d, flipped, suits, transforms, with_winograd


def convolution(channels: int, outputs: int, bias: bool = True, dtype: torch.dtype = torch.float64) -> nn.Conv2d:
    torch.manual_seed(channels * 100 + outputs)
    return nn.Conv2d(channels, outputs, 3, padding=1, bias=bias, dtype=dtype)


def test_one_dimension_by_hand() -> None:
    outputs, filters, inputs = transforms()
    g, d = torch.randn(3, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    expected = torch.stack([(g * d[i : i + 3]).sum() for i in range(4)])
    torch.testing.assert_close(outputs @ ((filters @ g) * (inputs @ d)), expected, rtol=1e-13, atol=1e-13)


@given(
    batch=st.integers(1, 5),
    channels=st.integers(1, 5),
    outputs=st.integers(1, 5),
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    bias=st.booleans(),
    block=st.sampled_from([1, 5_000, 10**9]),
    tiles_min=st.sampled_from([1, 16, 10**9]),
)
def test_the_same_as_pytorch(batch, channels, outputs, height, width, bias, block, tiles_min) -> None:
    """The result does not depend on the size of the map or on the number of tiles that are processed at a time.

    The gradient of the input is autograd's.
    """
    exact = convolution(channels, outputs, bias)
    maps = torch.randn(batch, channels, height, width, dtype=torch.float64, requires_grad=True)
    expected = exact(maps)
    gradient = torch.randn_like(expected)
    (of_input,) = torch.autograd.grad(expected, maps, gradient)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(winograd, "BLOCK_BYTES", block)
        patch.setattr(winograd, "TILES_MIN", tiles_min)
        fast = WinogradConv2d(exact)
        torch.testing.assert_close(fast(maps), expected, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(fast.input_gradient(gradient), of_input, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("tiles", "transformed"), [(15, False), (16, True), (17, True)])
def test_few_tiles_are_convolved_directly(tiles: int, transformed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The maps have rows of tiles of 4 x 4 positions, the last of which is not full."""
    calls = []
    original = winograd._convolve
    monkeypatch.setattr(winograd, "_convolve", lambda *arguments: calls.append(1) or original(*arguments))
    exact = convolution(3, 2)
    fast, maps = WinogradConv2d(exact), torch.randn(tiles, 3, 4, 3, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(fast(maps), exact(maps), rtol=1e-11, atol=1e-12)
        fast.input_gradient(torch.randn(tiles, 2, 4, 3, dtype=torch.float64))
    assert len(calls) == 2 * transformed


def test_the_transformation_of_a_flipped_filter_is_a_permutation() -> None:
    """It needs no filters of its own."""
    _, of_filters, _ = transforms()
    rows, factor = flipped(of_filters)
    assert sorted(rows) == list(range(6))
    filters = torch.randn(3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = of_filters @ filters.flip(0)
    torch.testing.assert_close(factor[:, None] * (of_filters @ filters)[rows], expected, rtol=1e-12, atol=1e-12)


def test_rounding_of_the_gradient_in_float32() -> None:
    """The rounding error is a few millionths of the gradient."""
    exact = convolution(64, 256)
    gradient = torch.randn(2, 256, 32, 16, dtype=torch.float64)
    with torch.inference_mode():
        expected = nn.functional.conv_transpose2d(gradient, exact.weight, padding=1)
        actual = WinogradConv2d(exact.float()).input_gradient(gradient.float())
    assert actual.dtype == torch.float32
    error = (actual - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 4e-6


def test_rounding_in_float32() -> None:
    """The rounding error is a few millionths of the result."""
    exact = convolution(256, 64)
    maps = torch.randn(2, 256, 32, 16, dtype=torch.float64).relu()
    with torch.inference_mode():
        expected = exact(maps)
        actual = WinogradConv2d(exact.float())(maps.float())
    assert actual.dtype == torch.float32
    assert actual.is_contiguous(memory_format=torch.channels_last)
    error = (actual - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 4e-6


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 5, padding=1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_other_convolutions_are_refused(other: nn.Conv2d) -> None:
    assert not suits(other)
    with pytest.raises(ValueError, match="3 x 3 padded by 1"):
        WinogradConv2d(other)


def test_a_network_is_left_alone_and_its_twin_shares_its_weights() -> None:
    network = VGGClassifier(hidden=4).eval().requires_grad_(False)
    before = [type(module) for module in network.modules()]
    twin = with_winograd(network)
    assert [type(module) for module in network.modules()] == before
    replaced = [module for module in twin.features if isinstance(module, WinogradConv2d)]
    assert [module.in_channels for module in replaced] == [64, 128, 128, 256, 256, 256, *[512] * 5]
    theirs, ours = dict(twin.named_parameters()), dict(network.named_parameters())
    assert theirs.keys() == ours.keys()
    assert all(theirs[name].data_ptr() == ours[name].data_ptr() for name in ours)
    batch = torch.randn(2, 3, 128, 64)
    with torch.inference_mode():
        torch.testing.assert_close(twin(batch), network(batch), rtol=1e-4, atol=1e-5)
