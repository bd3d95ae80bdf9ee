"""The same network with layers re-initialised, from the top down (Adebayo et al. 2018, Sanity Checks)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers, initialise
from explain_cnn_ros.model.weights_file import plain

#: Name of the first stage, which re-initialises all dense layers at once.
DENSE = "dense"

Classifier = TypeVar("Classifier", bound=WindowClassifier)


def stages(classifier: WindowClassifier) -> int:
    """Number of stages of `randomised`."""
    return len(_parts(classifier.network))


def randomised(classifier: Classifier, seed: int) -> Iterator[tuple[str, Classifier]]:
    """Re-initialise one more part of the network at each stage, from the output down to the input.

    The parts of a VGG of this package are all dense layers, and each convolution. Those of other networks are their
    blocks: the layers whose names agree in their first two components, for instance `layer4.1`.

    Args:
        classifier: The trained classifier; it is not modified.
        seed: Seed of the new weights.

    Yields:
        The stage's name and the classifier. It is one copy, which changes from stage to stage.
    """
    network = copy.deepcopy(classifier.network)
    changed = type(classifier)(network, classifier.info, classifier.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
    for name, modules in _parts(network):
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(state)
            for module in modules:
                initialise(module)
            state = torch.get_rng_state()
        yield name, changed


def _parts(network: nn.Module) -> list[tuple[str, list[nn.Module]]]:
    """Return the parts of a network that are re-initialised, from the output down to the input, with their names."""
    if isinstance(network, VGGClassifier):
        features: list[nn.Module] = list(network.features)
        layers = reversed(convolution_layers(network.features))
        dense = (DENSE, list(network.classifier.modules()))
        return [dense, *((layer.name, [features[layer.convolution]]) for layer in layers)]
    blocks: dict[str, list[nn.Module]] = {}
    for name, module in plain(network).named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            blocks.setdefault(".".join(name.split(".")[:2]), []).append(module)
    return list(reversed(blocks.items()))
