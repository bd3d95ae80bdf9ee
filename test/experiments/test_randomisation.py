"""The randomisation check: the layers that are re-initialised, and the table by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from explain_cnn_ros.experiments.randomisation import RandomisationRow, check, covered, mean, similarity, table
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import LayerRanking, RankedNeuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.settings import ExplainSettings

SETTINGS = ExplainSettings(perturbations=6, layers=(3, 9), top_n=2)


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
    """The metrics of layers 3 and 9 change when the layers that they read change."""
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
    neurons, areas = text.split("same area:")
    assert neurons.splitlines()[2:6] == [
        "| random from the top to | weight sum |",
        "|---|---|",
        "| `dense` | 1.00 |",
        "| `conv5_3` | 0.25 |",
    ]
    assert areas.splitlines()[-2:] == ["| `dense` | 0.50 |", "| `conv5_3` | 0.12 |"]


def test_the_explained_decision_stays_the_same(thin_classifier, picture, monkeypatch) -> None:
    """Whatever the changed network decides, both explanations are about the decision that was shown before."""
    shown: dict[bool, set[bool]] = {True: set(), False: set()}
    real = Explainer.explain

    for person in (True, False):

        def explain(self, image, threshold=None, person=person):
            # The trained network is called without a threshold: it shows what this test wants.
            found = real(self, image, threshold=(0.0 if person else 2.0) if threshold is None else threshold)
            shown[person].add(found.person)
            return found

        monkeypatch.setattr(Explainer, "explain", explain)
        check(thin_classifier, [picture(32, 64)], dataclasses.replace(SETTINGS, metrics=("influence",), proof="none"))
    assert shown == {True: {True}, False: {False}}
