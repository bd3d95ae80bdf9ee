"""Damping of neurons in the weights of networks of several kinds, compared with silencing in a pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks_kit import KINDS, SIZE, small_classifier, small_network
from torch import Tensor, nn

from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.damping import damped
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier


def windows(count: int = 3) -> Tensor:
    rng = np.random.default_rng(5)
    return torch.from_numpy(rng.uniform(0, 255, (count, 3, SIZE[1], SIZE[0])))


def logits(classifier: PersonClassifier, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return classifier.network(classifier.normalise(pixels))


@pytest.mark.parametrize("kind", KINDS)
def test_silencing_in_the_weights_is_that_of_the_explainer(kind: str) -> None:
    """Each layer alone, and neurons of all layers together; the oracle silences activations in a pass."""
    classifier = small_classifier(small_network(kind))
    adapter = adapt(classifier)
    layers = list(adapter.layers)
    for numbers in ([number] for number in layers):
        _compare(classifier, numbers)
    _compare(classifier, layers)


def _compare(classifier: PersonClassifier, numbers: list[int]) -> None:
    adapter = adapt(classifier)
    changed = damped(classifier, [Neuron(number, channel) for number in numbers for channel in (1, 3)])
    assert type(changed) is type(classifier)
    for pixels in windows().split(1):
        expected = adapter.silence(pixels, [dict.fromkeys(numbers, (1, 3))])
        torch.testing.assert_close(logits(changed, pixels), expected, rtol=0, atol=1e-9)
        assert not torch.allclose(expected, logits(classifier, pixels), rtol=0, atol=1e-6)


def test_the_network_before_is_left_as_it_is() -> None:
    classifier = small_classifier(small_network("residual"))
    before = {name: tensor.clone() for name, tensor in classifier.network.state_dict().items()}
    changed = damped(classifier, [Neuron(1, 2)], 0.5)
    for name, tensor in classifier.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    different = {name for name, tensor in changed.network.state_dict().items() if not torch.equal(tensor, before[name])}
    # A batch norm follows the convolution, so only its channel is scaled.
    assert different == {"network.stem.1.weight", "network.stem.1.bias"}
    assert changed.info.command.endswith("neurons damped to 0.5 (layer:channel): 1:2")


def test_damping_multiplies_activations() -> None:
    classifier = small_classifier(small_network("residual"))
    changed = damped(classifier, [Neuron(2, 1)], 0.25)
    (pixels,) = windows(1).split(1)
    before, after = (adapt(one).trace(pixels, [2]).activations[2][0] for one in (classifier, changed))
    assert before[1].max() > 0
    torch.testing.assert_close(after[1], 0.25 * before[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(after[[0, 2, 3, 4, 5]], before[[0, 2, 3, 4, 5]], rtol=0, atol=0)


@pytest.mark.parametrize(("neuron", "name"), [(Neuron(1, 0), "hardswish"), (Neuron(2, 0), "hardtanh")])
def test_a_bent_activation_function_can_be_silenced_only(neuron: Neuron, name: str) -> None:
    classifier = small_classifier(small_network("mobile"))
    with pytest.raises(ValueError, match=rf"{name}\) is not proportional to its input, so it can only be silenced"):
        damped(classifier, [neuron], 0.5)
    damped(classifier, [neuron])


class Leaking(nn.Module):
    """The values before the activation function are used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.head(self.second(torch.relu(y)).mean((2, 3)) + y.mean((2, 3)))


class Soft(Leaking):
    """An activation function that is not 0 at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(nn.functional.softplus(self.first(x))).mean((2, 3)))


class Plain(Leaking):
    """A batch norm without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(torch.relu(self.norm(self.first(x)))).mean((2, 3)))


class Shared(Leaking):
    """One batch norm after two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head(torch.relu(self.norm(self.second(x)) + 1).mean((2, 3)))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (Leaking, "other parts of the network read the values before the activation function as well"),
        (Soft, r"its activation function \(softplus\) is not 0 for an input of 0"),
        (Plain, "the batch norm after the convolution has no weight of its own"),
        (Shared, "other parts of the network"),
    ],
)
def test_networks_whose_weights_cannot_do_it_are_refused(build: type[nn.Module], reason: str) -> None:
    torch.manual_seed(0)
    network = build().double().eval().requires_grad_(False)
    if hasattr(network, "norm") and network.norm.affine:
        network.norm.weight.copy_(torch.linspace(0.5, 1.5, 4))
        network.norm.bias.copy_(torch.linspace(-1, 1, 4))
    with pytest.raises(ValueError, match=reason):
        damped(small_classifier(network), [Neuron(1, 3)])


def test_a_network_of_torchvision_is_written_and_loaded(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    network = TorchvisionClassifier("resnet18", (48, 64))
    info = ModelInfo("resnet18", source="torchvision", input_size=(48, 64))
    network.double().eval().requires_grad_(False)
    classifier = PersonClassifier(network, info, "cpu")
    adapter = adapt(classifier)
    channels = dict.fromkeys(adapter.default_layers, (0, 5))
    changed = damped(classifier, [Neuron(number, channel) for number, some in channels.items() for channel in some])
    pixels = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 3, 64, 48)))
    classifier._mean, classifier._std = classifier._mean.double(), classifier._std.double()
    changed._mean, changed._std = classifier._mean, classifier._std
    expected = adapter.silence(pixels, [channels])
    torch.testing.assert_close(logits(changed, pixels), expected, rtol=0, atol=1e-9)
    assert not torch.allclose(expected, logits(classifier, pixels), rtol=0, atol=1e-4)
    changed.save(tmp_path / "silenced.safetensors")
    loaded = PersonClassifier.load(tmp_path / "silenced.safetensors", "cpu")
    assert loaded.info.command == changed.info.command
    # The file is in half precision, in which 0 is 0.
    silenced = adapt(loaded)
    trace = silenced.trace(pixels.float(), channels)
    for number, some in channels.items():
        assert not trace.activations[number][0, list(some)].any()
        assert trace.activations[number].any()
    torch.testing.assert_close(logits(loaded, pixels.float()).double(), expected, rtol=0, atol=0.02)
