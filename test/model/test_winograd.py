"""Winograd convolutions against PyTorch's convolutions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from explain_cnn_ros.model import winograd
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.winograd import WinogradConv2d, suits, transforms, with_winograd


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
)
def test_the_same_as_pytorch(batch, channels, outputs, height, width, bias, block) -> None:
    """The result does not depend on the size of the map or on the number of tiles that are processed at a time."""
    exact = convolution(channels, outputs, bias)
    maps = torch.randn(batch, channels, height, width, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(winograd, "BLOCK_BYTES", block)
        torch.testing.assert_close(WinogradConv2d(exact)(maps), exact(maps), rtol=1e-11, atol=1e-12)


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
