"""Networks of torchvision, with random weights and small windows, are explained from end to end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Number of convolutions with maps, and the layers that are explained by default.
LAYERS = {
    "resnet18": (20, ["layer1.1.conv2", "layer2.1.conv2", "layer3.1.conv2", "layer4.1.conv2"]),
    "mobilenet_v2": (
        52,
        ["features.4.conv.0.0", "features.7.conv.0.0", "features.14.conv.0.0", "features.18.0"],
    ),
    "mobilenet_v3_small": (
        34,
        ["features.2.block.0.0", "features.4.block.0.0", "features.9.block.0.0", "features.12.0"],
    ),
    "squeezenet1_1": (26, ["features.4.expand3x3", "features.7.expand3x3", "features.12.expand3x3"]),
    "shufflenet_v2_x0_5": (
        56,
        ["stage2.0.branch2.0", "stage3.0.branch2.0", "stage4.0.branch2.0", "conv5.0"],
    ),
}

SETTINGS = ExplainSettings(perturbations=4, top_n=1, compute_precision="float32")


def classifier_of(architecture: str) -> PersonClassifier:
    """Build a random classifier of three classes whose batch norms and last layer do something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TorchvisionClassifier(architecture, (64, 64), 3).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.8, 1.2)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.8, 1.2)
            if isinstance(module, nn.Linear):
                module.weight.data.normal_(0, 0.1)
    info = ModelInfo(
        source="torchvision", architecture=architecture, input_size=(64, 64), classes=("background", "person", "dog")
    )
    return PersonClassifier(network, info, "cpu")


@pytest.mark.parametrize("architecture", LAYERS)
def test_explanation(architecture: str, picture) -> None:
    count, default = LAYERS[architecture]
    classifier = classifier_of(architecture)
    explainer = Explainer(classifier, SETTINGS)
    assert len(explainer.adapter.layers) == count
    assert [explainer.adapter.layers[number].name for number in explainer.settings.layers] == default
    for layer in explainer.settings.layers:
        weights = explainer.adapter.weights(layer, "outgoing")
        assert len(weights) == explainer.adapter.layers[layer].channels
        assert weights.isfinite().all()
    explanation = explainer.explain(picture(64, 64))
    assert {ranking.layer_name for ranking in explanation.rankings} == set(default)
    assert all(len(ranking.scores) for ranking in explanation.rankings)
    found = [neuron for ranking in explanation.rankings for neuron in ranking.neurons]
    assert sum(neuron.patch is not None for neuron in found) > 0.8 * len(found)
    proof = explanation.proof("influence")
    assert proof is not None
    assert proof.agreeing >= 0.7 * proof.neurons > 0
    logits = classifier.logits(picture(64, 64)[None])[0].double().numpy()
    assert explanation.output == pytest.approx(logits[1] - np.logaddexp(logits[0], logits[2]), rel=1e-4, abs=1e-5)


def test_layers_by_name() -> None:
    classifier = classifier_of("resnet18")
    explainer = Explainer(classifier, dataclasses.replace(SETTINGS, layer_names="layer4.*.conv2, conv1"))
    names = [explainer.adapter.layers[number].name for number in explainer.settings.layers]
    assert names == ["conv1", "layer4.0.conv2", "layer4.1.conv2"]
    with pytest.raises(ValueError, match=r"'layer5\.\*'.*resnet18.*for instance"):
        Explainer(classifier, dataclasses.replace(SETTINGS, layer_names="layer5.*"))
