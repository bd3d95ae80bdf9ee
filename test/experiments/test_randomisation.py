"""The randomisation check: the layers that are re-initialised, and the table by hand."""

from __future__ import annotations

import math

import numpy as np
import torch

from explain_cnn_ros.experiments.randomisation import RandomisationRow, check, covered, mean, similarity, table
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import LayerRanking, RankedNeuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.network import convolution_layers
from explain_cnn_ros.model.randomise import randomised
from explain_cnn_ros.scan.classifier import PersonClassifier

SETTINGS = ExplainSettings(perturbations=6, layers=(3, 9), top_n=2)


def test_layers_become_random_from_the_top_down(thin_classifier: PersonClassifier) -> None:
    layers = convolution_layers(thin_classifier.network.features)
    before = {k: v.clone() for k, v in thin_classifier.network.state_dict().items()}
    names = []
    for done, (name, changed) in enumerate(randomised(thin_classifier, 0)):
        names.append(name)
        for number, layer in enumerate(reversed(layers), start=1):
            kept = torch.equal(
                changed.network.features[layer.convolution].weight, before[f"features.{layer.convolution}.weight"]
            )
            assert kept is (number > done)
        assert not torch.equal(changed.network.classifier[1].weight, before["classifier.1.weight"])
    assert names == ["dense", *(layer.name for layer in reversed(layers))]
    assert all(torch.equal(v, before[k]) for k, v in thin_classifier.network.state_dict().items())


def test_is_seeded_and_leaves_pytorchs_own_random_numbers_alone(thin_classifier: PersonClassifier) -> None:
    def weights(seed: int) -> torch.Tensor:
        return next(iter(randomised(thin_classifier, seed)))[1].network.classifier[1].weight.clone()

    state = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_covered_pixels() -> None:
    neurons = (
        RankedNeuron(3, 0, 1.0, Patch(1, 2, 3, 2)),
        RankedNeuron(3, 1, 1.0, Patch(3, 3, 2, 2)),
        RankedNeuron(3, 2, 1.0, None),
    )
    area = covered(LayerRanking("weight_sum", 3, "conv2_1", neurons, None, False, np.zeros(3)), (6, 5))
    assert area.shape == (5, 6)
    assert area.sum() == 6 + 4 - 1
    assert area[2:4, 1:4].all() and area[3:5, 3:5].all()


def test_an_explanation_is_the_same_as_itself(thin_classifier, picture) -> None:
    explanation = Explainer(thin_classifier, SETTINGS).explain(picture(32, 64))
    for metric in SETTINGS.metrics:
        assert similarity(explanation, explanation, metric) == (1.0, 1.0)


def test_mean_is_of_what_has_a_value() -> None:
    assert mean([1.0, math.nan, 2.0]) == 1.5
    assert math.isnan(mean([math.nan]))


def test_weights_far_from_the_random_layers_stay(thin_classifier, picture) -> None:
    """What metrics see of layers 3 and 9 changes when the layers that they see do."""
    changes = check(thin_classifier, [picture(32, 64), picture(32, 64, seed=1)], SETTINGS)
    same_neurons = {(c.stage, c.metric): c.same_neurons for c in changes}
    for stage in ("dense", "conv5_1"):
        for metric in (
            "weight_sum",
            "weight_variance",
            "activation_sum",
            "activation_variance",
            "activation_precision",
        ):
            assert same_neurons[stage, metric] == 1.0
    assert same_neurons["dense", "activation_output_correlation"] < 1.0
    assert same_neurons["conv1_1", "activation_sum"] < 1.0
    assert same_neurons["conv1_1", "weight_sum"] < 1.0


def test_table() -> None:
    text = table(
        [RandomisationRow("dense", "weight_sum", 1.0, 0.5), RandomisationRow("conv5_3", "weight_sum", 0.25, 0.125)]
    )
    assert [line.split() for line in text.splitlines()[2:]] == [["dense", "1.00", "0.50"], ["conv5_3", "0.25", "0.12"]]
