"""Figures 2 and 3 of the paper: the patches of each metric, and the similarity of selections, during a training.

    explain-cnn experiments convergence --data DIR --output DIR

For each checkpoint of a training, the experiment measures the accuracy of the network on validation photos, the
accuracy of secondary classifiers on the patches of each metric's top 5, and the Jaccard index of the selections of
correlation and precision, by layer and over all layers. It does so with the noise of the paper and with the growing
noise of the authors' code. Each run trains one network; `summary` compares runs with different seeds:

    explain-cnn experiments convergence-summary RUN... --output DIR
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from explain_cnn_ros.experiments import bootstrap, markdown
from explain_cnn_ros.experiments.bootstrap import Estimate
from explain_cnn_ros.experiments.checkpoints import Checkpoint
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.extraction import ExtractedPatches, PatchesByLayer, extract_all
from explain_cnn_ros.experiments.layers import explained_layers
from explain_cnn_ros.experiments.patch_accuracy import PatchAccuracySettings, accuracies
from explain_cnn_ros.experiments.progress import ProgressCallback, no_progress
from explain_cnn_ros.experiments.provenance import as_json
from explain_cnn_ros.experiments.secondary import SecondarySettings, spread
from explain_cnn_ros.experiments.selectors import PERTURBED_METRICS, RANDOM, selector, settings_with
from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.evaluation import accuracy, probabilities

#: Presets of the noise, and the metrics that are computed with each.
NOISES: dict[str, tuple[str, ...]] = {"paper": (SUPPORTING, *PAPER_METRICS), "authors": PERTURBED_METRICS}

#: The selections whose patches secondary classifiers are trained on.
SELECTORS = (*(selector(name, preset) for preset, names in NOISES.items() for name in names), RANDOM)


#: Values at the first and at the last of 62 epochs, from arrays in the authors' plot_convergence.py, which draws the
#: quantities of the paper's Figures 2 and 3.
PAPER_ENDS = {
    "network": (0.352, 0.89),
    "activation_precision": (0.60, 0.85),
    "activation_output_correlation": (0.488, 0.81),
    "overlap": (0.16, 0.40),
}

#: Spearman's correlation of the network's accuracy with the overlap over the 62 epochs of the same arrays.
PAPER_RANK_CORRELATION = 0.41


def jaccard_of_overlap(overlap: float) -> float:
    """Convert the authors' overlap, the intersection over the sum of both sizes, to the Jaccard index.

    The paper defines the similarity as the Jaccard index. The published code (calc_overlap) divides by the sum.
    """
    return overlap / (1 - overlap)


@dataclass(frozen=True)
class ConvergenceSettings:
    """Settings of the experiment.

    Attributes:
        accuracy: Settings of the secondary classifiers.
        top_n: Number of selected neurons of each layer.
        layers: Layers whose neurons are selected. The default stands for the default layers of the network.
    """

    accuracy: PatchAccuracySettings = field(
        default_factory=lambda: PatchAccuracySettings(training=SecondarySettings(steps=150))
    )
    top_n: int = 5
    layers: tuple[int, ...] = ExplainSettings().layers


@dataclass(frozen=True)
class ConvergenceRow:
    """A checkpoint of the training.

    Attributes:
        step: Number of training steps.
        epoch: Number of epochs.
        accuracy: Balanced accuracy of the network on validation windows.
        secondary: Mean and standard deviation over seeds of the secondary classifiers' accuracy, by selector.
        similarity: Jaccard index of the selections of correlation and precision over all layers, by noise; mean over
            windows.
        similarity_by_layer: The same by layer.
    """

    step: int
    epoch: float
    accuracy: float
    secondary: Mapping[str, tuple[float, float]]
    similarity: Mapping[str, Estimate]
    similarity_by_layer: Mapping[str, Mapping[int, Estimate]]


def measure(
    checkpoints: Sequence[Checkpoint],
    examples: Sequence[Example],
    validation: tuple[Sequence[Any], Sequence[Any]],
    settings: ConvergenceSettings,
    folder: Path,
    device: str = "auto",
    progress: ProgressCallback = no_progress,
) -> list[ConvergenceRow]:
    """Measure each checkpoint; patches and accuracies are cached.

    Args:
        checkpoints: The checkpoints.
        examples: The windows.
        validation: Validation images of persons and of backgrounds, uint8 [H, W, 3] RGB.
        settings: Settings of the experiment.
        folder: Folder of the caches.
        device: Device of the networks.
        progress: Receives reports of the progress.
    """
    found = []
    for count, checkpoint in enumerate(checkpoints, 1):
        prefix = f"{count}/{len(checkpoints)}: epoch {checkpoint.epoch:.2g}"

        def report(step: str, done: int, total: int, prefix: str = prefix) -> None:
            progress(f"{prefix}, {step}", done, total)

        classifier = checkpoint.load(device)
        extracted = {
            preset: _extract(classifier, examples, settings, preset, folder / f"step-{checkpoint.step:05d}", report)
            for preset in NOISES
        }
        layers = tuple(explained_layers(classifier, settings.layers))
        similarities = {p: _similarity(windows, examples, layers) for p, windows in extracted.items()}
        found.append(
            ConvergenceRow(
                checkpoint.step,
                checkpoint.epoch,
                validate(classifier, *validation),
                _secondary(extracted, examples, settings, folder / "secondary.json", report),
                {preset: overall for preset, (overall, _) in similarities.items()},
                {preset: by_layer for preset, (_, by_layer) in similarities.items()},
            )
        )
    return found


def _extract(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    settings: ConvergenceSettings,
    preset: str,
    prefix: Path,
    report: Callable[[str, int, int], None],
) -> dict[str, ExtractedPatches]:
    """Extract the patches of all windows with one noise."""
    explain = settings_with(preset, metrics=NOISES[preset], top_n=settings.top_n, layers=settings.layers)
    return extract_all(
        Explainer(classifier, explain),
        examples,
        prefix.with_name(f"{prefix.name}-{preset}.jsonl"),
        lambda done, total: report(f"{preset} noise", done, total),
        random=preset == "paper",
    )


def _secondary(
    extracted: Mapping[str, Mapping[str, ExtractedPatches]],
    examples: Sequence[Example],
    settings: ConvergenceSettings,
    path: Path,
    report: Callable[[str, int, int], None],
) -> dict[str, tuple[float, float]]:
    """Compute the mean and the standard deviation of the secondary classifiers' accuracy by selector."""
    patches: dict[str, dict[str, PatchesByLayer]] = {}
    for preset, windows in extracted.items():
        for name in NOISES[preset]:
            patches[selector(name, preset)] = {window: e.patches[name] for window, e in windows.items()}
    patches[RANDOM] = {window: e.patches[RANDOM] for window, e in extracted["paper"].items()}
    found = {}
    for done, name in enumerate(SELECTORS):
        report("secondary classifiers", done, len(SELECTORS))
        found[name] = spread(accuracies(examples, patches[name], settings.top_n, settings.accuracy, path).seeds)
    return found


