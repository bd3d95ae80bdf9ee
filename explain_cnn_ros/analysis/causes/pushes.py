"""The pushes of the neurons: signed influences in the direction against the label of a window."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.settings import PRESETS, ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Size (width, height) of the maps of pushes.
MAP_SIZE = (16, 32)


@dataclass(frozen=True)
class Push:
    """The pushes of all neurons in one window.

    Attributes:
        values: For each neuron of the explained layers, to first order, how much the output moves towards the label if
            the neuron is silenced, [D]. The order is that of `PushMeter.neurons`.
        output: Output of the window (the margin), in the direction against the label: positive if the window is decided
            wrongly at P(person) 0.5.
    """

    values: NDArray[np.float32]
    output: float


class PushMeter:
    """Measures pushes by influence of the image alone: one forward and one backward pass for each window.

    Args:
        classifier: The classifier.
        settings: Settings of the explanations; their layers are used.

    Attributes:
        neurons: The neurons of the explained layers.
    """

    def __init__(self, classifier: PersonClassifier, settings: ExplainSettings) -> None:
        changes = PRESETS["live"] | {"perturbations_max": 0, "silencing_draws": 0, "output": "logit", "target": ""}
        self._explainer = Explainer(classifier, replace(settings, **changes))
        layers = self._explainer.adapter.layers
        self.neurons = [Neuron(n, c) for n in self._explainer.settings.layers for c in range(layers[n].channels)]

    def layer_name(self, layer: int) -> str:
        """Return the name of a layer."""
        return self._explainer.adapter.layers[layer].name

    def measure(self, window: NDArray[np.uint8], label: bool) -> Push:
        """Measure the pushes in a window.

        Args:
            window: uint8 [H, W, 3] RGB, of the classifier's size.
            label: Whether it shows a person.
        """
        ranked = self._explainer.rank(window)
        sign = -1.0 if label else 1.0
        influences = [ranked.evidence.influences[layer].image for layer in self._explainer.settings.layers]
        values = np.concatenate([one.double().cpu().numpy() for one in influences])
        return Push((sign * values).astype(np.float32), sign * ranked.output)

    def map(self, window: NDArray[np.uint8], label: bool, neurons: Collection[Neuron]) -> NDArray[np.float32]:
        """Return where neurons push against the label: the sum of their contributions by position.

        Args:
            window: uint8 [H, W, 3] RGB, of the classifier's size.
            label: Whether it shows a person.
            neurons: The neurons.

        Returns:
            The map, [32, 16], whose sum is the push of the neurons together.
        """
        clean = self._explainer.rank(window).clean
        total = np.zeros(MAP_SIZE[::-1], np.float32)
        for neuron in neurons:
            values = clean.contributions[neuron.layer][neuron.channel].float().cpu().numpy()
            # Enlarging repeats a value, and shrinking averages: the sum is restored afterwards.
            resized = cv2.resize(values, MAP_SIZE, interpolation=cv2.INTER_AREA)
            total += resized * (values.size / resized.size)
        return -total if label else total
