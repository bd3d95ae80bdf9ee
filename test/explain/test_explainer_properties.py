"""Properties of every explanation, for any image and network."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING, metric
from explain_cnn_ros.explain.perturbation import NOISES
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers

#: A VGG-16 with one channel in each layer.
BLOCKS_OF_ONE = ((1, 1), (1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1))


def check_defined(explanation: Explanation) -> None:
    """Check that selected neurons have finite scores, best first, and that JSON can represent the result."""
    for ranking in explanation.rankings:
        scores = [neuron.score for neuron in ranking.neurons]
        assert all(math.isfinite(score) for score in scores)
        preferences = metric(ranking.metric).preferences(torch.from_numpy(ranking.scores), explanation.person)
        selected = [float(preferences[neuron.channel]) for neuron in ranking.neurons]
        assert selected == sorted(selected, reverse=True)
        assert len(scores) == min(explanation.settings.top_n, int(preferences.isfinite().sum()))
        assert ranking.stability is None or math.isnan(ranking.stability) or 0 <= ranking.stability <= 1
    assert 0 <= explanation.region.probability <= 1
    json.dumps(explanation.to_dict(), allow_nan=False)


@settings(max_examples=40)
@given(
    colour=st.tuples(*[st.integers(0, 255)] * 3),
    n=st.integers(2, 5),
    noise=st.sampled_from(NOISES),
    sigma=st.sampled_from([1e-6, 0.1, 10.0]),
    groups=st.sampled_from([2, 4, 10]),
)
def test_plain_images_and_few_perturbations(thin_classifier, colour, n, noise, sigma, groups) -> None:
    """The image has one colour, which may be black, and groups of perturbations may be empty."""
    requested = ExplainSettings(
        perturbations=n, noise=noise, sigma=sigma, perturbation_groups=groups, layers=(3, 6, 9), silencing_draws=1
    )
    frame = np.full((64, 32, 3), colour, np.uint8)
    check_defined(Explainer(thin_classifier, requested).explain(frame))


@pytest.mark.parametrize("seed", range(6))
def test_one_channel_layers(vgg_like, thin_network, in_float64, picture, seed: int) -> None:
    network = thin_network(dtype=torch.float64)
    network.features = vgg_like(BLOCKS_OF_ONE, seed)
    network.classifier[1] = nn.Linear(2, 6, dtype=torch.float64).requires_grad_(False)
    explanation = Explainer(in_float64(network), ExplainSettings(perturbations=6)).explain(picture(32, 64))
    check_defined(explanation)
    for ranking in explanation.rankings:
        assert ranking.scores.shape == (1,)
        assert [neuron.channel for neuron in ranking.neurons] in ([], [0])
        # A ranking of one neuron cannot change, except that its influence may change its sign.
        allowed = (0.0, 1.0) if ranking.metric in (SUPPORTING, OPPOSING) else (None, 1.0)
        assert ranking.stability in allowed or math.isnan(ranking.stability)


def permuted(network: VGGClassifier, layer: int, order: list[int]) -> VGGClassifier:
    """Return a network that computes the same function, in which channel i of a layer was channel `order[i]`."""
    other = copy.deepcopy(network)
    layers = convolution_layers(other.features)
    here, following = (other.features[layers[number - 1].convolution] for number in (layer, layer + 1))
    here.weight.data = here.weight.data[order]
    here.bias.data = here.bias.data[order]
    following.weight.data = following.weight.data[:, order]
    return other


@settings(max_examples=15)
@given(layer=st.sampled_from([3, 5, 7, 8]), data=st.data())
def test_the_order_of_channels_does_not_matter(thin_network, in_float64, picture, layer: int, data) -> None:
    network = thin_network(dtype=torch.float64)
    channels = convolution_layers(network.features)[layer - 1].channels
    order = data.draw(st.permutations(range(channels)))
    requested = ExplainSettings(perturbations=12, top_n=3)
    before = Explainer(in_float64(network), requested).explain(picture(32, 64))
    after = Explainer(in_float64(permuted(network, layer, order)), requested).explain(picture(32, 64))
    for one, other in zip(before.rankings, after.rankings, strict=True):
        expected = one.scores[order] if one.layer == layer else one.scores
        np.testing.assert_allclose(other.scores, expected, rtol=1e-8, atol=1e-12)
        named = [order[n.channel] if one.layer == layer else n.channel for n in other.neurons]
        assert named == [n.channel for n in one.neurons]
        assert [n.patch for n in other.neurons] == [n.patch for n in one.neurons]
        assert other.stability == one.stability or math.isnan(one.stability)


def silence(network: VGGClassifier, layer: int, channels: set[int]) -> None:
    """Set the weights and biases of these neurons so that they are dead."""
    convolution = network.features[convolution_layers(network.features)[layer - 1].convolution]
    convolution.weight.data[list(channels)] = 0
    convolution.bias.data[list(channels)] = -1


@settings(max_examples=15)
@given(dead=st.sets(st.integers(0, 7), min_size=1, max_size=7), seed=st.integers(0, 3))
def test_dead_neurons_are_never_selected(thin_network, in_float64, picture, dead, seed: int) -> None:
    """This holds for all metrics except those of the weights, which do not depend on the image."""
    network = thin_network(seed, dtype=torch.float64)
    silence(network, 6, dead)
    requested = ExplainSettings(perturbations=6, layers=(6,), top_n=8)
    explanation = Explainer(in_float64(network), requested).explain(picture(32, 64, seed))
    for ranking in explanation.rankings:
        if not ranking.metric.startswith("weight"):
            assert not dead & {neuron.channel for neuron in ranking.neurons}
            scores = ranking.scores[list(dead)]
            assert (scores == 0).all() if ranking.metric in (SUPPORTING, OPPOSING) else np.isnan(scores).all()
        else:
            assert all(n.patch is None for n in ranking.neurons if n.channel in dead)
