"""Networks of torchvision, with random weights and small windows, are explained from end to end."""

from __future__ import annotations

import copy
import dataclasses
import functools

import captum.attr
import numpy as np
import pytest
import torch
from networks_kit import whole
from torch import nn
from torchvision.models.resnet import BasicBlock

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.network_adapter import Neuron, Start
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


def forward_of_block(block: BasicBlock, x: torch.Tensor) -> torch.Tensor:
    """Compute what the block computes. captum's hooks need a module for each ReLU, which works out of place."""
    identity = x if block.downsample is None else block.downsample(x)
    x = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    return block.second_relu(x + identity)


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
def test_reconstructions_of_a_resnet_are_those_of_captum(method: str, picture) -> None:
    """In float64, of the strongest neuron of each stage's last convolution. captum gives the gradient of the neuron.

    The activation of these layers is the output of batch norm: the ReLU comes after the addition.
    """
    attribution = {"deconvnet": captum.attr.NeuronDeconvolution, "guided": captum.attr.NeuronGuidedBackprop}[method]
    network, info = classifier_of("resnet18").network.double(), classifier_of("resnet18").info
    classifier = PersonClassifier(network, info, "cpu")
    classifier._mean, classifier._std = classifier._mean.double(), classifier._std.double()
    adapter = Explainer(classifier, SETTINGS).adapter
    pixels = torch.from_numpy(picture(64, 64, 1)).permute(2, 0, 1)[None].double()
    trace = adapter.trace(pixels, adapter.default_layers, record=method)
    starts = []
    for layer in adapter.default_layers:
        maps = trace.activations[layer][0]
        channel = int(maps.amax((1, 2)).argmax())
        starts.append(Start(Neuron(layer, channel), int(maps[channel].argmax())))
    found = whole(adapter.reconstruct(trace, starts, method), (64, 64))
    twin = copy.deepcopy(network)
    twin.network.relu.inplace = False
    for module in list(twin.modules()):
        if isinstance(module, BasicBlock):
            module.relu, module.second_relu = nn.ReLU(), nn.ReLU()
            module.forward = functools.partial(forward_of_block, module)
    image = classifier.normalise(pixels)
    for start, stage in zip(starts, (1, 2, 3, 4), strict=True):
        maps = trace.activations[start.neuron.layer][0]
        place = (start.neuron.channel, *map(int, np.unravel_index(start.position, maps.shape[1:])))
        oracle = attribution(twin, twin.get_submodule(f"network.layer{stage}.1.bn2"))
        expected = oracle.attribute(image.clone().requires_grad_(), place)[0].detach() * maps[place]
        torch.testing.assert_close(found[start], expected, rtol=1e-9, atol=1e-12)
        assert expected.any()
