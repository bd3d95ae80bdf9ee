"""The stages of an explanation: each alone gives what `explain` composes, and none of them leaves state behind."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from explain_cnn_ros.explain import sampling
from explain_cnn_ros.explain.explainer import Explainer, ExplanationCancelledError
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS, OPPOSING, PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.metrics.registry import SIMILARITY_METRICS
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.ranking import RankedWindow, TracedWindow
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.silencing import draw_unselected
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier

Frame = NDArray[np.uint8]

#: The stages, and an explanation that fails.
STAGES = ("trace", "rank", "rank_at", "locate", "locate_selected", "silence", "prove", "explain", "failure")

SETTINGS = ExplainSettings(perturbations=12, layers=(3, 6, 9), top_n=2, silencing_draws=3)


@pytest.fixture(scope="module")
def explainer(exact: PersonClassifier) -> Explainer:
    return Explainer(exact, SETTINGS)


@pytest.fixture(scope="module")
def explanation(explainer: Explainer, window: Frame) -> Explanation:
    return explainer.explain(window)


@pytest.fixture(scope="module")
def ranked(explainer: Explainer, window: Frame) -> RankedWindow:
    return explainer.rank(window)


def assert_same(one: Explanation, other: Explanation) -> None:
    """Compare everything except the timings."""
    assert dataclasses.replace(one, timings={}) == dataclasses.replace(other, timings={})
    for a, b in zip(one.rankings, other.rankings, strict=True):
        np.testing.assert_array_equal(a.scores, b.scores)


def assert_same_ranking(one: RankedWindow, other: RankedWindow, rtol: float = 1e-9) -> None:
    assert one.perturbations == other.perturbations
    assert dict(one.channels) == dict(other.channels)
    assert one.stability == pytest.approx(dict(other.stability), nan_ok=True)
    assert one.scores.keys() == other.scores.keys()
    for key, scores in one.scores.items():
        torch.testing.assert_close(scores, other.scores[key], rtol=rtol, atol=0, equal_nan=True)
    for name in ("output", "output_mean", "output_stddev"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=rtol, nan_ok=True)


def by_metric(explanation: Explanation) -> dict[tuple[str, Neuron], Patch]:
    """Return the patches of an explanation by metric and neuron."""
    return {
        (ranking.metric, Neuron(n.layer, n.channel)): n.patch
        for ranking in explanation.rankings
        for n in ranking.neurons
        if n.patch
    }


class TestRank:
    def test_alone_is_what_an_explanation_holds(self, ranked: RankedWindow, explanation: Explanation) -> None:
        assert list(ranked.channels) == [(r.metric, r.layer) for r in explanation.rankings]
        for ranking in explanation.rankings:
            key = (ranking.metric, ranking.layer)
            assert ranked.channels[key] == [neuron.channel for neuron in ranking.neurons]
            np.testing.assert_array_equal(ranked.scores[key].numpy(), ranking.scores)
            assert ranked.stability.get(key) == ranking.stability
        assert ranked.perturbations == explanation.perturbations == 12
        assert (ranked.output, ranked.output_mean, ranked.output_stddev) == (
            *(explanation.output, explanation.output_mean, explanation.output_stddev),
        )
        assert ranked.set_similarity() == (explanation.set_similarity, explanation.set_similarity_by_layer)

    @pytest.mark.parametrize("name", DEFAULT_METRICS)
    def test_neurons_of_a_metric_are_in_the_order_of_layers_and_ranks(
        self, ranked: RankedWindow, explanation: Explanation, name: str
    ) -> None:
        expected = [Neuron(n.layer, n.channel) for layer in SETTINGS.layers for n in explanation.ranking(name, layer)]
        assert ranked.neurons_of(name) == expected
        assert ranked.neurons_of("beauty") == []

    def test_of_one_metric(self, ranked: RankedWindow, explanation: Explanation) -> None:
        for name in DEFAULT_METRICS:
            expected = {layer: [n.channel for n in explanation.ranking(name, layer)] for layer in SETTINGS.layers}
            assert ranked.of_metric(name) == expected
        assert ranked.of_metric("beauty") == {}

    def test_without_perturbations(self, exact: PersonClassifier, window: Frame) -> None:
        settings = dataclasses.replace(SETTINGS, metrics=("weight_sum", "activation_sum"))
        alone = Explainer(exact, settings).rank(window)
        assert alone.perturbations == 0
        assert alone.stability == {}
        assert math.isnan(alone.output_mean) and math.isnan(alone.output_stddev)
        assert math.isfinite(alone.output)
        assert math.isnan(alone.set_similarity()[0]) and alone.set_similarity()[1] == {}

    def test_does_not_add_perturbations(self, exact: PersonClassifier, window: Frame) -> None:
        """Only `explain` continues until the rankings are stable."""
        settings = dataclasses.replace(SETTINGS, perturbations_max=1000, stability_target=1.0)
        assert Explainer(exact, settings).rank(window).perturbations == 12
        assert Explainer(exact, settings).explain(window).perturbations > 12


class TestRankAt:
    def test_is_a_separate_ranking_for_each_count(
        self, exact: PersonClassifier, explainer: Explainer, window: Frame
    ) -> None:
        counts = (2, 5, 12, 40)
        together = explainer.rank_at(window, counts)
        assert [one.perturbations for one in together] == list(counts)
        for count, one in zip(counts, together, strict=True):
            alone = Explainer(exact, dataclasses.replace(SETTINGS, perturbations=count)).rank(window)
            # A correlation over two perturbations is 1 except for rounding, which then decides.
            if count == 2:
                keys = [key for key in one.channels if key[0] != SIMILARITY_METRICS[0]]
                assert [one.channels[key] for key in keys] == [alone.channels[key] for key in keys]
            else:
                assert_same_ranking(one, alone)

    @pytest.mark.parametrize("chunk", [3, 16])
    def test_chunks_do_not_matter(
        self, explainer: Explainer, window: Frame, monkeypatch: pytest.MonkeyPatch, chunk: int
    ) -> None:
        expected = explainer.rank_at(window, (5, 20))
        monkeypatch.setattr(sampling, "chunk_size", lambda *_: chunk)
        for one, other in zip(explainer.rank_at(window, (5, 20)), expected, strict=True):
            assert_same_ranking(one, other)

    def test_orthogonal_noise_is_rounded_up_to_whole_blocks(self, exact: PersonClassifier, window: Frame) -> None:
        settings = dataclasses.replace(SETTINGS, noise="orthogonal", noise_length=21.0)
        counts = [one.perturbations for one in Explainer(exact, settings).rank_at(window, (1, 20, 27))]
        assert counts == [26, 26, 52]

    def test_of_no_counts(self, explainer: Explainer, window: Frame) -> None:
        assert explainer.rank_at(window, ()) == []


class TestLocate:
    @pytest.fixture
    def patches(self, explanation: Explanation) -> dict[Neuron, Patch]:
        """Return the patches that begin at the strongest activation.

        The frame is the window, so both have the same coordinates.
        """
        found = {neuron: patch for (name, neuron), patch in by_metric(explanation).items() if name in PAPER_METRICS}
        assert len(found) > 10
        return found

    def test_alone_is_what_an_explanation_holds(
        self, explainer: Explainer, ranked: RankedWindow, explanation: Explanation
    ) -> None:
        located = explainer.locate_selected(ranked)
        assert located == by_metric(explanation)
        assert {name for name, _ in located} == set(DEFAULT_METRICS)

    def test_named_neurons_of_a_ranked_window(
        self, explainer: Explainer, ranked: RankedWindow, patches: dict[Neuron, Patch]
    ) -> None:
        some = list(patches)[::3]
        assert explainer.locate(ranked, some) == {neuron: patches[neuron] for neuron in some}
        assert explainer.locate(ranked, [*some, *some]) == {neuron: patches[neuron] for neuron in some}
        assert explainer.locate(ranked, []) == {}

    def test_named_neurons_of_a_traced_window(
        self, explainer: Explainer, window: Frame, patches: dict[Neuron, Patch]
    ) -> None:
        assert explainer.locate(explainer.trace(window), list(patches)) == patches

    @pytest.mark.parametrize(
        "changes",
        [{"deconvnet": "guided"}, {"deconvnet_start": "map"}, {"activation": "pre_relu"}, {"patch_share": 0.7}],
    )
    def test_uses_the_settings(self, exact: PersonClassifier, window: Frame, changes: dict) -> None:
        other = Explainer(exact, dataclasses.replace(SETTINGS, **changes))
        explanation = other.explain(window)
        expected = by_metric(explanation)
        assert other.locate_selected(other.rank(window)) == expected
        of_paper = {neuron: patch for (name, neuron), patch in expected.items() if name in PAPER_METRICS}
        assert other.locate(other.trace(window), list(of_paper)) == of_paper

    def test_a_traced_window_is_not_ranked(self, explainer: Explainer, window: Frame) -> None:
        traced = explainer.trace(window)
        assert isinstance(traced, TracedWindow) and not isinstance(traced, RankedWindow)
        assert traced.clean.influences == traced.clean.contributions == {}

    def test_dead_neurons_have_no_patch(self, explainer: Explainer) -> None:
        """For a black window, some neurons are alive and others are not."""
        traced = explainer.trace(np.zeros((64, 32, 3), np.uint8))
        layers = explainer.adapter.layers
        neurons = [Neuron(number, c) for number in SETTINGS.layers for c in range(layers[number].channels)]
        dead = {n for n in neurons if not traced.clean.activations[n.layer][0, n.channel].any()}
        located = explainer.locate(traced, neurons)
        assert dead
        assert not dead & set(located)


class TestSilence:
    def test_alone_is_what_an_explanation_holds(
        self, explainer: Explainer, ranked: RankedWindow, explanation: Explanation
    ) -> None:
        for silencing in explanation.silencing:
            selected = ranked.of_metric(silencing.metric)
            draws = [
                draw_unselected(ranked.evidence.activations, selected, np.random.default_rng((SETTINGS.seed, draw)))
                for draw in range(SETTINGS.silencing_draws)
            ]
            answers = explainer.silence(ranked, [selected, *draws])
            assert (answers.outputs[0], answers.probabilities[0]) == (silencing.output, silencing.probability)
            assert tuple(answers.outputs[1:]) == silencing.random_outputs
            assert tuple(answers.probabilities[1:]) == silencing.random_probabilities

    def test_of_a_traced_window(self, explainer: Explainer, window: Frame, ranked: RankedWindow) -> None:
        sets = [ranked.of_metric(name) for name in DEFAULT_METRICS]
        one, other = explainer.silence(explainer.trace(window), sets), explainer.silence(ranked, sets)
        assert (one.outputs, one.probabilities) == (other.outputs, other.probabilities)
        assert torch.equal(one.logits, other.logits)

    def test_silencing_nobody_is_the_decision(
        self, explainer: Explainer, ranked: RankedWindow, explanation: Explanation
    ) -> None:
        answers = explainer.silence(ranked, [{}])
        assert answers.outputs == pytest.approx([explanation.output], rel=1e-9)
        assert answers.probabilities == pytest.approx([explanation.region.probability], rel=1e-9)


class TestProve:
    def test_alone_is_what_an_explanation_holds(
        self, explainer: Explainer, ranked: RankedWindow, explanation: Explanation
    ) -> None:
        proofs = explainer.prove(ranked)
        assert proofs.by_metric == explanation.proofs
        for ranking in explanation.rankings:
            for neuron in ranking.neurons:
                key = (ranking.metric, Neuron(neuron.layer, neuron.channel))
                assert neuron.silenced == proofs.silenced.get(key)
                assert (neuron.silenced is None) is (ranking.metric in PAPER_METRICS)


class TestRegionAndThreshold:
    settings = dataclasses.replace(SETTINGS, silencing_draws=0)

    @pytest.mark.parametrize("size", [(100, 90), (32, 64), (100, 50)])
    def test_a_region_that_is_the_whole_frame_is_none(
        self, exact: PersonClassifier, picture, size: tuple[int, int]
    ) -> None:
        """The frame is resized to a window in both cases; the region's probability does not matter."""
        frame, explainer = picture(*size), Explainer(exact, self.settings)
        expected = explainer.explain(frame)
        assert_same(explainer.explain(frame, Region(0, 0, *size, 0.123)), expected)
        assert_same(explainer.explain(frame, Region(0, 0, *size, math.nan)), expected)
        assert expected.region.covers(size)
        p = float(exact.probability(exact.resize(frame)[None])[0])
        assert expected.region.probability == pytest.approx(p, rel=1e-6)

    def test_a_region_that_is_almost_the_whole_frame_is_not(self, exact: PersonClassifier, picture) -> None:
        frame, explainer = picture(100, 90), Explainer(exact, self.settings)
        almost = explainer.explain(frame, Region(0, 0, 99, 90, 0.5))
        assert almost.output != explainer.explain(frame).output
        assert almost.region.width == 99

    def test_the_threshold_is_passed_on(self, exact: PersonClassifier, window: Frame) -> None:
        explainer = Explainer(exact, self.settings)
        expected = explainer.explain(window)
        p = expected.region.probability
        assert expected.threshold == exact.threshold
        for threshold in (p, math.nextafter(p, 1), 0.01, 0.99):
            explanation = explainer.explain(window, threshold=threshold)
            assert explanation.threshold == threshold
            assert explanation.person is (p >= threshold)
            if explanation.person is expected.person:
                assert_same(dataclasses.replace(explanation, threshold=expected.threshold), expected)

    def test_the_threshold_decides_which_neurons_support_the_decision(
        self, exact: PersonClassifier, window: Frame
    ) -> None:
        """The same scores are read from the other end; the rankings of the paper's metrics stay the same."""
        explainer = Explainer(exact, self.settings)
        p = explainer.explain(window).region.probability
        person, nobody = (explainer.explain(window, threshold=t) for t in (p, math.nextafter(p, 1)))
        assert person.person and not nobody.person
        for one, other in zip(person.rankings, nobody.rankings, strict=True):
            np.testing.assert_array_equal(one.scores, other.scores)
            if one.metric in PAPER_METRICS:
                assert one == other
        for layer in self.settings.layers:
            for name, counterpart in ((SUPPORTING, OPPOSING), (OPPOSING, SUPPORTING)):
                assert person.ranking(name, layer) == nobody.ranking(counterpart, layer)
            assert all(n.score > 0 for n in person.ranking(SUPPORTING, layer))
            assert all(n.score < 0 for n in nobody.ranking(SUPPORTING, layer))
        ranked = [explainer.rank(window, t) for t in (p, math.nextafter(p, 1))]
        assert [r.evidence.person for r in ranked] == [True, False]
        assert [explainer.rank_at(window, [12], t)[0].channels for t in (p, math.nextafter(p, 1))] == [
            r.channels for r in ranked
        ]


