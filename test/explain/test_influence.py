"""Influence over an image and its perturbations: against autograd, against exact silencing, and its properties."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from explain_kit import OUTPUTS, plain_contributions
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor, nn

from explain_cnn_ros.explain import sampling
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.influences import Influences
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS, OPPOSING, PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.perturbation import Perturbations
from explain_cnn_ros.explain.ranking import RankedWindow
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.vgg import gradients
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers

BOTH = (SUPPORTING, OPPOSING)
LIVE = ExplainSettings.preset("live", layers=tuple(range(1, 14)))


class TestInfluences:
    """The sums of one layer."""

    @given(
        values=hnp.arrays(float, (12, 3), elements=st.floats(-10, 10)),
        groups=st.sampled_from([2, 4, 6]),
        block=st.sampled_from([1, 2]),
        chunk=st.integers(1, 12),
    )
    def test_groups_and_mean(self, values: NDArray[np.float64], groups: int, block: int, chunk: int) -> None:
        """Perturbation i belongs to group i // block modulo G, whatever the chunks are.

        The groups are equally large, so the mean is the mean of their means.
        """
        influences = Influences.zeros(torch.zeros(3, dtype=torch.float64), groups, block)
        for first in range(0, 12, chunk):
            influences.update(torch.from_numpy(values[first : first + chunk]), first)
        members = [[i for i in range(12) if i // block % groups == g] for g in range(groups)]
        assert influences.count.tolist() == [len(rows) for rows in members]
        expected = np.array([values[rows].sum(0) for rows in members])
        np.testing.assert_allclose(influences.sum.numpy(), expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(influences.mean.numpy(), values.mean(0), rtol=1e-12, atol=1e-12)
        if len({len(rows) for rows in members}) == 1:
            means = (influences.sum / influences.count[:, None]).mean(0)
            np.testing.assert_allclose(influences.mean.numpy(), means.numpy(), rtol=1e-12, atol=1e-12)
        even, odd = influences.halves
        of_halves = [[i for g in range(start, groups, 2) for i in members[g]] for start in (0, 1)]
        for half, rows in zip((even, odd), of_halves, strict=True):
            np.testing.assert_allclose(half.mean.numpy(), values[rows].mean(0), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(influences.of_channels([2, 0]).mean, influences.mean[[2, 0]])

    def test_without_perturbations_the_mean_is_the_images(self) -> None:
        influences = Influences.zeros(torch.tensor([1.0, -2.0]))
        assert influences.mean.tolist() == [1, -2]
        assert influences.of_channels([1]).mean.tolist() == [-2]


class TestSampled:
    @pytest.mark.parametrize("chunk", [1, 3, 100])
    @pytest.mark.parametrize("output", OUTPUTS)
    def test_is_autograds_in_a_loop_over_the_perturbations(
        self, exact, window, monkeypatch: pytest.MonkeyPatch, chunk: int, output: str
    ) -> None:
        monkeypatch.setattr(sampling, "chunk_size", lambda *_: chunk)
        requested = ExplainSettings(
            perturbations=11, layers=tuple(range(1, 14)), metrics=BOTH, perturbation_groups=4, output=output
        )
        ranked = Explainer(exact, requested).rank(window)
        pixels = exact.to_pixels(window[None])
        windows = torch.cat([pixels, Perturbations(pixels[0], requested.sigma).take(11)])
        of_windows = [plain_contributions(exact.network, w[None], OUTPUTS[output]) for w in exact.normalise(windows)]
        for layer in requested.layers:
            values = torch.stack([of_window[layer].sum((1, 2)) for of_window in of_windows])
            influences = ranked.evidence.influences[layer]
            atol = 1e-12 * float(values.abs().max())
            torch.testing.assert_close(influences.image, values[0], rtol=1e-9, atol=atol)
            torch.testing.assert_close(influences.mean, values[1:].mean(0), rtol=1e-9, atol=atol)
            torch.testing.assert_close(
                influences.sum, torch.stack([values[1 + g :: 4].sum(0) for g in range(4)]), rtol=1e-9, atol=atol
            )
            assert influences.count.tolist() == [3, 3, 3, 2]
            for name in BOTH:
                assert torch.equal(ranked.scores[name, layer], influences.mean)
            torch.testing.assert_close(ranked.clean.contributions[layer], of_windows[0][layer], rtol=1e-9, atol=atol)

    @pytest.mark.parametrize("activation", ["post_relu", "pre_relu"])
    def test_of_the_image_alone(self, exact, window, activation: str) -> None:
        ranked = Explainer(exact, dataclasses.replace(LIVE, activation=activation)).rank(window)
        expected = plain_contributions(exact.network, exact.normalise(exact.to_pixels(window[None])))
        for layer in LIVE.layers:
            torch.testing.assert_close(ranked.scores[SUPPORTING, layer], expected[layer].sum((1, 2)))
        assert ranked.perturbations == 0 and ranked.stability == {}
        explanation = Explainer(exact, LIVE).explain(window)
        assert all(r.stability is None and not r.unstable for r in explanation.rankings)
        assert all(n.interval is None for r in explanation.rankings for n in r.neurons)

    def test_blocks_of_orthogonal_noise_stay_together(self, exact, window) -> None:
        requested = ExplainSettings(noise="orthogonal", noise_length=21.0, metrics=BOTH, layers=(3,))
        influences = Explainer(exact, requested).rank_at(window, [26])[0].evidence.influences[3]
        assert influences.block == 13
        assert influences.count.tolist() == [13, 13]

    @pytest.mark.parametrize("name", ["paper", "authors"])
    def test_the_papers_metrics_alone_need_no_gradients(
        self, exact, window, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        def refuse(*_args, **_named) -> None:
            raise AssertionError("computed gradients")

        for function in ("head", "influences"):
            monkeypatch.setattr(gradients, function, refuse)
        explainer = Explainer(exact, ExplainSettings.preset(name, perturbations=6, layers=(3, 9)))
        ranked = explainer.rank(window)
        assert ranked.clean.influences == ranked.clean.contributions == ranked.evidence.influences == {}
        explanation = explainer.explain(window)
        assert tuple(dict.fromkeys(r.metric for r in explanation.rankings)) == PAPER_METRICS
        assert explanation.proofs == ()

    def test_scores_of_the_paper_do_not_depend_on_influence(self, exact, window) -> None:
        """The same perturbations pass, so all six are the same to the last digit."""
        both, alone = (
            Explainer(exact, ExplainSettings(perturbations=12, layers=(3, 9), metrics=metrics)).rank(window)
            for metrics in (DEFAULT_METRICS, PAPER_METRICS)
        )
        for key, scores in alone.scores.items():
            torch.testing.assert_close(both.scores[key], scores, rtol=1e-10, atol=0, equal_nan=True)

    def test_without_a_metric_that_reads_them_no_moments_are_kept(self, exact, window) -> None:
        """Only the moments of the output remain."""
        requested = ExplainSettings(perturbations=12, layers=(3, 9), metrics=(*BOTH, "activation_sum"))
        ranked = Explainer(exact, requested).rank(window)
        for moments in ranked.evidence.moments.values():
            assert moments.sum.numel() == moments.square.numel() == moments.product.numel() == 0
        everything = Explainer(exact, dataclasses.replace(requested, metrics=DEFAULT_METRICS)).rank(window)
        assert everything.evidence.moments[3].sum.numel() > 0
        for name in ("output", "output_mean", "output_stddev"):
            assert getattr(ranked, name) == pytest.approx(getattr(everything, name), rel=1e-9)
        for layer in (3, 9):
            torch.testing.assert_close(ranked.scores[SUPPORTING, layer], everything.scores[SUPPORTING, layer])

    def test_sampling_continues_until_the_rankings_of_influence_are_stable(self, exact, window) -> None:
        requested = ExplainSettings(
            perturbations=4,
            perturbations_max=4000,
            layers=(3, 6, 9),
            top_n=3,
            metrics=BOTH,
            sigma=0.4,
            stability_target=1.0,
        )
        explanation = Explainer(exact, requested).explain(window)
        assert 4 < explanation.perturbations < 4000
        assert all(r.stability == 1 for r in explanation.rankings if r.neurons)
        alone = dataclasses.replace(requested, perturbations=explanation.perturbations, perturbations_max=0)
        for one, other in zip(explanation.rankings, Explainer(exact, alone).explain(window).rankings, strict=True):
            np.testing.assert_allclose(one.scores, other.scores, rtol=1e-9, atol=1e-13)
        few = Explainer(exact, dataclasses.replace(requested, perturbations_max=0)).explain(window)
        assert any(r.unstable for r in few.rankings)

    @pytest.mark.parametrize("precision", ["float32", "winograd", "bfloat16"])
    def test_in_every_precision(self, thin_classifier, window, precision: str) -> None:
        reference = Explainer(thin_classifier, dataclasses.replace(LIVE, compute_precision="float32")).rank(window)
        ranked = Explainer(thin_classifier, dataclasses.replace(LIVE, compute_precision=precision)).rank(window)
        for key, scores in ranked.scores.items():
            expected = reference.scores[key]
            assert scores.dtype == torch.float32
            if precision == "bfloat16":
                assert np.corrcoef(scores, expected)[0, 1] > 0.95, key
            else:
                assert float((scores - expected).abs().max()) <= 1e-5 * float(expected.abs().max()), key


def live_scores(network: VGGClassifier, in_float64, window: NDArray[np.uint8]) -> RankedWindow:
    return Explainer(in_float64(network), LIVE).rank(window)


def convolution(network: VGGClassifier, layer: int) -> nn.Conv2d:
    return network.features[convolution_layers(network.features)[layer - 1].convolution]


def outgoing(network: VGGClassifier, layer: int) -> Tensor:
    """Return the weights that read a layer, with the layer's channels first; a view."""
    if layer < 13:
        return convolution(network, layer + 1).weight.data.transpose(0, 1)
    dense = network.classifier[1].weight.data
    return dense.view(len(dense), convolution(network, 13).out_channels, -1).transpose(0, 1)


