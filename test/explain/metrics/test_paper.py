"""The six metrics of the paper against literal loops and numpy, and the neurons that must never be selected."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor

from explain_cnn_ros.explain.metrics import PAPER_METRICS, LayerEvidence, Reads, metric, metric_names, paper
from explain_cnn_ros.explain.metrics.paper import (
    activation_output_correlation,
    activation_precision,
    activation_sum,
    activation_variance,
    weight_sum,
    weight_variance,
)
from explain_cnn_ros.explain.metrics.registry import SIMILARITY_METRICS
from explain_cnn_ros.explain.moments import Moments
from explain_cnn_ros.explain.selection import top_channels
from explain_cnn_ros.explain.settings import ExplainSettings

Array = NDArray[np.float64]


def moments_of(z: Array, o: Array, clean: Array | None = None, dtype: torch.dtype = torch.float64) -> Moments:
    """Sum activations [n, C, R, C'] and outputs [n]; by default, the first perturbation counts as unperturbed."""
    shift = torch.from_numpy(np.ascontiguousarray(z[0] if clean is None else clean)).to(dtype)
    moments = Moments.zeros(shift, torch.tensor(o[0], dtype=dtype))
    for first in range(0, len(o), 4):
        moments.update(torch.from_numpy(z[first : first + 4]).to(dtype), torch.from_numpy(o[first : first + 4]), first)
    return moments


def draw(seed: int, n: int = 10, shape: tuple[int, int, int] = (4, 3, 2)) -> tuple[Array, Array]:
    """Draw activations after a ReLU, about a third of which are dead, and outputs."""
    rng = np.random.default_rng(seed)
    clean = rng.normal(0.4, 1, shape)
    return np.maximum(clean * (1 + 0.1 * rng.normal(size=(n, *shape))), 0), rng.normal(size=n)


def pearson(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    above = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return above / math.sqrt(math.fsum((x - mean_a) ** 2 for x in a) * math.fsum((y - mean_b) ** 2 for y in b))


def literal_correlation(z: Array, o: Array, live_share_min: float) -> list[float]:
    """Compute eq. 2 as printed, position by position, over the positions that vary."""
    scores = []
    n, channels, rows, columns = z.shape
    for channel in range(channels):
        strengths = []
        for r in range(rows):
            for c in range(columns):
                values = [float(z[i, channel, r, c]) for i in range(n)]
                if any(v != values[0] for v in values):
                    strengths.append(abs(pearson(values, o.tolist())))
        enough = strengths and len(strengths) >= live_share_min * rows * columns
        scores.append(sum(strengths) / len(strengths) if enough else math.nan)
    return scores


def literal_precision(z: Array, lambda_: float, absolute: bool, mean_of_inverse: bool) -> list[float]:
    """Compute eq. 3 with the factors 1/n, position by position."""
    n, channels, rows, columns = z.shape
    limit = lambda_ if absolute else lambda_ * math.fsum(z.flatten()) / z.size
    scores = []
    for channel in range(channels):
        variances = []
        for r in range(rows):
            for c in range(columns):
                values = z[:, channel, r, c].tolist()
                mean = math.fsum(values) / n
                variances.append(math.fsum((v - mean) ** 2 for v in values) / n)
        mean = math.fsum(z[:, channel].flatten()) / z[:, channel].size
        if mean < limit or mean == 0 or not any(variances):
            scores.append(math.nan)
        elif mean_of_inverse:
            inverses = [1 / v for v in variances if v > 0]
            scores.append(sum(inverses) / len(inverses))
        else:
            scores.append(1 / (sum(variances) / len(variances)))
    return scores


def assert_scores(actual: Tensor, expected: list[float] | Array, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(actual.numpy(), np.asarray(expected, dtype=float), rtol=rtol)


class TestCorrelation:
    @pytest.mark.parametrize("live_share_min", [0.0, 0.1, 0.5, 0.7, 1.0])
    @pytest.mark.parametrize("seed", range(4))
    def test_is_the_literal_mean(self, seed: int, live_share_min: float) -> None:
        z, o = draw(seed)
        z[:, 1] = 0
        expected = literal_correlation(z, o, live_share_min)
        assert_scores(activation_output_correlation(moments_of(z, o), live_share_min), expected)

    def test_is_numpys_over_many_neurons(self) -> None:
        z, o = draw(7, n=50, shape=(40, 8, 6))
        expected = [
            np.mean(
                [
                    abs(np.corrcoef(z[:, c, i, j], o)[0, 1])
                    for i in range(8)
                    for j in range(6)
                    if np.ptp(z[:, c, i, j]) > 0
                ]
            )
            for c in range(40)
        ]
        assert_scores(activation_output_correlation(moments_of(z, o), 0.0), expected)

    def test_float32_agrees_to_single_precision(self) -> None:
        z, o = draw(8, n=50, shape=(40, 8, 6))
        z, o = z.astype(np.float32).astype(float), o.astype(np.float32).astype(float)
        exact = activation_output_correlation(moments_of(z, o))
        single = activation_output_correlation(moments_of(z, o, dtype=torch.float32))
        assert single.dtype == torch.float32
        assert_scores(single, exact.numpy(), rtol=1e-5)

    def test_two_by_two(self) -> None:
        """The correlations are 1, -1 and 0.5, and one position is constant: (1 + 1 + 0.5) / 3."""
        o = np.array([1.0, 2.0, 3.0])
        z = np.array([[[[1.0, 3.0], [1.0, 5.0]]], [[[2.0, 2.0], [3.0, 5.0]]], [[[3.0, 1.0], [2.0, 5.0]]]])
        assert_scores(activation_output_correlation(moments_of(z, o)), [2.5 / 3])

    @given(z=hnp.arrays(float, (4, 3, 2, 2), elements=st.integers(0, 8).map(float)), seed=st.integers(0, 99))
    def test_is_the_literal_mean_for_any_activations(self, z: Array, seed: int) -> None:
        o = np.random.default_rng(seed).normal(size=4)
        assert_scores(activation_output_correlation(moments_of(z, o), 0.3), literal_correlation(z, o, 0.3), rtol=1e-7)

    @given(seed=st.integers(0, 2**32 - 1))
    def test_lies_between_0_and_1(self, seed: int) -> None:
        z, o = draw(seed, n=2 + seed % 20)
        scores = activation_output_correlation(moments_of(z, o, dtype=torch.float32), 0.0)
        assert ((scores >= 0) & (scores <= 1) | scores.isnan()).all()

    @pytest.mark.parametrize(("live", "selected"), [(0, False), (3, False), (4, True), (5, True), (16, True)])
    def test_live_share(self, live: int, selected: bool) -> None:
        """A share of 0.25 is 4 of the 16 positions."""
        rng = np.random.default_rng(0)
        z = np.zeros((10, 1, 4, 4))
        z.reshape(10, 16)[:, :live] = rng.normal(size=(10, live))
        score = activation_output_correlation(moments_of(z, rng.normal(size=10)), 0.25)
        assert bool(score.isnan()) is not selected

    def test_an_output_that_never_changes_gives_nobody_a_value(self) -> None:
        z, _ = draw(0)
        assert activation_output_correlation(moments_of(z, np.full(10, 3.3))).isnan().all()

    def test_an_output_that_is_constant_but_not_the_unperturbed_one_gives_nobody_a_value(self) -> None:
        z, _ = draw(0, n=50)
        moments = Moments.zeros(torch.from_numpy(z[0]), torch.tensor(0.7, dtype=torch.float64))
        moments.update(torch.from_numpy(z), torch.full((50,), 0.1, dtype=torch.float64), 0)
        assert activation_output_correlation(moments).isnan().all()

    def test_activations_that_never_change_have_no_value(self) -> None:
        o = np.random.default_rng(0).normal(size=10)
        assert activation_output_correlation(moments_of(np.full((10, 3, 2, 2), 1.7), o)).isnan().all()

    def test_a_neuron_silenced_by_every_perturbation_has_no_value(self) -> None:
        """It is alive in the unperturbed image only, so it is constant, but not at its unperturbed value."""
        rng = np.random.default_rng(0)
        z = np.zeros((50, 2, 4, 4))
        z[:, 1] = rng.normal(size=(50, 4, 4))
        clean = np.abs(rng.normal(size=(2, 4, 4)))
        o = rng.normal(size=50)
        assert activation_output_correlation(moments_of(z, o, clean)).isnan().tolist() == [True, False]

    def test_two_perturbations_correlate_fully(self) -> None:
        z, o = draw(0, n=2, shape=(3, 2, 2))
        z[:, 2] = 0
        assert_scores(activation_output_correlation(moments_of(z, o)), [1, 1, math.nan])

    def test_one_perturbation_has_no_correlation(self) -> None:
        z, o = draw(0, n=1)
        assert activation_output_correlation(moments_of(z, o)).isnan().all()

    @given(scale=st.floats(0.01, 100), offset=st.floats(-10, 10))
    def test_scale_and_offset_of_the_output_do_not_matter(self, scale: float, offset: float) -> None:
        z, o = draw(1)
        plain = activation_output_correlation(moments_of(z, o))
        assert_scores(activation_output_correlation(moments_of(z, -scale * o + offset)), plain.numpy(), rtol=1e-7)


class TestPrecision:
    @pytest.mark.parametrize("mean_of_inverse", [False, True])
    @pytest.mark.parametrize(
        ("lambda_", "absolute"), [(0.0, False), (0.1, False), (0.9, False), (0.3, True), (0.0, True)]
    )
    @pytest.mark.parametrize("seed", range(3))
    def test_is_the_literal_inverse(self, seed: int, lambda_: float, absolute: bool, mean_of_inverse: bool) -> None:
        z, o = draw(seed)
        z[:, 1] = 0
        z[:, 2] *= 0.05
        expected = literal_precision(z, lambda_, absolute, mean_of_inverse)
        assert_scores(activation_precision(moments_of(z, o), lambda_, absolute, mean_of_inverse), expected)

    def test_is_numpys_over_many_neurons(self) -> None:
        z, o = draw(7, n=50, shape=(40, 8, 6))
        expected = 1 / z.var(0).mean((1, 2))
        expected[z.mean((0, 2, 3)) < 0.95 * z.mean()] = np.nan
        assert 0 < np.isnan(expected).sum() < 40
        assert_scores(activation_precision(moments_of(z, o), 0.95), expected)

    def test_default_is_a_tenth_of_the_layers_mean(self) -> None:
        """The means are 1, 0.036 and 0.08, and their average is 0.372. A tenth of it discards the second neuron."""
        rng = np.random.default_rng(0)
        z = np.array([1.0, 0.036, 0.08])[:, None, None] * (1 + 0.01 * rng.normal(size=(20, 3, 2, 2)))
        moments = moments_of(z, rng.normal(size=20))
        assert activation_precision(moments).isnan().tolist() == [False, True, False]
        assert activation_precision(moments, 0.03, lambda_absolute=True).isnan().tolist() == [False, False, False]
        assert activation_precision(moments, 0.5, lambda_absolute=True).isnan().tolist() == [False, True, True]

    def test_mean_of_inverse_differs_from_inverse_of_mean(self) -> None:
        """The variances are 1 and 4, so the results are 1 / 2.5 and (1 + 1/4) / 2."""
        z = np.array([[[[4.0, 3.0]]], [[[6.0, 7.0]]]])
        moments = moments_of(z, np.array([0.0, 1.0]))
        assert_scores(activation_precision(moments), [0.4])
        assert_scores(activation_precision(moments, mean_of_inverse=True), [0.625])

    def test_a_dead_neuron_has_no_precision_even_without_a_limit(self) -> None:
        z, o = draw(0)
        z[:, 3] = 0
        assert activation_precision(moments_of(z, o), 0.0).isnan().tolist() == [False, False, False, True]

    @pytest.mark.parametrize("mean_of_inverse", [False, True])
    def test_a_neuron_that_never_changes_has_no_precision(self, mean_of_inverse: bool) -> None:
        """The inverse of its variance is infinite, and it would be ranked first."""
        z, o = draw(0)
        z[:, 1] = 2.5
        assert activation_precision(moments_of(z, o), mean_of_inverse=mean_of_inverse).isnan()[1]

    @pytest.mark.parametrize("mean_of_inverse", [False, True])
    def test_rounding_is_no_variance(self, mean_of_inverse: bool) -> None:
        """The neuron is constant, but not at its unperturbed value. The rounding error of the sums is no variance."""
        rng = np.random.default_rng(0)
        z, o = draw(0, n=50)
        z[:, 1] = rng.uniform(1, 3, (3, 2))
        clean = z[0].copy()
        clean[1] = rng.uniform(1, 3, (3, 2))
        moments = moments_of(z, o, clean)
        assert moments.variance[1].any()
        assert activation_precision(moments, 0.0, mean_of_inverse=mean_of_inverse).isnan()[1]

    def test_mean_of_inverse_leaves_out_positions_silenced_by_every_perturbation(self) -> None:
        z, o = draw(2, n=50)
        z[:, 0, 0, 0] = 0
        clean = z[0].copy()
        clean[0, 0, 0] = 0.3
        actual = activation_precision(moments_of(z, o, clean), 0.0, mean_of_inverse=True)
        assert_scores(actual, literal_precision(z, 0.0, False, True))


class TestOfTheImage:
    def test_sum_and_variance_are_loops(self) -> None:
        z, _ = draw(3, n=1)
        values = [[float(v) for v in channel.flatten()] for channel in z[0]]
        sums = [math.fsum(v) for v in values]
        variances = [math.fsum((x - s / len(v)) ** 2 for x in v) / len(v) for v, s in zip(values, sums, strict=True)]
        activation = torch.from_numpy(z[0])
        assert_scores(activation_sum(activation), sums)
        assert_scores(activation_variance(activation), variances)

    def test_a_dead_neuron_has_no_value(self) -> None:
        z = torch.tensor([[[0.0, 0.0]], [[1.0, 3.0]], [[0.0, 0.5]]])
        assert_scores(activation_sum(z), [math.nan, 4, 0.5])
        assert_scores(activation_variance(z), [math.nan, 1, 0.0625])


class TestWeights:
    def test_sum_and_variance_are_loops(self) -> None:
        weights = np.random.default_rng(0).normal(size=(5, 4, 3, 3))
        rows = [[float(w) for w in neuron.flatten()] for neuron in weights]
        sums = [math.fsum(row) for row in rows]
        variances = [math.fsum((w - s / len(r)) ** 2 for w in r) / len(r) for r, s in zip(rows, sums, strict=True)]
        assert_scores(weight_sum(torch.from_numpy(weights)), sums)
        assert_scores(weight_variance(torch.from_numpy(weights)), variances)

    def test_a_layer_of_one_neuron(self) -> None:
        weights = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
        assert_scores(weight_sum(weights), [12.0])
        assert_scores(weight_variance(weights), [3.5])


class TestSelection:
    @given(seed=st.integers(0, 2**32 - 1), top_n=st.integers(1, 12))
    def test_permuted_channels_are_ranked_alike(self, seed: int, top_n: int) -> None:
        rng = np.random.default_rng(seed)
        z, o = draw(seed, shape=(8, 3, 3))
        order = rng.permutation(8)
        for score in (activation_output_correlation, activation_precision):
            plain = top_channels(score(moments_of(z, o)), top_n)
            permuted = top_channels(score(moments_of(z[:, order], o)), top_n)
            assert [int(order[c]) for c in permuted] == plain
        for of_image in (activation_sum, activation_variance):
            plain = top_channels(of_image(torch.from_numpy(z[0])), top_n)
            permuted = top_channels(of_image(torch.from_numpy(z[0][order])), top_n)
            assert [int(order[c]) for c in permuted] == plain

    @given(seed=st.integers(0, 2**32 - 1), dead=st.sets(st.integers(0, 7), min_size=1, max_size=7))
    def test_dead_neurons_are_never_selected(self, seed: int, dead: set[int]) -> None:
        z, o = draw(seed, n=20, shape=(8, 3, 3))
        z[:, :, 0, 0] += np.random.default_rng(seed).uniform(1, 2, (20, 8))
        z[:, sorted(dead)] = 0
        moments, image = moments_of(z, o), torch.from_numpy(z[0])
        for scores in (
            activation_output_correlation(moments),
            activation_precision(moments, 0.0),
            activation_precision(moments, 0.0, mean_of_inverse=True),
            activation_sum(image),
            activation_variance(image),
        ):
            selected = top_channels(scores, 8)
            assert sorted(selected) == sorted(set(range(8)) - dead)


def test_one_channel_layers() -> None:
    z, o = draw(0, shape=(1, 2, 2))
    z += 1
    moments, image = moments_of(z, o), torch.from_numpy(z[0])
    for scores in (
        activation_output_correlation(moments),
        activation_precision(moments),
        activation_sum(image),
        activation_variance(image),
    ):
        assert scores.shape == (1,)
        assert top_channels(scores, 5) == [0]


def test_names() -> None:
    assert len(PAPER_METRICS) == len(set(PAPER_METRICS)) == 6
    assert set(SIMILARITY_METRICS) < set(PAPER_METRICS)
    assert metric_names()[2:8] == PAPER_METRICS
    assert all(callable(getattr(paper, name)) for name in PAPER_METRICS)


class TestRegistered:
    """The registered functions read their settings from the evidence."""

    settings = ExplainSettings(
        live_share_min=0.6, precision_lambda=0.3, precision_lambda_absolute=True, precision_mean_of_inverse=True
    )

    @pytest.fixture
    def evidence(self) -> LayerEvidence:
        z, o = draw(5, n=20, shape=(8, 3, 3))
        weights = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return LayerEvidence(self.settings, weights, torch.from_numpy(z[0]), moments_of(z, o))

    def test_are_the_functions_with_these_settings(self, evidence: LayerEvidence) -> None:
        moments, image, weights = evidence.moments, evidence.activation, evidence.weights
        expected = {
            "activation_output_correlation": activation_output_correlation(moments, 0.6),
            "activation_precision": activation_precision(moments, 0.3, lambda_absolute=True, mean_of_inverse=True),
            "activation_sum": activation_sum(image),
            "activation_variance": activation_variance(image),
            "weight_sum": weight_sum(weights),
            "weight_variance": weight_variance(weights),
        }
        assert expected.keys() == set(PAPER_METRICS)
        for name, scores in expected.items():
            assert torch.equal(metric(name).function(evidence).nan_to_num(-1), scores.nan_to_num(-1)), name
        assert expected["activation_output_correlation"].isnan().any()
        assert expected["activation_precision"].isnan().any()

    def test_nobody_is_discarded_in_comparison_with_others_if_the_evidence_says_so(
        self, evidence: LayerEvidence
    ) -> None:
        """Confidence intervals compute the scores of a few neurons by themselves."""
        everybody = dataclasses.replace(evidence, discard=False)
        expected = {
            "activation_output_correlation": activation_output_correlation(evidence.moments, 0.0),
            "activation_precision": activation_precision(evidence.moments, 0.0, True, True),
        }
        for name, scores in expected.items():
            assert torch.equal(metric(name).function(everybody).nan_to_num(-1), scores.nan_to_num(-1)), name
            more = metric(name).function(everybody).isfinite().sum() - metric(name).function(evidence).isfinite().sum()
            assert more > 0

    def test_read_no_more_than_they_declare(self, evidence: LayerEvidence) -> None:
        """A metric that reads more than it declares fails, because the data is not there."""
        reduced = {
            Reads.WEIGHTS: dataclasses.replace(evidence, activation_or_none=None, moments_or_none=None),
            Reads.IMAGE: dataclasses.replace(evidence, moments_or_none=None),
            Reads.PERTURBATIONS: evidence,
        }
        for name in PAPER_METRICS:
            assert metric(name).function(reduced[metric(name).reads]).shape == (8,)
        assert [metric(name).perturbed(self.settings) for name in PAPER_METRICS] == [
            True,
            True,
            False,
            False,
            False,
            False,
        ]
        assert [metric(name).signed for name in PAPER_METRICS] == [False, False, False, False, True, False]
