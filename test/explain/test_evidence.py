"""Scores, stability and confidence intervals from evidence, against numpy and literal computations."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain_cnn_ros.explain.evidence import GROUPS_FOR_INTERVALS, STUDENT_T_975, Evidence, weight_scores
from explain_cnn_ros.explain.influences import Influences
from explain_cnn_ros.explain.metrics import (
    OPPOSING,
    PAPER_METRICS,
    SUPPORTING,
    LayerEvidence,
    Metric,
    Reads,
    register,
    unregister,
)
from explain_cnn_ros.explain.metrics.paper import (
    activation_output_correlation,
    activation_precision,
    activation_sum,
    weight_sum,
    weight_variance,
)
from explain_cnn_ros.explain.metrics.registry import SIMILARITY_METRICS
from explain_cnn_ros.explain.moments import Moments
from explain_cnn_ros.explain.selection import jaccard, top_channels
from explain_cnn_ros.explain.settings import ExplainSettings

CORRELATION, PRECISION = SIMILARITY_METRICS

LAYER = 3


class Weights:
    """The only part of an adapter that evidence needs: the weights of a layer."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, str]] = []

    def weights(self, layer: int, direction: str) -> Tensor:
        self.requests.append((layer, direction))
        generator = torch.Generator().manual_seed(layer + 100 * (direction == "incoming"))
        return torch.randn(8, 4, 3, 3, generator=generator, dtype=torch.float64)


