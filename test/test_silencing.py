"""Silenced passes against hooks that set activations to zero, and who is drawn for comparison."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from explain_cnn_ros.explainer import Explainer, ExplainSettings
from explain_cnn_ros.importance import METRICS
from explain_cnn_ros.network import VGGClassifier, convolution_layers
from explain_cnn_ros.silencing import draw_channels, in_batches, silenced_logits


@pytest.fixture(scope="module")
def network(thin_network) -> VGGClassifier:
    return thin_network(dtype=torch.float64)


@pytest.fixture(scope="module")
def window() -> Tensor:
    return torch.randn(1, 3, 64, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def hooked_logits(network: VGGClassifier, window: Tensor, silenced: Mapping[int, Sequence[int]]) -> Tensor:
    """By hooks on a copy."""
    network = copy.deepcopy(network)
    for layer in convolution_layers(network.features):

        def silence(_module, _inputs, result: Tensor, number=layer.number) -> Tensor:
            result = result.clone()
            result[:, list(silenced.get(number, ()))] = 0
            return result

        network.features[layer.activation].register_forward_hook(silence)
    with torch.no_grad():
        return network(window)


SETS = [{3: [1, 4], 9: [0]}, {5: [2]}, {}, {13: list(range(8))}, {1: [0, 1, 2, 3]}]


def test_is_what_hooks_do(network: VGGClassifier, window: Tensor) -> None:
    expected = torch.cat([hooked_logits(network, window, silenced) for silenced in SETS])
    assert len(expected.unique(dim=0)) == len(SETS)
    torch.testing.assert_close(silenced_logits(network, window, SETS), expected)
    for batch in (1, 2, 16):
        torch.testing.assert_close(in_batches(network, window, SETS, batch), expected)


def test_silencing_nobody_changes_nothing(network: VGGClassifier, window: Tensor) -> None:
    torch.testing.assert_close(silenced_logits(network, window, [{}, {}]), network(window).expand(2, -1))


def test_leaves_window_and_network_alone(network: VGGClassifier, window: Tensor) -> None:
    before, logits = window.clone(), network(window)
    silenced_logits(network, window, SETS)
    assert torch.equal(window, before)
    assert torch.equal(network(window), logits)


class TestDraw:
    activations = {3: torch.zeros(10, 2, 2), 5: torch.ones(6, 2, 2)}  # noqa: RUF012
    activations[3][[0, 2, 4, 6, 8]] = 1.0

    def test_as_many_others_that_are_alive(self) -> None:
        for seed in range(50):
            drawn = draw_channels(self.activations, {3: [0, 1, 2], 5: [3]}, np.random.default_rng(seed))
            assert len(drawn[3]) == 3 and set(drawn[3]) == {4, 6, 8}
            assert len(drawn[5]) == 1 and drawn[5] != [3]

    def test_dead_ones_only_where_live_ones_do_not_suffice(self) -> None:
        drawn = draw_channels(self.activations, {3: [0, 2, 4]}, np.random.default_rng(0))
        assert {6, 8} < set(drawn[3])
        assert len(drawn[3]) == 3

    def test_everybody_is_drawn_some_time(self) -> None:
        draws = [draw_channels(self.activations, {5: [3]}, np.random.default_rng(seed))[5][0] for seed in range(100)]
        assert set(draws) == {0, 1, 2, 4, 5}

    def test_fewer_where_there_are_no_more(self) -> None:
        assert draw_channels(self.activations, {5: [0, 1, 2, 3]}, np.random.default_rng(0))[5] in ([4, 5], [5, 4])


class TestInAnExplanation:
    settings = ExplainSettings(perturbations=6, layers=(3, 9), top_n=2, silencing_draws=4)

    def test_is_of_the_selected_neurons(self, thin_classifier, picture) -> None:
        frame = picture(32, 64)
        explanation = Explainer(thin_classifier, self.settings).explain(frame)
        assert [s.metric for s in explanation.silencing] == list(METRICS)
        window = thin_classifier.normalise(thin_classifier.to_pixels(frame[None]))
        for silencing in explanation.silencing:
            selected = {n: [x.channel for x in explanation.ranking(silencing.metric, n)] for n in (3, 9)}
            logits = hooked_logits(thin_classifier.network, window, selected)
            assert silencing.neurons == sum(map(len, selected.values()))
            assert silencing.output == pytest.approx(float(logits[0, 1] - logits[0, 0]), rel=1e-3, abs=1e-5)
            assert silencing.probability == pytest.approx(float(logits.softmax(1)[0, 1]), rel=1e-3)
            assert len(silencing.random_probabilities) == len(silencing.random_outputs) == 4
            p = np.array(silencing.random_probabilities)
            np.testing.assert_allclose(p, 1 / (1 + np.exp(-np.array(silencing.random_outputs))), rtol=1e-4)
            assert silencing.random_probability_mean == pytest.approx(p.mean())
            assert silencing.random_probability_stddev == pytest.approx(p.std())
        assert "silencing" in explanation.timings

    def test_not_unless_asked_for(self, thin_classifier, picture) -> None:
        settings = dataclasses.replace(self.settings, silencing_draws=0)
        assert Explainer(thin_classifier, settings).explain(picture(32, 64)).silencing == ()

    def test_is_repeatable(self, thin_classifier, picture) -> None:
        frame = picture(32, 64)
        one, other = (Explainer(thin_classifier, self.settings).explain(frame).silencing for _ in range(2))
        assert one == other
