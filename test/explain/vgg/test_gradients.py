"""Influences and contributions from the backward pass, against plain autograd on the same network."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from explain_kit import OUTPUTS, margins, plain_contributions
from torch import Tensor, nn

from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.vgg.tracing import VGGTrace, trace
from explain_cnn_ros.model import winograd
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers
from explain_cnn_ros.model.winograd import WinogradConv2d, with_winograd

#: A VGG-11 with few channels: 8 convolutions in five blocks.
THIN_VGG11 = ((4,), (6,), (8, 8), (9, 9), (8, 8))

#: Sizes (height, width) whose last map is 2 x 1. Those of the second are odd at every pooling but one.
SIZES = [(64, 32), (79, 47)]


def noise(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def vgg16(thin_network) -> VGGClassifier:
    return thin_network(dtype=torch.float64)


@pytest.fixture(scope="module")
def networks(vgg16: VGGClassifier, vgg_like) -> dict[str, VGGClassifier]:
    """Return a VGG-16 and a VGG-11 with few channels, in float64. They are shared, so tests must not modify them."""
    vgg11 = copy.deepcopy(vgg16)
    vgg11.features = vgg_like(THIN_VGG11)
    return {"vgg16": vgg16, "vgg11": vgg11}


def all_layers(network: VGGClassifier) -> range:
    return range(1, len(convolution_layers(network.features)) + 1)


def assert_same(passed: VGGTrace, network: VGGClassifier, batch: Tensor, output: Callable = margins) -> None:
    """Compare with autograd, window by window."""
    for index, window in enumerate(batch):
        expected = plain_contributions(network, window[None], output)
        for layer, influences in passed.influences.items():
            scale = float(expected[layer].abs().sum((1, 2)).max())
            torch.testing.assert_close(
                influences[index], expected[layer].sum((1, 2)), rtol=1e-10, atol=1e-12 * scale, msg=f"layer {layer}"
            )
        if index == 0:
            for layer, contributions in passed.contributions.items():
                scale = float(expected[layer].abs().max())
                torch.testing.assert_close(contributions, expected[layer], rtol=1e-9, atol=1e-12 * scale)


class TestAgainstAutograd:
    @pytest.mark.parametrize("name", ["vgg16", "vgg11"])
    @pytest.mark.parametrize(("height", "width"), SIZES)
    @pytest.mark.parametrize("output", OUTPUTS)
    def test_all_layers(self, networks, name: str, height: int, width: int, output: str) -> None:
        network, batch = networks[name], noise(3, height, width)
        layers = all_layers(network)
        passed = trace(network, batch, layers, switches=True, output=OUTPUTS[output])
        assert set(passed.influences) == set(passed.contributions) == set(layers)
        assert_same(passed, network, batch, OUTPUTS[output])
        assert all(influences.count_nonzero() for influences in passed.influences.values())

    @pytest.mark.parametrize("layers", [(1,), (13,), (5,), (2, 3), (4, 9), (9, 3, 13)])
    def test_any_layers(self, vgg16: VGGClassifier, layers: tuple[int, ...]) -> None:
        """The pass ends at the lowest layer. Poolings below it are passed as usual."""
        batch = noise(2, 64, 32)
        passed = trace(vgg16, batch, layers, switches=True, output=margins)
        assert set(passed.influences) == set(passed.contributions) == set(passed.activations) == set(layers)
        assert_same(passed, vgg16, batch)
        plain = trace(vgg16, batch, layers, switches=True)
        torch.testing.assert_close(passed.logits, plain.logits, rtol=1e-13, atol=0)
        assert passed.switches.keys() == plain.switches.keys()
        for index, (switches, size) in plain.switches.items():
            assert torch.equal(passed.switches[index][0], switches) and passed.switches[index][1] == size
        assert all(torch.equal(passed.activations[layer], plain.activations[layer]) for layer in layers)

    @pytest.mark.parametrize("seed", range(3))
    def test_ties(self, vgg_like, vgg16: VGGClassifier, seed: int) -> None:
        """With small whole numbers and plain areas, several values of a pooling are often the maximum.

        The first of them has the gradient, as in autograd.
        """
        network = copy.deepcopy(vgg16)
        network.features = vgg_like(THIN_VGG11, seed)
        generator = torch.Generator().manual_seed(seed)
        for module in network.features:
            if isinstance(module, nn.Conv2d):
                module.weight.data = torch.randint(-1, 2, module.weight.shape, generator=generator).double()
                module.bias.data = torch.randint(-1, 2, module.bias.shape, generator=generator).double()
        window = torch.randint(-1, 2, (1, 3, 8, 4), generator=generator).double()
        window = window.repeat_interleave(8, 2).repeat_interleave(8, 3)
        passed = trace(network, window, all_layers(network), switches=True, output=margins)
        quads = passed.activations[1][0].unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)
        largest = quads.amax(3, keepdim=True)
        assert ((quads == largest) & (largest > 0)).sum(3).gt(1).double().mean() > 0.1
        assert all(influences.count_nonzero() for influences in passed.influences.values())
        assert_same(passed, network, window)

    def test_activations_before_the_relu_change_nothing(self, vgg16: VGGClassifier) -> None:
        """Influence is that of the activation after the ReLU, whatever the other metrics read."""
        batch = noise(2, 64, 32)
        passed = trace(vgg16, batch, all_layers(vgg16), switches=True, pre_relu=True, output=margins)
        assert all(activation.min() < 0 for activation in passed.activations.values())
        assert_same(passed, vgg16, batch)

    def test_contributions_are_of_the_first_window_only_if_it_is_recorded(self, vgg16: VGGClassifier) -> None:
        passed = trace(vgg16, noise(2, 64, 32), (3, 9), output=margins)
        assert passed.contributions == {} and passed.switches == {}
        assert passed.influences[3].shape == (2, 6)

    def test_without_an_output_there_are_none(self, vgg16: VGGClassifier) -> None:
        passed = trace(vgg16, noise(2, 64, 32), (3, 9), switches=True)
        assert passed.influences == passed.contributions == {}

    def test_of_no_layers(self, vgg16: VGGClassifier) -> None:
        batch = noise(2, 64, 32)
        passed = trace(vgg16, batch, (), switches=True, output=margins)
        assert passed.influences == {}
        torch.testing.assert_close(passed.logits, vgg16(batch), rtol=1e-13, atol=0)

    def test_batch_norm_is_refused(self, vgg16: VGGClassifier) -> None:
        network = copy.deepcopy(vgg16)
        modules = list(network.features)
        network.features = nn.Sequential(*modules[:-2], nn.BatchNorm2d(8, dtype=torch.float64), *modules[-2:])
        with pytest.raises(TypeError, match="not of BatchNorm2d: fold batch norm"):
            trace(network.eval(), noise(1, 64, 32), (3,), output=margins)


class TestPrecisions:
    def test_winograd(self, vgg16: VGGClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
        """All convolutions are Winograd convolutions, and each of them but the first computes its own gradient."""
        monkeypatch.setattr(winograd, "CHANNELS_MIN", 1)
        monkeypatch.setattr(winograd, "TILES_MIN", 1)
        calls = []
        original = WinogradConv2d.input_gradient

        def spy(convolution: WinogradConv2d, gradient: Tensor) -> Tensor:
            calls.append(convolution)
            return original(convolution, gradient)

        monkeypatch.setattr(WinogradConv2d, "input_gradient", spy)
        network, batch = with_winograd(vgg16), noise(2, 64, 32)
        passed = trace(network, batch, all_layers(vgg16), switches=True, output=margins)
        assert [module for module in network.features if isinstance(module, WinogradConv2d)][:0:-1] == calls
        for index, window in enumerate(batch):
            expected = plain_contributions(vgg16, window[None])
            for layer, influences in passed.influences.items():
                scale = float(expected[layer].abs().sum())
                torch.testing.assert_close(
                    influences[index], expected[layer].sum((1, 2)), rtol=1e-8, atol=1e-10 * scale
                )

    def test_winograd_on_the_full_network(self, full_classifier) -> None:
        """Rounding opens or closes a few ReLUs of random weights, so single influences differ by more than rounding."""
        batch = noise(3, 128, 64).float()
        with torch.inference_mode():
            one, other = (
                trace(network, batch, range(3, 10), switches=True, output=margins)
                for network in (full_classifier.network, full_classifier.prepared("winograd"))
            )
        for layer, expected in one.influences.items():
            assert np.corrcoef(other.influences[layer].flatten(), expected.flatten())[0, 1] > 0.9999, layer

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_half_precision_is_roughly_the_same(self, thin_classifier, picture, precision: str) -> None:
        """Results are float32, and the order of magnitude and the signs of large influences are right."""
        adapter = adapt(thin_classifier)
        pixels = thin_classifier.to_pixels(np.stack([picture(32, 64, seed) for seed in range(3)]))
        arguments = {"record": "deconvnet", "gradients": "logit"}
        exact = adapter.trace(pixels, range(1, 14), **arguments)
        rough = adapter.trace(pixels, range(1, 14), precision=precision, **arguments)
        for layer, expected in exact.influences.items():
            assert rough.influences[layer].dtype == rough.contributions[layer].dtype == torch.float32
            assert not torch.equal(rough.influences[layer], expected)
            assert np.corrcoef(rough.influences[layer].flatten(), expected.flatten())[0, 1] > 0.97, layer
        assert not torch.is_autocast_enabled("cpu")


class TestNoStateIsLeft:
    @pytest.mark.parametrize("inference", [True, False])
    @pytest.mark.parametrize("require", [True, False])
    def test_in_the_network(self, thin_network, network_state, inference: bool, require: bool) -> None:
        """Hooks, training mode, requires_grad and gradients stay the same."""
        network = thin_network(dtype=torch.float64).requires_grad_(require)
        before, batch = network_state(network), noise(2, 64, 32)
        with torch.inference_mode(inference), torch.set_grad_enabled(not inference and not require):
            passed = trace(network, batch, range(1, 14), switches=True, output=margins)
        assert network_state(network) == before
        assert all(p.grad is None and p.requires_grad is require for p in network.parameters())
        assert not any(
            t.requires_grad for t in (passed.logits, *passed.influences.values(), *passed.contributions.values())
        )
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        assert_same(passed, network.requires_grad_(False), batch)

    def test_in_the_batch(self, vgg16: VGGClassifier) -> None:
        batch = noise(2, 64, 32)
        before = batch.clone()
        trace(vgg16, batch, range(1, 14), switches=True, output=margins)
        assert torch.equal(batch, before) and not batch.requires_grad and batch.grad is None
