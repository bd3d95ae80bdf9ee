"""Table 1 of the paper: how well the patches of each metric's neurons meet the person, and what they tell.

    ros2 run explain_cnn_ros experiments patches --data DIR --output DIR

With what the paper lacks: measures that do not saturate, and baselines: random neurons, random boxes of the same sizes,
boxes of the same sizes in the middle, and an untrained network.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments import markdown
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.extraction import PatchesByLayer, extract_all
from explain_cnn_ros.experiments.layouts import WINDOW
from explain_cnn_ros.experiments.localization import Box, Localization, localization
from explain_cnn_ros.experiments.probe import Probe, accuracies, boxes_of
from explain_cnn_ros.experiments.progress import Progress, silent
from explain_cnn_ros.experiments.secondary import spread
from explain_cnn_ros.experiments.selectors import RANDOM
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.network import VGGClassifier
from explain_cnn_ros.settings import ExplainSettings

#: Whose boxes the baselines of the same sizes take.
SIZES_OF = "activation_precision"

UNTRAINED, ELSEWHERE, MIDDLE = "untrained network", "random boxes", "boxes in the middle"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    accuracy, deviation: of the secondary classifier, balanced, over its seeds.
    """

    name: str
    top_n: int
    localization: Localization
    accuracy: float
    deviation: float


@dataclass(frozen=True)
class PatchTable:
    """Settings of the experiment."""

    explain: ExplainSettings
    top_ns: tuple[int, ...] = (5, 20)
    probe: Probe = field(default_factory=Probe)


def untrained(classifier: PersonClassifier, seed: int = 0) -> PersonClassifier:
    """The same network as it was before training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = VGGClassifier(classifier.info.architecture, classifier.info.input_size, classifier.info.hidden)
    return PersonClassifier(network, classifier.info, classifier.device)


def measure(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    how: PatchTable,
    folder: Path,
    progress: Progress = silent,
) -> list[Row]:
    """The rows of the table; what takes long is kept in a folder, and taken from there when it is there."""
    explain = dataclasses.replace(how.explain, top_n=max(how.top_ns))
    sets: dict[str, dict[str, PatchesByLayer]] = {}
    trained = extract_all(
        Explainer(classifier, explain),
        examples,
        folder / "patches.jsonl",
        lambda done, of: progress("explaining", done, of),
    )
    for metric in (*explain.metrics, RANDOM):
        sets[metric] = {name: extracted.patches[metric] for name, extracted in trained.items()}
    # Of the untrained network, one metric is enough.
    bare = extract_all(
        Explainer(untrained(classifier), dataclasses.replace(explain, metrics=(SIZES_OF,))),
        examples,
        folder / "patches-untrained.jsonl",
        lambda done, of: progress("explaining with the untrained network", done, of),
        random=False,
    )
    sets[UNTRAINED] = {name: extracted.patches[SIZES_OF] for name, extracted in bare.items()}
    sets[ELSEWHERE] = {name: _moved(name, patches, _elsewhere) for name, patches in sets[SIZES_OF].items()}
    sets[MIDDLE] = {name: _moved(name, patches, _middle) for name, patches in sets[SIZES_OF].items()}
    order = [*explain.metrics, RANDOM, ELSEWHERE, MIDDLE, UNTRAINED]
    rows = []
    for count, (name, top_n) in enumerate(itertools.product(order, how.top_ns)):
        progress("secondary classifiers", count, len(order) * len(how.top_ns))
        values = accuracies(examples, sets[name], top_n, how.probe, folder / "secondary.json")
        rows.append(Row(name, top_n, _meeting(examples, sets[name], top_n), *spread(values)))
    return rows


def _elsewhere(box: Box, rng: np.random.Generator) -> Box:
    return (rng.uniform(0, max(0.0, WINDOW[0] - box[2])), rng.uniform(0, max(0.0, WINDOW[1] - box[3])), box[2], box[3])


def _middle(box: Box, rng: np.random.Generator) -> Box:
    return ((WINDOW[0] - box[2]) / 2, (WINDOW[1] - box[3]) / 2, box[2], box[3])


def _moved(name: str, patches: PatchesByLayer, move: Callable[[Box, np.random.Generator], Box]) -> PatchesByLayer:
    rng = np.random.default_rng(int.from_bytes(name.encode(), "big") % 2**63)
    moved: dict[int, list[Any]] = {layer: [b and move(b, rng) for b in boxes] for layer, boxes in patches.items()}
    return moved


def _meeting(examples: Sequence[Example], patches: Mapping[str, PatchesByLayer], top_n: int) -> Localization:
    """Of the persons of the test photos."""
    pairs = [
        (box, example.box)
        for example in examples
        if example.box is not None and example.is_test
        for box in boxes_of(patches[example.name], top_n)
    ]
    return localization([box for box, _ in pairs], [person for _, person in pairs])


def to_markdown(rows: Sequence[Row]) -> str:
    """The table, as people read it."""
    header = ("neurons by", "top N", "patches that touch the person", "share of a patch inside", "middle inside")
    return markdown.table((*header, "secondary classifier, accuracy"), map(_cells, rows))


def _cells(row: Row) -> list[object]:
    found = row.localization
    shares = [f"{100 * share:.1f} %" for share in (found.touching, found.inside, found.pointing)]
    return [row.name, row.top_n, *shares, f"{100 * row.accuracy:.1f} ± {100 * row.deviation:.1f} %"]
