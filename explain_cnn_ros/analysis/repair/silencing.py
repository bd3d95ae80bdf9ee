"""A cheaper cure than a training: the neurons of a cause are silenced, or damped, for good."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from typing import Any

import torch

from explain_cnn_ros.analysis.repair.labelled import RepairError
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers
from explain_cnn_ros.scan.classifier import PersonClassifier

#: A neuron: number of its layer, counted from 1, and channel.
LayerChannel = tuple[int, int]


def neurons_of(causes: Iterable[dict[str, Any]]) -> list[LayerChannel]:
    """Return the neurons of causes, each once.

    Args:
        causes: The causes, as plain values.
    """
    return sorted({(neuron["layer"], neuron["channel"]) for cause in causes for neuron in cause["neurons"]})


def damped(classifier: PersonClassifier, neurons: Iterable[LayerChannel], factor: float = 0.0) -> PersonClassifier:
    """Return a classifier whose neurons are damped: their activations are multiplied by a factor.

    The weights and the bias of the neuron's filter are multiplied by it. The ReLU commutes with positive factors, so
    the activations are exactly those of the damped neuron.

    Args:
        classifier: The classifier; it is not changed.
        neurons: The neurons.
        factor: The factor, 0 to 1; 0 silences them.

    Raises:
        RepairError: The network is no VGG of this package. In other networks, batch norm and other units than ReLU may
            follow the filter.
    """
    if not isinstance(classifier.network, VGGClassifier):
        raise RepairError(
            f"the neurons of {classifier.info.architecture} cannot be silenced for good, which is only possible for "
            "VGGs of this package: leave out --silence"
        )
    network = copy.deepcopy(classifier.network)
    chosen = sorted(set(neurons))
    filters: dict[int, Any] = {
        layer.number: network.features[layer.convolution] for layer in convolution_layers(network.features)
    }
    with torch.no_grad():
        for layer, channel in chosen:
            filters[layer].weight[channel] *= factor
            filters[layer].bias[channel] *= factor
    listed = ", ".join(f"{layer}:{channel}" for layer, channel in chosen)
    note = f"neurons damped to {factor:g} (layer:channel): {listed}"
    info = dataclasses.replace(
        classifier.info,
        accuracy={},
        command="; ".join(filter(None, [classifier.info.command, note])),
    )
    return PersonClassifier(network, info, classifier.device, proposer=classifier.proposer)
