"""The proof of an influence, against silencing by hooks in float64."""

from __future__ import annotations

import copy
import dataclasses
import json
import math

import pytest
import torch
from explain_kit import OUTPUTS

from explain_cnn_ros.explain import proof as proof_module
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import Explanation, Proof
from explain_cnn_ros.explain.metrics import OPPOSING, PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.network import VGGClassifier

SETTINGS = ExplainSettings(perturbations=6, layers=(3, 6, 9), top_n=3)
LIVE = dataclasses.replace(SETTINGS, perturbations=0, metrics=(SUPPORTING, OPPOSING))

#: Thresholds with which the decision is "person", and "no person".
THRESHOLDS = {True: 0.0, False: 1.0}


def shifted(network: VGGClassifier, margin: float) -> VGGClassifier:
    """Return the network with a constant added to the logit of the person."""
    other = copy.deepcopy(network)
    other.classifier[-1].bias.data[1] += margin
    return other


class TestAgainstHooks:
    @pytest.mark.parametrize("person", [True, False])
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"output": "probability"},
            {"perturbations": 0, "metrics": (SUPPORTING, OPPOSING)},
            {"perturbations": 0, "metrics": (OPPOSING, "weight_sum")},
            {"activation": "pre_relu", "top_n": 1},
            {"layers": (1, 13), "top_n": 8},
        ],
        ids=["default", "probability", "image alone", "opposing only", "pre-relu", "first and last layer"],
    )
    def test_all_numbers(self, thin_network, in_float64, window, hooked_logits, person: bool, changes: dict) -> None:
        """The margin argues for the decision, so all numbers are defined."""
        settings = dataclasses.replace(SETTINGS, **changes)
        classifier = in_float64(shifted(thin_network(dtype=torch.float64), 2.0 if person else -2.0))
        explanation = Explainer(classifier, settings).explain(window)
        assert explanation.person is person
        assert (explanation.region.probability > 0.5) is person
        names = [name for name in (SUPPORTING, OPPOSING) if name in settings.metrics]
        assert [proof.metric for proof in explanation.proofs] == names
        pixels = classifier.normalise(classifier.to_pixels(window[None]))

        def outputs(silenced: dict[int, list[int]]) -> tuple[float, float]:
            logits = hooked_logits(classifier.network, pixels, silenced)
            return float(OUTPUTS[settings.output](logits)), float(OUTPUTS["probability"](logits))

        before, _ = outputs({})
        for proof in explanation.proofs:
            neurons = [n for layer in settings.layers for n in explanation.ranking(proof.metric, layer)]
            assert proof.neurons == len(neurons) > 0
            falls = [before - outputs({n.layer: [n.channel]})[0] for n in neurons]
            assert [n.silenced for n in neurons] == pytest.approx(falls, rel=1e-7, abs=1e-12)
            assert proof.predicted == pytest.approx(sum(n.score for n in neurons), rel=1e-12)
            assert proof.measured == pytest.approx(sum(falls), rel=1e-7, abs=1e-12)
            wrong = sum(abs(n.score - fall) for n, fall in zip(neurons, falls, strict=True))
            assert proof.error == pytest.approx(wrong / sum(map(abs, falls)), rel=1e-7)
            assert proof.agreeing == sum(n.score * fall > 0 for n, fall in zip(neurons, falls, strict=True))
            chosen: dict[int, list[int]] = {}
            for n in neurons:
                chosen.setdefault(n.layer, []).append(n.channel)
            after, p = outputs(chosen)
            assert proof.together == pytest.approx(before - after, rel=1e-7, abs=1e-12)
            assert proof.probability == pytest.approx(p, rel=1e-7)
            # The decision "no person" rests on P(person) being less than 1.
            carried = before - 1 if settings.output == "probability" and not person else before
            assert proof.share == pytest.approx((before - after) / carried, rel=1e-7, abs=1e-12)
        for ranking in explanation.rankings:
            if ranking.metric in PAPER_METRICS:
                assert all(neuron.silenced is None for neuron in ranking.neurons)

    @pytest.mark.parametrize("person", [True, False])
    @pytest.mark.parametrize("output", OUTPUTS)
    def test_the_share_is_positive_if_silencing_weakens_the_decision(
        self, thin_network, in_float64, window, person: bool, output: str
    ) -> None:
        classifier = in_float64(shifted(thin_network(dtype=torch.float64), 2.0 if person else -2.0))
        explanation = Explainer(classifier, dataclasses.replace(LIVE, output=output)).explain(window)
        p = explanation.region.probability
        for proof in explanation.proofs:
            weaker = proof.probability < p if person else proof.probability > p
            assert (proof.share > 0) is weaker
        supporting, opposing = explanation.proofs
        assert supporting.share > 0 > opposing.share

    @pytest.mark.parametrize("batch", [1, 5, 36])
    def test_batches_do_not_matter(self, exact, window, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
        from explain_cnn_ros.explain.vgg import silencing

        expected = Explainer(exact, LIVE).explain(window).proofs
        monkeypatch.setattr(silencing, "SILENCED_BATCH", batch)
        for one, other in zip(Explainer(exact, LIVE).explain(window).proofs, expected, strict=True):
            assert dataclasses.astuple(one)[1:] == pytest.approx(dataclasses.astuple(other)[1:], rel=1e-9)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_is_measured_in_float32_if_the_passes_are_coarser(thin_classifier, window, precision: str) -> None:
    """Outputs in half precision have three digits, too few for the change by a single neuron."""
    explainer = Explainer(thin_classifier, dataclasses.replace(LIVE, compute_precision=precision))
    exact = Explainer(thin_classifier, dataclasses.replace(LIVE, compute_precision="float32"))
    ranked = explainer.rank(window)
    proofs = explainer.prove(ranked)
    for (_, neuron), fall in proofs.silenced.items():
        before, after = exact.silence(ranked, [{}, {neuron.layer: [neuron.channel]}]).outputs
        assert fall == pytest.approx(before - after, rel=1e-3, abs=1e-6)
    for proof in proofs.by_metric:
        before, after = exact.silence(ranked, [{}, ranked.of_metric(proof.metric)]).outputs
        assert proof.together == pytest.approx(before - after, rel=1e-3, abs=1e-6)


class TestKinds:
    def test_together_silences_all_at_once_only(self, exact, window) -> None:
        each = Explainer(exact, SETTINGS).explain(window)
        together = Explainer(exact, dataclasses.replace(SETTINGS, proof="together")).explain(window)
        for one, other in zip(together.proofs, each.proofs, strict=True):
            assert math.isnan(one.measured) and math.isnan(one.error)
            assert (one.agreeing, one.disagrees) == (0, False)
            for name in ("metric", "neurons", "predicted"):
                assert getattr(one, name) == getattr(other, name)
            for name in ("together", "share", "probability"):
                assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9)
        assert all(n.silenced is None for r in together.rankings for n in r.neurons)

    @pytest.mark.parametrize("changes", [{"proof": "none"}, {"metrics": PAPER_METRICS}, {"metrics": ("weight_sum",)}])
    def test_none_unless_requested(self, exact, window, monkeypatch: pytest.MonkeyPatch, changes: dict) -> None:
        def refuse(*_args, **_named) -> None:
            raise AssertionError("silenced neurons")

        monkeypatch.setattr(proof_module, "silence", refuse)
        explanation = Explainer(exact, dataclasses.replace(SETTINGS, **changes)).explain(window)
        assert explanation.proofs == ()
        assert explanation.proof(SUPPORTING) is None
        assert all(n.silenced is None for r in explanation.rankings for n in r.neurons)

    def test_is_found_by_the_metrics_name(self, exact, window) -> None:
        explanation = Explainer(exact, SETTINGS).explain(window)
        assert explanation.proof(SUPPORTING) is explanation.proofs[0]
        assert explanation.proof(OPPOSING) is explanation.proofs[1]
        assert explanation.proof("weight_sum") is None

    def test_json_has_null_where_a_number_is_undefined(self, exact, window) -> None:
        settings = dataclasses.replace(LIVE, proof="together")
        record = json.loads(json.dumps(Explainer(exact, settings).explain(window).to_dict(), allow_nan=False))
        assert record["proofs"][0]["error"] is None
        assert set(record["proofs"][0]) == {field.name for field in dataclasses.fields(Proof)}


