"""Table 1 of the paper: how well the patches of each metric's neurons match the person, and what they tell about it.

    explain-cnn experiments patches --data DIR --output DIR

The table adds measures that do not saturate, and four baselines: random neurons, random boxes of the same sizes, boxes
of the same sizes in the middle of the window, and an untrained network.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from explain_cnn_ros.experiments import markdown
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.extraction import PatchesByLayer, extract_all
from explain_cnn_ros.experiments.layouts import WINDOW
from explain_cnn_ros.experiments.localization import Box, Localization, localization
from explain_cnn_ros.experiments.patch_accuracy import PatchAccuracySettings, accuracies, boxes_of
from explain_cnn_ros.experiments.progress import ProgressCallback, no_progress
from explain_cnn_ros.experiments.secondary import spread
from explain_cnn_ros.experiments.selectors import RANDOM
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

#: The metric whose boxes give the sizes of the baselines' boxes.
SIZES_OF = "activation_precision"

UNTRAINED, ELSEWHERE, MIDDLE = "untrained network", "random boxes", "boxes in the middle"

#: Patches by layer, by window.
PatchesByWindow = dict[str, PatchesByLayer]


@dataclass(frozen=True)
class PatchTableRow:
    """A row of the table.

    Attributes:
        name: Metric or baseline.
        top_n: Number of neurons of each layer.
        localization: How well the patches match the persons of the test photos.
        accuracy: Balanced accuracy of the secondary classifier, mean over its seeds.
        deviation: Standard deviation of the accuracy over seeds.
    """

    name: str
    top_n: int
    localization: Localization
    accuracy: float
    deviation: float


@dataclass(frozen=True)
class PatchTableSettings:
    """Settings of the experiment.

    Attributes:
        explain: Settings of the explanations; their `top_n` is not used.
        top_ns: Numbers of neurons of each layer.
        accuracy: Settings of the secondary classifiers.
    """

    explain: ExplainSettings
    top_ns: tuple[int, ...] = (5, 20)
    accuracy: PatchAccuracySettings = field(default_factory=PatchAccuracySettings)


def measure(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    settings: PatchTableSettings,
    folder: Path,
    progress: ProgressCallback = no_progress,
) -> list[PatchTableRow]:
    """Compute the rows of the table; patches and accuracies are cached.

    Args:
        classifier: The classifier.
        examples: The windows.
        settings: Settings of the experiment.
        folder: Folder of the caches.
        progress: Receives reports of the progress.
    """
    sets = _patch_sets(classifier, examples, settings, folder, progress)
    rows = []
    for count, (name, top_n) in enumerate(itertools.product(sets, settings.top_ns)):
        progress("secondary classifiers", count, len(sets) * len(settings.top_ns))
        values = accuracies(examples, sets[name], top_n, settings.accuracy, folder / "secondary.json")
        rows.append(PatchTableRow(name, top_n, _localization(examples, sets[name], top_n), *spread(values)))
    return rows


def _patch_sets(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    settings: PatchTableSettings,
    folder: Path,
    progress: ProgressCallback,
) -> dict[str, PatchesByWindow]:
    """Return the patches of each metric and baseline, in the order of the table."""
    explain = dataclasses.replace(settings.explain, top_n=max(settings.top_ns))
    trained = extract_all(
        Explainer(classifier, explain),
        examples,
        folder / "patches.jsonl",
        lambda done, total: progress("explaining", done, total),
    )
    # One metric is enough for the untrained network.
    untrained = extract_all(
        Explainer(classifier.untrained(), dataclasses.replace(explain, metrics=(SIZES_OF,))),
        examples,
        folder / "patches-untrained.jsonl",
        lambda done, total: progress("explaining with the untrained network", done, total),
        random=False,
    )
    sets: dict[str, PatchesByWindow] = {}
    for name in (*explain.metrics, RANDOM):
        sets[name] = {window: extracted.patches[name] for window, extracted in trained.items()}
    sets[ELSEWHERE] = {window: _moved(window, patches, _elsewhere) for window, patches in sets[SIZES_OF].items()}
    sets[MIDDLE] = {window: _moved(window, patches, _middle) for window, patches in sets[SIZES_OF].items()}
    sets[UNTRAINED] = {window: extracted.patches[SIZES_OF] for window, extracted in untrained.items()}
    return sets


def _elsewhere(box: Box, rng: np.random.Generator) -> Box:
    return (rng.uniform(0, max(0.0, WINDOW[0] - box[2])), rng.uniform(0, max(0.0, WINDOW[1] - box[3])), box[2], box[3])


def _middle(box: Box, rng: np.random.Generator) -> Box:
    return ((WINDOW[0] - box[2]) / 2, (WINDOW[1] - box[3]) / 2, box[2], box[3])


def _moved(window: str, patches: PatchesByLayer, move: Callable[[Box, np.random.Generator], Box]) -> PatchesByLayer:
    rng = np.random.default_rng(int.from_bytes(window.encode(), "big") % 2**63)
    moved: dict[int, list[Any]] = {layer: [b and move(b, rng) for b in boxes] for layer, boxes in patches.items()}
    return moved


def _localization(examples: Sequence[Example], patches: Mapping[str, PatchesByLayer], top_n: int) -> Localization:
    """Compare the patches with the persons of the test photos."""
    pairs = [
        (box, example.box)
        for example in examples
        if example.box is not None and example.is_test
        for box in boxes_of(patches[example.name], top_n)
    ]
    return localization([box for box, _ in pairs], [person for _, person in pairs])


def to_markdown(rows: Sequence[PatchTableRow]) -> str:
    """Return the table in Markdown."""
    header = ("neurons by", "top N", "patches that touch the person", "share of a patch inside", "middle inside")
    return markdown.table((*header, "secondary classifier, accuracy"), map(_cells, rows))


def _cells(row: PatchTableRow) -> list[object]:
    found = row.localization
    shares = [f"{100 * share:.1f} %" for share in (found.touching, found.inside, found.pointing)]
    return [row.name, row.top_n, *shares, f"{100 * row.accuracy:.1f} ± {100 * row.deviation:.1f} %"]
