"""The patches of the neurons that each metric selects in windows, cached on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explain_cnn_ros.experiments import results_cache
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.selectors import RANDOM
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.patches import Patch

#: Boxes (x, y, width, height) in the window by layer, best neuron first; None for a neuron without a patch.
PatchesByLayer = dict[int, list[tuple[int, int, int, int] | None]]


@dataclass(frozen=True)
class ExtractedPatches:
    """The patches of a window, and the similarity of the selections.

    Attributes:
        patches: Patches by metric.
        set_similarity: Jaccard index of the selections of correlation and precision over all layers; NaN if one of the
            two metrics is missing.
        set_similarity_by_layer: The same by layer; empty if one of the two metrics is missing.
    """

    patches: Mapping[str, PatchesByLayer]
    set_similarity: float
    set_similarity_by_layer: Mapping[int, float]


def extract(explainer: Explainer, example: Example, random: bool) -> dict[str, Any]:
    """Rank the neurons of a window and compute their patches.

    Args:
        explainer: The explainer.
        example: The window.
        random: Add the patches of as many random neurons, under the name `RANDOM`.

    Returns:
        The fields of `ExtractedPatches`, serialisable as JSON.
    """
    ranked = explainer.rank(example.image)
    layers = explainer.settings.layers
    drawn: list[Neuron] = []
    if random:
        rng = np.random.default_rng(int.from_bytes(example.name.encode(), "big") % 2**63)
        drawn = draw_neurons(explainer, rng)
    # The window is the whole frame, so pixels of the window are pixels of the frame.
    located = explainer.locate_selected(ranked)
    patches = {
        name: {
            layer: [_box(located.get((name, Neuron(layer, c)))) for c in ranked.channels[name, layer]]
            for layer in layers
        }
        for name in explainer.settings.metrics
    }
    if random:
        of_random = explainer.locate(ranked, drawn)
        patches[RANDOM] = {layer: [_box(of_random.get(n)) for n in drawn if n.layer == layer] for layer in layers}
    similarity, by_layer = ranked.set_similarity()
    return {"patches": patches, "set_similarity": similarity, "set_similarity_by_layer": by_layer}


def draw_neurons(explainer: Explainer, rng: np.random.Generator) -> list[Neuron]:
    """Draw N neurons of each explained layer at random, live and dead ones alike.

    Args:
        explainer: The explainer; N is its `top_n`.
        rng: Source of randomness.
    """
    return [
        Neuron(layer, channel)
        for layer in explainer.settings.layers
        for channel in rng.permutation(explainer.adapter.layers[layer].channels)[: explainer.settings.top_n].tolist()
    ]


def _box(patch: Patch | None) -> tuple[int, int, int, int] | None:
    return None if patch is None else (patch.x, patch.y, patch.width, patch.height)


def extract_all(
    explainer: Explainer,
    examples: Sequence[Example],
    path: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    random: bool = True,
) -> dict[str, ExtractedPatches]:
    """Return the patches of all windows by name; those that the cache lacks are computed.

    Args:
        explainer: The explainer.
        examples: The windows.
        path: Name of the cache.
        progress: Called after each window with the number of windows that are done and the number of all windows.
        random: Add the patches of random neurons; see `extract`.
    """
    key = results_cache.key_of(explainer.classifier, explainer.settings, random, *examples)
    by_name = {e.name: e for e in examples}
    records = results_cache.compute(path, key, by_name, lambda e: extract(explainer, e, random), progress)
    return {name: _from_record(record) for name, record in records.items()}


def _from_record(record: dict[str, Any]) -> ExtractedPatches:
    patches = {
        name: {int(layer): [box and tuple(box) for box in boxes] for layer, boxes in by_layer.items()}
        for name, by_layer in record["patches"].items()
    }
    by_layer = {int(layer): value for layer, value in record["set_similarity_by_layer"].items()}
    return ExtractedPatches(patches, record["set_similarity"], by_layer)
