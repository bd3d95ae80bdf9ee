"""Explanations in few large operations are those of the stages, which are the reference."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from explain_kit import threshold_between
from numpy.typing import NDArray
from torch import nn

from explain_cnn_ros.explain.explainer import Explainer, ExplanationCancelledError
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS, OPPOSING, PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.metrics.registry import Metric, Reads, register, unregister
from explain_cnn_ros.explain.perturbation import NOISES
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.vgg.batched import explaining
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier

Frame = NDArray[np.uint8]

SETTINGS = ExplainSettings(perturbations=12, layers=(3, 6, 9), top_n=2, compute_precision="float32")

ALL_LAYERS = tuple(range(1, 14))


def explanations(
    classifier: PersonClassifier, settings: ExplainSettings, window: Frame, threshold: float | None = None
) -> tuple[Explanation, Explanation]:
    """Return the explanation by the stages, and the one in few large operations."""
    staged, batched = (
        Explainer(classifier, settings, batched=batched).explain(window, threshold=threshold)
        for batched in (False, True)
    )
    assert list(batched.timings) == ["window", "explanation"]
    assert "network" in staged.timings
    return staged, batched


def assert_alike(staged: Explanation, batched: Explanation, rtol: float = 1e-9) -> None:
    """Compare everything except the timings: numbers except for rounding, all others exactly."""
    about = {"rel": rtol, "abs": rtol, "nan_ok": True}
    for name in ("output", "output_mean", "output_stddev"):
        assert getattr(batched, name) == pytest.approx(getattr(staged, name), **about), name
    assert batched.region.probability == pytest.approx(staged.region.probability, **about)
    assert batched.person == staged.person
    for name in ("image_size", "threshold", "settings", "perturbations", "device", "model_hash", "silencing"):
        assert getattr(batched, name) == getattr(staged, name), name
    assert batched.set_similarity == pytest.approx(staged.set_similarity, nan_ok=True)
    assert batched.set_similarity_by_layer == pytest.approx(staged.set_similarity_by_layer, nan_ok=True)
    assert [(r.metric, r.layer) for r in batched.rankings] == [(r.metric, r.layer) for r in staged.rankings]
    for one, other in zip(batched.rankings, staged.rankings, strict=True):
        where = (one.metric, one.layer)
        assert one.layer_name == other.layer_name
        np.testing.assert_allclose(one.scores, other.scores, rtol=rtol, atol=rtol, err_msg=str(where))
        assert [n.channel for n in one.neurons] == [n.channel for n in other.neurons], where
        assert [n.patch for n in one.neurons] == [n.patch for n in other.neurons], where
        assert [n.interval for n in one.neurons] == [n.interval for n in other.neurons], where
        assert (one.stability is None) == (other.stability is None), where
        if one.stability is not None:
            assert one.stability == pytest.approx(other.stability, nan_ok=True), where
        assert one.unstable == other.unstable
        for a, b in zip(one.neurons, other.neurons, strict=True):
            assert (a.silenced is None) == (b.silenced is None), where
            if a.silenced is not None:
                assert a.silenced == pytest.approx(b.silenced, **about), where
    assert len(batched.proofs) == len(staged.proofs)
    for one, other in zip(batched.proofs, staged.proofs, strict=True):
        assert (one.metric, one.neurons, one.disagrees) == (other.metric, other.neurons, other.disagrees)
        # The sign of a change that is 0 except for rounding has no meaning.
        measured = [n.silenced for r in staged.rankings if r.metric == one.metric for n in r.neurons]
        unchanged = sum(value is not None and abs(value) < rtol for value in measured)
        assert abs(one.agreeing - other.agreeing) <= unchanged
        for name in ("predicted", "measured", "error", "together", "share", "probability"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=100 * rtol, abs=rtol, nan_ok=True)


CHANGES = {
    "default": {},
    "all layers": {"layers": ALL_LAYERS, "top_n": 3},
    "the last layer alone": {"layers": (13,)},
    "the first layer alone": {"layers": (1,)},
    "more than there are": {"top_n": 10},
    "pre_relu": {"activation": "pre_relu", "layers": (2, 5, 8)},
    "probability": {"output": "probability"},
    "of probability, pre_relu": {"output": "probability", "activation": "pre_relu"},
    "strongest": {"deconvnet_start": "strongest"},
    "whole receptive fields": {"patch_share": 0.0},
    "all live positions": {"live_share_min": 1.0},
    "any live position": {"live_share_min": 0.0},
    "none below the mean": {"precision_lambda": 1.0},
    "absolute": {"precision_lambda": 0.3, "precision_lambda_absolute": True},
    "mean of inverse": {"precision_mean_of_inverse": True},
    "incoming": {"weights": "incoming"},
    "together": {"proof": "together"},
    "no proof": {"proof": "none"},
    "the paper's metrics": {"metrics": PAPER_METRICS},
    "another order": {"metrics": tuple(reversed(DEFAULT_METRICS))},
    "opposing only": {"metrics": (OPPOSING,)},
    "weights only": {"metrics": ("weight_variance", "weight_sum")},
    "activations only": {"metrics": ("activation_variance", "activation_sum", SUPPORTING)},
    "influence of the image": {"perturbations": 0, "metrics": (SUPPORTING, OPPOSING, "activation_sum")},
    "an odd number": {"perturbations": 5},
    "another seed": {"seed": 7, "sigma": 0.02},
    "winograd": {"compute_precision": "winograd"},
}


class TestSameAsTheStages:
    @pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
    def test_with_settings(self, exact, window, changes) -> None:
        assert_alike(*explanations(exact, dataclasses.replace(SETTINGS, **changes), window))

    @pytest.mark.parametrize("noise", NOISES)
    def test_with_noise(self, exact, window, noise: str) -> None:
        settings = dataclasses.replace(SETTINGS, noise=noise, noise_length=21.0)
        assert_alike(*explanations(exact, settings, window))

    @pytest.mark.parametrize("preset", ["live", "paper", "authors"])
    def test_with_presets(self, exact, window, preset: str) -> None:
        settings = ExplainSettings.preset(preset, compute_precision="float32", layers=(4, 7))
        assert_alike(*explanations(exact, settings, window))

    @pytest.mark.parametrize("threshold", [0.0, 1.0])
    @pytest.mark.parametrize("output", ["logit", "probability"])
    def test_whatever_the_decision(self, exact, window, threshold: float, output: str) -> None:
        """The neurons that support one decision oppose the other."""
        settings = dataclasses.replace(SETTINGS, output=output)
        staged, batched = explanations(exact, settings, window, threshold)
        assert batched.person == (threshold == 0.0)
        assert_alike(staged, batched)

    def test_a_probability_at_the_threshold_is_a_person(self, exact, window) -> None:
        explainer = Explainer(exact, SETTINGS, batched=True)
        person = explainer.explain(window, threshold=0.0)
        at_threshold = explainer.explain(window, threshold=person.region.probability)
        assert at_threshold.person
        assert at_threshold.ranking(SUPPORTING, 6) == person.ranking(SUPPORTING, 6) != ()

    def test_where_nothing_varies(self, exact) -> None:
        """A black window has no perturbations, so no neuron has a correlation."""
        staged, batched = explanations(exact, SETTINGS, np.zeros((64, 32, 3), np.uint8))
        assert not batched.ranking(PAPER_METRICS[0], 6)
        assert math.isnan(batched.layer_ranking(PAPER_METRICS[0], 6).stability or 0.0)
        assert_alike(staged, batched)

    @pytest.mark.parametrize("layer", [3, 6, 9, 13])
    def test_with_dead_neurons(self, thin_network, in_float64, window, layer: int) -> None:
        network = thin_network(dtype=torch.float64, seed=2)
        convolution = network.features[convolution_layers(network.features)[layer - 1].convolution]
        convolution.bias[1:4] = -1e9
        settings = dataclasses.replace(SETTINGS, layers=(3, 6, 9, 13), top_n=5)
        staged, batched = explanations(in_float64(network), settings, window)
        assert any(n.patch is None for n in batched.ranking("weight_sum", layer))
        assert_alike(staged, batched)

    @pytest.mark.parametrize("size", [(32, 32), (64, 32), (96, 64)])
    def test_with_windows_of_other_sizes(self, thin_network, in_float64, picture, size: tuple[int, int]) -> None:
        network = thin_network(dtype=torch.float64)
        network.classifier[1] = nn.Linear(8 * size[0] * size[1] // 1024, 6, dtype=torch.float64).requires_grad_(False)
        classifier = in_float64(network)
        classifier.info = dataclasses.replace(classifier.info, input_size=size)
        settings = dataclasses.replace(SETTINGS, layers=(2, 4, 7, 8, 9, 11))
        assert_alike(*explanations(classifier, settings, picture(*size)))

    @pytest.mark.parametrize("output", ["logit", "probability"])
    def test_with_three_classes(self, thin_network, in_float64, window, output: str) -> None:
        network = thin_network(dtype=torch.float64)
        network.classifier[-1] = nn.Linear(6, 3, dtype=torch.float64).requires_grad_(False)
        assert_alike(*explanations(in_float64(network), dataclasses.replace(SETTINGS, output=output), window))

    def test_in_float32(self, vgg11_classifier, window) -> None:
        settings = dataclasses.replace(SETTINGS, layers=(2, 3, 4), top_n=3)
        assert_alike(*explanations(vgg11_classifier, settings, window), rtol=2e-4)

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_in_half_precision(self, thin_classifier, window, precision: str) -> None:
        """The two paths round differently, but not by more than the precision does."""
        settings = dataclasses.replace(SETTINGS, compute_precision=precision, layers=(3, 5))
        staged, batched = explanations(thin_classifier, settings, window)
        for one, other in zip(batched.rankings, staged.rankings, strict=True):
            assert not np.isnan(one.scores).all()
            if one.metric in (SUPPORTING, *PAPER_METRICS[2:]):
                scale = np.nanmax(np.abs(other.scores))
                np.testing.assert_allclose(one.scores, other.scores, rtol=0.1, atol=0.05 * scale)
        for one, other in zip(batched.proofs, staged.proofs, strict=True):
            assert math.isfinite(one.together) and one.metric == other.metric

    def test_of_a_region(self, exact, picture) -> None:
        """The same explainer explains several windows."""
        frame, nan = picture(200, 150), math.nan
        staged, batched = (Explainer(exact, SETTINGS, batched=batched) for batched in (False, True))
        for region in (Region(20, 30, 40, 80, nan), None, Region(170, 100, 60, 90, nan)):
            assert_alike(staged.explain(frame, region), batched.explain(frame, region))


REFUSED = {
    "perturbations_max": {"perturbations_max": 50},
    "perturbation_groups": {"perturbation_groups": 4},
    "silencing_draws": {"silencing_draws": 2},
    "guided": {"deconvnet": "guided"},
    "map": {"deconvnet_start": "map"},
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("changes", [{}, {"output": "probability"}, {"perturbations": 0, "metrics": (SUPPORTING,)}])
def test_both_paths_explain_the_decision_of_the_classifier(
    thin_classifier, picture, seed: int, precision: str, changes
) -> None:
    """Passes in half precision would decide otherwise, because P(person) is that near to the threshold."""
    image = picture(32, 64, seed)
    settings = dataclasses.replace(SETTINGS, compute_precision=precision, **changes)
    threshold = threshold_between(thin_classifier, image, precision)
    logits = thin_classifier.logits(image[None])[0]
    p = float(thin_classifier.probability(image[None])[0])
    for explanation in explanations(thin_classifier, settings, image, threshold):
        assert explanation.person == (p >= threshold)
        assert explanation.region.probability == pytest.approx(p, rel=1e-5)
        expected = p if settings.output == "probability" else float(logits[1] - logits[0])
        assert explanation.output == pytest.approx(expected, rel=1e-5, abs=1e-6)
        sign = 1 if explanation.person else -1
        chosen = [n for r in explanation.rankings if r.metric == SUPPORTING for n in r.neurons]
        assert chosen and all(sign * neuron.score > 0 for neuron in chosen)


class TestChoiceOfThePath:
    def test_on_a_cpu_the_stages(self, exact, window) -> None:
        assert "network" in Explainer(exact, SETTINGS).explain(window).timings

    @pytest.mark.parametrize(("reason", "changes"), REFUSED.items(), ids=REFUSED.keys())
    def test_settings_that_it_does_not_support(self, exact, window, reason: str, changes) -> None:
        settings = dataclasses.replace(SETTINGS, **changes)
        assert reason in explaining.unsupported(settings)
        with pytest.raises(ValueError, match=reason):
            Explainer(exact, settings, batched=True)

    @pytest.fixture
    def own_metric(self) -> Iterator[str]:
        entry = Metric("mine", "mine", Reads.IMAGE, lambda e: e.activation.amax((1, 2)), "high", "here", "#123456")
        register(entry)
        yield entry.name
        unregister(entry.name)

    def test_metrics_of_other_packages_are_not_supported(self, exact, own_metric: str) -> None:
        settings = dataclasses.replace(SETTINGS, metrics=(own_metric, "activation_sum"))
        with pytest.raises(ValueError, match="metrics of other packages"):
            Explainer(exact, settings, batched=True)

    def test_too_little_memory(self, exact, window, monkeypatch, caplog) -> None:
        monkeypatch.setattr(explaining, "free_memory", lambda _: 1000)
        explainer = Explainer(exact, SETTINGS, batched=True)
        for _ in range(2):
            assert "network" in explainer.explain(window).timings
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "need about" in caplog.text

    def test_it_runs_out_of_memory(self, exact, window, monkeypatch, caplog) -> None:
        def fail(*_: object) -> None:
            raise torch.OutOfMemoryError("out of memory")

        explainer = Explainer(exact, SETTINGS, batched=True)
        monkeypatch.setattr(explaining.BatchedExplainer, "explain", fail)
        assert "network" in explainer.explain(window).timings
        assert "out of memory" in caplog.text

    def test_cancelled(self, exact, window) -> None:
        with pytest.raises(ExplanationCancelledError):
            Explainer(exact, SETTINGS, batched=True).explain(window, cancelled=lambda: True)

    def test_a_network_is_left_as_it_was(self, thin_network, network_state, window) -> None:
        network: VGGClassifier = thin_network()
        classifier = PersonClassifier(network, ModelInfo(input_size=(32, 64), hidden=6), "cpu")
        before = network_state(network)
        weights = {name: value.clone() for name, value in network.state_dict().items()}
        Explainer(classifier, SETTINGS, batched=True).explain(window)
        assert network_state(network) == before
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
