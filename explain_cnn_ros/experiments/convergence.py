"""Figures 2 and 3 of the paper: what a training does to the patches of each metric, and to the sets they select.

    ros2 run explain_cnn_ros experiments convergence --data DIR --output DIR

For each network of a training's course: its accuracy on photos that the training does not see; the accuracy of
secondary classifiers on the patches of each metric's top 5; the Jaccard index of what correlation and precision select,
by layer and over all. With the noise that the paper describes, and with the growing noise of the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments import bootstrap, markdown
from explain_cnn_ros.experiments.bootstrap import Mean
from explain_cnn_ros.experiments.course import Checkpoint
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.extraction import extract_all
from explain_cnn_ros.experiments.probe import Probe, accuracies
from explain_cnn_ros.experiments.progress import Progress, silent
from explain_cnn_ros.experiments.secondary import Training, spread
from explain_cnn_ros.experiments.selectors import RANDOM, selector
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.importance import METRICS, PERTURBATION_METRICS, jaccard
from explain_cnn_ros.network import convolution_layers
from explain_cnn_ros.settings import ExplainSettings
from explain_cnn_ros.training.evaluation import accuracy, probabilities

#: Noise, by its preset, and the metrics that are looked at with it.
NOISES = {"paper": METRICS, "authors": PERTURBATION_METRICS}

#: Whose patches are probed.
SELECTORS = (*(selector(metric, preset) for preset, metrics in NOISES.items() for metric in metrics), RANDOM)


@dataclass(frozen=True)
class Convergence:
    """Settings of the experiment."""

    probe: Probe = field(default_factory=lambda: Probe(training=Training(steps=150)))
    top_n: int = 5
    layers: tuple[int, ...] = ExplainSettings().layers


@dataclass(frozen=True)
class Row:
    """A network of the course.

    accuracy: of the network, balanced, on the windows of photos that its training does not see.
    secondary: by selector, mean and standard deviation over seeds of the secondary classifiers' accuracy.
    similarity: by noise, Jaccard index of what correlation and precision select over all layers; mean over windows.
    similarity_by_layer: the same by layer.
    """

    step: int
    epoch: float
    accuracy: float
    secondary: Mapping[str, tuple[float, float]]
    similarity: Mapping[str, Mean]
    similarity_by_layer: Mapping[str, Mapping[int, Mean]]


def measure(
    checkpoints: Sequence[Checkpoint],
    examples: Sequence[Example],
    validation: tuple[Sequence[Any], Sequence[Any]],
    how: Convergence,
    folder: Path,
    device: str = "auto",
    progress: Progress = silent,
) -> list[Row]:
    """A row for each network of the course; what takes long is kept in a folder.

    Args:
        validation: held-out images of persons and of backgrounds, uint8 [H, W, 3] RGB.
    """
    found = []
    for count, checkpoint in enumerate(checkpoints, 1):
        classifier = checkpoint.load(device)
        where = f"{count}/{len(checkpoints)}: epoch {checkpoint.epoch:.2g}"
        patches: dict[str, dict[str, Any]] = {}
        similarity, by_layer = {}, {}
        for preset, metrics in NOISES.items():
            settings = ExplainSettings.preset(preset, metrics=metrics, top_n=how.top_n, layers=how.layers)

            def tell(done: int, of: int, step: str = f"{where}, {preset} noise") -> None:
                progress(step, done, of)

            extracted = extract_all(
                Explainer(classifier, settings),
                examples,
                folder / f"step-{checkpoint.step:05d}-{preset}.jsonl",
                tell,
                random=preset == "paper",
            )
            for metric in (*metrics, *([RANDOM] if preset == "paper" else [])):
                name = metric if metric == RANDOM else selector(metric, preset)
                patches[name] = {window: e.patches[metric] for window, e in extracted.items()}
            similarity[preset], by_layer[preset] = _similarity(extracted, examples, how.layers)
        secondary = {}
        for done, name in enumerate(SELECTORS):
            progress(f"{where}, secondary classifiers", done, len(SELECTORS))
            values = accuracies(examples, patches[name], how.top_n, how.probe, folder / "secondary.json")
            secondary[name] = spread(values)
        found.append(
            Row(
                checkpoint.step,
                checkpoint.epoch,
                validate(classifier, *validation),
                secondary,
                similarity,
                by_layer,
            )
        )
    return found


def validate(classifier: PersonClassifier, persons: Sequence[Any], backgrounds: Sequence[Any]) -> float:
    """Balanced accuracy at P(person) = 0.5."""
    return accuracy(probabilities(classifier, persons), probabilities(classifier, backgrounds), 0.5)[
        "balanced_accuracy"
    ]


def _similarity(
    extracted: Mapping[str, Any], examples: Sequence[Example], layers: Sequence[int]
) -> tuple[Mean, dict[int, Mean]]:
    photos = [e.photo for e in examples]
    found = [extracted[e.name] for e in examples]
    overall = bootstrap.mean([e.set_similarity for e in found], photos)
    return overall, {
        layer: bootstrap.mean([e.set_similarity_by_layer[layer] for e in found], photos) for layer in layers
    }


def chance_similarity(classifier: PersonClassifier, layers: Sequence[int], top_n: int, draws: int = 2000) -> float:
    """Mean Jaccard index over all layers of sets that are drawn at random."""
    channels = {layer.number: layer.channels for layer in convolution_layers(classifier.network.features)}
    rng = np.random.default_rng(0)

    def draw() -> set[tuple[int, int]]:
        return {(layer, int(c)) for layer in layers for c in rng.permutation(channels[layer])[:top_n]}

    return float(np.mean([jaccard(draw(), draw()) for _ in range(draws)]))


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's, equals sharing their rank; NaN where nothing varies."""

    def ranks(values: Sequence[float]) -> Any:
        array = np.asarray(values)
        return np.array([((array < v).sum() + (array <= v).sum() - 1) / 2 for v in array])

    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def to_markdown(table: Sequence[Row]) -> str:
    """Two tables, as people read them: accuracies, and similarities."""
    accuracies = [
        [
            f"{row.epoch:.2g}",
            f"{100 * row.accuracy:.1f} %",
            *(f"{100 * mean:.1f} ± {100 * deviation:.1f} %" for mean, deviation in row.secondary.values()),
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
            markdown.table(("epoch", "network", *(name.replace("_", " ") for name in SELECTORS)), accuracies),
            markdown.table(("epoch", "noise", "all layers", *(f"layer {layer}" for layer in layers)), similarities),
        )
    )
