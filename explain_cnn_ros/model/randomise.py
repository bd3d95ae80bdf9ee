"""The same network with layers re-initialised, from the top down (Adebayo et al. 2018, Sanity Checks)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.network import convolution_layers, initialise

#: Name of the first stage, which re-initialises all dense layers at once.
DENSE = "dense"

Classifier = TypeVar("Classifier", bound=WindowClassifier)


def stages(classifier: WindowClassifier) -> int:
    """Number of stages of `randomised`."""
    return 1 + len(convolution_layers(classifier.network.features))


def randomised(classifier: Classifier, seed: int) -> Iterator[tuple[str, Classifier]]:
    """Re-initialise one more layer at each stage, from the dense layers down to conv1_1.

    Args:
        classifier: The trained classifier; it is not modified.
        seed: Seed of the new weights.

    Yields:
        The stage's name and the classifier. It is one copy, which changes from stage to stage.
    """
    network = copy.deepcopy(classifier.network)
    changed = type(classifier)(network, classifier.info, classifier.device)
    features: list[nn.Module] = list(network.features)
    parts = [(layer.name, [features[layer.convolution]]) for layer in reversed(convolution_layers(network.features))]
    parts.insert(0, (DENSE, list(network.classifier.modules())))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
    for name, modules in parts:
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(state)
            for module in modules:
                initialise(module)
            state = torch.get_rng_state()
        yield name, changed