class TestUndefined:
    @pytest.mark.parametrize("output", OUTPUTS)
    @pytest.mark.parametrize(("margin", "threshold"), [(2.0, 1.0), (-2.0, 0.0)])
    def test_share_if_the_margin_argues_for_the_other_decision(
        self, thin_network, in_float64, window, output: str, margin: float, threshold: float
    ) -> None:
        """The decision is the threshold's doing."""
        classifier = in_float64(shifted(thin_network(dtype=torch.float64), margin))
        settings = dataclasses.replace(LIVE, output=output)
        explanation = Explainer(classifier, settings).explain(window, threshold=threshold)
        assert explanation.person is (margin < 0)
        for proof in explanation.proofs:
            assert math.isnan(proof.share)
            assert math.isfinite(proof.together) and math.isfinite(proof.error)

    @pytest.mark.parametrize("threshold", [0.0, 1.0])
    @pytest.mark.parametrize("output", OUTPUTS)
    def test_everything_if_nothing_has_influence(
        self, thin_network, in_float64, window, threshold: float, output: str
    ) -> None:
        """The margin is 0 whatever the activations are, so that no neuron argues for anything."""
        network = thin_network(dtype=torch.float64)
        last = network.classifier[-1]
        last.weight.data.zero_()
        last.bias.data.zero_()
        settings = dataclasses.replace(LIVE, output=output)
        explanation = Explainer(in_float64(network), settings).explain(window, threshold=threshold)
        assert all(ranking.neurons == () for ranking in explanation.rankings)
        for proof in explanation.proofs:
            assert (proof.neurons, proof.predicted, proof.agreeing, proof.disagrees) == (0, 0, 0, False)
            assert all(math.isnan(value) for value in (proof.measured, proof.error))
            assert proof.together == pytest.approx(0, abs=1e-12)
            # P(person) - 1 is not 0, so its share is 0; every other share is 0 / 0.
            assert proof.share == 0 or math.isnan(proof.share)
        assert explanation.output == (0.5 if output == "probability" else 0)


