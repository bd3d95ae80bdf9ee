"""From how many perturbations on a ranking is what another seed would give as well, by metric, noise and sigma.

    ros2 run explain_cnn_ros experiments stability --data DIR --output DIR

Of the two metrics that depend on the noise; the others are the same for every seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments import bootstrap, kept, markdown
from explain_cnn_ros.experiments.bootstrap import Mean
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.progress import Progress, silent
from explain_cnn_ros.experiments.ranker import Ranker
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.importance import PERTURBATION_METRICS, jaccard
from explain_cnn_ros.settings import PRESETS, ExplainSettings


@dataclass(frozen=True)
class Stability:
    """Settings of the experiment.

    ns: numbers of perturbations, at each preset's own sigma.
    sigmas: at each preset's own number of perturbations.
    seeds: of the noise.
    """

    presets: tuple[str, ...] = ("paper", "authors", "stable")
    ns: tuple[int, ...] = (10, 20, 50, 100, 200)
    sigmas: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.4)
    seeds: int = 3
    top_n: int = 5
    layers: tuple[int, ...] = ExplainSettings().layers


@dataclass(frozen=True)
class Row:
    """How stable a metric is with a setting of the noise; means over windows and layers.

    perturbations: that were taken: balanced noise rounds up to whole blocks.
    seeds: Jaccard index of what two seeds select.
    halves: the stability that explanations report.
    """

    preset: str
    sigma: float
    perturbations: int
    metric: str
    seeds: Mean
    halves: float


def points(how: Stability) -> list[tuple[str, float, tuple[int, ...]]]:
    """(preset, sigma, numbers of perturbations) that are looked at."""
    found = []
    for preset in how.presets:
        sigma, n = PRESETS[preset]["sigma"], PRESETS[preset]["perturbations"]
        found.append((preset, sigma, tuple(sorted({*how.ns, n}))))
        found += [(preset, other, (n,)) for other in how.sigmas if other != sigma]
    return found


def measure(
    classifier: PersonClassifier, examples: Sequence[Example], how: Stability, folder: Path, progress: Progress = silent
) -> list[Row]:
    """A row for each point and metric that depends on the noise."""
    rankers = {
        (preset, sigma): [
            Ranker(
                Explainer(
                    classifier,
                    ExplainSettings.preset(
                        preset,
                        sigma=sigma,
                        seed=seed,
                        metrics=PERTURBATION_METRICS,
                        top_n=how.top_n,
                        layers=how.layers,
                    ),
                )
            )
            for seed in range(how.seeds)
        ]
        for preset, sigma, _ in points(how)
    }

    def of_window(example: Example) -> list[Any]:
        return [_compare(rankers[preset, sigma], example, counts, how.layers) for preset, sigma, counts in points(how)]

    settings = [ranker.explainer.settings for group in rankers.values() for ranker in group]
    records = kept.compute(
        folder / "stability.jsonl",
        kept.key_of(classifier, how, settings, *examples),
        {e.name: e for e in examples},
        of_window,
        lambda done, of: progress("ranking with several seeds", done, of),
    )
    return _rows(records, examples, how)


def _compare(
    rankers: Sequence[Ranker], example: Example, counts: Sequence[int], layers: Sequence[int]
) -> list[dict[str, Any]]:
    """For each number of perturbations: how many there were, and by metric the means over layers and pairs of seeds."""
    of_seeds = [ranker.rank(example.image, counts) for ranker in rankers]
    found = []
    for rankings in zip(*of_seeds, strict=True):
        entry: dict[str, Any] = {"perturbations": rankings[0].perturbations}
        for metric in PERTURBATION_METRICS:
            keys = [(metric, layer) for layer in layers]
            pairs = [
                jaccard(set(one.channels[key]), set(other.channels[key]))
                for key in keys
                for one, other in itertools.combinations(rankings, 2)
            ]
            entry[metric] = [
                float(np.mean(pairs)),
                float(np.nanmean([r.stability[key] for r in rankings for key in keys])),
            ]
        found.append(entry)
    return found


def _rows(records: Mapping[str, Any], examples: Sequence[Example], how: Stability) -> list[Row]:
    photos, found = [e.photo for e in examples], []
    for i, (preset, sigma, counts) in enumerate(points(how)):
        for j, metric in itertools.product(range(len(counts)), PERTURBATION_METRICS):
            entries = [records[e.name][i][j] for e in examples]
            if j and entries[0]["perturbations"] == records[examples[0].name][i][j - 1]["perturbations"]:
                continue  # rounded up to the same number of blocks
            seeds = bootstrap.mean([entry[metric][0] for entry in entries], photos)
            halves = float(np.nanmean([entry[metric][1] for entry in entries]))
            found.append(Row(preset, sigma, entries[0]["perturbations"], metric, seeds, halves))
    return found


def stable_from(table: Sequence[Row], preset: str, metric: str, target: float) -> int | None:
    """The number of perturbations from which on two seeds agree at least so far; None: they do not."""
    own = PRESETS[preset]["sigma"]
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


def to_markdown(table: Sequence[Row]) -> str:
    """The table, as people read it."""
    lines = [(r.preset, f"{r.sigma:g}", r.perturbations, r.metric, r.seeds, f"{r.halves:.2f}") for r in table]
    return markdown.table(("noise", "sigma", "n", "metric", "seeds", "halves"), lines)