def validate(classifier: PersonClassifier, persons: Sequence[Any], backgrounds: Sequence[Any]) -> float:
    """Compute the balanced accuracy at a threshold of 0.5.

    Args:
        classifier: The classifier.
        persons: Images of persons, uint8 [H, W, 3] RGB.
        backgrounds: Images of backgrounds, uint8 [H, W, 3] RGB.
    """
    return accuracy(probabilities(classifier, persons), probabilities(classifier, backgrounds), 0.5)[
        "balanced_accuracy"
    ]


def _similarity(
    extracted: Mapping[str, ExtractedPatches], examples: Sequence[Example], layers: Sequence[int]
) -> tuple[Estimate, dict[int, Estimate]]:
    photos = [e.photo for e in examples]
    found = [extracted[e.name] for e in examples]
    overall = bootstrap.mean([e.set_similarity for e in found], photos)
    return overall, {
        layer: bootstrap.mean([e.set_similarity_by_layer[layer] for e in found], photos) for layer in layers
    }


def chance_similarity(classifier: PersonClassifier, layers: Sequence[int], top_n: int, draws: int = 2000) -> float:
    """Estimate the mean Jaccard index over all layers of two random selections.

    Args:
        classifier: The classifier whose layers have the neurons.
        layers: Numbers of the layers.
        top_n: Number of selected neurons of each layer.
        draws: Number of random pairs of selections.
    """
    by_number = adapt(classifier).layers
    rng = np.random.default_rng(0)

    def draw() -> set[tuple[int, int]]:
        return {(layer, int(c)) for layer in layers for c in rng.permutation(by_number[layer].channels)[:top_n]}

    return float(np.mean([jaccard(draw(), draw()) for _ in range(draws)]))


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Compute Spearman's rank correlation. Equal values share their rank; NaN if the values do not vary."""

    def ranks(values: Sequence[float]) -> Any:
        array = np.asarray(values)
        return np.array([((array < v).sum() + (array <= v).sum() - 1) / 2 for v in array])

    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def to_markdown(table: Sequence[ConvergenceRow]) -> str:
    """Return tables in Markdown: the accuracies, the similarities, and the first and last row beside the paper's."""
    accuracies_of_rows = [
        [
            f"{row.epoch:.2g}",
            f"{100 * row.accuracy:.1f} %",
            *(_with_deviation(*both) for both in row.secondary.values()),
        ]
        for row in table
    ]
    layers = list(next(iter(table[0].similarity_by_layer.values())))
    similarities = [
        [
            f"{row.epoch:.2g}",
            preset,
            f"{overall.value:.3f} ({overall.low:.3f} to {overall.high:.3f})",
            *(f"{mean.value:.2f}" for mean in row.similarity_by_layer[preset].values()),
        ]
        for row in table
        for preset, overall in row.similarity.items()
    ]
    return "\n".join(
        (
            markdown.table(("epoch", "network", *(name.replace("_", " ") for name in SELECTORS)), accuracies_of_rows),
            markdown.table(("epoch", "noise", "all layers", *(f"layer {layer}" for layer in layers)), similarities),
            "Beside the paper's Figures 2 and 3, first and last epoch:\n",
            markdown.table(("quantity", "paper", "here"), _beside_the_paper(table)),
        )
    )


