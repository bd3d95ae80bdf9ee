"""The registry: metrics are added and removed, found by name, and serve like those of the paper."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import (
    DEFAULT_METRICS,
    OPPOSING,
    PAPER_METRICS,
    SUPPORTING,
    LayerEvidence,
    Metric,
    Reads,
    Selects,
    metric,
    metric_names,
    register,
    registry,
    unregister,
)
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.options import options
from explain_cnn_ros.scan.classifier import PersonClassifier


def largest_activation(evidence: LayerEvidence) -> Tensor:
    """Compute the largest unperturbed activation of each neuron: [C]."""
    return evidence.activation.flatten(1).amax(1)


def mean_activation(evidence: LayerEvidence) -> Tensor:
    """Compute the mean activation of each neuron over positions and perturbations: [C]."""
    return evidence.moments.mean.mean((1, 2))


LARGEST = Metric("largest", "largest", Reads.IMAGE, largest_activation, "loudest of {weights}", "a test", "#12abEF")
MEAN = Metric("mean_activation", "mean", Reads.PERTURBATIONS, mean_activation, "loud", "a test", "#000001")


@pytest.fixture
def added() -> Iterator[None]:
    """Register two metrics that are not the package's."""
    register(LARGEST)
    register(MEAN)
    yield
    unregister("largest")
    unregister("mean_activation")


class TestRegistry:
    def test_influence_and_the_metrics_of_the_paper_come_first(self, added: None) -> None:
        assert ("influence", "counter_influence", *PAPER_METRICS) == DEFAULT_METRICS
        assert metric_names() == (*DEFAULT_METRICS, "largest", "mean_activation")
        assert metric("largest") is LARGEST

    def test_a_removed_metric_is_gone(self) -> None:
        register(LARGEST)
        unregister("largest")
        assert metric_names() == DEFAULT_METRICS
        with pytest.raises(
            KeyError,
            match=r"no metric 'largest': use one of influence, counter_influence, activation_output_correlation, ",
        ):
            metric("largest")
        with pytest.raises(KeyError, match="largest"):
            unregister("largest")

    def test_the_same_entry_may_be_registered_again(self, added: None) -> None:
        """An entry point and an import may both register it."""
        assert register(replace(LARGEST)) == LARGEST
        assert metric_names().count("largest") == 1

    def test_another_entry_of_the_same_name_is_refused(self, added: None) -> None:
        with pytest.raises(ValueError, match="there is a metric 'largest' already: choose another name"):
            register(replace(LARGEST, title="another"))
        assert metric("largest") is LARGEST

    @pytest.mark.parametrize("name", ["", "Largest", "9lives", "largest activation", "largest-activation", "_x"])
    def test_a_name_that_cannot_serve_in_settings_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="use lower-case letters, digits and underscores"):
            replace(LARGEST, name=name)

    @pytest.mark.parametrize("colour", ["", "red", "#12345", "#1234567", "#12345g", "123456"])
    def test_a_colour_of_another_form_is_refused(self, colour: str) -> None:
        with pytest.raises(ValueError, match="write it as #rrggbb"):
            replace(LARGEST, colour=colour)

    def test_captions_name_the_direction_of_the_weights(self) -> None:
        assert LARGEST.caption(ExplainSettings()) == "loudest of outgoing"
        assert metric("weight_sum").caption(ExplainSettings(weights="incoming")) == "largest incoming weights"
        assert metric("activation_sum").caption(ExplainSettings()) == "most active"

    def test_every_metric_is_described(self) -> None:
        for entry in map(metric, metric_names()):
            assert entry.title and entry.meaning and entry.source
            assert "{" not in entry.caption(ExplainSettings())
        colours = [metric(name).colour for name in metric_names()]
        assert len(set(colours)) == len(colours)

    def test_reads_have_a_meaning(self) -> None:
        assert len({reads.meaning for reads in Reads}) == 4
        assert [metric(name).reads for name in DEFAULT_METRICS] == [
            *(Reads.GRADIENTS,) * 2,
            *(Reads.PERTURBATIONS,) * 2,
            *(Reads.IMAGE,) * 2,
            *(Reads.WEIGHTS,) * 2,
        ]


class TestPerturbed:
    @pytest.mark.parametrize(("perturbations", "reading"), [(50, {Reads.PERTURBATIONS, Reads.GRADIENTS}), (0, set())])
    def test_is_whether_the_metric_reads_any_perturbations(self, perturbations: int, reading: set[Reads]) -> None:
        settings = ExplainSettings(perturbations=perturbations, metrics=("weight_sum",))
        for reads in Reads:
            assert replace(LARGEST, reads=reads).perturbed(settings) is (reads in reading)


