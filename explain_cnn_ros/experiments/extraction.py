"""Windows -> the patches of the neurons that each metric selects, kept on disk as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explain_cnn_ros.deconvnet import Neuron
from explain_cnn_ros.experiments import kept
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.selectors import RANDOM
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.patches import Patch

#: Boxes (x, y, width, height) in the window by layer, best first; None for a neuron without a patch.
PatchesByLayer = dict[int, list[tuple[int, int, int, int] | None]]


@dataclass(frozen=True)
class Extracted:
    """What a window's explanation says.

    patches: by metric.
    set_similarity, set_similarity_by_layer: of correlation and precision; NaN and empty without these.
    """

    patches: Mapping[str, PatchesByLayer]
    set_similarity: float
    set_similarity_by_layer: Mapping[int, float]


def extract(explainer: Explainer, example: Example, random: bool) -> dict[str, Any]:
    """What a window's explanation says, for JSON; `random`: with the patches of as many random neurons."""
    settings = explainer.settings
    explanation = explainer.explain(example.image)
    patches = {
        metric: {
            layer: [_box(n.patch) for n in explanation.layer_ranking(metric, layer).neurons]
            for layer in settings.layers
        }
        for metric in settings.metrics
    }
    if random:
        rng = np.random.default_rng(int.from_bytes(example.name.encode(), "big") % 2**63)
        drawn = draw_neurons(explainer, rng)
        found = explainer.patches(example.image, drawn)
        patches[RANDOM] = {layer: [_box(found.get(n)) for n in drawn if n.layer == layer] for layer in settings.layers}
    return {
        "patches": patches,
        "set_similarity": explanation.set_similarity,
        "set_similarity_by_layer": explanation.set_similarity_by_layer,
    }


def draw_neurons(explainer: Explainer, rng: np.random.Generator) -> list[Neuron]:
    """The top N of each explained layer by the dice, dead ones as well."""
    return [
        Neuron(layer, channel)
        for layer in explainer.settings.layers
        for channel in rng.permutation(explainer.layers[layer].channels)[: explainer.settings.top_n].tolist()
    ]


def _box(patch: Patch | None) -> tuple[int, int, int, int] | None:
    return None if patch is None else (patch.x, patch.y, patch.width, patch.height)


def extract_all(
    explainer: Explainer,
    examples: Sequence[Example],
    path: Path,
    progress: Callable[[int, int], None] = lambda done, of: None,
    random: bool = True,
) -> dict[str, Extracted]:
    """Of all windows, by name; what is missing in the file is computed."""
    key = kept.key_of(explainer.classifier, explainer.settings, random, *examples)
    records = kept.compute(path, key, {e.name: e for e in examples}, lambda e: extract(explainer, e, random), progress)
    return {name: _from_record(record) for name, record in records.items()}


def _from_record(record: dict[str, Any]) -> Extracted:
    patches = {
        metric: {int(layer): [box and tuple(box) for box in boxes] for layer, boxes in by_layer.items()}
        for metric, by_layer in record["patches"].items()
    }
    by_layer = {int(layer): value for layer, value in record["set_similarity_by_layer"].items()}
    return Extracted(patches, record["set_similarity"], by_layer)
