"""Explanations without a network, frames to draw them on, and views of what was drawn."""

from __future__ import annotations

import dataclasses

import numpy as np

from explain_cnn_ros.draw.boxes import OUTLINE_GAP
from explain_cnn_ros.explain.explanation import Explanation, LayerRanking, Proof, RankedNeuron
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS, OPPOSING, PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.metrics.registry import SIMILARITY_METRICS
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.windows import Region

CORRELATION, PRECISION = SIMILARITY_METRICS
NAMES = [f"conv{block}_{i}" for block, depth in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, depth + 1)]
REGION = Region(200, 60, 200, 340, 0.97)
PATCH = Patch(280, 180, 30, 20)


def ranking(layer, patches, metric=CORRELATION, unstable=False, first_channel=0):
    perturbed = metric in (*SIMILARITY_METRICS, SUPPORTING, OPPOSING)
    stability = None if not perturbed else 0.04 if unstable else 1.0
    neurons = tuple(RankedNeuron(layer, first_channel + i, 0.5 - i / 10, patch) for i, patch in enumerate(patches))
    return LayerRanking(metric, layer, NAMES[layer - 1], neurons, stability, unstable, np.zeros(8))


def explanation(rankings=(), size=(640, 480), region=REGION, threshold=0.5, similarity=0.02, **settings):
    layers = tuple(dict.fromkeys(r.layer for r in rankings)) or (3,)
    metrics = tuple(dict.fromkeys(r.metric for r in rankings)) or PAPER_METRICS
    return Explanation(
        region=region,
        image_size=size,
        threshold=threshold,
        settings=ExplainSettings(layers=layers, metrics=metrics, **settings),
        perturbations=50,
        output=3.5,
        output_mean=3.4,
        output_stddev=0.2,
        rankings=tuple(rankings),
        set_similarity=similarity,
        set_similarity_by_layer=dict.fromkeys(layers, similarity),
        timings={"network": 1.0, "deconvnet": 0.5},
        model_hash="0123456789ab",
        device="cpu",
    )


def everything(
    size=(640, 480), region=REGION, metrics=PAPER_METRICS, layers=range(3, 10), top_n=5, unstable=True, **more
):
    """Make an explanation with rankings of all layers by all metrics. Patches are all over the visible region."""
    random = np.random.default_rng(0)
    left, top = max(0, region.x), max(0, region.y)
    right, bottom = min(size[0], region.x + region.width), min(size[1], region.y + region.height)

    def patch():
        x, y = int(random.integers(left, right)), int(random.integers(top, bottom))
        return Patch(x, y, int(random.integers(1, right - x + 1)), int(random.integers(1, bottom - y + 1)))

    rankings = [
        ranking(layer, [patch() for _ in range(top_n)], metric, unstable and metric == CORRELATION, 10 * layer)
        for metric in metrics
        for layer in layers
    ]
    return explanation(rankings, size, region, top_n=top_n, **more)


def proof(metric=SUPPORTING, neurons=35, share=0.71, **more):
    """Make a proof; the shares of opposing neurons are negative."""
    values = {
        "predicted": 3.0,
        "measured": 3.1,
        "error": 0.06,
        "agreeing": neurons,
        "together": 3.5 * share,
        "probability": 0.12,
        "disagrees": False,
    }
    return Proof(metric=metric, neurons=neurons, share=share, **(values | more))


def argued(size=(640, 480), region=REGION, supporting=5, opposing=5, silenced=True, metrics=DEFAULT_METRICS, **more):
    """Make an explanation with influence and proofs.

    Args:
        size: Size (width, height) of the frame.
        region: The explained region.
        supporting: Number of supporting neurons of each layer.
        opposing: Number of opposing neurons of each layer.
        silenced: Whether each neuron was silenced by itself.
        metrics: The metrics.
        **more: More arguments of `everything`.
    """
    made = everything(size, region, metrics, top_n=max(5, supporting, opposing), **more)
    toward = 1 if made.person else -1
    rankings = []
    for of_layer in made.rankings:
        count, sign, shift = {SUPPORTING: (supporting, toward, 0), OPPOSING: (opposing, -toward, 200)}.get(
            of_layer.metric, (99, 0, 0)
        )
        neurons = of_layer.neurons[:count]
        if sign:
            scores = [sign * (n.layer / 10 - i / 50) for i, n in enumerate(neurons)]
            neurons = tuple(
                dataclasses.replace(n, channel=n.channel + shift, score=s, silenced=1.1 * s if silenced else None)
                for n, s in zip(neurons, scores, strict=True)
            )
        rankings.append(dataclasses.replace(of_layer, neurons=neurons))
    layers = len({of_layer.layer for of_layer in rankings})
    error = {} if silenced else {"error": float("nan"), "measured": float("nan"), "agreeing": 0}
    proofs = [
        proof(SUPPORTING, supporting * layers, **error),
        proof(OPPOSING, opposing * layers, -0.23, probability=0.99, **error),
    ]
    chosen = tuple(one for one in proofs if one.metric in metrics)
    return dataclasses.replace(made, output=3.5 * toward, rankings=tuple(rankings), proofs=chosen)


def picture(size=(640, 480), seed=0):
    """Make a dark picture of noise, on which everything that is drawn can be seen."""
    return np.random.default_rng(seed).integers(0, 120, (size[1], size[0], 3), np.uint8)


def plain(size=(640, 480), value=90):
    return np.full((size[1], size[0], 3), value, np.uint8)


def around(patch, distance):
    """Return the pixels at a distance from the border of a patch as four slices without corners; 1 is next to it."""
    left, top = patch.x - distance, patch.y - distance
    right, bottom = patch.x + patch.width + distance - 1, patch.y + patch.height + distance - 1
    columns, rows = slice(patch.x, patch.x + patch.width), slice(patch.y, patch.y + patch.height)
    return [(top, columns), (bottom, columns), (rows, left), (rows, right)]


def is_colour(image, pixels, colour):
    return all((image[place] == colour).all() for place in pixels)


def outline(region, distance):
    return around(Patch(region.x, region.y, region.width, region.height), OUTLINE_GAP + distance)


#: Explained layers of networks of torchvision: their numbers, and their names in the tree of modules.
RESNET = {5 * stage: f"layer{stage}.1.conv2" for stage in (1, 2, 3, 4)}
DENSENET = {
    13: "features.denseblock1.denselayer6.conv2",
    38: "features.denseblock2.denselayer12.conv2",
    87: "features.denseblock3.denselayer24.conv2",
    120: "features.denseblock4.denselayer16.conv2",
}
EFFICIENTNET = {8 * stage: f"features.{stage}.1.block.2.0" for stage in range(1, 8)} | {81: "features.8.0"}


def of_network(made, layers, target="person"):
    """Return an explanation with other layers, in the same order.

    Args:
        made: The explanation.
        layers: Names of as many layers as it has, by their numbers.
        target: Names of the classes that it is about.
    """
    numbers = dict(zip(sorted({ranking.layer for ranking in made.rankings}), layers, strict=True))
    rankings = tuple(
        dataclasses.replace(
            r,
            layer=numbers[r.layer],
            layer_name=layers[numbers[r.layer]],
            neurons=tuple(dataclasses.replace(neuron, layer=numbers[r.layer]) for neuron in r.neurons),
        )
        for r in made.rankings
    )
    chosen = dataclasses.replace(made.settings, layers=tuple(layers))
    return dataclasses.replace(made, rankings=rankings, settings=chosen, target=target)
