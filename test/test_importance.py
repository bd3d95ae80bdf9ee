"""The six metrics against literal loops and numpy, and what must never be selected."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor

from explain_cnn_ros import importance
from explain_cnn_ros.importance import (
    METRICS,
    PERTURBATION_METRICS,
    activation_output_correlation,
    activation_precision,
    jaccard,
    rank,
)
from explain_cnn_ros.moments import Moments
from explain_cnn_ros.network import VGGClassifier

Array = NDArray[np.float64]


def moments_of(z: Array, o: Array, clean: Array | None = None, dtype: torch.dtype = torch.float64) -> Moments:
    """Of perturbed activations [n, C, R, C'] and outputs [n]; unperturbed is what the first perturbation has."""
    shift = torch.from_numpy(np.ascontiguousarray(z[0] if clean is None else clean)).to(dtype)
    moments = Moments.zeros(shift, torch.tensor(o[0], dtype=dtype))
    for first in range(0, len(o), 4):
        moments.update(torch.from_numpy(z[first : first + 4]).to(dtype), torch.from_numpy(o[first : first + 4]), first)
    return moments


def draw(seed: int, n: int = 10, shape: tuple[int, int, int] = (4, 3, 2)) -> tuple[Array, Array]:
    """Activations after a ReLU, dead in about a third of all cases, and outputs."""
    rng = np.random.default_rng(seed)
    clean = rng.normal(0.4, 1, shape)
    return np.maximum(clean * (1 + 0.1 * rng.normal(size=(n, *shape))), 0), rng.normal(size=n)


def pearson(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    above = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return above / math.sqrt(math.fsum((x - mean_a) ** 2 for x in a) * math.fsum((y - mean_b) ** 2 for y in b))


def literal_correlation(z: Array, o: Array, live_share_min: float) -> list[float]:
    """Eq. 2 as it is printed, position by position, over the positions that vary."""
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
    """Eq. 3 with the factors 1/n, position by position."""
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
        """By hand: correlations of 1, -1, 0.5 and a constant position: (1 + 1 + 0.5) / 3."""
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
        """Of 16 positions, a share of 0.25 is 4."""
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
        """Alive only in the unperturbed image: constant, though not at its unperturbed value."""
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
        """Means of 1, 0.05 and 0.08 average 0.377: a tenth of it discards none; the absolute 0.06 discards one."""
        rng = np.random.default_rng(0)
        z = np.array([1.0, 0.036, 0.08])[:, None, None] * (1 + 0.01 * rng.normal(size=(20, 3, 2, 2)))
        moments = moments_of(z, rng.normal(size=20))
        assert activation_precision(moments).isnan().tolist() == [False, True, False]
        assert activation_precision(moments, 0.03, lambda_absolute=True).isnan().tolist() == [False, False, False]
        assert activation_precision(moments, 0.5, lambda_absolute=True).isnan().tolist() == [False, True, True]

    def test_mean_of_inverse_differs_from_inverse_of_mean(self) -> None:
        """By hand: variances of 1 and 4 give 1 / 2.5 and (1 + 1/4) / 2."""
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
        """Its variance has no inverse: it would come first."""
        z, o = draw(0)
        z[:, 1] = 2.5
        assert activation_precision(moments_of(z, o), mean_of_inverse=mean_of_inverse).isnan()[1]

    @pytest.mark.parametrize("mean_of_inverse", [False, True])
    def test_rounding_is_no_variance(self, mean_of_inverse: bool) -> None:
        """Constant, though not at the unperturbed value: the rest of the sums must not win."""
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
        assert_scores(importance.activation_sum(activation), sums)
        assert_scores(importance.activation_variance(activation), variances)

    def test_a_dead_neuron_has_no_value(self) -> None:
        z = torch.tensor([[[0.0, 0.0]], [[1.0, 3.0]], [[0.0, 0.5]]])
        assert_scores(importance.activation_sum(z), [math.nan, 4, 0.5])
        assert_scores(importance.activation_variance(z), [math.nan, 1, 0.0625])


class TestWeights:
    @pytest.mark.parametrize("layer", [1, 2, 7, 12])
    def test_outgoing_weights_are_the_next_convolutions(
        self, thin_network: Callable[..., VGGClassifier], layer: int
    ) -> None:
        """Torchvision's VGG-16 has its convolutions at these places."""
        network = thin_network(dtype=torch.float64)
        places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
        weight = network.features[places[layer]].weight.tolist()
        for neuron in range(network.features[places[layer - 1]].out_channels):
            outgoing = [tap for out in weight for row in out[neuron] for tap in row]
            self.assert_metrics(network, layer, neuron, outgoing)

    def test_outgoing_weights_of_the_last_convolution_are_the_dense_layers(
        self, thin_network: Callable[..., VGGClassifier]
    ) -> None:
        """The dense layer reads the maps flattened as (C, H, W); of a 32 x 64 window, the last map is 2 x 1."""
        network = thin_network(dtype=torch.float64)
        weight = network.classifier[1].weight.tolist()
        channels, height, width = 8, 2, 1
        for neuron in range(channels):
            outgoing = [
                out[(neuron * height + row) * width + column]
                for out in weight
                for row in range(height)
                for column in range(width)
            ]
            self.assert_metrics(network, 13, neuron, outgoing)

    @staticmethod
    def assert_metrics(network: VGGClassifier, layer: int, neuron: int, outgoing: list[float]) -> None:
        weights = importance.outgoing_weights(network, layer)
        mean = math.fsum(outgoing) / len(outgoing)
        variance = math.fsum((w - mean) ** 2 for w in outgoing) / len(outgoing)
        assert sorted(weights[neuron].flatten().tolist()) == sorted(outgoing)
        assert float(importance.weight_sum(weights)[neuron]) == pytest.approx(math.fsum(outgoing), rel=1e-9, abs=1e-12)
        assert float(importance.weight_variance(weights)[neuron]) == pytest.approx(variance, rel=1e-9)

    def test_dense_weights_belong_to_the_neuron_that_they_read(
        self, thin_network: Callable[..., VGGClassifier]
    ) -> None:
        """What one neuron of the last map adds to the first dense layer is its outgoing weights."""
        network = thin_network(dtype=torch.float64)
        maps = torch.zeros(1, 8, 2, 1, dtype=torch.float64)
        maps[0, 5] = torch.tensor([[2.0], [3.0]])
        dense = network.classifier[1]
        added = dense(maps.flatten(1))[0] - dense.bias
        outgoing = importance.outgoing_weights(network, 13)[5]
        torch.testing.assert_close(added, outgoing @ torch.tensor([2.0, 3.0], dtype=torch.float64))

    def test_a_layer_of_one_neuron(self) -> None:
        weights = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
        assert_scores(importance.weight_sum(weights), [12.0])
        assert_scores(importance.weight_variance(weights), [3.5])


class TestRank:
    def test_best_first(self) -> None:
        assert rank(torch.tensor([0.1, 0.9, -0.5, 0.4]), 3).tolist() == [1, 3, 0]

    def test_ties_go_by_channel(self) -> None:
        scores = torch.zeros(1000)
        scores[500] = 1
        assert rank(scores, 5).tolist() == [500, 0, 1, 2, 3]

    def test_neurons_without_a_value_are_left_out(self) -> None:
        scores = torch.tensor([math.nan, -3.0, math.nan, 7.0])
        assert rank(scores, 3).tolist() == [3, 1]
        assert rank(torch.full((4,), math.nan), 3).tolist() == []

    def test_infinite_scores_have_a_value(self) -> None:
        assert rank(torch.tensor([1.0, math.inf, -math.inf, math.nan]), 4).tolist() == [1, 0, 2]

    @pytest.mark.parametrize(("channels", "top_n", "expected"), [(1, 5, 1), (3, 3, 3), (6, 5, 5)])
    def test_length(self, channels: int, top_n: int, expected: int) -> None:
        assert len(rank(torch.rand(channels), top_n)) == expected

    @given(
        scores=st.lists(st.floats(width=32) | st.just(math.nan), min_size=1, max_size=40),
        top_n=st.integers(1, 10),
    )
    def test_is_pythons_sort(self, scores: list[float], top_n: int) -> None:
        valued = [i for i, s in enumerate(scores) if not math.isnan(s)]
        assert rank(torch.tensor(scores), top_n).tolist() == sorted(valued, key=lambda i: (-scores[i], i))[:top_n]

    @given(seed=st.integers(0, 2**32 - 1), top_n=st.integers(1, 12))
    def test_permuted_channels_are_ranked_alike(self, seed: int, top_n: int) -> None:
        rng = np.random.default_rng(seed)
        z, o = draw(seed, shape=(8, 3, 3))
        order = rng.permutation(8)
        for score in (activation_output_correlation, activation_precision):
            plain = rank(score(moments_of(z, o)), top_n).tolist()
            permuted = rank(score(moments_of(z[:, order], o)), top_n).tolist()
            assert [int(order[c]) for c in permuted] == plain
        for of_image in (importance.activation_sum, importance.activation_variance):
            plain = rank(of_image(torch.from_numpy(z[0])), top_n).tolist()
            permuted = rank(of_image(torch.from_numpy(z[0][order])), top_n).tolist()
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
            importance.activation_sum(image),
            importance.activation_variance(image),
        ):
            selected = rank(scores, 8).tolist()
            assert sorted(selected) == sorted(set(range(8)) - dead)


def test_one_channel_layers() -> None:
    z, o = draw(0, shape=(1, 2, 2))
    z += 1
    moments, image = moments_of(z, o), torch.from_numpy(z[0])
    for scores in (
        activation_output_correlation(moments),
        activation_precision(moments),
        importance.activation_sum(image),
        importance.activation_variance(image),
    ):
        assert scores.shape == (1,)
        assert rank(scores, 5).tolist() == [0]


def test_names() -> None:
    assert len(METRICS) == len(set(METRICS)) == 6
    assert set(PERTURBATION_METRICS) < set(METRICS)
    assert all(callable(getattr(importance, name)) for name in METRICS)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [({1, 2, 3}, {2, 3, 4}, 0.5), ({1}, {1}, 1.0), ({1}, {2}, 0.0), (set(), {1}, 0.0), ({(3, 1)}, {(4, 1)}, 0.0)],
)
def test_jaccard(one: set, other: set, expected: float) -> None:
    assert jaccard(one, other) == expected
    assert jaccard(other, one) == expected


def test_jaccard_of_nothing_is_undefined() -> None:
    assert math.isnan(jaccard(set(), set()))
