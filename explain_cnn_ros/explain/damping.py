"""Damping of neurons for good: a few numbers in the weights are changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.model.classifier import WindowClassifier

AnyClassifier = TypeVar("AnyClassifier", bound=WindowClassifier)


def damped(classifier: AnyClassifier, neurons: Iterable[Neuron], factor: float = 0.0) -> AnyClassifier:
    """Return a classifier whose neurons are damped: their activations are multiplied by a factor.

    With the factor 0, its outputs are those of `NetworkAdapter.silence` for the same neurons.

    Args:
        classifier: The classifier; it is left as it is.
        neurons: The neurons.
        factor: The factor, 0 to 1; 0 silences the neurons.

    Raises:
        ValueError: The weights of this network cannot damp one of the neurons. The message names the cause.
        TypeError: The method does not suit this kind of network.
    """
    adapter = adapt(classifier)
    chosen = sorted(set(neurons))
    network = adapter.damped(chosen, factor)
    listed = ", ".join(f"{neuron.layer}:{neuron.channel}" for neuron in chosen)
    return classifier.changed(network, f"neurons damped to {factor:g} (layer:channel): {listed}")
