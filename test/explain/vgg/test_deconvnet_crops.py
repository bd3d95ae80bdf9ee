"""Reconstructions on crops against those on whole maps and those of captum."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from explain_kit import at_strongest
from torch import Tensor, nn

from explain_cnn_ros.explain.network_adapter import Neuron, Reconstructions, Start
from explain_cnn_ros.explain.vgg.deconvnet import deconvolve
from explain_cnn_ros.explain.vgg.deconvnet_crops import deconvolve_crops
from explain_cnn_ros.model.network import convolution_layers, receptive_field

# captum warns each time that it registers hooks.
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")

#: Convolutions 3 to 9 have the receptive fields of a VGG-16: 10 to 76 pixels.
BLOCKS = ((4, 5), (6, 7), (8, 9, 8), (9, 8))

#: Sizes (height, width): the window, larger than every receptive field, smaller than most, odd at every pooling.
SIZES = [(128, 64), (90, 100), (24, 20), (51, 77), (16, 130)]

MARGIN = 100


def cropped(features: nn.Sequential, recording: tuple, neurons: list[Neuron], *batch: int) -> list[Reconstructions]:
    """Reconstruct each neuron from its strongest activation, on crops."""
    return deconvolve_crops(features, *recording, at_strongest(recording[0], neurons), *batch)


def dense(features: nn.Sequential, recording: tuple, neurons: list[Neuron]) -> Tensor:
    """Reconstruct each neuron from its strongest activation, on whole maps."""
    return deconvolve(features, *recording, at_strongest(recording[0], neurons))


def put_back(parts: list[Reconstructions], height: int, width: int) -> dict[Neuron, Tensor]:
    """Return each reconstruction as a whole image [3, height, width]; everything outside of it must be zero."""
    return {start.neuron: image for start, image in images_of(parts, height, width).items()}


def images_of(parts: list[Reconstructions], height: int, width: int) -> dict[Start, Tensor]:
    """Return the same by start."""
    images: dict[Start, Tensor] = {}
    for part in parts:
        for start, pixels, top, left in zip(
            part.starts, part.pixels, part.tops.tolist(), part.lefts.tolist(), strict=True
        ):
            wide = pixels.new_zeros(3, height + 2 * MARGIN, width + 2 * MARGIN)
            y, x = MARGIN + top, MARGIN + left
            wide[:, y : y + pixels.shape[1], x : x + pixels.shape[2]] = pixels
            inside = wide[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
            assert torch.count_nonzero(inside) == torch.count_nonzero(wide)
            images[start] = inside
    return images


@pytest.fixture(scope="module")
def features(vgg_like: Callable[..., nn.Sequential]) -> nn.Sequential:
    return vgg_like(BLOCKS)


@pytest.fixture(scope="module")
def neurons(features: nn.Sequential) -> list[Neuron]:
    return [Neuron(layer.number, c) for layer in convolution_layers(features) for c in range(layer.channels)]


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestAgainstTheDenseDeconvnet:
    @pytest.mark.parametrize(("height", "width"), SIZES)
    @pytest.mark.parametrize("seed", range(2))
    def test_every_neuron(self, features, neurons, record, height: int, width: int, seed: int) -> None:
        recording = record(features, noise(height, width, seed))
        actual = put_back(cropped(features, recording, neurons), height, width)
        assert sorted(actual) == sorted(neurons)
        assert [n.layer for n in actual] == sorted((n.layer for n in neurons), reverse=True)
        for neuron, expected in zip(neurons, dense(features, recording, neurons), strict=True):
            scale = float(expected.abs().max())
            assert float((actual[neuron] - expected).abs().max()) <= 1e-12 * scale, neuron

    @pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1), (0, 3), (5, -1)])
    def test_a_maximum_at_the_border(self, features, neurons, record, corner: tuple[int, int]) -> None:
        """The crops reach out of all maps."""
        activations, switches = record(features, noise(60, 90))
        for activation in activations.values():
            activation[:, corner[0], corner[1]] = activation.max() + 1
        actual = put_back(cropped(features, (activations, switches), neurons), 60, 90)
        for neuron, expected in zip(neurons, dense(features, (activations, switches), neurons), strict=True):
            assert expected.any()
            scale = float(expected.abs().max())
            assert float((actual[neuron] - expected).abs().max()) <= 1e-12 * scale, neuron

    @pytest.mark.parametrize("batch", [1, 2, 3, 1000])
    def test_batch_size_does_not_matter(self, features, neurons, record, batch: int) -> None:
        recording = record(features, noise(60, 90))
        expected = put_back(cropped(features, recording, neurons), 60, 90)
        actual = put_back(cropped(features, recording, neurons, batch), 60, 90)
        assert actual.keys() == expected.keys()
        for neuron in neurons:
            torch.testing.assert_close(actual[neuron], expected[neuron], rtol=1e-12, atol=1e-12)

    def test_full_vgg16(self, full_classifier, record) -> None:
        """Check one neuron of each of the layers 3 to 9, in float32."""
        features = full_classifier.network.features
        image = noise(128, 64).float()
        with torch.no_grad():
            recording = record(features, image)
            some = [Neuron(layer, int(recording[0][layer].amax((1, 2)).argmax())) for layer in range(3, 10)]
            actual = put_back(cropped(features, recording, some), 128, 64)
            for neuron, expected in zip(some, dense(features, recording, some), strict=True):
                assert float((actual[neuron] - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_position(features, record, height: int, width: int) -> None:
    """Three random positions and a corner of each neuron; a start that is repeated is reconstructed once."""
    activations, switches = record(features, noise(height, width))
    generator = torch.Generator().manual_seed(0)
    starts = []
    for layer, activation in activations.items():
        for channel in range(len(activation)):
            positions = torch.randint(activation[channel].numel(), (3,), generator=generator).tolist()
            starts += [Start(Neuron(layer, channel), p) for p in (*positions, activation[channel].numel() - 1)]
    actual = images_of(deconvolve_crops(features, activations, switches, [*starts, *starts[:5]]), height, width)
    assert actual.keys() == set(starts)
    for start, expected in zip(starts, deconvolve(features, activations, switches, starts), strict=True):
        scale = float(expected.abs().max())
        assert float((actual[start] - expected).abs().max()) <= 1e-12 * scale, start


def test_against_captum(features, neurons, record, captum_reconstruction) -> None:
    image = noise(40, 50)
    actual = put_back(cropped(features, record(features, image), neurons), 40, 50)
    for neuron in neurons:
        expected = captum_reconstruction(features, image, neuron.layer, neuron.channel)
        assert float((actual[neuron] - expected).abs().max()) <= 1e-9 * float(expected.abs().max()), neuron


@pytest.mark.parametrize("position", [(0, 0), (2, 3), (5, -1)])
def test_crops_are_no_larger_than_the_receptive_field_and_what_of_it_lies_in_the_image(
    features, neurons, record, position: tuple[int, int]
) -> None:
    height, width = 90, 50
    activations, switches = record(features, noise(height, width))
    for activation in activations.values():
        activation[:, position[0], position[1]] = activation.max() + 1
    for part in cropped(features, (activations, switches), neurons):
        layer = part.starts[0].neuron.layer
        side = receptive_field(features, layer)
        spacing = round(height / activations[layer].shape[1])
        centre = [p % n * spacing + spacing / 2 for p, n in zip(position, activations[layer].shape[1:], strict=True)]
        for extent, middle, size in zip(part.pixels.shape[2:], centre, (height, width), strict=True):
            inside = min(size, middle + side / 2) - max(0, middle - side / 2)
            # After the last removal of the outside, crops grow by two filters and by the borders of the pooled blocks.
            assert extent <= min(side, inside + 4 + 2 * spacing)


def test_a_dead_neuron_reconstructs_nothing(vgg_like, record) -> None:
    features = vgg_like(BLOCKS)
    features[convolution_layers(features)[4].convolution].bias[2] = -1e6
    images = put_back(cropped(features, record(features, noise(24, 32)), [Neuron(5, 2), Neuron(5, 1)]), 24, 32)
    assert not images[Neuron(5, 2)].any()
    assert images[Neuron(5, 1)].any()


def test_nobody(features, record) -> None:
    assert cropped(features, record(features, noise(24, 32)), []) == []


def test_changes_no_input(features, neurons, record) -> None:
    activations, switches = record(features, noise(60, 90))
    weights = [p.clone() for p in features.parameters()]
    copies = {layer: activation.clone() for layer, activation in activations.items()}
    cropped(features, (activations, switches), neurons)
    assert all(torch.equal(activations[k], copies[k]) for k in copies)
    assert all(torch.equal(p, w) for p, w in zip(features.parameters(), weights, strict=True))


def test_what_is_no_vgg_is_refused() -> None:
    def descend(*modules: nn.Module) -> None:
        features = nn.Sequential(*modules).eval()
        last = len(convolution_layers(features))
        cropped(features, ({last: torch.ones(2, 4, 4)}, {}), [Neuron(last, 0)])

    convolution = nn.Conv2d(2, 2, 3, padding=1)
    with pytest.raises(TypeError, match="BatchNorm2d"):
        descend(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), convolution, nn.ReLU())
    with pytest.raises(TypeError, match="3 x 3"):
        descend(nn.Conv2d(3, 2, 5, padding=2), nn.ReLU(), convolution, nn.ReLU())
