"""The adapter for VGGs: its layers, weights, traces, reconstructions and silenced passes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from explain_kit import at_strongest, whole_maps
from numpy.typing import NDArray
from torch import Tensor, nn

from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.metrics.paper import weight_sum, weight_variance
from explain_cnn_ros.explain.network_adapter import Neuron, Reconstructions, Start
from explain_cnn_ros.explain.vgg import silencing
from explain_cnn_ros.explain.vgg.adapter import VGGAdapter
from explain_cnn_ros.explain.vgg.deconvnet import deconvolve
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.model.winograd import WinogradConv2d
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Indices of the convolutions in the features of torchvision's VGG-16.
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


@pytest.fixture(scope="module")
def exact(thin_network, in_float64) -> VGGAdapter:
    """Return the adapter of the thin VGG-16 in float64. It is shared, so tests must not modify it."""
    adapter = adapt(in_float64(thin_network(dtype=torch.float64)))
    assert isinstance(adapter, VGGAdapter)
    return adapter


@pytest.fixture(scope="module")
def pixels(exact: VGGAdapter, picture: Callable[..., NDArray[np.uint8]]) -> Tensor:
    """Return three windows [3, 3, 64, 32] in float64."""
    return exact.classifier.to_pixels(np.stack([picture(32, 64, seed) for seed in range(3)]))


class TestLayers:
    def test_are_numbered_and_named_as_in_the_paper(self, exact: VGGAdapter) -> None:
        assert list(exact.layers) == list(range(1, 14))
        assert all(number == layer.number for number, layer in exact.layers.items())
        assert [exact.layers[number].name for number in (1, 3, 5, 9, 13)] == [
            *("conv1_1", "conv2_1", "conv3_1", "conv4_2", "conv5_3")
        ]
        assert [layer.channels for layer in exact.layers.values()] == [4, 4, 6, 6, 8, 8, 8, 9, 9, 9, 8, 8, 8]

    def test_modules_are_the_relus_behind_the_convolutions(self, exact: VGGAdapter) -> None:
        features = exact.classifier.network.features
        for layer, index in zip(exact.layers.values(), CONVOLUTIONS, strict=True):
            assert isinstance(layer.module, nn.ReLU)
            assert layer.module is features[index + 1]


class TestWeights:
    @pytest.mark.parametrize("layer", [1, 2, 7, 12])
    def test_outgoing_weights_are_the_next_convolutions(self, exact: VGGAdapter, layer: int) -> None:
        features = exact.classifier.network.features
        weight = features[CONVOLUTIONS[layer]].weight.tolist()
        for neuron in range(features[CONVOLUTIONS[layer - 1]].out_channels):
            outgoing = [tap for out in weight for row in out[neuron] for tap in row]
            self.assert_metrics(exact, layer, neuron, outgoing)

    def test_outgoing_weights_of_the_last_convolution_are_the_dense_layers(self, exact: VGGAdapter) -> None:
        """The dense layer reads the maps flattened as (C, H, W); of a 32 x 64 window, the last map is 2 x 1."""
        weight = exact.classifier.network.classifier[1].weight.tolist()
        channels, height, width = 8, 2, 1
        for neuron in range(channels):
            outgoing = [
                out[(neuron * height + row) * width + column]
                for out in weight
                for row in range(height)
                for column in range(width)
            ]
            self.assert_metrics(exact, 13, neuron, outgoing)

    @staticmethod
    def assert_metrics(adapter: VGGAdapter, layer: int, neuron: int, outgoing: list[float]) -> None:
        weights = adapter.weights(layer, "outgoing")
        mean = math.fsum(outgoing) / len(outgoing)
        variance = math.fsum((w - mean) ** 2 for w in outgoing) / len(outgoing)
        assert sorted(weights[neuron].flatten().tolist()) == sorted(outgoing)
        assert float(weight_sum(weights)[neuron]) == pytest.approx(math.fsum(outgoing), rel=1e-9, abs=1e-12)
        assert float(weight_variance(weights)[neuron]) == pytest.approx(variance, rel=1e-9)

    def test_dense_weights_belong_to_the_neuron_that_they_read(self, exact: VGGAdapter) -> None:
        """The outgoing weights of a neuron of the last map are what it adds to the first dense layer."""
        maps = torch.zeros(1, 8, 2, 1, dtype=torch.float64)
        maps[0, 5] = torch.tensor([[2.0], [3.0]])
        dense = exact.classifier.network.classifier[1]
        added = dense(maps.flatten(1))[0] - dense.bias
        outgoing = exact.weights(13, "outgoing")[5]
        torch.testing.assert_close(added, outgoing @ torch.tensor([2.0, 3.0], dtype=torch.float64))

    @pytest.mark.parametrize("layer", [1, 2, 7, 13])
    def test_incoming_weights_are_the_convolutions_own(self, exact: VGGAdapter, layer: int) -> None:
        expected = exact.classifier.network.features[CONVOLUTIONS[layer - 1]].weight
        assert torch.equal(exact.weights(layer, "incoming"), expected)


class TestTrace:
    def test_is_the_networks_own_pass(self, exact: VGGAdapter, pixels: Tensor) -> None:
        passed = exact.trace(pixels, (3, 9))
        network = exact.classifier.network
        torch.testing.assert_close(passed.logits, network(exact.classifier.normalise(pixels)))
        for layer, activation in passed.activations.items():
            expected = network.features[: CONVOLUTIONS[layer - 1] + 2](exact.classifier.normalise(pixels))
            torch.testing.assert_close(activation, expected)
        assert sorted(passed.activations) == [3, 9]

    @pytest.mark.parametrize(("record", "switches", "rectified"), [("", 0, 0), ("deconvnet", 5, 0), ("guided", 5, 13)])
    def test_records_what_the_method_needs(
        self, exact: VGGAdapter, pixels: Tensor, record: str, switches: int, rectified: int
    ) -> None:
        passed = exact.trace(pixels, (3,), record=record)
        assert (len(passed.switches), len(passed.rectified)) == (switches, rectified)

    def test_before_the_relu(self, exact: VGGAdapter, pixels: Tensor) -> None:
        before = exact.trace(pixels, (3, 9), pre_relu=True)
        after = exact.trace(pixels, (3, 9))
        for layer, activation in before.activations.items():
            assert activation.min() < 0
            assert torch.equal(activation.relu(), after.activations[layer])

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_results_are_at_least_float32(self, thin_classifier, pixels: Tensor, precision: str) -> None:
        adapter = adapt(thin_classifier)
        passed = adapter.trace(pixels.float(), (3, 9), precision=precision, record="guided")
        tensors = [passed.logits, *passed.activations.values(), *passed.rectified.values()]
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
        expected = adapter.trace(pixels.float(), (3, 9))
        assert not torch.equal(passed.activations[9], expected.activations[9])
        torch.testing.assert_close(passed.activations[3], expected.activations[3], rtol=0.05, atol=0.05)

    def test_winograd_is_prepared_once(self, full_classifier, monkeypatch: pytest.MonkeyPatch) -> None:
        adapter = adapt(full_classifier)
        adapter.prepare("winograd")
        prepared = full_classifier.prepared("winograd")
        assert any(isinstance(part, WinogradConv2d) for part in prepared.features)
        adapter.prepare("winograd")
        assert full_classifier.prepared("winograd") is prepared


class TestReconstruct:
    neurons = (Neuron(9, 2), Neuron(3, 1), Neuron(3, 5), Neuron(7, 0))

    @staticmethod
    def put_back(parts: list[Reconstructions]) -> dict[Start, Tensor]:
        """Return each reconstruction in an image of the window's size, [3, 64, 32]."""
        images = {}
        for part in parts:
            places = zip(part.starts, part.pixels, part.tops.tolist(), part.lefts.tolist(), strict=True)
            for start, crop, top, left in places:
                wide = crop.new_zeros(3, 64 + 200, 32 + 200)
                wide[:, 100 + top : 100 + top + crop.shape[1], 100 + left : 100 + left + crop.shape[2]] = crop
                images[start] = wide[:, 100:164, 100:132]
        return images

    @pytest.mark.parametrize("pre_relu", [False, True])
    @pytest.mark.parametrize("whole", [False, True])
    @pytest.mark.parametrize("method", ["deconvnet", "guided"])
    def test_is_the_dense_deconvnet(
        self, exact: VGGAdapter, pixels: Tensor, method: str, whole: bool, pre_relu: bool
    ) -> None:
        """Activations before the ReLU are rectified first."""
        clean = exact.trace(pixels[:1], range(1, 14), record=method, pre_relu=pre_relu)
        after = exact.trace(pixels[:1], range(1, 14), record="guided")
        activations = {layer: activation[0] for layer, activation in after.activations.items()}
        starts = whole_maps(self.neurons) if whole else at_strongest(activations, self.neurons)
        parts = exact.reconstruct(clean, starts, method)
        found = self.put_back(parts)
        assert sorted(start.neuron for part in parts for start in part.starts) == sorted(self.neurons)
        expected = deconvolve(
            exact.classifier.network.features,
            activations,
            after.switches,
            starts,
            rectified=after.rectified if method == "guided" else None,
        )
        for start, image in zip(starts, expected, strict=True):
            torch.testing.assert_close(found[start], image, rtol=1e-9, atol=1e-9 * float(image.abs().max()))

    def test_only_the_default_uses_crops(self, exact: VGGAdapter, pixels: Tensor) -> None:
        clean = exact.trace(pixels[:1], (3, 7, 9), record="guided")
        strongest = at_strongest({layer: a[0] for layer, a in clean.activations.items()}, self.neurons)
        for method in ("deconvnet", "guided"):
            for whole in (False, True):
                parts = exact.reconstruct(clean, whole_maps(self.neurons) if whole else strongest, method)
                sizes = {tuple(part.pixels.shape[2:]) for part in parts}
                assert (sizes == {(64, 32)}) is ((method, whole) != ("deconvnet", False))


