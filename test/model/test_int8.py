"""Convolutions of 8-bit integers, against integer arithmetic and against float32."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from explain_cnn_ros.model import int8
from explain_cnn_ros.model.int8 import Int8Conv2d, Int8Features, with_int8
from explain_cnn_ros.model.network import VGGClassifier, vgg_features
from explain_cnn_ros.scan.classifier import PersonClassifier

needs_vnni = pytest.mark.skipif(not int8.available(), reason="this CPU does not multiply integers of 8 bits (VNNI)")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@needs_vnni
@settings(max_examples=30, deadline=None)
@given(
    channels=st.sampled_from([(3, 8), (16, 5), (64, 64)]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    zero=st.integers(0, 255),
    bias=st.booleans(),
    seed=st.integers(0, 999),
)
def test_is_what_the_integers_give(
    channels: tuple[int, int], size: tuple[int, int], zero: int, bias: bool, seed: int
) -> None:
    """The reference rounds the weights in float32, as they are defined, and computes everything else in float64.

    float64 holds these integers exactly. Halves may be rounded in either direction.
    """
    convolution = nn.Conv2d(*channels, 3, padding=1, bias=bias)
    with torch.no_grad():
        convolution.weight.copy_(noise(*convolution.weight.shape, seed=seed))
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 256, (2, channels[0], *size), dtype=np.uint8)
    scale, out_scale = 0.02, 0.11
    batch = torch.from_numpy(steps).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        actual = Int8Conv2d(convolution, scale, zero, out_scale)(batch)
    weight = convolution.weight.detach().numpy()
    weight_scale = np.abs(weight).max((1, 2, 3), keepdims=True) / np.float32(127)
    weight_steps = np.rint(weight / weight_scale)
    padded = np.pad(steps.astype(float) - zero, ((0, 0), (0, 0), (1, 1), (1, 1)))
    sums = np.zeros((2, channels[1], *size))
    for i in range(3):
        for j in range(3):
            part = padded[:, :, i : i + size[0], j : j + size[1]]
            sums += np.einsum("nchw,dc->ndhw", part, weight_steps[:, :, i, j])
    real = sums * scale * weight_scale.astype(float).reshape(1, -1, 1, 1)
    if convolution.bias is not None:
        real += convolution.bias.detach().double().numpy().reshape(1, -1, 1, 1)
    expected = np.clip(real.clip(min=0) / out_scale, 0, 255)
    assert actual.dtype == torch.uint8
    assert np.abs(actual.numpy() - expected).max() <= 0.51


@needs_vnni
@pytest.mark.parametrize("architecture", ["vgg11", "vgg16"])
@pytest.mark.parametrize("size", [(64, 32), (75, 101)])
def test_features_are_close_to_those_in_float32(architecture: str, size: tuple[int, int]) -> None:
    """One of the sizes is odd at the poolings."""
    torch.manual_seed(0)
    network = VGGClassifier(architecture, (64, 32), hidden=8).eval().requires_grad_(False)
    batch = noise(2, 3, *size).clamp(-2, 2)
    with torch.inference_mode():
        expected = network.features(batch)
        twin = with_int8(network, -2.0, 2.0)
        actual = twin.features(batch)
    assert actual.shape == expected.shape
    assert float((actual - expected).norm() / expected.norm()) < 0.1
    assert twin.classifier is network.classifier
    assert isinstance(network.features, nn.Sequential), "the network that was given is as it was"


@needs_vnni
def test_another_default_device_has_no_effect() -> None:
    """The picture whose ranges are measured is drawn on the CPU, as its generator demands."""
    network = VGGClassifier("vgg11", (64, 32), hidden=8).eval().requires_grad_(False)
    with torch.device("meta"):
        twin = with_int8(network, -2.0, 2.0)
    assert isinstance(twin.features, Int8Features)


@needs_vnni
def test_batch_norm_is_folded_first() -> None:
    torch.manual_seed(1)
    network = VGGClassifier("vgg11_bn", (64, 32), hidden=8).eval().requires_grad_(False)
    for module in network.features:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    batch = noise(1, 3, 64, 64).clamp(-2, 2)
    with torch.inference_mode():
        expected, actual = network.features(batch), with_int8(network, -2.0, 2.0).features(batch)
    assert float((actual - expected).norm() / expected.norm()) < 0.1


@needs_vnni
def test_maxima_of_pairs_are_max_pooling() -> None:
    """The layers are an identity convolution and a pooling."""
    convolution = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    with torch.no_grad():
        convolution.weight.zero_()
        for channel in range(3):
            convolution.weight[channel, channel, 1, 1] = 1.0
    features = nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2, 2))
    steps = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 7, 9)).astype(np.float32))
    with torch.inference_mode():
        actual = Int8Features(features, 0.0, 255.0, [255.0])(steps)
    torch.testing.assert_close(actual, nn.functional.max_pool2d(steps, 2, 2), rtol=0, atol=1e-3)


def test_where_it_is_not_available_floats_are_used(
    monkeypatch: pytest.MonkeyPatch, thin_classifier: PersonClassifier, picture: Callable[..., NDArray[np.uint8]]
) -> None:
    """The first case is a CPU without VNNI, the second a PyTorch whose operators take other arguments."""
    int8.available.cache_clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert not int8.available()
    int8.available.cache_clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True}, raising=False)

    def otherwise(*_: object) -> None:
        raise TypeError("unexpected argument")

    monkeypatch.setattr(int8, "Int8Conv2d", otherwise)
    assert not int8.available()
    classifier = PersonClassifier(thin_classifier.network, thin_classifier.info, "cpu")
    assert not classifier.search_int8
    assert classifier.scan(picture(120, 100))
    monkeypatch.undo()
    int8.available.cache_clear()


def test_layers_of_a_vgg_come_in_turn() -> None:
    """`Int8Features` relies on a ReLU after each convolution and on poolings of 2 x 2."""
    modules = list(vgg_features("vgg16"))
    for before, after in itertools.pairwise(modules):
        assert isinstance(after, nn.ReLU) == isinstance(before, nn.Conv2d)