class TestProperties:
    @settings(max_examples=12)
    @given(layer=st.integers(1, 13), channel=st.integers(0, 3), seed=st.integers(0, 3))
    def test_a_neuron_without_a_path_to_the_output_has_none(
        self, thin_network, in_float64, picture, layer: int, channel: int, seed: int
    ) -> None:
        network = thin_network(seed, dtype=torch.float64)
        outgoing(network, layer)[channel] = 0
        ranked = live_scores(network, in_float64, picture(32, 64, seed))
        assert ranked.scores[SUPPORTING, layer][channel] == 0
        for name in BOTH:
            assert channel not in ranked.channels[name, layer]

    @settings(max_examples=12)
    @given(layer=st.integers(1, 13), channel=st.integers(0, 3), a=st.floats(0.05, 20), seed=st.integers(0, 3))
    def test_a_neurons_scale_does_not_matter(
        self, thin_network, in_float64, picture, layer: int, channel: int, a: float, seed: int
    ) -> None:
        """Its incoming weights and its bias are multiplied by a, and its outgoing weights are divided by a."""
        network, window = thin_network(seed, dtype=torch.float64), picture(32, 64, seed)
        expected = live_scores(network, in_float64, window)
        other = copy.deepcopy(network)
        convolution(other, layer).weight.data[channel] *= a
        convolution(other, layer).bias.data[channel] *= a
        outgoing(other, layer)[channel] /= a
        actual = live_scores(other, in_float64, window)
        assert actual.output == pytest.approx(expected.output, rel=1e-9)
        for key, scores in expected.scores.items():
            torch.testing.assert_close(actual.scores[key], scores, rtol=1e-8, atol=1e-12 * float(scores.abs().max()))
        assert dict(actual.channels) == dict(expected.channels)

    @settings(max_examples=12)
    @given(layer=st.integers(1, 13), seed=st.integers(0, 5))
    def test_the_sum_over_a_layer_without_biases_above_it_is_the_output(
        self, thin_network, in_float64, picture, layer: int, seed: int
    ) -> None:
        """Above the layer, the network is homogeneous: its output is the sum of activations times gradients."""
        network = thin_network(seed, dtype=torch.float64)
        for number in range(layer + 1, 14):
            convolution(network, number).bias.data.zero_()
        for module in network.classifier:
            if isinstance(module, nn.Linear):
                module.bias.data.zero_()
        ranked = live_scores(network, in_float64, picture(32, 64, seed))
        for number in range(layer, 14):
            assert float(ranked.scores[SUPPORTING, number].sum()) == pytest.approx(ranked.output, rel=1e-9, abs=1e-12)
