"""Reconstructions against captum's NeuronDeconvolution, multiplied by the activation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from explain_kit import at_strongest, whole_maps
from torch import Tensor, nn

from explain_cnn_ros.explain.network_adapter import Neuron, Start
from explain_cnn_ros.explain.vgg.deconvnet import deconvolve, only_at, unpool
from explain_cnn_ros.explain.vgg.tracing import trace
from explain_cnn_ros.model.network import convolution_layers

# captum warns each time that it registers hooks.
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")

BLOCKS = ((4, 5), (6, 7), (8, 9))


def noise(height: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def reconstruct(features: nn.Sequential, recording: tuple, neurons: list[Neuron], batch: int = 32) -> Tensor:
    """Reconstruct each neuron from its strongest activation."""
    return deconvolve(features, *recording, at_strongest(recording[0], neurons), batch)


def all_neurons(features: nn.Sequential) -> list[Neuron]:
    return [Neuron(layer.number, c) for layer in convolution_layers(features) for c in range(layer.channels)]


def assert_close_to(actual: Tensor, expected: Tensor, share: float, name: object) -> None:
    """Compare with a tolerance that is a share of the largest value."""
    assert actual.shape == expected.shape
    worst = float((actual - expected).abs().max())
    assert worst <= share * float(expected.abs().max()), f"{name}: off by {worst}"


@pytest.fixture(scope="module")
def features(vgg_like: Callable[..., nn.Sequential]) -> nn.Sequential:
    return vgg_like(BLOCKS)


class TestAgainstCaptum:
    @pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (30, 31)])
    def test_every_neuron(self, features, record, captum_reconstruction, height: int, width: int) -> None:
        """Some maps are odd: 33 x 47 pixels become 16 x 23, and 30 x 31 become 15 x 15 and then 7 x 7."""
        image = noise(height, width)
        neurons = all_neurons(features)
        actual = reconstruct(features, record(features, image), neurons)
        assert actual.shape == (len(neurons), 3, height, width)
        alive = 0
        for neuron, reconstruction in zip(neurons, actual, strict=True):
            expected = captum_reconstruction(features, image, neuron.layer, neuron.channel)
            assert_close_to(reconstruction, expected, 1e-9, neuron)
            alive += bool(expected.any())
        assert alive > 0.8 * len(neurons)

    @pytest.mark.parametrize("seed", range(3))
    def test_ties(self, vgg_like, record, captum_reconstruction, seed: int) -> None:
        """With small whole numbers and plain areas, several values of a pooling or of a map are often the maximum."""
        features = vgg_like(BLOCKS, seed)
        generator = torch.Generator().manual_seed(seed)
        for parameter in features.parameters():
            parameter.data = torch.randint(-1, 2, parameter.shape, generator=generator).double()
        image = torch.randint(-1, 2, (1, 3, 4, 4), generator=generator).double()
        image = image.repeat_interleave(7, 2).repeat_interleave(9, 3)
        activations, switches = record(features, image)
        quads = activations[2].unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)
        largest = quads.amax(3, keepdim=True)
        assert ((quads == largest) & (largest > 0)).sum(3).gt(1).double().mean() > 0.1
        neurons = all_neurons(features)
        for neuron, reconstruction in zip(
            neurons, reconstruct(features, (activations, switches), neurons), strict=True
        ):
            expected = captum_reconstruction(features, image, neuron.layer, neuron.channel)
            assert_close_to(reconstruction, expected, 1e-12, neuron)

    def test_full_vgg16(self, full_classifier, captum_reconstruction) -> None:
        """Check the strongest and the last neuron of each of the layers 3 to 9, in float32."""
        network = full_classifier.network
        image = noise(128, 64, dtype=torch.float32)
        layers = convolution_layers(network.features)[2:9]
        with torch.no_grad():
            traced = trace(network, image, [layer.number for layer in layers], switches=True)
            activations = {k: v[0] for k, v in traced.activations.items()}
            neurons = [
                Neuron(layer.number, channel)
                for layer in layers
                for channel in (int(activations[layer.number].amax((1, 2)).argmax()), layer.channels - 1)
            ]
            actual = reconstruct(network.features, (activations, traced.switches), neurons, batch=8)
        for neuron, reconstruction in zip(neurons, actual, strict=True):
            expected = captum_reconstruction(network.features, image, neuron.layer, neuron.channel)
            assert_close_to(reconstruction, expected, 1e-5, neuron)


@pytest.fixture(scope="module")
def one_by_one(features, record) -> Tensor:
    """Return the reconstructions of all neurons for one image, each from a separate call."""
    recording = record(features, noise(24, 32))
    return torch.cat([reconstruct(features, recording, [neuron]) for neuron in all_neurons(features)])


class TestManyAtOnce:
    @pytest.mark.parametrize("batch", [1, 2, 3, 32, 1000])
    def test_batch_size_does_not_matter(self, features, record, one_by_one, batch: int) -> None:
        actual = reconstruct(features, record(features, noise(24, 32)), all_neurons(features), batch)
        torch.testing.assert_close(actual, one_by_one, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("batch", [1, 4, 32])
    @pytest.mark.parametrize("seed", range(3))
    def test_each_result_is_at_its_own_place(self, features, record, one_by_one, batch: int, seed: int) -> None:
        """The neurons are in random order."""
        recording = record(features, noise(24, 32))
        neurons = all_neurons(features)
        order = torch.randperm(len(neurons), generator=torch.Generator().manual_seed(seed)).tolist()
        actual = reconstruct(features, recording, [neurons[i] for i in order], batch)
        torch.testing.assert_close(actual, one_by_one[order], rtol=1e-12, atol=1e-12)

    def test_a_neuron_twice(self, features, record) -> None:
        recording = record(features, noise(24, 32))
        once, other = Neuron(4, 1), Neuron(2, 3)
        actual = reconstruct(features, recording, [once, other, once])
        torch.testing.assert_close(actual[0], actual[2])
        torch.testing.assert_close(actual[1], reconstruct(features, recording, [other])[0])

    def test_nobody(self, features, record) -> None:
        assert len(reconstruct(features, record(features, noise(24, 32)), [])) == 0

    def test_other_layers_need_no_activations(self, features, record) -> None:
        activations, switches = record(features, noise(24, 32))
        expected = reconstruct(features, (activations, switches), [Neuron(5, 0)])
        assert torch.equal(reconstruct(features, ({5: activations[5]}, switches), [Neuron(5, 0)]), expected)


class TestReconstruction:
    def test_of_the_first_layer_is_its_filter(self, features, record) -> None:
        """The reconstruction is the filter, multiplied by the activation, around the maximum."""
        image = noise(20, 30)
        activations, switches = record(features, image)
        channel = int(activations[1].amax((1, 2)).argmax())
        row, column = divmod(int(activations[1][channel].argmax()), 30)
        expected = torch.zeros(3, 22, 32, dtype=torch.float64)
        expected[:, row : row + 3, column : column + 3] = (
            activations[1][channel, row, column] * features[0].weight[channel]
        )
        actual = reconstruct(features, (activations, switches), [Neuron(1, channel)])[0]
        torch.testing.assert_close(actual, expected[:, 1:-1, 1:-1])

    def test_is_in_proportion_to_the_activation(self, features, record) -> None:
        activations, switches = record(features, noise(24, 32))
        once = reconstruct(features, (activations, switches), [Neuron(5, 2), Neuron(3, 1)])
        doubled = {layer: 2 * activation for layer, activation in activations.items()}
        torch.testing.assert_close(reconstruct(features, (doubled, switches), [Neuron(5, 2), Neuron(3, 1)]), 2 * once)

    def test_of_a_dead_neuron_is_zero(self, vgg_like, record) -> None:
        features = vgg_like(BLOCKS)
        for layer, index in ((3, 5), (5, 10)):
            features[index].bias[2] = -1e6
            assert convolution_layers(features)[layer - 1].convolution == index
        actual = reconstruct(features, record(features, noise(24, 32)), [Neuron(3, 2), Neuron(5, 2), Neuron(5, 1)])
        assert not actual[:2].any()
        assert actual[2].any()

    def test_does_not_depend_on_biases(self, features, record, vgg_like) -> None:
        """The backward pass uses the weights only; biases act through the given activations."""
        recording = record(features, noise(24, 32))
        expected = reconstruct(features, recording, [Neuron(6, 1)])
        unbiased = vgg_like(BLOCKS)
        for module in unbiased:
            if isinstance(module, nn.Conv2d):
                module.bias.zero_()
        assert torch.equal(reconstruct(unbiased, recording, [Neuron(6, 1)]), expected)

    def test_changes_no_input(self, features, record) -> None:
        activations, switches = record(features, noise(24, 32))
        copies = {layer: activation.clone() for layer, activation in activations.items()}
        indices = {index: s.clone() for index, (s, _) in switches.items()}
        reconstruct(features, (activations, switches), all_neurons(features))
        assert all(torch.equal(activations[k], copies[k]) for k in copies)
        assert all(torch.equal(switches[k][0], indices[k]) for k in indices)

    def test_batch_norm_is_refused(self) -> None:
        features = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU()).eval()
        with pytest.raises(TypeError, match="BatchNorm2d"):
            reconstruct(features, ({1: torch.ones(2, 4, 4)}, {}), [Neuron(1, 0)])


class TestStart:
    """A reconstruction begins at any position, or at all of them."""

    @pytest.mark.parametrize("position", [0, 7, 32 * 24 - 1])
    def test_of_the_first_layer_at_a_position(self, features, record, position: int) -> None:
        """The reconstruction is the filter around the position, multiplied by the activation there."""
        activations, switches = record(features, noise(24, 32))
        row, column = divmod(position, 32)
        activations[1][:, row, column] += 1
        expected = torch.zeros(4, 3, 26, 34, dtype=torch.float64)
        expected[:, :, row : row + 3, column : column + 3] = (
            activations[1][:, row, column, None, None, None] * features[0].weight
        )
        starts = [Start(Neuron(1, channel), position) for channel in range(4)]
        torch.testing.assert_close(deconvolve(features, activations, switches, starts), expected[:, :, 1:-1, 1:-1])

    def test_of_a_whole_map_of_the_first_layer(self, features, record) -> None:
        activations, switches = record(features, noise(24, 32))
        neurons = [Neuron(1, channel) for channel in range(4)]
        expected = torch.cat(
            [
                nn.functional.conv_transpose2d(activations[1][None, [c]], features[0].weight[[c]], padding=1)
                for c in range(4)
            ]
        )
        torch.testing.assert_close(deconvolve(features, activations, switches, whole_maps(neurons)), expected)

    def test_starts_of_one_neuron_do_not_mix(self, features, record) -> None:
        """Each start has a reconstruction of its own, whatever the others are."""
        recording = record(features, noise(24, 32))
        starts = [Start(Neuron(4, 1), p) for p in (0, 40, None, 95)] + [Start(Neuron(2, 0), 5)]
        together = deconvolve(features, *recording, starts)
        for start, actual in zip(starts, together, strict=True):
            torch.testing.assert_close(actual, deconvolve(features, *recording, [start])[0], rtol=1e-12, atol=1e-12)


class TestOnlyAt:
    maps = torch.tensor([[[1.0, 5.0], [2.0, 3.0]], [[0.5, 0.0], [0.0, 4.0]]])

    def test_keeps_the_position_of_each_map(self) -> None:
        expected = torch.tensor([[[0.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 4.0]]])
        assert torch.equal(only_at(self.maps, [2, 3]), expected)

    def test_keeps_the_whole_map_without_a_position(self) -> None:
        expected = torch.stack([self.maps[0], torch.tensor([[0.5, 0.0], [0.0, 0.0]])])
        assert torch.equal(only_at(self.maps, [None, 0]), expected)

    def test_leaves_the_maps_alone(self) -> None:
        before = self.maps.clone()
        only_at(self.maps, [1, None])
        assert torch.equal(self.maps, before)


class TestUnpool:
    @pytest.mark.parametrize(("height", "width"), [(8, 6), (9, 6), (8, 7), (9, 7), (2, 3)])
    def test_is_pytorchs(self, height: int, width: int) -> None:
        maps = noise(height, width)[0]
        pooled, switches = nn.functional.max_pool2d(maps, 2, 2, return_indices=True)
        several = torch.stack([pooled, noise(*pooled.shape[1:], seed=1)[0]])
        expected = torch.stack(
            [nn.functional.max_unpool2d(m, switches, 2, 2, output_size=(height, width)) for m in several]
        )
        assert torch.equal(unpool(several, switches, (height, width)), expected)

    def test_by_hand(self) -> None:
        """The second maximum is in row 1, column 3 of a map with 5 columns."""
        switches = torch.tensor([[[1, 8]]])
        expected = torch.zeros(1, 1, 2, 5)
        expected[0, 0, 0, 1], expected[0, 0, 1, 3] = 3, 4
        assert torch.equal(unpool(torch.tensor([[[[3.0, 4.0]]]]), switches, (2, 5)), expected)