class TestPreferences:
    scores = torch.tensor([2.0, -3.0, 0.0, float("nan"), 0.5, -0.25])

    @pytest.mark.parametrize("person", [True, False])
    def test_of_other_metrics_are_their_scores(self, person: bool) -> None:
        assert metric("weight_sum").selects is Selects.HIGHEST
        assert metric("weight_sum").preferences(self.scores, person) is self.scores

    @pytest.mark.parametrize(
        ("name", "person", "positive"),
        [(SUPPORTING, True, True), (SUPPORTING, False, False), (OPPOSING, True, False), (OPPOSING, False, True)],
    )
    def test_of_influence_are_those_of_one_sign(self, name: str, person: bool, positive: bool) -> None:
        """Neurons of the other sign, without influence and without a value are never selected."""
        nan = float("nan")
        expected = [2.0, nan, nan, nan, 0.5, nan] if positive else [nan, 3.0, nan, nan, nan, 0.25]
        np.testing.assert_array_equal(metric(name).preferences(self.scores, person).numpy(), expected)

    def test_of_both_metrics_never_share_a_neuron(self) -> None:
        for person in (True, False):
            selected = [metric(name).preferences(self.scores, person).isfinite() for name in (SUPPORTING, OPPOSING)]
            assert not (selected[0] & selected[1]).any()


class TestEvidence:
    @pytest.mark.parametrize("missing", ["activation", "moments", "influences"])
    def test_missing_data_is_a_type_error_that_names_the_cure(self, missing: str) -> None:
        evidence = LayerEvidence(ExplainSettings(), torch.ones(3, 2))
        with pytest.raises(TypeError, match="declared"):
            getattr(evidence, missing)


class TestInUse:
    def test_settings_offer_it(self, added: None) -> None:
        assert ExplainSettings(metrics=("largest", "weight_sum")).metrics == ("largest", "weight_sum")
        assert options(ExplainSettings)["metrics"].choices == (*DEFAULT_METRICS, "largest", "mean_activation")
        assert ExplainSettings().metrics == DEFAULT_METRICS

    def test_settings_refuse_it_once_it_is_removed(self) -> None:
        register(LARGEST)
        unregister("largest")
        with pytest.raises(
            ValueError, match="metrics is 'largest': it must be one of influence, counter_influence, activation_output_"
        ):
            ExplainSettings(metrics=("largest",))

    def test_explanations_rank_by_it(self, added: None, thin_classifier: PersonClassifier, picture) -> None:
        frame: NDArray[np.uint8] = picture(32, 64)
        settings = ExplainSettings(
            perturbations=12,
            layers=(3, 9),
            top_n=2,
            metrics=("largest", "mean_activation", "activation_sum"),
            perturbation_groups=4,
            silencing_draws=1,
        )
        explanation = Explainer(thin_classifier, settings).explain(frame)
        network = thin_classifier.network
        normalised = thin_classifier.normalise(thin_classifier.to_pixels(frame[None]))
        for layer, index in ((3, 6), (9, 20)):
            largest = network.features[: index + 1](normalised)[0].flatten(1).amax(1).double().numpy()
            ranking = explanation.layer_ranking("largest", layer)
            np.testing.assert_allclose(ranking.scores, largest, rtol=1e-5)
            assert ranking.stability is None
            assert all(neuron.interval is None for neuron in ranking.neurons)
            of_perturbations = explanation.layer_ranking("mean_activation", layer)
            assert of_perturbations.stability is not None
            for neuron in of_perturbations.neurons:
                assert neuron.interval is not None
                assert neuron.interval[0] <= neuron.score <= neuron.interval[1]
        assert [silencing.metric for silencing in explanation.silencing] == list(settings.metrics)


class TestEntryPoints:
    @pytest.fixture(autouse=True)
    def pending(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the registry load the entry points again."""
        monkeypatch.setattr(registry, "_PENDING", [registry.ENTRY_POINTS])

    @staticmethod
    def offer(monkeypatch: pytest.MonkeyPatch, *points: SimpleNamespace) -> None:
        def offered(group: str) -> tuple[SimpleNamespace, ...]:
            assert group == "explain_cnn_ros.metrics"
            return points

        monkeypatch.setattr(registry, "entry_points", offered)

    def test_a_function_registers_its_metrics(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []

        def add() -> None:
            calls.append(1)
            # A package may read the registry while it is being loaded.
            assert metric_names() == DEFAULT_METRICS
            register(LARGEST)

        self.offer(monkeypatch, SimpleNamespace(value="stranger:add", load=lambda: add))
        try:
            assert metric("largest") is LARGEST
            assert metric_names() == (*DEFAULT_METRICS, "largest")
            assert calls == [1]
        finally:
            unregister("largest")

    def test_a_module_registers_its_metrics_when_it_is_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def import_module() -> SimpleNamespace:
            register(LARGEST)
            return SimpleNamespace(__name__="stranger")

        self.offer(monkeypatch, SimpleNamespace(value="stranger", load=import_module))
        try:
            assert metric_names() == (*DEFAULT_METRICS, "largest")
        finally:
            unregister("largest")

    def test_a_package_that_fails_is_reported_and_left_out(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> None:
            raise ImportError("no module named beauty")

        self.offer(
            monkeypatch,
            SimpleNamespace(value="broken:add", load=fail),
            SimpleNamespace(value="stranger:add", load=lambda: lambda: register(LARGEST)),
        )
        try:
            with caplog.at_level(logging.ERROR):
                assert metric_names() == (*DEFAULT_METRICS, "largest")
            assert "broken:add" in caplog.text and "no module named beauty" in caplog.text
        finally:
            unregister("largest")
