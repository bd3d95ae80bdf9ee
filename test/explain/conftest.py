"""The thin network and its window, hooks that silence neurons, and the state that a pass could leave behind."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain_cnn_ros.model.network import VGGClassifier, convolution_layers
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Computes the logits of a network for a window with channels silenced, by layer.
HookedLogits = Callable[[VGGClassifier, Tensor, Mapping[int, Sequence[int]]], Tensor]


@pytest.fixture(scope="module")
def exact(thin_network, in_float64) -> PersonClassifier:
    """Return the thin VGG-16 in float64. It is shared, so tests must not modify it."""
    return in_float64(thin_network(dtype=torch.float64))


@pytest.fixture(scope="module")
def window(picture) -> NDArray[np.uint8]:
    """Return a window of the thin network."""
    return picture(32, 64)


@pytest.fixture(scope="session")
def hooked_logits() -> HookedLogits:
    """Compute logits with neurons silenced by hooks on a copy of the network."""

    def compute(network: VGGClassifier, window: Tensor, silenced: Mapping[int, Sequence[int]]) -> Tensor:
        network = copy.deepcopy(network)
        for layer in convolution_layers(network.features):

            def silence(_module, _inputs, result: Tensor, number=layer.number) -> Tensor:
                result = result.clone()
                result[:, list(silenced.get(number, ()))] = 0
                return result

            network.features[layer.activation].register_forward_hook(silence)
        with torch.no_grad():
            return network(window)

    return compute


@pytest.fixture(scope="session")
def network_state() -> Callable[[nn.Module], tuple]:
    """Describe everything that a pass could leave behind in a network."""

    def describe(network: nn.Module) -> tuple:
        hooks = [
            (name, kind)
            for name, part in network.named_modules()
            for kind, registered in vars(part).items()
            if kind.endswith("hooks") and registered
        ]
        training = {name: part.training for name, part in network.named_modules()}
        attributes = {name: sorted(vars(part)) for name, part in network.named_modules()}
        tensors = {name: (t._version, t.requires_grad, t.grad) for name, t in network.named_parameters()}
        return hooks, training, attributes, tensors

    return describe
