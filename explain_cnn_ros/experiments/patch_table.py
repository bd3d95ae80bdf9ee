"""Table 1 of the paper: how well the patches of each metric's neurons match the person, and what they tell about it.

    explain-cnn experiments patches --data DIR --output DIR

The table has the paper's numbers beside ours. Patches are the boxes around all nonzero pixels of a reconstruction, as
in the authors' published code, and around its strong pixels only. Further measures of localization do not saturate. The
secondary classifiers are evaluated with three splits of the patches; see `patch_accuracy`. There are rows that the
paper does not have: influence, random neurons, random boxes of the same sizes, boxes of the same sizes in the middle of
the window, and an untrained network.
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
from explain_cnn_ros.experiments.localization import Box, Localization, localization
from explain_cnn_ros.experiments.patch_accuracy import (
    SPLITS,
    PatchAccuracySettings,
    SecondaryAccuracy,
    accuracies,
    boxes_of,
)
from explain_cnn_ros.experiments.progress import ProgressCallback, no_progress
from explain_cnn_ros.experiments.secondary import spread
from explain_cnn_ros.experiments.selectors import RANDOM
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

#: The metric whose boxes give the sizes of the baselines' boxes.
SIZES_OF = "activation_precision"

UNTRAINED, ELSEWHERE, MIDDLE = "untrained network", "random boxes", "boxes in the middle"

#: Table 1 of the paper (Lengerich et al. 2017), "averaged over a set of 5 test images": patch localization and accuracy
#: of the secondary classifier, by metric and N.
PAPER_TABLE = {
    ("weight_sum", 5): (0.94, 0.607),
    ("weight_sum", 20): (0.82, 0.703),
    ("weight_variance", 5): (0.91, 0.787),
    ("weight_variance", 20): (0.80, 0.948),
    ("activation_sum", 5): (0.92, 0.734),
    ("activation_sum", 20): (0.79, 0.862),
    ("activation_variance", 5): (0.91, 0.711),
    ("activation_variance", 20): (0.80, 0.857),
    ("activation_output_correlation", 5): (0.93, 0.705),
    ("activation_output_correlation", 20): (0.85, 0.931),
    ("activation_precision", 5): (0.96, 0.94),
    ("activation_precision", 20): (0.91, 0.901),
}

#: Patches by layer, by window.
PatchesByWindow = dict[str, PatchesByLayer]


@dataclass(frozen=True)
class PatchTableRow:
    """A row of the table.

    Attributes:
        name: Metric or baseline.
        top_n: Number of neurons of each layer.
        nonzero: How well the boxes around all nonzero pixels match the persons of the test photos.
        strong: The same of the boxes around the strong pixels.
        accuracies: Accuracy of the secondary classifiers by split; they see the boxes around the strong pixels.
    """

    name: str
    top_n: int
    nonzero: Localization
    strong: Localization
    accuracies: Mapping[str, SecondaryAccuracy]


@dataclass(frozen=True)
class PatchTableSettings:
    """Settings of the experiment.

    Attributes:
        explain: Settings of the explanations; their `top_n` is not used.
        top_ns: Numbers of neurons of each layer.
        accuracy: Settings of the secondary classifiers.
        splits: Splits of the patches of the secondary classifiers, some of `SPLITS`.
    """

    explain: ExplainSettings
    top_ns: tuple[int, ...] = (5, 20)
    accuracy: PatchAccuracySettings = field(default_factory=PatchAccuracySettings)
    splits: tuple[str, ...] = SPLITS


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
    persons = [e for e in examples if e.person and e.is_test]
    strong = _patch_sets(classifier, examples, settings, folder / "patches", progress)
    whole = dataclasses.replace(settings, explain=dataclasses.replace(settings.explain, patch_share=0.0))
    nonzero = _patch_sets(classifier, persons, whole, folder / "nonzero", progress)
    rows = []
    for count, (name, top_n) in enumerate(itertools.product(strong, settings.top_ns)):
        progress("secondary classifiers", count, len(strong) * len(settings.top_ns))
        of_splits = {
            split: accuracies(examples, strong[name], top_n, settings.accuracy, folder / "secondary.json", split)
            for split in settings.splits
        }
        of_nonzero, of_strong = (_localization(persons, sets[name], top_n) for sets in (nonzero, strong))
        rows.append(PatchTableRow(name, top_n, of_nonzero, of_strong, of_splits))
    return rows


def _patch_sets(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    settings: PatchTableSettings,
    cache: Path,
    progress: ProgressCallback,
) -> dict[str, PatchesByWindow]:
    """Return the patches of each metric and baseline, in the order of the table.

    Args:
        classifier: The classifier.
        examples: The windows.
        settings: Settings of the experiment.
        cache: Path of the caches without their endings.
        progress: Receives reports of the progress.
    """
    explain = dataclasses.replace(settings.explain, top_n=max(settings.top_ns))
    trained = extract_all(
        Explainer(classifier, explain),
        examples,
        cache.with_suffix(".jsonl"),
        lambda done, total: progress(f"explaining ({cache.name})", done, total),
    )
    # One metric is enough for the untrained network.
    untrained = extract_all(
        Explainer(classifier.untrained(), dataclasses.replace(explain, metrics=(SIZES_OF,))),
        examples,
        cache.with_name(f"{cache.name}-untrained.jsonl"),
        lambda done, total: progress(f"explaining with the untrained network ({cache.name})", done, total),
        random=False,
    )
    sets: dict[str, PatchesByWindow] = {}
    for name in (*explain.metrics, RANDOM):
        sets[name] = {window: extracted.patches[name] for window, extracted in trained.items()}
    size = classifier.info.input_size
    for name, move in ((ELSEWHERE, _elsewhere), (MIDDLE, _middle)):
        sets[name] = {window: _moved(window, patches, size, move) for window, patches in sets[SIZES_OF].items()}
    sets[UNTRAINED] = {window: extracted.patches[SIZES_OF] for window, extracted in untrained.items()}
    return sets


#: Moves a box in a window of a size (width, height).
_Move = Callable[[Box, tuple[int, int], np.random.Generator], Box]


def _elsewhere(box: Box, size: tuple[int, int], rng: np.random.Generator) -> Box:
    return (rng.uniform(0, max(0.0, size[0] - box[2])), rng.uniform(0, max(0.0, size[1] - box[3])), box[2], box[3])


def _middle(box: Box, size: tuple[int, int], rng: np.random.Generator) -> Box:
    return ((size[0] - box[2]) / 2, (size[1] - box[3]) / 2, box[2], box[3])


def _moved(window: str, patches: PatchesByLayer, size: tuple[int, int], move: _Move) -> PatchesByLayer:
    rng = np.random.default_rng(int.from_bytes(window.encode(), "big") % 2**63)
    moved: dict[int, list[Any]] = {layer: [b and move(b, size, rng) for b in boxes] for layer, boxes in patches.items()}
    return moved


def _localization(persons: Sequence[Example], patches: Mapping[str, PatchesByLayer], top_n: int) -> Localization:
    """Compare the patches with the persons."""
    pairs = [(box, example) for example in persons for box in boxes_of(patches[example.name], top_n)]
    people = [example.box for _, example in pairs if example.box is not None]
    return localization([box for box, _ in pairs], people, [example.photo for _, example in pairs])


def to_markdown(rows: Sequence[PatchTableRow]) -> str:
    """Return the table in Markdown."""
    header = ["neurons by", "top N", "touch the person: paper", "all nonzero pixels", "strong pixels"]
    header += ["share of a patch inside", "middle inside", "secondary classifier: paper"]
    return markdown.table([*header, *(f"by {split}" for split in rows[0].accuracies)], map(_cells, rows))


def _cells(row: PatchTableRow) -> list[object]:
    paper = PAPER_TABLE.get((row.name, row.top_n))
    return [
        row.name,
        row.top_n,
        f"{100 * paper[0]:.0f} %" if paper else "—",
        row.nonzero.touching.percent,
        *(measure.percent for measure in (row.strong.touching, row.strong.inside, row.strong.pointing)),
        f"{100 * paper[1]:.1f} %" if paper else "—",
        *(_accuracy(found) for found in row.accuracies.values()),
    ]


def _accuracy(found: SecondaryAccuracy) -> str:
    """Return the accuracy with its interval over photos, and the standard deviation over seeds."""
    if len(found.seeds) < 2:
        return found.overall.percent
    return f"{found.overall.percent} ± {100 * spread(found.seeds)[1]:.1f}"
