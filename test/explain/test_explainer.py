"""Explanations end to end, against captum and a literal re-implementation that stores all activations."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from explain_kit import OUTPUTS, plain_contributions
from numpy.typing import NDArray
from torch import Tensor, nn

from explain_cnn_ros.explain import ranking as ranking_module
from explain_cnn_ros.explain import sampling
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS, OPPOSING, PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.metrics.registry import SIMILARITY_METRICS
from explain_cnn_ros.explain.perturbation import Perturbations
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model import precision as precision_module
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier

# captum warns each time that it registers hooks.
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")

CORRELATION, PRECISION = SIMILARITY_METRICS

#: The metrics that depend on the perturbations.
PERTURBED_METRICS = (SUPPORTING, OPPOSING, CORRELATION, PRECISION)

Scores = dict[tuple[str, int], NDArray[np.float64]]


class Kept(NamedTuple):
    """The results of passes: outputs [n]; and by layer, activations [n, C, R, C'] and influences [n, C]."""

    outputs: NDArray[np.float64]
    activations: dict[int, NDArray[np.float64]]
    influences: dict[int, NDArray[np.float64]]

    def half(self, parity: int) -> Kept:
        """Return the even or the odd perturbations."""
        return self.only(range(parity, len(self.outputs), 2))

    def only(self, rows: Sequence[int]) -> Kept:
        """Return some of the passes."""
        chosen = list(rows)
        return Kept(
            self.outputs[chosen],
            {layer: z[chosen] for layer, z in self.activations.items()},
            {layer: values[chosen] for layer, values in self.influences.items()},
        )


def passed(classifier: PersonClassifier, pixels: Tensor, output: str, pre_relu: bool = False) -> Kept:
    """Run a plain forward pass, record it by hooks on a copy of the network, and compute gradients by autograd."""
    network = copy.deepcopy(classifier.network)
    seen: dict[int, NDArray[np.float64]] = {}
    for layer in convolution_layers(network.features):

        def keep(_module, _inputs, result, number=layer.number) -> None:
            seen[number] = result.double().numpy().copy()

        network.features[layer.convolution if pre_relu else layer.activation].register_forward_hook(keep)
    with torch.no_grad():
        logits = network(classifier.normalise(pixels)).double().numpy()
    of_windows = [
        plain_contributions(classifier.network, window[None], OUTPUTS[output])
        for window in classifier.normalise(pixels)
    ]
    influences = {
        layer: np.array([window[layer].double().sum((1, 2)).numpy() for window in of_windows])
        for layer in of_windows[0]
    }
    if output == "logit":
        return Kept(logits[:, 1] - logits[:, 0], seen, influences)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return Kept(powers[:, 1] / powers.sum(1), seen, influences)


def perturbed_pixels(pixels: Tensor, settings: ExplainSettings) -> Tensor:
    """Multiply each pixel value by 1 + N(0, sigma), copy by copy."""
    generator = torch.Generator().manual_seed(settings.seed)
    factors = [
        torch.randn(pixels.shape, generator=generator, dtype=pixels.dtype) for _ in range(settings.perturbations)
    ]
    return torch.stack([pixels * (1 + settings.sigma * factor) for factor in factors])


def literal_scores(classifier: PersonClassifier, clean: Kept, noisy: Kept, settings: ExplainSettings) -> Scores:
    """Compute all metrics with numpy from all activations and gradients."""
    scores: Scores = {}
    convolutions = [m for m in classifier.network.features if isinstance(m, nn.Conv2d)]
    o = noisy.outputs - noisy.outputs.mean()
    for layer in settings.layers:
        z = noisy.activations[layer]
        live = np.ptp(z, axis=0) > 0
        centred = z - z.mean(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.abs((centred * o[:, None, None, None]).mean(0)) / np.sqrt(z.var(0) * (o**2).mean())
            correlation = np.where(live, r, 0).sum((1, 2)) / live.sum((1, 2))
            precision = 1 / z.var(0).mean((1, 2))
            if settings.precision_mean_of_inverse:
                precision = np.where(live, 1 / z.var(0), 0).sum((1, 2)) / live.sum((1, 2))
        correlation[live.mean((1, 2)) < settings.live_share_min] = np.nan
        mean = z.mean((0, 2, 3))
        limit = settings.precision_lambda * (1 if settings.precision_lambda_absolute else z.mean())
        precision[(mean < limit) | (mean <= 0) | ~np.isfinite(precision)] = np.nan
        scores[CORRELATION, layer], scores[PRECISION, layer] = correlation, precision

        for name in (SUPPORTING, OPPOSING):
            scores[name, layer] = noisy.influences[layer].mean(0)

        image = clean.activations[layer][0]
        dead = ~image.any((1, 2))
        scores["activation_sum", layer] = np.where(dead, np.nan, image.sum((1, 2)))
        scores["activation_variance", layer] = np.where(dead, np.nan, image.var((1, 2)))

        channels = image.shape[0]
        if settings.weights == "incoming":
            outgoing = convolutions[layer - 1].weight.double().numpy().reshape(channels, -1)
        elif layer < len(convolutions):
            outgoing = convolutions[layer].weight.double().numpy().swapaxes(0, 1).reshape(channels, -1)
        else:
            dense = classifier.network.classifier[1].weight.double().numpy()
            outgoing = dense.reshape(len(dense), channels, -1).swapaxes(0, 1).reshape(channels, -1)
        scores["weight_sum", layer], scores["weight_variance", layer] = outgoing.sum(1), outgoing.var(1)
    return scores


def best(scores: NDArray[np.float64], top_n: int, metric: str = "", person: bool = True) -> list[int]:
    """Return the channels of the highest scores, best first, equal scores by channel, without NaN.

    Influence selects neurons of the shown side only, and its counterpart those of the other side.
    """
    if metric in (SUPPORTING, OPPOSING):
        toward = scores if person == (metric == SUPPORTING) else -scores
        scores = np.where(toward > 0, toward, np.nan)
    valued = [c for c in range(len(scores)) if not math.isnan(scores[c])]
    return sorted(valued, key=lambda c: (-scores[c], c))[:top_n]


def jaccard(one: set, other: set) -> float:
    return len(one & other) / len(one | other) if one | other else math.nan


def channels_of(explanation: Explanation, metric: str, layer: int) -> list[int]:
    return [neuron.channel for neuron in explanation.ranking(metric, layer)]


def assert_same(one: Explanation, other: Explanation) -> None:
    """Compare everything except the timings."""
    assert dataclasses.replace(one, timings={}) == dataclasses.replace(other, timings={})
    for a, b in zip(one.rankings, other.rankings, strict=True):
        np.testing.assert_array_equal(a.scores, b.scores)


class TestAgainstTheLiteralMethod:
    @pytest.mark.parametrize(
        "settings",
        [
            ExplainSettings(perturbations=11, layers=tuple(range(1, 14)), top_n=3),
            ExplainSettings(perturbations=50, seed=9, output="probability", top_n=2),
            ExplainSettings(perturbations=20, sigma=0.3, layers=(4, 13), live_share_min=0.7, precision_lambda=1.0),
            ExplainSettings(perturbations=2, layers=(3, 9)),
            ExplainSettings(perturbations=3, layers=(3, 9)),
            ExplainSettings(perturbations=12, activation="pre_relu"),
            ExplainSettings(perturbations=12, precision_lambda=0.3, precision_lambda_absolute=True),
            ExplainSettings(perturbations=12, precision_mean_of_inverse=True),
            ExplainSettings(perturbations=12, weights="incoming", layers=tuple(range(1, 14))),
            ExplainSettings(perturbations=12, perturbation_groups=6),
        ],
        ids=[
            *("all layers", "probability", "other limits", "two", "three"),
            *("pre-relu", "absolute lambda", "mean of inverse", "incoming", "groups"),
        ],
    )
    def test_in_float64(self, exact, window, settings: ExplainSettings) -> None:
        explanation = Explainer(exact, settings).explain(window)
        pixels = exact.to_pixels(window[None])
        pre_relu = settings.activation == "pre_relu"
        clean = passed(exact, pixels, settings.output, pre_relu)
        noisy = passed(exact, perturbed_pixels(pixels[0], settings), settings.output, pre_relu)
        expected = literal_scores(exact, clean, noisy, settings)
        halves = [literal_scores(exact, clean, noisy.half(parity), settings) for parity in (0, 1)]
        assert explanation.output == pytest.approx(clean.outputs[0], rel=1e-9)
        assert explanation.output_mean == pytest.approx(noisy.outputs.mean(), rel=1e-9)
        assert explanation.output_stddev == pytest.approx(noisy.outputs.std(), rel=1e-9)
        assert [(r.metric, r.layer) for r in explanation.rankings] == [
            (m, n) for m in DEFAULT_METRICS for n in settings.layers
        ]
        person = explanation.person
        for ranking in explanation.rankings:
            key = (ranking.metric, ranking.layer)
            # Contributions of both signs may cancel.
            atol = 1e-13 if ranking.metric in (SUPPORTING, OPPOSING) else 0
            np.testing.assert_allclose(ranking.scores, expected[key], rtol=1e-8, atol=atol, err_msg=str(key))
            assert ranking.scores.dtype == np.float64
            # A correlation of two perturbations is 1 except for rounding, which then decides.
            if settings.perturbations > 4 or ranking.metric != CORRELATION:
                chosen = best(expected[key], settings.top_n, ranking.metric, person)
                assert [n.channel for n in ranking.neurons] == chosen
            assert [n.score for n in ranking.neurons] == [ranking.scores[n.channel] for n in ranking.neurons]
            assert {n.layer for n in ranking.neurons} <= {ranking.layer}
            if ranking.metric not in PERTURBED_METRICS:
                assert ranking.stability is None
                assert not ranking.unstable
            elif settings.perturbations > 4:
                stable = jaccard(*(set(best(half[key], settings.top_n, ranking.metric, person)) for half in halves))
                assert ranking.stability == pytest.approx(stable, nan_ok=True)
                assert ranking.unstable is not (stable >= settings.stability_target)

    def test_on_the_full_vgg16(self, full_classifier, full_explanation) -> None:
        """The frame has the size of the window, and the passes are in float32."""
        frame, explanation = full_explanation
        settings = explanation.settings
        pixels = full_classifier.to_pixels(frame[None])
        clean = passed(full_classifier, pixels, settings.output)
        noisy = passed(full_classifier, perturbed_pixels(pixels[0], settings), settings.output)
        expected = literal_scores(full_classifier, clean, noisy, settings)
        assert explanation.output == pytest.approx(clean.outputs[0], rel=1e-4)
        for ranking in explanation.rankings:
            key = (ranking.metric, ranking.layer)
            # Sums of terms of both signs are small beside their terms, so their rounding is relative to the largest.
            atol = 1e-3 * np.abs(expected[key]).max() if ranking.metric in (SUPPORTING, OPPOSING) else 0
            np.testing.assert_allclose(ranking.scores, expected[key], rtol=1e-3, atol=atol, err_msg=str(key))
            chosen = best(ranking.scores, settings.top_n, ranking.metric, explanation.person)
            assert [n.channel for n in ranking.neurons] == chosen
            assert ranking.layer_name == {3: "conv2_1", 5: "conv3_1", 9: "conv4_2"}[ranking.layer]

    def test_in_float32_with_little_noise(self, thin_classifier, window) -> None:
        """Activations vary by a thousandth, which is below the rounding error of sums of their squares."""
        settings = ExplainSettings(sigma=0.001, layers=(3, 6, 9))
        explanation = Explainer(thin_classifier, settings).explain(window)
        pixels = thin_classifier.to_pixels(window[None])
        noisy = passed(thin_classifier, perturbed_pixels(pixels[0], settings), "logit")
        expected = literal_scores(thin_classifier, passed(thin_classifier, pixels, "logit"), noisy, settings)
        for layer in settings.layers:
            actual = explanation.layer_ranking(PRECISION, layer).scores
            np.testing.assert_allclose(actual, expected[PRECISION, layer], rtol=0.005)

    @pytest.mark.parametrize("noise", ["smooth", "ramp"])
    def test_other_noise_is_passed_on(self, exact, window, noise: str) -> None:
        settings = ExplainSettings(perturbations=20, noise=noise, noise_length=5, seed=4, layers=(5,), sigma=0.2)
        explanation = Explainer(exact, settings).explain(window)
        pixels = exact.to_pixels(window[None])
        copies = Perturbations(pixels[0], 0.2, noise, 5, 4).take(20)
        expected = literal_scores(exact, passed(exact, pixels, "logit"), passed(exact, copies, "logit"), settings)
        for ranking in explanation.rankings:
            np.testing.assert_allclose(ranking.scores, expected[ranking.metric, 5], rtol=1e-8)

    @pytest.mark.parametrize("chunk", [1, 7, 51])
    def test_chunks_do_not_matter(self, exact, window, chunk: int, monkeypatch) -> None:
        settings = ExplainSettings(perturbations=51, layers=(3, 6, 9))
        expected = Explainer(exact, settings).explain(window)
        monkeypatch.setattr(sampling, "chunk_size", lambda *_: chunk)
        actual = Explainer(exact, settings).explain(window)
        for one, other in zip(actual.rankings, expected.rankings, strict=True):
            np.testing.assert_allclose(one.scores, other.scores, rtol=1e-10)
            assert [n.channel for n in one.neurons] == [n.channel for n in other.neurons]
            assert one.stability == other.stability or (one.stability is not None and math.isnan(one.stability))


@pytest.fixture(scope="module")
def full_explanation(full_classifier, picture) -> tuple[NDArray[np.uint8], Explanation]:
    """Return a frame of the window's size and its explanation by the full VGG-16."""
    frame = picture(64, 128)
    return frame, Explainer(full_classifier, ExplainSettings(perturbations=8, layers=(3, 5, 9), top_n=2)).explain(frame)


class TestPatches:
    @pytest.mark.parametrize(
        ("size", "region"),
        [
            ((32, 64), None),
            ((80, 96), None),
            ((100, 90), Region(20, 10, 32, 64, 0.0)),
            ((100, 90), Region(-7, 40, 48, 96, 0.0)),
        ],
        ids=["window", "whole frame", "region", "region at the border"],
    )
    @pytest.mark.parametrize("pre_relu", [False, True])
    @pytest.mark.parametrize("share", [0.0, 0.2])
    def test_bound_what_captum_reconstructs(
        self,
        exact,
        picture,
        captum_reconstruction,
        size: tuple[int, int],
        region: Region | None,
        share: float,
        pre_relu: bool,
    ) -> None:
        frame = picture(*size)
        activation = "pre_relu" if pre_relu else "post_relu"
        settings = ExplainSettings(
            perturbations=4,
            layers=(3, 4, 7, 9),
            top_n=2,
            patch_share=share,
            activation=activation,
            deconvnet_start="strongest",
        )
        explanation = Explainer(exact, settings).explain(frame, region)
        if region is None:
            region, cut = Region(0, 0, *size, 0.0), exact.resize(frame)
        else:
            rows = np.clip(np.arange(region.y, region.y + region.height), 0, size[1] - 1)
            columns = np.clip(np.arange(region.x, region.x + region.width), 0, size[0] - 1)
            cut = exact.resize(frame[rows][:, columns])
        image = exact.normalise(exact.to_pixels(cut[None]))
        scale_x, scale_y = region.width / 32, region.height / 64
        checked = 0
        for neuron in {n for ranking in explanation.rankings for n in ranking.neurons}:
            strength = captum_reconstruction(exact.network.features, image, neuron.layer, neuron.channel).abs().amax(0)
            rows, columns = (strength > share * strength.max()).numpy().nonzero()
            if len(rows) == 0:
                assert neuron.patch is None
                continue
            left = max(0, math.floor(region.x + columns.min() * scale_x))
            top = max(0, math.floor(region.y + rows.min() * scale_y))
            right = min(size[0], math.ceil(region.x + (columns.max() + 1) * scale_x))
            bottom = min(size[1], math.ceil(region.y + (rows.max() + 1) * scale_y))
            if right <= left or bottom <= top:
                assert neuron.patch is None
                continue
            assert dataclasses.astuple(neuron.patch) == (left, top, right - left, bottom - top)
            checked += 1
        assert checked > 10

    def test_on_the_full_vgg16_lie_within_frame_and_receptive_field(self, full_explanation) -> None:
        _, explanation = full_explanation
        sides = {3: 10, 5: 24, 9: 76}
        patches = [(n.layer, n.patch) for ranking in explanation.rankings for n in ranking.neurons if n.patch]
        assert len(patches) > 20
        for layer, patch in patches:
            assert patch.x >= 0 and patch.x + patch.width <= 64
            assert patch.y >= 0 and patch.y + patch.height <= 128
            assert 0 < patch.width <= sides[layer] and 0 < patch.height <= sides[layer]

    @pytest.mark.parametrize(
        ("start", "metrics"),
        [("strongest", DEFAULT_METRICS), ("map", DEFAULT_METRICS), ("contribution", PAPER_METRICS)],
    )
    def test_a_neuron_has_one_patch_whatever_metric_selects_it(
        self, exact, window, start: str, metrics: tuple[str, ...]
    ) -> None:
        """Only the neurons of influence begin elsewhere, and only by default."""
        settings = ExplainSettings(perturbations=4, layers=(3, 9), deconvnet_start=start, metrics=metrics)
        explanation = Explainer(exact, settings).explain(window)
        patches: dict[tuple[int, int], set] = {}
        for ranking in explanation.rankings:
            for neuron in ranking.neurons:
                patches.setdefault((neuron.layer, neuron.channel), set()).add(neuron.patch)
        assert all(len(found) == 1 for found in patches.values())

    def test_a_dead_neuron_has_none(self, thin_network, window) -> None:
        """The metrics of the weights select it although it is dead."""
        network = thin_network()
        index = convolution_layers(network.features)[4].convolution
        network.features[index].bias[3] = -1e6
        network.features[index + 2].weight[:, 3] += 100
        classifier = PersonClassifier(network, ModelInfo(input_size=(32, 64), hidden=6), "cpu")
        explanation = Explainer(classifier, ExplainSettings(perturbations=6, layers=(5,), top_n=8)).explain(window)
        first = explanation.ranking("weight_sum", 5)[0]
        assert first.channel == 3
        assert first.patch is None
        for metric in set(DEFAULT_METRICS) - {"weight_sum", "weight_variance"}:
            assert 3 not in channels_of(explanation, metric, 5)
            score = explanation.layer_ranking(metric, 5).scores[3]
            assert score == 0 if metric in (SUPPORTING, OPPOSING) else math.isnan(score)


class TestSeed:
    settings = ExplainSettings(perturbations=10, layers=(3, 9), seed=1)

    def test_same_seed_same_explanation(self, thin_classifier, picture) -> None:
        frame = picture(60, 80)
        explainer = Explainer(thin_classifier, self.settings)
        first = explainer.explain(frame)
        assert_same(first, explainer.explain(frame))
        assert_same(first, Explainer(thin_classifier, self.settings).explain(frame.copy()))

    def test_same_seed_same_explanation_on_the_full_vgg16(self, full_classifier, full_explanation) -> None:
        frame, explanation = full_explanation
        assert_same(Explainer(full_classifier, explanation.settings).explain(frame), explanation)

    def test_other_seed_other_explanation(self, thin_classifier, picture) -> None:
        frame = picture(60, 80)
        one = Explainer(thin_classifier, self.settings).explain(frame)
        other = Explainer(thin_classifier, dataclasses.replace(self.settings, seed=2)).explain(frame)
        assert one.output == other.output
        assert one.output_stddev != other.output_stddev
        for metric in DEFAULT_METRICS:
            scores = [explanation.layer_ranking(metric, 9).scores for explanation in (one, other)]
            same = np.array_equal(*scores, equal_nan=True)
            assert same is (metric not in PERTURBED_METRICS)

    def test_pytorchs_own_random_numbers_do_not_matter(self, thin_classifier, picture) -> None:
        frame = picture(60, 80)
        torch.manual_seed(5)
        one = Explainer(thin_classifier, self.settings).explain(frame)
        torch.manual_seed(6)
        assert_same(one, Explainer(thin_classifier, self.settings).explain(frame))


class TestRegion:
    settings = ExplainSettings(perturbations=4, layers=(3, 9))

    def test_none_is_the_whole_frame(self, thin_classifier, picture) -> None:
        frame = picture(100, 90)
        explanation = Explainer(thin_classifier, self.settings).explain(frame)
        p = float(thin_classifier.probability(thin_classifier.resize(frame)[None])[0])
        region = explanation.region
        assert (region.x, region.y, region.width, region.height) == (0, 0, 100, 90)
        assert region.probability == pytest.approx(p, rel=1e-4)
        assert explanation.image_size == (100, 90)

    def test_a_region_is_its_crop(self, thin_classifier, picture) -> None:
        frame = picture(100, 90)
        explainer = Explainer(thin_classifier, self.settings)
        explanation = explainer.explain(frame, Region(20, 10, 32, 64, 0.123))
        alone = explainer.explain(frame[10:74, 20:52])
        assert explanation.region == Region(20, 10, 32, 64, alone.region.probability)
        for one, other in zip(explanation.rankings, alone.rankings, strict=True):
            np.testing.assert_array_equal(one.scores, other.scores)
            for a, b in zip(one.neurons, other.neurons, strict=True):
                assert a.channel == b.channel
                moved = b.patch and dataclasses.replace(b.patch, x=b.patch.x + 20, y=b.patch.y + 10)
                assert a.patch == moved

    def test_found_and_explained_are_one_decision(self, thin_classifier, picture) -> None:
        frame = picture(100, 90)
        for region in thin_classifier.scan(frame)[:3]:
            explained = Explainer(thin_classifier, self.settings).explain(frame, region)
            assert explained.region.probability == pytest.approx(region.probability, rel=1e-3)

    @pytest.mark.parametrize("place", [(-20, -30), (90, 80), (-31, 0), (0, 89)])
    def test_patches_of_a_region_that_sticks_out_lie_within_the_frame(
        self, thin_classifier, picture, place: tuple[int, int]
    ) -> None:
        explanation = Explainer(thin_classifier, self.settings).explain(picture(100, 90), Region(*place, 32, 64, 0.0))
        for patch in (n.patch for ranking in explanation.rankings for n in ranking.neurons):
            if patch is not None:
                assert patch.x >= 0 and patch.x + patch.width <= 100 and patch.width > 0
                assert patch.y >= 0 and patch.y + patch.height <= 90 and patch.height > 0

    @pytest.mark.parametrize(
        ("region", "reason"),
        [
            (Region(0, 0, 0, 64, 0.0), "0 x 64 pixels: both must be above 0"),
            (Region(0, 0, 32, -1, 0.0), "32 x -1 pixels: both must be above 0"),
            (Region(100, 0, 32, 64, 0.0), "outside of the frame of 100 x 90"),
            (Region(0, 90, 32, 64, 0.0), "outside of the frame"),
            (Region(-32, 0, 32, 64, 0.0), "outside of the frame"),
            (Region(0, -64, 32, 64, 0.0), "outside of the frame"),
        ],
    )
    def test_no_region_of_the_frame(self, thin_classifier, picture, region: Region, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            Explainer(thin_classifier, self.settings).explain(picture(100, 90), region)

    @pytest.mark.parametrize("frame", [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5), np.uint8), None])
    def test_no_frame(self, thin_classifier, frame) -> None:
        with pytest.raises(ValueError, match="the image is"):
            Explainer(thin_classifier, self.settings).explain(frame)

    def test_the_frame_is_left_alone(self, thin_classifier, window) -> None:
        before = window.copy()
        Explainer(thin_classifier, self.settings).explain(window)
        assert np.array_equal(window, before)


class TestNetworkIsLeftAlone:
    settings = ExplainSettings(perturbations=40, layers=(3, 9))

    def test_after_an_explanation(self, thin_network, window, network_state) -> None:
        classifier = PersonClassifier(thin_network(), ModelInfo(input_size=(32, 64), hidden=6), "cpu")
        before, weights = network_state(classifier.network), copy.deepcopy(classifier.network.state_dict())
        p = classifier.probability(window[None])
        Explainer(classifier, self.settings).explain(window)
        assert network_state(classifier.network) == before
        assert all(torch.equal(v, weights[k]) for k, v in classifier.network.state_dict().items())
        assert np.array_equal(classifier.probability(window[None]), p)
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()

    @pytest.mark.parametrize("failing_pass", [1, 2, 3])
    def test_after_a_failure(self, thin_network, window, network_state, failing_pass: int, monkeypatch) -> None:
        """The failure is in the first, the second or the third chunk."""
        monkeypatch.setattr(sampling, "chunk_size", lambda *_: 10)

        class Failing(nn.Linear):
            passes = 0

            def forward(self, x: Tensor) -> Tensor:
                self.passes += 1
                if self.passes == failing_pass:
                    raise RuntimeError("out of memory")
                return super().forward(x)

        network = thin_network()
        last = network.classifier[-1]
        network.classifier[-1] = Failing(last.in_features, last.out_features).requires_grad_(False).eval()
        network.classifier[-1].load_state_dict(last.state_dict())
        classifier = PersonClassifier(network, ModelInfo(input_size=(32, 64), hidden=6), "cpu")
        network.classifier[-1].passes = 0
        before = network_state(network)
        explainer = Explainer(classifier, self.settings)
        with pytest.raises(RuntimeError, match="out of memory"):
            explainer.explain(window)
        assert network.classifier[-1].passes == failing_pass
        assert network_state(network) == before
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        network.classifier[-1] = last
        whole = PersonClassifier(thin_network(), ModelInfo(input_size=(32, 64), hidden=6), "cpu")
        assert_same(explainer.explain(window), Explainer(whole, self.settings).explain(window))


class TestEdges:
    def test_a_black_image(self, thin_classifier) -> None:
        """Multiplicative noise does not change a black image, so the perturbation metrics have no values."""
        settings = ExplainSettings(perturbations=50, layers=(3, 9))
        explanation = Explainer(thin_classifier, settings).explain(np.zeros((64, 32, 3), np.uint8))
        for metric in SIMILARITY_METRICS:
            for layer in settings.layers:
                ranking = explanation.layer_ranking(metric, layer)
                assert ranking.neurons == ()
                assert np.isnan(ranking.scores).all()
                assert math.isnan(ranking.stability)
                assert ranking.unstable
        for metric in set(PAPER_METRICS) - set(SIMILARITY_METRICS):
            assert len(explanation.ranking(metric, 3)) > 0
        assert explanation.output_stddev == pytest.approx(0, abs=1e-5)
        assert math.isnan(explanation.set_similarity)
        json.dumps(explanation.to_dict(), allow_nan=False)

    def test_top_n_may_exceed_the_layer(self, thin_classifier, window) -> None:
        explanation = Explainer(thin_classifier, ExplainSettings(perturbations=4, layers=(3,), top_n=500)).explain(
            window
        )
        assert sorted(channels_of(explanation, "weight_sum", 3)) == list(range(6))

    def test_layers_that_do_not_exist(self, thin_classifier) -> None:
        with pytest.raises(ValueError, match=r"layers \[14, 16\] do not exist.* 1 to 13"):
            Explainer(thin_classifier, ExplainSettings(layers=(3, 14, 16)))

    def test_without_perturbation_metrics_nothing_is_perturbed(self, thin_classifier, window, monkeypatch) -> None:
        def refuse(*_args, **_named) -> None:
            raise AssertionError("perturbed")

        monkeypatch.setattr(Perturbations, "take", refuse)
        settings = ExplainSettings(layers=(3,), metrics=("weight_sum", "activation_sum"))
        explanation = Explainer(thin_classifier, settings).explain(window)
        assert [r.metric for r in explanation.rankings] == ["weight_sum", "activation_sum"]
        assert math.isnan(explanation.output_mean) and math.isnan(explanation.output_stddev)
        assert math.isfinite(explanation.output)

    def test_settings_have_defaults(self, thin_classifier) -> None:
        """They name the precision that was chosen."""
        assert Explainer(thin_classifier).settings == ExplainSettings(compute_precision="winograd")
        assert Explainer(thin_classifier).requested == ExplainSettings()


def test_explainers_share_what_was_prepared(full_classifier, monkeypatch) -> None:
    """Transforming the filters takes a quarter of a second, which a request with other metrics must not cost again."""
    Explainer(full_classifier)
    monkeypatch.setattr(precision_module, "with_winograd", None)
    requested = ExplainSettings(metrics=("weight_sum",), layers=(3,))
    other = Explainer(full_classifier, requested)
    assert other.requested == requested
    assert other.explain(np.zeros((128, 64, 3), np.uint8)).settings == dataclasses.replace(
        requested, compute_precision="winograd"
    )


class TestSetSimilarity:
    def test_is_that_of_the_two_sets(self, exact, window) -> None:
        settings = ExplainSettings(perturbations=10, layers=(3, 5, 7, 9), top_n=3)
        explanation = Explainer(exact, settings).explain(window)
        sets = [
            {(n.layer, n.channel) for layer in settings.layers for n in explanation.ranking(metric, layer)}
            for metric in SIMILARITY_METRICS
        ]
        assert explanation.set_similarity == jaccard(*sets)
        by_layer = {n: jaccard(*({x for x in chosen if x[0] == n} for chosen in sets)) for n in settings.layers}
        assert explanation.set_similarity_by_layer == by_layer
        assert 0 < explanation.set_similarity < 1
        assert len(set(by_layer.values())) > 1

    @pytest.mark.parametrize("metric", SIMILARITY_METRICS)
    def test_needs_both_metrics(self, thin_classifier, window, metric: str) -> None:
        settings = ExplainSettings(perturbations=4, layers=(3,), metrics=(metric, "weight_sum"))
        explanation = Explainer(thin_classifier, settings).explain(window)
        assert math.isnan(explanation.set_similarity)
        assert explanation.set_similarity_by_layer == {}


def test_stability_target_marks_rankings(exact, window) -> None:
    """The same rankings are marked by different targets."""
    for target in (0.0, 0.5, 1.0):
        settings = ExplainSettings(perturbations=20, layers=(3, 5, 7, 9), top_n=3, stability_target=target)
        rankings = [r for r in Explainer(exact, settings).explain(window).rankings if r.stability is not None]
        assert len(rankings) == 16
        assert [r.unstable for r in rankings] == [r.stability < target for r in rankings]
        if target == 0.5:
            assert len({r.unstable for r in rankings}) == 2


def test_what_else_travels(thin_classifier, window) -> None:
    explainer = Explainer(thin_classifier, ExplainSettings(perturbations=4, layers=(3,)))
    explanation = explainer.explain(window)
    assert explanation.settings is explainer.settings
    assert explanation.threshold == thin_classifier.threshold
    assert explanation.device == "cpu"
    assert explanation.model_hash == ""
    assert list(explanation.timings) == ["window", "network", "metrics", "ranking", "deconvnet", "proof"]
    assert all(seconds > 0 for seconds in explanation.timings.values())
    assert json.loads(json.dumps(explanation.to_dict(), allow_nan=False))["region"]["width"] == 32


class TestSamplingOn:
    def test_until_all_rankings_are_stable(self, exact, window) -> None:
        settings = ExplainSettings(
            perturbations=8, layers=(3, 6), top_n=2, perturbations_max=4000, stability_target=1.0
        )
        settings = dataclasses.replace(settings, metrics=(PRECISION, "weight_sum"), sigma=0.05)
        explanation = Explainer(exact, settings).explain(window)
        assert 8 < explanation.perturbations < 4000
        assert all(r.stability == 1 for r in explanation.rankings if r.stability is not None)
        alone = dataclasses.replace(settings, perturbations=explanation.perturbations, perturbations_max=0)
        for one, other in zip(explanation.rankings, Explainer(exact, alone).explain(window).rankings, strict=True):
            np.testing.assert_allclose(one.scores, other.scores, rtol=1e-9)
            assert [n.channel for n in one.neurons] == [n.channel for n in other.neurons]

    def test_up_to_the_budget(self, exact, window) -> None:
        settings = ExplainSettings(perturbations=8, layers=(3, 9), top_n=2, perturbations_max=50, stability_target=1.0)
        explanation = Explainer(exact, settings).explain(window)
        assert explanation.perturbations == 50
        assert any(r.unstable for r in explanation.rankings)

    def test_for_no_longer_than_it_may(self, exact, window, monkeypatch) -> None:
        """Every look at the clock takes a tenth of a second, so there is time for three steps of half as many again."""
        seconds = itertools.count(0.0, 0.1)
        monkeypatch.setattr(ranking_module, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
        settings = ExplainSettings(perturbations=8, layers=(3, 9), perturbations_max=100_000, stability_target=1.0)
        explanation = Explainer(exact, dataclasses.replace(settings, seconds_max=0.35)).explain(window)
        assert explanation.perturbations == 27
        assert any(r.unstable for r in explanation.rankings)

    def test_not_without_need(self, exact, window) -> None:
        settings = ExplainSettings(perturbations=8, layers=(3, 9), perturbations_max=4000, stability_target=0.0)
        assert Explainer(exact, settings).explain(window).perturbations == 8
        black = Explainer(exact, dataclasses.replace(settings, stability_target=1.0)).explain(np.zeros_like(window))
        assert black.perturbations == 8


class TestIntervals:
    def test_are_the_jackknifes(self, exact, window) -> None:
        """The reference leaves out each of ten groups in turn; Student's t has 9 degrees of freedom."""
        settings = ExplainSettings(perturbations=40, layers=(3, 9), top_n=3, perturbation_groups=10)
        explanation = Explainer(exact, settings).explain(window)
        pixels = exact.to_pixels(window[None])
        clean, noisy = passed(exact, pixels, "logit"), passed(exact, perturbed_pixels(pixels[0], settings), "logit")
        everyone = dataclasses.replace(settings, live_share_min=0.0, precision_lambda=0.0)
        without = []
        for left in range(10):
            rest = [i for i in range(40) if i % 10 != left]
            without.append(literal_scores(exact, clean, noisy.only(rest), everyone))
        checked = 0
        for ranking in explanation.rankings:
            for neuron in ranking.neurons:
                if ranking.metric not in PERTURBED_METRICS:
                    assert neuron.interval is None
                    continue
                values = np.array([scores[ranking.metric, ranking.layer][neuron.channel] for scores in without])
                half = 2.262157 * np.sqrt(0.9 * ((values - values.mean()) ** 2).sum())
                assert neuron.interval == pytest.approx((neuron.score - half, neuron.score + half), rel=1e-5)
                checked += 1
        assert checked > 14

    @pytest.mark.parametrize(("perturbations", "groups"), [(50, 2), (8, 10)])
    def test_not_from_too_little(self, exact, window, perturbations: int, groups: int) -> None:
        settings = ExplainSettings(perturbations=perturbations, layers=(3,), perturbation_groups=groups)
        explanation = Explainer(exact, settings).explain(window)
        assert all(n.interval is None for r in explanation.rankings for n in r.neurons)


class TestOtherWaysDown:
    """Patches that start from whole maps, and patches of the authors' guided variant."""

    @staticmethod
    def patches(exact, window, **settings) -> dict[tuple[int, int], tuple[int, int, int, int]]:
        settings = ExplainSettings(perturbations=4, layers=(3, 5, 7, 9), patch_share=0.0, **settings)
        explanation = Explainer(exact, settings).explain(window)
        return {
            (n.layer, n.channel): dataclasses.astuple(n.patch)
            for r in explanation.rankings
            for n in r.neurons
            if n.patch
        }

    def test_a_whole_map_covers_at_least_its_strongest_activation(self, exact, window) -> None:
        strongest, whole = (self.patches(exact, window, deconvnet_start=start) for start in ("strongest", "map"))
        assert strongest.keys() == whole.keys()
        larger = 0
        for key, (_, _, width, height) in strongest.items():
            _, _, across, down = whole[key]
            larger += across * down > width * height
        assert larger > 0.8 * len(whole)

    def test_guided_is_guided_backpropagation_through_repeated_pixels(self, exact, window) -> None:
        """The reference is autograd with a ReLU that passes positive gradients of positive inputs only."""

        class GuidedReLU(torch.autograd.Function):
            @staticmethod
            def forward(context, x: Tensor) -> Tensor:
                context.save_for_backward(x)
                return x.relu()

            @staticmethod
            def backward(context, gradient: Tensor) -> Tensor:
                (x,) = context.saved_tensors
                return gradient.relu() * (x > 0)

        class RepeatingPool(torch.autograd.Function):
            @staticmethod
            def forward(context, x: Tensor) -> Tensor:
                return nn.functional.max_pool2d(x, 2)

            @staticmethod
            def backward(context, gradient: Tensor) -> Tensor:
                return gradient.repeat_interleave(2, 2).repeat_interleave(2, 3)

        found = self.patches(exact, window, deconvnet="guided", deconvnet_start="strongest")
        features = exact.network.features
        checked = 0
        for layer in [convolution_layers(features)[number - 1] for number in (3, 5, 7, 9)]:
            pixels = exact.normalise(exact.to_pixels(window[None])).requires_grad_()
            x = pixels
            for part in features[: layer.activation]:
                if isinstance(part, nn.ReLU):
                    x = GuidedReLU.apply(x)
                elif isinstance(part, nn.MaxPool2d):
                    x = RepeatingPool.apply(x)
                else:
                    x = part(x)
            for channel in range(layer.channels):
                if (layer.number, channel) not in found:
                    continue
                (gradient,) = torch.autograd.grad(x[0, channel].max(), pixels, retain_graph=True)
                rows, columns = gradient[0].abs().amax(0).numpy().nonzero()
                box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
                assert found[layer.number, channel] == box
                checked += 1
        assert checked > 10


@pytest.mark.parametrize("precision", ["auto", "winograd", "tf32", "bfloat16"])
def test_compute_precision(thin_classifier, window, precision: str) -> None:
    """Scores are float32 and nearly the same, whatever the precision of the passes is."""
    settings = ExplainSettings(
        perturbations=20, layers=(3, 9), metrics=("activation_sum", PRECISION), compute_precision="float32"
    )
    exact = Explainer(thin_classifier, settings).explain(window)
    other = Explainer(thin_classifier, dataclasses.replace(settings, compute_precision=precision)).explain(window)
    assert torch.get_autocast_dtype("cpu") == torch.bfloat16 and not torch.is_autocast_enabled("cpu")
    for one, expected in zip(other.rankings, exact.rankings, strict=True):
        if precision == "bfloat16" and one.metric == PRECISION:
            continue  # it varies in the digits that bfloat16 lacks
        tolerance = 0.05 if precision == "bfloat16" else 1e-6
        np.testing.assert_allclose(one.scores, expected.scores, rtol=tolerance)


@pytest.mark.parametrize("architecture", ["vgg11", "vgg13_bn", "vgg19_bn"])
def test_any_vgg_is_explained(architecture, picture):
    """Batch norm is folded without a change of the output, and every live neuron has a patch."""
    torch.manual_seed(0)
    network = VGGClassifier(architecture, (32, 32), hidden=4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    classifier = PersonClassifier(network, ModelInfo(architecture, 4, (32, 32)), "cpu")
    layers = tuple(layer.number for layer in convolution_layers(network.features))[2:]
    explanation = Explainer(classifier, ExplainSettings(perturbations=2, top_n=2, layers=layers)).explain(
        picture(32, 32)
    )
    logits = classifier.logits(picture(32, 32)[None])[0]
    assert explanation.output == pytest.approx(float(logits[1] - logits[0]), rel=1e-3, abs=1e-6)
    for layer in layers:
        ranked = explanation.ranking("activation_sum", layer)
        assert len(ranked) == 2
        assert all(neuron.patch is not None for neuron in ranked)