def draw(perturbations: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw activations [n, 8, 4, 3] that are partly dead, and outputs [n] that some of them follow."""
    rng = np.random.default_rng(seed)
    clean, outputs = rng.normal(0.4, 1, (8, 4, 3)), rng.normal(size=perturbations)
    follow = rng.normal(size=(8, 1, 1)) * outputs[:, None, None, None]
    noise = rng.normal(size=(perturbations, 8, 4, 3))
    return np.maximum(clean * (1 + 0.1 * (follow + noise)), 0), outputs


def moments_of(z: NDArray[np.float64], o: NDArray[np.float64], groups: int = 2) -> Moments:
    moments = Moments.zeros(torch.from_numpy(z[0].copy()), torch.tensor(o[0]), groups)
    moments.update(torch.from_numpy(z), torch.from_numpy(o), 0)
    return moments


def influences_of(values: NDArray[np.float64], groups: int = 2) -> Influences:
    """Sum influences [n, C]; by default, the first perturbation counts as unperturbed."""
    influences = Influences.zeros(torch.from_numpy(values[0].copy()), groups)
    influences.update(torch.from_numpy(values), 0)
    return influences


def evidence_of(
    z: NDArray[np.float64],
    o: NDArray[np.float64],
    settings: ExplainSettings,
    values: NDArray[np.float64] | None = None,
    person: bool = True,
) -> Evidence:
    moments = moments_of(z, o, settings.perturbation_groups)
    values = np.random.default_rng(1).normal(size=(len(o), 8)) if values is None else values
    influences = influences_of(values, settings.perturbation_groups)
    return Evidence(settings, Weights(), {LAYER: torch.from_numpy(z[0])}, {LAYER: moments}, {LAYER: influences}, person)


class TestScore:
    def test_is_the_metrics_with_these_settings(self) -> None:
        settings = ExplainSettings(live_share_min=0.6, precision_lambda=0.9, weights="incoming")
        z, o = draw(20)
        evidence = evidence_of(z, o, settings)
        expected = {
            CORRELATION: activation_output_correlation(moments_of(z, o), 0.6),
            PRECISION: activation_precision(moments_of(z, o), 0.9),
            "activation_sum": activation_sum(torch.from_numpy(z[0])),
            "weight_sum": weight_sum(Weights().weights(LAYER, "incoming")),
        }
        for name, scores in expected.items():
            assert torch.equal(evidence.score(name, LAYER).nan_to_num(-1), scores.nan_to_num(-1)), name

    def test_an_unknown_metric(self) -> None:
        with pytest.raises(KeyError, match="no metric 'beauty'"):
            evidence_of(*draw(4), ExplainSettings()).score("beauty", LAYER)

    @pytest.mark.parametrize(
        ("reads", "wanted", "allowed"),
        [
            (Reads.WEIGHTS, "weights", True),
            (Reads.WEIGHTS, "activation", False),
            (Reads.WEIGHTS, "moments", False),
            (Reads.IMAGE, "activation", True),
            (Reads.IMAGE, "moments", False),
            (Reads.PERTURBATIONS, "weights", True),
            (Reads.PERTURBATIONS, "activation", True),
            (Reads.PERTURBATIONS, "moments", True),
            (Reads.PERTURBATIONS, "influences", False),
            (Reads.WEIGHTS, "influences", False),
            (Reads.IMAGE, "influences", False),
            (Reads.GRADIENTS, "weights", True),
            (Reads.GRADIENTS, "activation", True),
            (Reads.GRADIENTS, "influences", True),
            (Reads.GRADIENTS, "moments", False),
        ],
    )
    def test_a_metric_gets_no_more_than_it_declares(self, reads: Reads, wanted: str, allowed: bool) -> None:
        """A metric that reads more would give other scores where the data is shared or missing."""

        def read(evidence: LayerEvidence) -> Tensor:
            getattr(evidence, wanted)
            return torch.ones(8)

        register(Metric("curious", "curious", reads, read, "reads", "this test", "#123456"))
        try:
            evidence = evidence_of(*draw(4), ExplainSettings())
            if allowed:
                assert evidence.score("curious", LAYER).tolist() == [1.0] * 8
            else:
                with pytest.raises(TypeError, match="declared"):
                    evidence.score("curious", LAYER)
        finally:
            unregister("curious")


class TestStability:
    @pytest.mark.parametrize("name", SIMILARITY_METRICS)
    @pytest.mark.parametrize("groups", [2, 6])
    @pytest.mark.parametrize("seed", range(3))
    def test_is_the_jaccard_index_of_even_and_odd_perturbations(self, name: str, groups: int, seed: int) -> None:
        settings = ExplainSettings(top_n=3, perturbation_groups=groups)
        z, o = draw(24, seed)
        function = {CORRELATION: activation_output_correlation, PRECISION: activation_precision}[name]
        halves = [set(top_channels(function(moments_of(z[i::2], o[i::2])), 3)) for i in (0, 1)]
        assert evidence_of(z, o, settings).stability(name, LAYER) == jaccard(*halves)

    def test_is_undefined_if_nobody_has_a_value(self) -> None:
        z, o = draw(24)
        evidence = evidence_of(z, np.full_like(o, 2.5), ExplainSettings())
        assert math.isnan(evidence.stability(CORRELATION, LAYER))


class TestIntervals:
    settings = ExplainSettings(perturbation_groups=6, live_share_min=0.7, precision_lambda=1.0)

    @pytest.mark.parametrize("name", SIMILARITY_METRICS)
    def test_are_the_jackknifes(self, name: str) -> None:
        """Each group is left out in turn; 2.57058 is Student's t of 5 degrees of freedom. Nobody is discarded."""
        z, o = draw(30)
        function = {
            CORRELATION: lambda moments: activation_output_correlation(moments, 0.0),
            PRECISION: lambda moments: activation_precision(moments, 0.0),
        }[name]
        without = []
        for left_out in range(6):
            rest = [i for i in range(30) if i % 6 != left_out]
            without.append(function(moments_of(z[rest], o[rest])).numpy())
        values = np.array(without)
        expected = 2.57058 * np.sqrt(((values - values.mean(0)) ** 2).sum(0) * 5 / 6)
        channels = [c for c in (5, 0, 3, 7, 2) if np.isfinite(expected[c])]
        assert len(channels) > 2
        evidence = evidence_of(z, o, self.settings)
        assert evidence.score(name, LAYER)[channels].isnan().any()
        actual = evidence.interval_half_widths(name, LAYER, channels)
        np.testing.assert_allclose(actual.numpy(), expected[channels], rtol=1e-7)
        assert (actual > 0).all()

    @pytest.mark.parametrize("name", [name for name in PAPER_METRICS if name not in SIMILARITY_METRICS])
    def test_do_not_exist_without_perturbations(self, name: str) -> None:
        half_widths = evidence_of(*draw(30), self.settings).interval_half_widths(name, LAYER, [1, 4])
        assert half_widths.shape == (2,) and half_widths.isnan().all()

    @pytest.mark.parametrize(("groups", "exist"), [(2, False), (4, True)])
    def test_need_enough_groups(self, groups: int, exist: bool) -> None:
        assert GROUPS_FOR_INTERVALS == 4
        evidence = evidence_of(*draw(30), ExplainSettings(perturbation_groups=groups))
        half_widths = evidence.interval_half_widths(PRECISION, LAYER, [1, 4, 5])
        assert bool(half_widths.isfinite().all()) is exist
        assert bool(half_widths.isnan().all()) is not exist

    def test_need_a_perturbation_in_every_group(self) -> None:
        evidence = evidence_of(*draw(9), ExplainSettings(perturbation_groups=10))
        assert evidence.interval_half_widths(PRECISION, LAYER, [1, 4]).isnan().all()

    def test_of_nobody(self) -> None:
        assert evidence_of(*draw(30), self.settings).interval_half_widths(PRECISION, LAYER, []).shape == (0,)


def simpson(limit: float, degrees: int, steps: int = 2000) -> float:
    """Integrate the density of Student's t from 0 to a limit by Simpson's rule."""
    factor = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)

    def ordinates() -> Iterator[float]:
        for index in range(steps + 1):
            weight = 1 if index in (0, steps) else 4 if index % 2 else 2
            yield weight * (1 + (limit * index / steps) ** 2 / degrees) ** (-(degrees + 1) / 2)

    return factor * math.fsum(ordinates()) * limit / steps / 3


