"""Windows -> the patches of the neurons that each metric selects, kept on disk as they come."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explain_cnn_ros.deconvnet import Neuron
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.patches import Patch

#: What is called a metric here, but is none: live neurons drawn at random.
RANDOM = "random neurons"


@dataclass(frozen=True)
class RankedPatches:
    """What a window shows of one metric.

    patches: by layer, best first: (x, y, width, height) in the window; None for a neuron without a patch.
    """

    example: str
    metric: str
    patches: dict[int, list[tuple[int, int, int, int] | None]]


def extract(explainer: Explainer, example: Example) -> list[RankedPatches]:
    """The patches of one window, by metric; and those of as many random neurons."""
    settings = explainer.settings
    explanation = explainer.explain(example.image)
    found = []
    for metric in settings.metrics:
        boxes: dict[int, list[tuple[int, int, int, int] | None]] = {}
        for layer in settings.layers:
            neurons = explanation.layer_ranking(metric, layer).neurons
            boxes[layer] = [_box(n.patch) for n in neurons]
        found.append(RankedPatches(example.name, metric, boxes))
    rng = np.random.default_rng(int.from_bytes(example.name.encode(), "big") % 2**63)
    drawn = {
        layer: rng.permutation(explainer.layers[layer].channels)[: settings.top_n].tolist() for layer in settings.layers
    }
    chosen = [Neuron(layer, channel) for layer, channels in drawn.items() for channel in channels]
    patches = explainer.patches(example.image, chosen)
    boxes = {}
    for layer, channels in drawn.items():
        boxes[layer] = [_box(patches.get(Neuron(layer, channel))) for channel in channels]
    found.append(RankedPatches(example.name, RANDOM, boxes))
    return found


def _box(patch: Patch | None) -> tuple[int, int, int, int] | None:
    return None if patch is None else (patch.x, patch.y, patch.width, patch.height)


def extract_all(explainer: Explainer, examples: Sequence[Example], path: Path, key: str) -> Iterator[int]:
    """Extract what is missing in a file, a line a window; gives the number of windows after each.

    Args:
        key: of the network, settings and data; a file of another key is begun anew.
    """
    done = {line["example"] for line in _lines(path, key)}
    path.parent.mkdir(parents=True, exist_ok=True)
    if not done:
        path.write_text(json.dumps({"key": key}) + "\n")
    with path.open("a", encoding="utf-8") as file:
        for count, example in enumerate(examples, 1):
            if example.name not in done:
                found = extract(explainer, example)
                line = {"example": example.name, "metrics": {f.metric: f.patches for f in found}}
                file.write(json.dumps(line) + "\n")
                file.flush()
            yield count


def read_patches(path: Path, key: str) -> list[RankedPatches]:
    """What `extract_all` kept."""
    found = []
    for line in _lines(path, key):
        for metric, by_layer in line["metrics"].items():
            boxes = {int(layer): [b and tuple(b) for b in of_layer] for layer, of_layer in by_layer.items()}
            found.append(RankedPatches(line["example"], metric, boxes))
    return found


def _lines(path: Path, key: str) -> list[dict[str, Any]]:
    """The whole lines of a file of this key; a last one that was cut off is cut away."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            os.ftruncate(file.fileno(), len(whole))
    first, *rest = [json.loads(line) for line in whole.splitlines()] or [{}]
    return rest if first.get("key") == key else []