class TestSilence:
    sets = ({3: [1, 4], 9: [0]}, {5: [2]}, {}, {13: list(range(8))}, {1: [0, 1, 2, 3]})

    @pytest.mark.parametrize("batch", [1, 2, 36])
    def test_batch_size_does_not_matter(
        self, exact: VGGAdapter, pixels: Tensor, hooked_logits, monkeypatch: pytest.MonkeyPatch, batch: int
    ) -> None:
        monkeypatch.setattr(silencing, "SILENCED_BATCH", batch)
        window = exact.classifier.normalise(pixels[:1])
        expected = torch.cat([hooked_logits(exact.classifier.network, window, silenced) for silenced in self.sets])
        assert len(expected.unique(dim=0)) == len(self.sets)
        torch.testing.assert_close(exact.silence(pixels[:1], self.sets), expected)


def test_batch_norm_is_folded_first(picture) -> None:
    torch.manual_seed(0)
    network = VGGClassifier("vgg11_bn", (32, 32), hidden=4)
    classifier = PersonClassifier(network, ModelInfo("vgg11_bn", 4, (32, 32)), "cpu")
    adapter = adapt(classifier)
    assert adapter.classifier is not classifier
    assert adapter.classifier.info.architecture == "vgg11"
    assert not any(isinstance(part, nn.BatchNorm2d) for part in adapter.classifier.network.modules())
    assert [layer.name for layer in adapter.layers.values()] == [
        *("conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1", "conv5_2")
    ]
    window = picture(32, 32)[None]
    passed = adapter.trace(adapter.classifier.to_pixels(window), ())
    torch.testing.assert_close(passed.logits, classifier.logits(window), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
def test_networks_in_half_precision_are_reconstructed(thin_network, picture, method: str) -> None:
    info = ModelInfo(input_size=(32, 64), hidden=6)
    adapter = adapt(PersonClassifier(thin_network(dtype=torch.bfloat16), info, "cpu"))
    trace = adapter.trace(adapter.classifier.to_pixels(picture(32, 64)[None]), (3,), record=method)
    channel = int(trace.activations[3][0].amax((1, 2)).argmax())
    start = Start(Neuron(3, channel), int(trace.activations[3][0, channel].argmax()))
    (part,) = adapter.reconstruct(trace, [start], method)
    assert part.pixels.any()