def _with_deviation(mean: float, deviation: float) -> str:
    """Return an accuracy in percent. A single classifier has no deviation."""
    return f"{100 * mean:.1f} %" if math.isnan(deviation) else f"{100 * mean:.1f} ± {100 * deviation:.1f} %"


def _beside_the_paper(table: Sequence[ConvergenceRow]) -> list[tuple[str, str, str]]:
    first, last = table[0], table[-1]

    def accuracies_of(name: str) -> tuple[str, str, str]:
        ours = (first.secondary[name][0], last.secondary[name][0])
        return f"secondary classifier, {name}", _percents(PAPER_ENDS[name]), _percents(ours)

    paper = tuple(jaccard_of_overlap(overlap) for overlap in PAPER_ENDS["overlap"])
    lines = [
        ("network, accuracy", _percents(PAPER_ENDS["network"]), _percents((first.accuracy, last.accuracy))),
        accuracies_of("activation_precision"),
        accuracies_of("activation_output_correlation"),
    ]
    for preset in first.similarity:
        ours = f"{first.similarity[preset].value:.3f} to {last.similarity[preset].value:.3f}"
        lines.append((f"similarity (Jaccard index), {preset} noise", f"{paper[0]:.2f} to {paper[1]:.2f}", ours))
        rho = rank_correlation_with_accuracy(table, preset)
        lines.append(
            (f"rank correlation of accuracy and similarity, {preset} noise", f"{PAPER_RANK_CORRELATION}", f"{rho:.2f}")
        )
    return lines


def _percents(ends: tuple[float, float]) -> str:
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"


def rank_correlation_with_accuracy(table: Sequence[ConvergenceRow], preset: str) -> float:
    """Compute the rank correlation of the network's accuracy with the similarity over the checkpoints."""
    return rank_correlation([row.accuracy for row in table], [row.similarity[preset].value for row in table])


def plain(table: Sequence[ConvergenceRow], chance: float) -> dict[str, Any]:
    """Convert a table to plain values, which `read_run` reads.

    Args:
        table: The checkpoints.
        chance: The Jaccard index of random selections.
    """
    return {"chance": chance, "checkpoints": as_json(table)}


def read_run(folder: Path) -> tuple[list[ConvergenceRow], float]:
    """Read the table of a run.

    Args:
        folder: The --output of the experiment.

    Returns:
        The checkpoints, and the Jaccard index of random selections.

    Raises:
        FileNotFoundError: The run has not ended, or there is none.
    """
    path = folder / "convergence.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run the experiment convergence with --output {folder} first")

    def row(record: dict[str, Any]) -> ConvergenceRow:
        return ConvergenceRow(
            record["step"],
            record["epoch"],
            record["accuracy"],
            {name: (mean, deviation) for name, (mean, deviation) in record["secondary"].items()},
            {preset: Estimate(**estimate) for preset, estimate in record["similarity"].items()},
            {
                preset: {int(layer): Estimate(**estimate) for layer, estimate in by_layer.items()}
                for preset, by_layer in record["similarity_by_layer"].items()
            },
        )

    rows = _with_nan(json.loads(path.read_text(encoding="utf-8"))["rows"])
    return [row(record) for record in rows["checkpoints"]], rows["chance"]


def _with_nan(value: Any) -> Any:
    """Replace None by NaN in a nested value. NaN is stored as null in JSON, and null is read as None."""
    if isinstance(value, dict):
        return {key: _with_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_nan(one) for one in value]
    return math.nan if value is None else value


def summary(runs: Sequence[Sequence[ConvergenceRow]]) -> list[ConvergenceRow]:
    """Summarise runs with different seeds of the training.

    Args:
        runs: The tables of the runs, with the same checkpoints.

    Returns:
        A table with means over runs. The deviations of the secondary classifiers' accuracies are over runs, and the
        intervals of the similarities reach from the smallest to the largest run.

    Raises:
        ValueError: There are fewer than two runs, or they have different checkpoints.
    """
    if len(runs) < 2 or len({tuple(row.step for row in run) for run in runs}) > 1:
        raise ValueError(
            "a summary needs at least two runs with the same checkpoints: give the same --epochs and --within"
        )

    def over(estimates: Sequence[Estimate]) -> Estimate:
        values = [estimate.value for estimate in estimates]
        return Estimate(float(np.mean(values)), min(values), max(values))

    return [
        ConvergenceRow(
            rows[0].step,
            rows[0].epoch,
            float(np.mean([row.accuracy for row in rows])),
            {name: spread([row.secondary[name][0] for row in rows]) for name in rows[0].secondary},
            {preset: over([row.similarity[preset] for row in rows]) for preset in rows[0].similarity},
            {
                preset: {layer: over([row.similarity_by_layer[preset][layer] for row in rows]) for layer in by_layer}
                for preset, by_layer in rows[0].similarity_by_layer.items()
            },
        )
        for rows in zip(*runs, strict=True)
    ]