class TestDisagrees:
    def explanation(self, exact, window) -> Explanation:
        return Explainer(exact, LIVE).explain(window)

    def test_if_the_error_exceeds_the_maximum(self, exact, window, monkeypatch: pytest.MonkeyPatch) -> None:
        errors = [proof.error for proof in self.explanation(exact, window).proofs]
        assert all(error > 0 for error in errors)
        for limit, expected in (
            (0.0, [True, True]),
            (min(errors), [error > min(errors) for error in errors]),
            (max(errors), [False, False]),
        ):
            monkeypatch.setattr(proof_module, "PROOF_ERROR_MAX", limit)
            assert [proof.disagrees for proof in self.explanation(exact, window).proofs] == expected

    def test_a_prediction_of_another_size_is_an_error(self, exact, window, monkeypatch: pytest.MonkeyPatch) -> None:
        """All scores are doubled after the ranking."""
        explainer = Explainer(exact, LIVE)
        ranked = explainer.rank(window)
        scores = {key: 2 * value for key, value in ranked.scores.items()}
        plain, doubled = (
            explainer.prove(one).by_metric for one in (ranked, dataclasses.replace(ranked, scores=scores))
        )
        for one, other in zip(plain, doubled, strict=True):
            assert other.predicted == pytest.approx(2 * one.predicted)
            assert other.measured == one.measured
            assert other.error > max(one.error, 0.5)
            assert other.disagrees
