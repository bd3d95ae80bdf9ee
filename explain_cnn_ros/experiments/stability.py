"""Stability of rankings over seeds of the noise, by metric, noise, sigma and number of perturbations.

    explain-cnn experiments stability --data DIR --output DIR

Only the metrics that depend on the noise are measured. The other metrics, and influence of the image alone, select the
same neurons with every seed. Influence of the image alone has rows of its own, with 0 perturbations.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explain_cnn_ros.experiments import bootstrap, markdown, results_cache
from explain_cnn_ros.experiments.bootstrap import Estimate
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.layers import explained_layers, names_setting
from explain_cnn_ros.experiments.progress import ProgressCallback, no_progress
from explain_cnn_ros.experiments.selectors import INFLUENCE_METRICS, LIVE, NOISY_METRICS
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import PRESETS, ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier


@dataclass(frozen=True)
class StabilitySettings:
    """Settings of the experiment.

    Attributes:
        presets: Presets of the noise.
        ns: Numbers of perturbations, which are measured at the sigma of each preset.
        sigmas: Standard deviations of the noise, which are measured at the number of perturbations of each preset.
        seeds: Number of seeds of the noise.
        top_n: Number of selected neurons of each layer.
        layers: Layers whose neurons are ranked. The default stands for the default layers of the network.
    """

    presets: tuple[str, ...] = ("paper", "authors", "stable")
    ns: tuple[int, ...] = (10, 20, 50, 100, 200)
    sigmas: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.4)
    seeds: int = 3
    top_n: int = 5
    layers: tuple[int, ...] = ExplainSettings().layers


@dataclass(frozen=True)
class StabilityRow:
    """The stability of a metric with one setting of the noise; means over windows and layers.

    Attributes:
        preset: Preset of the noise.
        sigma: Standard deviation of the noise; 0 without noise.
        perturbations: Number of perturbations. Balanced noise rounds it up to whole blocks. 0: the image alone.
        metric: Name of the metric.
        seeds: Jaccard index of the selections with two seeds.
        halves: The stability that explanations report: the Jaccard index of both halves of the perturbations. NaN
            without perturbations.
    """

    preset: str
    sigma: float
    perturbations: int
    metric: str
    seeds: Estimate
    halves: float


def points(settings: StabilitySettings) -> list[tuple[str, float, tuple[int, ...]]]:
    """Return the settings of the noise that are measured: (preset, sigma, numbers of perturbations)."""
    found = []
    for preset in settings.presets:
        sigma, n = PRESETS[preset]["sigma"], PRESETS[preset]["perturbations"]
        found.append((preset, sigma, tuple(sorted({*settings.ns, n}))))
        found += [(preset, other, (n,)) for other in settings.sigmas if other != sigma]
    return found


def measure(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    settings: StabilitySettings,
    folder: Path,
    progress: ProgressCallback = no_progress,
    layer_names: str = "",
) -> list[StabilityRow]:
    """Measure the stability; results of windows are cached.

    Args:
        classifier: The classifier.
        examples: The windows.
        settings: Settings of the experiment.
        folder: Folder of the cache.
        progress: Receives reports of the progress.
        layer_names: Names or patterns of the layers, as in `ExplainSettings`; "" for `settings.layers`.

    Returns:
        A row for each setting of the noise and each metric that depends on the noise, and rows of the image alone.
    """
    layers = explained_layers(classifier, settings.layers, layer_names)
    settings = dataclasses.replace(settings, layers=tuple(layers))
    explainers = {
        (preset, sigma): [
            Explainer(
                classifier,
                ExplainSettings.preset(
                    preset,
                    sigma=sigma,
                    seed=seed,
                    metrics=NOISY_METRICS,
                    proof="none",
                    top_n=settings.top_n,
                    layer_names=names_setting(layers),
                ),
            )
            for seed in range(settings.seeds)
        ]
        for preset, sigma, _ in points(settings)
    }

    def measure_window(example: Example) -> list[Any]:
        return [
            _compare(explainers[preset, sigma], example, counts, settings.layers)
            for preset, sigma, counts in points(settings)
        ]

    explained = [explainer.settings for group in explainers.values() for explainer in group]
    records = results_cache.compute_windows(
        folder / "stability.jsonl",
        results_cache.key_of(classifier, settings, explained, *examples),
        examples,
        measure_window,
        progress,
        "ranking with several seeds",
    )
    return _rows(records, examples, settings)


def _compare(
    explainers: Sequence[Explainer], example: Example, counts: Sequence[int], layers: Sequence[int]
) -> list[dict[str, Any]]:
    """Compare the rankings of explainers that differ in their seeds.

    Returns:
        For each number of perturbations: the number that was taken, and by metric the means of `StabilityRow.seeds`
        and `StabilityRow.halves` over layers and pairs of seeds.
    """
    of_seeds = [explainer.rank_at(example.image, counts) for explainer in explainers]
    found = []
    for rankings in zip(*of_seeds, strict=True):
        entry: dict[str, Any] = {"perturbations": rankings[0].perturbations}
        for name in NOISY_METRICS:
            keys = [(name, layer) for layer in layers]
            pairs = [
                _jaccard(set(one.channels[key]), set(other.channels[key]))
                for key in keys
                for one, other in itertools.combinations(rankings, 2)
            ]
            halves = [r.stability[key] for r in rankings for key in keys if not np.isnan(r.stability[key])]
            entry[name] = [float(np.mean(pairs)), float(np.mean(halves)) if halves else float("nan")]
        found.append(entry)
    return found


def _rows(records: Mapping[str, Any], examples: Sequence[Example], settings: StabilitySettings) -> list[StabilityRow]:
    photos, found = [e.photo for e in examples], []
    for i, (preset, sigma, counts) in enumerate(points(settings)):
        for j, name in itertools.product(range(len(counts)), NOISY_METRICS):
            entries = [records[e.name][i][j] for e in examples]
            if j and entries[0]["perturbations"] == records[examples[0].name][i][j - 1]["perturbations"]:
                continue  # both numbers are rounded up to the same number of blocks
            seeds = bootstrap.mean([entry[name][0] for entry in entries], photos)
            halves = float(np.nanmean([entry[name][1] for entry in entries]))
            found.append(StabilityRow(preset, sigma, entries[0]["perturbations"], name, seeds, halves))
    # Influence of the image alone uses no noise, so every seed selects the same neurons.
    found += [StabilityRow(LIVE, 0.0, 0, name, Estimate(1.0, 1.0, 1.0), math.nan) for name in INFLUENCE_METRICS]
    return found


def _jaccard(one: set[int], other: set[int]) -> float:
    """Return the Jaccard index of two selections; 1 if both are empty."""
    return jaccard(one, other) if one or other else 1.0


def stable_from(table: Sequence[StabilityRow], preset: str, metric: str, target: float) -> int | None:
    """Return the smallest number of perturbations from which a ranking stays stable.

    Args:
        table: Rows of the table.
        preset: Preset of the noise, at its own sigma.
        metric: Name of the metric.
        target: A ranking is stable if the Jaccard index of two seeds is at least this.

    Returns:
        The number; None if the ranking with the most perturbations is not stable.
    """
    own = PRESETS[preset].get("sigma", 0.0)
    line = sorted(
        (row.perturbations, row.seeds.value)
        for row in table
        if (row.preset, row.sigma, row.metric) == (preset, own, metric)
    )
    reached = None
    for n, value in reversed(line):
        if value < target:
            break
        reached = n
    return reached


def to_markdown(table: Sequence[StabilityRow]) -> str:
    """Return the table in Markdown."""
    lines = [
        (r.preset, f"{r.sigma:g}", r.perturbations, r.metric, r.seeds, f"{r.halves:.2f}")
        if r.perturbations
        else ("none (the image alone)", "—", 0, r.metric, "1 by definition: there is no seed", "—")
        for r in table
    ]
    return markdown.table(("noise", "sigma", "n", "metric", "seeds", "halves"), lines)
