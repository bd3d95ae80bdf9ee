"""A metric that is declared outside of the package is known everywhere: settings, explanation, legend, table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from explain_cnn_ros import Explainer, ExplainSettings
from explain_cnn_ros.analysis import cli as analysis_cli
from explain_cnn_ros.analysis.rows import neuron_rows
from explain_cnn_ros.draw.legend import legend_entries
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.metrics import (
    SUPPORTING,
    LayerEvidence,
    Metric,
    Reads,
    Selects,
    metric_names,
    register,
    unregister,
)
from explain_cnn_ros.explain.metrics.registry import metric
from explain_cnn_ros.explain.perturbation import Perturbations

LAYERS = (3, 8)


def mean_over_deviation(evidence: LayerEvidence) -> Tensor:
    """Mean activation over its standard deviation over the perturbations, averaged over positions: [C]."""
    moments = evidence.moments
    ratio = torch.where(moments.varies, moments.mean / moments.variance.sqrt(), torch.nan)
    return ratio.nanmean((1, 2))


STEADINESS = Metric(
    name="activation_steadiness",
    title="steadiness",
    reads=Reads.PERTURBATIONS,
    function=mean_over_deviation,
    meaning="large beside its noise",
    source="this test",
    colour="#123456",
)


@pytest.fixture
def steadiness() -> Iterator[Metric]:
    register(STEADINESS)
    yield STEADINESS
    unregister(STEADINESS.name)


@pytest.fixture
def settings(steadiness) -> ExplainSettings:
    return ExplainSettings(
        layers=LAYERS,
        metrics=("activation_precision", steadiness.name),
        perturbations=12,
        perturbation_groups=4,
        compute_precision="float32",
    )


def test_is_unknown_before(thin_classifier):
    assert STEADINESS.name not in metric_names()
    with pytest.raises(
        ValueError,
        match="metrics is 'activation_steadiness': it must be one of influence, counter_",
    ):
        ExplainSettings(metrics=(STEADINESS.name,))


def test_is_a_choice_of_every_setting_and_no_default(steadiness):
    assert metric_names()[-1] == steadiness.name
    assert steadiness.name not in ExplainSettings().metrics
    assert ExplainSettings(metrics=(steadiness.name,)).metrics == (steadiness.name,)
    arguments = analysis_cli.parser().parse_args(["bag", "--output", "x", "--metrics", steadiness.name])
    assert arguments.metrics == [steadiness.name]


def test_is_in_an_explanation_with_its_own_scores(settings, steadiness, thin_classifier, picture):
    """In particular, it is not scored as another metric that reads perturbations."""
    window = picture(32, 64)
    explanation = Explainer(thin_classifier, settings).explain(window)
    own, precision = (
        [explanation.layer_ranking(name, layer).scores for layer in LAYERS]
        for name in (steadiness.name, "activation_precision")
    )
    # The oracle: the same perturbations pass through the network together, and numpy computes the moments.
    pixels = thin_classifier.to_pixels(window[None])
    copies = Perturbations(pixels[0], settings.sigma, settings.noise, settings.noise_length, settings.seed).take(12)
    activations = adapt(thin_classifier).trace(copies, LAYERS).activations
    for layer, scores, others in zip(LAYERS, own, precision, strict=True):
        z = activations[layer].double().numpy()
        mean, deviation = z.mean(0), z.std(0)
        ratio = np.where(deviation > 1e-6, mean / np.maximum(deviation, 1e-12), 0)
        expected = ratio.sum((1, 2)) / np.maximum((deviation > 1e-6).sum((1, 2)), 1)
        alive = (deviation > 1e-6).any((1, 2))
        np.testing.assert_allclose(scores[alive], expected[alive], rtol=2e-3)
        assert np.isnan(scores[~alive]).all()
        assert not np.allclose(scores, others, equal_nan=True)
        ranking = explanation.layer_ranking(steadiness.name, layer)
        assert [n.channel for n in ranking.neurons] == list(np.argsort(-np.nan_to_num(scores, nan=-np.inf))[:5])
        assert ranking.stability is not None
        assert all(n.interval is not None and n.interval[0] <= n.score <= n.interval[1] for n in ranking.neurons)


def test_is_in_the_legend_and_the_overlay(settings, steadiness, thin_classifier, picture):
    frame = picture(32, 64)
    explanation = Explainer(thin_classifier, settings).explain(frame)
    own = [ranking for ranking in explanation.rankings if ranking.metric == steadiness.name]
    texts = [entry.text for group in legend_entries(explanation, own, None, None) for entry in group]
    assert texts[0] == "top 5 by steadiness"
    drawn = draw_overlay(frame, explanation, steadiness.name)
    assert not np.array_equal(drawn, draw_overlay(frame, explanation, "activation_precision"))


def test_is_in_the_table(settings, steadiness, thin_classifier, picture):
    explanation = Explainer(thin_classifier, settings).explain(picture(32, 64))
    rows = [row for row in neuron_rows(explanation) if row["metric"] == steadiness.name]
    assert [(row["layer"], row["rank"]) for row in rows[:5]] == [(LAYERS[0], rank) for rank in range(1, 6)]
    assert all(row["score_low"] <= row["score"] <= row["score_high"] for row in rows)


@pytest.mark.parametrize("selects", Selects)
@pytest.mark.parametrize("perturbations", [0, 12])
def test_a_metric_may_read_gradients(thin_classifier, picture, selects, perturbations):
    """With scores that are half the influence, it selects as influence does, or the highest ones."""
    register(
        Metric(
            name="half_influence",
            title="half",
            reads=Reads.GRADIENTS,
            function=lambda evidence: evidence.influences.mean / 2,
            meaning="half of the influence",
            source="this test",
            colour="#654321",
            signed=True,
            selects=selects,
        )
    )
    try:
        settings = ExplainSettings(
            layers=LAYERS, metrics=("half_influence",), perturbations=perturbations, perturbation_groups=4
        )
        own = Explainer(thin_classifier, settings).explain(picture(32, 64))
        known = Explainer(thin_classifier, replace(settings, metrics=(SUPPORTING, "counter_influence")))
        influence = known.explain(picture(32, 64))
        assert own.proofs == ()  # only influence itself predicts what silencing does
        for layer in LAYERS:
            ranking = own.layer_ranking("half_influence", layer)
            scores = influence.layer_ranking(SUPPORTING, layer).scores
            np.testing.assert_allclose(ranking.scores, scores / 2, rtol=1e-6)
            assert (ranking.stability is not None) is (perturbations > 0)
            assert all((n.interval is not None) is (perturbations > 0) for n in ranking.neurons)
            channels = [neuron.channel for neuron in ranking.neurons]
            if selects is Selects.HIGHEST:
                assert channels == list(np.argsort(-scores)[:5])
            else:
                name = SUPPORTING if selects is Selects.SUPPORTING else "counter_influence"
                assert channels == [neuron.channel for neuron in influence.ranking(name, layer)]
                patches = [neuron.patch for neuron in influence.ranking(name, layer)]
                assert [neuron.patch for neuron in ranking.neurons] == patches
    finally:
        unregister("half_influence")


def test_names_are_unique_and_well_formed(steadiness):
    assert register(steadiness) is steadiness  # the same one again
    with pytest.raises(ValueError, match="there is a metric 'activation_steadiness' already"):
        register(replace(steadiness, title="another"))
    with pytest.raises(ValueError, match="use lower-case letters"):
        replace(steadiness, name="Steadiness!")
    with pytest.raises(ValueError, match="write it as #rrggbb"):
        replace(steadiness, colour="blue")
    with pytest.raises(KeyError, match="there is no metric 'nothing': use one of"):
        metric("nothing")


def test_a_wrong_declaration_is_named(steadiness, thin_classifier, picture):
    unregister(steadiness.name)
    register(replace(steadiness, reads=Reads.IMAGE))
    try:
        settings = ExplainSettings(layers=LAYERS, metrics=(steadiness.name,))
        with pytest.raises(TypeError, match="not declared as reading perturbations"):
            Explainer(thin_classifier, settings).explain(picture(32, 64))
    finally:
        unregister(steadiness.name)
        register(steadiness)


def test_entry_points_of_other_packages_are_found(tmp_path):
    """Installed as pip installs it; a package that fails is reported and left out."""
    (tmp_path / "their_metrics.py").write_text(
        textwrap.dedent(
            """
            from explain_cnn_ros.explain.metrics import Metric, Reads, metric_names, register

            def declare():
                assert metric_names()  # a package may ask while it is being loaded
                register(Metric("activation_maximum", "maximum", Reads.IMAGE, lambda e: e.activation.amax((1, 2)),
                                "strongest at one position", "their paper", "#abcdef"))
            """
        )
    )
    for name, target in (("theirs", "their_metrics:declare"), ("broken", "not_there:declare")):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[explain_cnn_ros.metrics]\n{name} = {target}\n")
    code = (
        "import json; from explain_cnn_ros import ExplainSettings; "
        "print(json.dumps(ExplainSettings(metrics=['activation_maximum', 'weight_sum']).metrics))"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["activation_maximum", "weight_sum"]
    assert "the metrics of not_there:declare are not available" in done.stderr


def test_travels_in_a_message_to_somebody_who_does_not_know_it(settings, steadiness, thin_classifier, picture):
    pytest.importorskip("rclpy")
    from std_msgs.msg import Header

    from explain_cnn_ros.draw.contact_sheet import contact_sheet
    from explain_cnn_ros.ros.messages import explanation_from, explanation_message

    frame = picture(32, 64)
    explanation = Explainer(thin_classifier, settings).explain(frame)
    message = explanation_message(Header(), explanation, "service")
    unregister(steadiness.name)
    try:
        received = explanation_from(message)
        assert received.settings.metrics == settings.metrics
        assert received.ranking(steadiness.name, 3)[0].channel == explanation.ranking(steadiness.name, 3)[0].channel
        assert contact_sheet(frame, received).shape == (1080, 1920, 3)
        texts = [e.text for group in legend_entries(received, received.rankings, None, None) for e in group]
        assert "top 5 by activation steadiness" in texts
    finally:
        register(steadiness)
