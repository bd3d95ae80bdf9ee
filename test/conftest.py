"""Small random networks, images, and the reference that reconstructions are compared with."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence

import hypothesis
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain_cnn_ros.model.network import VGGClassifier, convolution_layers
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier

# There is no deadline, because the speed of the machine is no property of the code. The examples are the same in every
# run, so that a test that passes keeps passing. HYPOTHESIS_PROFILE=search looks for new examples.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Small networks gain nothing from a second thread, and on a busy machine the threads wait for each other.
torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Exclude all that is imported by now from garbage collections: a full one would take a third of a second."""
    gc.collect()
    gc.freeze()


#: A VGG-16 with few channels: 13 convolutions in five blocks.
THIN_VGG16 = ((4, 4), (6, 6), (8, 8, 8), (9, 9, 9), (8, 8, 8))


def randomise(module: nn.Module, seed: int) -> None:
    """Draw seeded weights as for training, and biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            fan_in = part.weight[0].numel()
            part.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            part.bias.data.normal_(0, 0.1, generator=generator)


@pytest.fixture(scope="session")
def vgg_like() -> Callable[..., nn.Sequential]:
    """Build a random `features` with few channels: blocks of convolutions with in-place ReLUs, and poolings."""

    def build(
        blocks: Sequence[Sequence[int]] = THIN_VGG16, seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> nn.Sequential:
        modules: list[nn.Module] = []
        channels = 3
        for block in blocks:
            for width in block:
                modules += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            modules.append(nn.MaxPool2d(2, 2))
        features = nn.Sequential(*modules).requires_grad_(False)
        randomise(features, seed)
        return features.to(dtype)

    return build


@pytest.fixture(scope="session")
def thin_network(vgg_like: Callable[..., nn.Sequential]) -> Callable[..., VGGClassifier]:
    """Build a random VGG-16 with few channels for windows of 32 x 64 pixels, in evaluation mode."""

    def build(seed: int = 0, dtype: torch.dtype = torch.float32) -> VGGClassifier:
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # for the layer of the offsets
            network = VGGClassifier("vgg11", (32, 64), hidden=6)
        network.features = vgg_like(seed=seed)
        network.classifier[1] = nn.Linear(THIN_VGG16[-1][-1] * 2, 6)
        randomise(network.classifier, seed + 1)
        return network.to(dtype).eval().requires_grad_(False)

    return build


@pytest.fixture(scope="session")
def thin_classifier(thin_network: Callable[..., VGGClassifier]) -> PersonClassifier:
    """Return the thin VGG-16 as a classifier. It is shared, so tests must not modify it."""
    return PersonClassifier(thin_network(), ModelInfo(input_size=(32, 64), hidden=6), "cpu")


@pytest.fixture(scope="session")
def in_float64() -> Callable[[VGGClassifier], PersonClassifier]:
    """Wrap a thin network in float64 in a classifier that computes in float64."""
    return lambda network: PersonClassifier(network, ModelInfo(input_size=(32, 64), hidden=6), "cpu")


@pytest.fixture(scope="session")
def vgg11_classifier() -> PersonClassifier:
    """Return a random VGG-11 with narrow dense layers for windows of 32 x 64 pixels.

    It is shared, so tests must not modify it.
    """
    network = VGGClassifier("vgg11", (32, 64), hidden=8)
    randomise(network, 0)
    info = ModelInfo("vgg11", 8, (32, 64), threshold=0.7, training_data="dice", command="roll", accuracy={"none": 0.5})
    return PersonClassifier(network, info, "cpu")


@pytest.fixture(scope="session")
def full_classifier() -> PersonClassifier:
    """Return a random VGG-16 in full width for windows of 64 x 128 pixels; tests must not modify it."""
    network = VGGClassifier()
    randomise(network, 0)
    return PersonClassifier(network, ModelInfo(), "cpu")


@pytest.fixture(scope="session")
def picture() -> Callable[..., NDArray[np.uint8]]:
    """Build a seeded image, uint8 [height, width, 3], with coarse colours and fine grain, without a plain area."""

    def build(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        coarse = rng.uniform(20, 235, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
        grain = rng.uniform(-20, 20, (height, width, 3))
        return (coarse[:height, :width] + grain).astype(np.uint8)

    return build


@pytest.fixture(scope="session")
def captum_reconstruction() -> Callable[[nn.Sequential, Tensor, int, int], Tensor]:
    """Reconstruct a neuron's strongest activation for an image [1, 3, H, W] with captum: [3, H, W]."""
    # captum takes seconds to import, and only few tests need it.
    from captum.attr import NeuronDeconvolution

    def reconstruct(features: nn.Sequential, image: Tensor, layer: int, channel: int) -> Tensor:
        last = convolution_layers(features)[layer - 1].activation
        # captum needs a separate ReLU at each place, which does not work in place.
        model = nn.Sequential(*(nn.ReLU() if isinstance(m, nn.ReLU) else m for m in features[: last + 1]))
        with torch.no_grad():
            activation = model(image)[0, channel]
        row, column = divmod(int(activation.argmax()), activation.shape[1])
        pixels = image.clone().requires_grad_()
        attribution = NeuronDeconvolution(model, model[last]).attribute(pixels, (channel, row, column))
        return attribution[0].detach() * activation[row, column]

    return reconstruct


#: Activations by layer and switches by pooling.
Recording = tuple[dict[int, Tensor], dict[int, tuple[Tensor, tuple[int, int]]]]


@pytest.fixture(scope="session")
def record() -> Callable[[nn.Sequential, Tensor], Recording]:
    """Pass an image [1, 3, H, W] through `features` and record what a deconvnet starts from."""

    def pass_through(features: nn.Sequential, image: Tensor) -> Recording:
        numbers = {layer.activation: layer.number for layer in convolution_layers(features)}
        activations, switches = {}, {}
        x = image
        for index, module in enumerate(features):
            if isinstance(module, nn.MaxPool2d):
                size = (x.shape[2], x.shape[3])
                x, indices = nn.functional.max_pool2d(x, 2, 2, return_indices=True)
                switches[index] = (indices[0], size)
            else:
                x = module(x)
            if index in numbers:
                activations[numbers[index]] = x[0]
        return activations, switches

    return pass_through


@pytest.fixture(scope="session")
def gather() -> Callable[..., NDArray[np.uint8]]:
    """Cut the box (left, top, width, height) out of a frame [H, W, 3]."""

    def cut(frame: NDArray[np.uint8], left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """Copy pixel by pixel. Outside of the frame, the nearest pixel is repeated."""
        result = np.empty((height, width, 3), np.uint8)
        for row in range(height):
            for column in range(width):
                y = min(max(top + row, 0), frame.shape[0] - 1)
                x = min(max(left + column, 0), frame.shape[1] - 1)
                result[row, column] = frame[y, x]
        return result

    return cut