class TestCancelled:
    @pytest.mark.parametrize("calls", range(5))
    def test_between_passes(
        self, exact: PersonClassifier, window: Frame, monkeypatch: pytest.MonkeyPatch, calls: int
    ) -> None:
        monkeypatch.setattr(sampling, "chunk_size", lambda *_: 5)
        count = 0

        def cancelled() -> bool:
            nonlocal count
            count += 1
            return count > calls

        explainer = Explainer(exact, SETTINGS)
        with pytest.raises(ExplanationCancelledError, match="cancelled"):
            explainer.explain(window, cancelled=cancelled)
        assert count == calls + 1

    def test_never(self, explainer: Explainer, window: Frame, explanation: Explanation) -> None:
        assert_same(explainer.explain(window, cancelled=lambda: False), explanation)


class TestNoStateIsLeft:
    @pytest.fixture
    def other(self, picture: Callable[..., Frame]) -> Frame:
        return picture(70, 50, seed=5)

    @pytest.fixture
    def uses(self, explainer: Explainer, window: Frame, ranked: RankedWindow) -> dict[str, Callable[[], object]]:
        def fail() -> None:
            def cancelled() -> bool:
                raise KeyError("failure")

            with pytest.raises(KeyError, match="failure"):
                explainer.explain(window, cancelled=cancelled)

        return {
            "trace": lambda: explainer.trace(window),
            "rank": lambda: explainer.rank(window),
            "rank_at": lambda: explainer.rank_at(window, (3, 7)),
            "locate": lambda: explainer.locate(ranked, ranked.neurons_of("activation_sum")),
            "locate_selected": lambda: explainer.locate_selected(ranked),
            "prove": lambda: explainer.prove(ranked),
            "silence": lambda: explainer.silence(ranked, [{3: [0, 1]}, {}]),
            "explain": lambda: explainer.explain(window),
            "failure": fail,
        }

    @pytest.mark.parametrize("stage", STAGES)
    def test_in_the_network_and_in_pytorch(self, uses, exact: PersonClassifier, network_state, stage: str) -> None:
        """Hooks, training mode, requires_grad, gradients, weights, gradient mode and random numbers stay the same."""
        before, numbers = network_state(exact.network), torch.get_rng_state()
        weights = {name: value.clone() for name, value in exact.network.state_dict().items()}
        uses[stage]()
        assert network_state(exact.network) == before
        assert all(torch.equal(value, weights[name]) for name, value in exact.network.state_dict().items())
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert torch.equal(torch.get_rng_state(), numbers)

    def test_between_explanations(
        self, explainer: Explainer, window: Frame, other: Frame, explanation: Explanation, uses
    ) -> None:
        """Whatever was explained before, the same frame gives the same explanation."""
        explainer.explain(other)
        for use in uses.values():
            use()
        explainer.rank(explainer.classifier.resize(other))
        assert_same(explainer.explain(window), explanation)

    def test_in_the_stages_results(
        self, explainer: Explainer, window: Frame, ranked: RankedWindow, other: Frame
    ) -> None:
        """A ranked window serves again after other work."""

        def use() -> tuple:
            silenced = explainer.silence(ranked, [{6: [1]}]).outputs
            return explainer.locate_selected(ranked), silenced, explainer.prove(ranked)

        first = use()
        explainer.explain(other)
        assert use() == first
        assert_same_ranking(explainer.rank(window), ranked, rtol=0)
