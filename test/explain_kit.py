"""Starts of reconstructions, the influence by plain autograd that ours is compared with, and windows of the sample."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore
from torch import Tensor, nn

from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.locating import starts
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.explain.network_adapter import Neuron, Start, Trace
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers
from explain_cnn_ros.model.output import probability
from explain_cnn_ros.model.windows import PERSON_SHARE, crop
from explain_cnn_ros.scan.candidates import overlap
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.detection import read_labels

ROOT = Path(__file__).resolve().parents[1]


def at_strongest(activations: Mapping[int, Tensor], neurons: Sequence[Neuron]) -> list[Start]:
    """Start each neuron at its strongest activation; activations by layer, [C, R, C']."""
    clean = Trace(torch.empty(0), {layer: activation[None] for layer, activation in activations.items()})
    found = starts(ExplainSettings(), clean, neurons)
    return [found[neuron] for neuron in neurons]


def whole_maps(neurons: Sequence[Neuron]) -> list[Start]:
    return [Start(neuron, None) for neuron in neurons]


def margins(logits: Tensor) -> Tensor:
    """Compute the logit of the person minus that of the background."""
    return logits[:, 1] - logits[:, 0]


def probabilities(logits: Tensor) -> Tensor:
    """Compute P(person) without the package's own function."""
    return 1 / (1 + torch.exp(logits[:, 0] - logits[:, 1]))


OUTPUTS = {"logit": margins, "probability": probabilities}


def plain_contributions(
    network: VGGClassifier, window: Tensor, output: Callable[[Tensor], Tensor] = margins
) -> dict[int, Tensor]:
    """Compute z do/dz of one window [1, 3, H, W] by autograd, by layer, [C, R, C']."""
    network = copy.deepcopy(network)
    # In place, ReLUs would overwrite what autograd needs.
    for part in network.features:
        if isinstance(part, nn.ReLU):
            part.inplace = False
    numbers = {layer.activation: layer.number for layer in convolution_layers(network.features)}
    with torch.enable_grad():
        x, kept = window.clone().requires_grad_(), {}
        for index, part in enumerate(network.features):
            x = part(x)
            if index in numbers:
                kept[numbers[index]] = x
        found = torch.autograd.grad(output(network.classifier(x)).sum(), list(kept.values()))
    return {layer: (kept[layer] * gradient)[0].detach() for layer, gradient in zip(kept, found, strict=True)}


def threshold_between(classifier: PersonClassifier, window: NDArray[np.uint8], precision: str) -> float:
    """Return a threshold with which float32 and another precision decide differently about a window."""
    settings = ExplainSettings(perturbations=0, metrics=(SUPPORTING, OPPOSING), compute_precision=precision)
    rough = Explainer(classifier, settings).trace(window).clean.logits
    values = float(classifier.probability(window[None])[0]), float(probability(rough, classifier.info.targets)[0])
    assert values[0] != values[1]
    return sum(values) / 2


def sample_windows() -> list[NDArray[np.uint8]]:
    """Return a person of the sample recording, and a window beside all persons."""
    labels = read_labels(ROOT / "test" / "data" / "street_labels.csv")
    with BagReader(ROOT / "sample" / "street") as bag:
        # The sample holds every second frame after 200.
        messages = enumerate(bag.messages([bag.image_topic().name]))
        name, message = next((n, m) for i, m in messages if (n := f"{200 + 2 * i:04d}.jpg") in labels)
    image = get_typestore(Stores.ROS2_JAZZY).deserialize_cdr(message.data, message.type)
    frame = np.ascontiguousarray(cv2.imdecode(np.frombuffer(bytes(image.data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
    boxes = []
    for label in labels[name]:
        x, y, width, height = label.box
        tall = height / PERSON_SHARE
        boxes.append((x + width / 2 - tall / 4, y + height / 2 - tall / 2, tall / 2, tall))
    largest = max(
        (box for box, label in zip(boxes, labels[name], strict=True) if not label.ignore), key=lambda box: box[3]
    )
    places = [np.array([x, y, 64.0, 128.0]) for y in range(0, 448, 32) for x in range(0, 704, 32)]
    beside = next(place for place in places if overlap(place, np.array(boxes)).max() == 0)
    return [crop(frame, *box, (64, 128)) for box in (largest, beside)]