class TestStudentT:
    def test_has_a_quantile_for_every_even_number_of_groups(self) -> None:
        """The setting allows 4 to 100 groups that have intervals."""
        assert len(STUDENT_T_975) == len(range(4, 101, 2))
        with pytest.raises(ValueError, match="perturbation_groups"):
            ExplainSettings(perturbation_groups=102)

    @pytest.mark.parametrize("groups", range(4, 101, 2))
    def test_is_the_integral(self, groups: int) -> None:
        """95 % lie between both quantiles; the table has five decimals."""
        degrees, quantile = groups - 1, STUDENT_T_975[groups // 2 - 2]
        assert 2 * simpson(quantile, degrees) == pytest.approx(0.95, abs=1e-5)
        assert simpson(quantile - 6e-6, degrees) < 0.475 < simpson(quantile + 6e-6, degrees)

    @pytest.mark.parametrize(("degrees", "expected"), [(3, 3.18245), (9, 2.26216), (99, 1.98422)])
    def test_is_as_in_tables(self, degrees: int, expected: float) -> None:
        assert STUDENT_T_975[(degrees + 1) // 2 - 2] == expected


class TestInfluence:
    """Scores, selection, stability and intervals of the metrics of influence."""

    @staticmethod
    def values(perturbations: int, seed: int = 0) -> NDArray[np.float64]:
        """Draw influences [n, 8] of either sign, two of which hardly differ from 0."""
        rng = np.random.default_rng(seed)
        centre = np.array([2.0, -1.5, 1.0, -0.5, 0.8, -0.1, 0.05, 0.4])
        return centre + rng.normal(0, 0.5, (perturbations, 8))

    @pytest.mark.parametrize("name", [SUPPORTING, OPPOSING])
    def test_score_is_the_mean_over_the_perturbations(self, name: str) -> None:
        values = self.values(20)
        score = evidence_of(*draw(20), ExplainSettings(), values).score(name, LAYER)
        np.testing.assert_allclose(score.numpy(), values.mean(0), rtol=1e-12)

    def test_score_without_perturbations_is_the_images(self) -> None:
        settings = ExplainSettings(perturbations=0, metrics=(SUPPORTING,))
        alone = Influences.zeros(torch.arange(8.0))
        evidence = Evidence(settings, Weights(), {LAYER: torch.ones(8, 2, 2)}, {}, {LAYER: alone}, True)
        assert evidence.score(SUPPORTING, LAYER).tolist() == list(range(8))

    @pytest.mark.parametrize("person", [True, False])
    @pytest.mark.parametrize("top_n", [2, 8])
    def test_selects_the_neurons_of_one_side(self, person: bool, top_n: int) -> None:
        """Five neurons argue for the person and three against it. A ranking holds one side only and may be short."""
        values = self.values(20)
        values[:, 5], values[:, 6] = -0.1, 0.05
        evidence = evidence_of(*draw(20), ExplainSettings(top_n=top_n), values, person)
        mean = values.mean(0)
        for_person = sorted((c for c in range(8) if mean[c] > 0), key=lambda c: -mean[c])[:top_n]
        against = sorted((c for c in range(8) if mean[c] < 0), key=lambda c: mean[c])[:top_n]
        assert len(for_person) == min(5, top_n) and len(against) == min(3, top_n)
        scores = evidence.score(SUPPORTING, LAYER)
        selected = [evidence.select(name, scores) for name in (SUPPORTING, OPPOSING)]
        assert selected == ([for_person, against] if person else [against, for_person])

    @pytest.mark.parametrize("person", [True, False])
    @pytest.mark.parametrize("groups", [2, 6])
    @pytest.mark.parametrize("seed", range(3))
    def test_stability_is_the_jaccard_index_of_even_and_odd_perturbations(
        self, person: bool, groups: int, seed: int
    ) -> None:
        values = self.values(24, seed)
        evidence = evidence_of(*draw(24), ExplainSettings(top_n=2, perturbation_groups=groups), values, person)
        for name in (SUPPORTING, OPPOSING):
            sign = 1 if person == (name == SUPPORTING) else -1
            halves = []
            for parity in (0, 1):
                mean = sign * values[parity::2].mean(0)
                halves.append(set(sorted((c for c in range(8) if mean[c] > 0), key=lambda c, m=mean: -m[c])[:2]))
            assert evidence.stability(name, LAYER) == jaccard(*halves)

    def test_stability_is_undefined_if_no_neuron_argues_for_a_side(self) -> None:
        evidence = evidence_of(*draw(24), ExplainSettings(), np.ones((24, 8)))
        assert evidence.stability(SUPPORTING, LAYER) == 1
        assert math.isnan(evidence.stability(OPPOSING, LAYER))

    @pytest.mark.parametrize("name", [SUPPORTING, OPPOSING])
    def test_intervals_are_the_jackknifes(self, name: str) -> None:
        """Each of six groups is left out in turn; they are not equally large."""
        values = self.values(31)
        evidence = evidence_of(*draw(31), ExplainSettings(perturbation_groups=6), values)
        without = np.array([values[[i for i in range(31) if i % 6 != left]].mean(0) for left in range(6)])
        expected = 2.57058 * np.sqrt(((without - without.mean(0)) ** 2).sum(0) * 5 / 6)
        channels = [5, 0, 3]
        actual = evidence.interval_half_widths(name, LAYER, channels)
        np.testing.assert_allclose(actual.numpy(), expected[channels], rtol=1e-9)

    def test_intervals_do_not_exist_for_the_image_alone(self) -> None:
        settings = ExplainSettings(perturbations=0, metrics=(SUPPORTING,), perturbation_groups=6)
        alone = Influences.zeros(torch.arange(8.0), 6)
        evidence = Evidence(settings, Weights(), {LAYER: torch.ones(8, 2, 2)}, {}, {LAYER: alone}, True)
        assert evidence.interval_half_widths(SUPPORTING, LAYER, [1, 2]).isnan().all()


class TestWeightScores:
    def test_are_of_the_requested_metrics_of_weights_and_layers(self) -> None:
        adapter = Weights()
        settings = ExplainSettings(metrics=("weight_variance", "activation_sum", "weight_sum"), layers=(3, 7))
        scores = weight_scores(adapter, settings)
        assert set(scores) == {(name, layer) for name in ("weight_variance", "weight_sum") for layer in (3, 7)}
        for layer in (3, 7):
            weights = Weights().weights(layer, "outgoing")
            assert torch.equal(scores["weight_sum", layer], weight_sum(weights))
            assert torch.equal(scores["weight_variance", layer], weight_variance(weights))
        assert {direction for _, direction in adapter.requests} == {"outgoing"}

    def test_nothing_is_computed_without_such_metrics(self) -> None:
        adapter = Weights()
        assert weight_scores(adapter, ExplainSettings(metrics=("activation_sum",))) == {}
        assert adapter.requests == []
