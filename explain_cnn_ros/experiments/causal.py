"""Causal check: the change of the output when the neurons that a metric selects are silenced.

    explain-cnn experiments causal --data DIR --output DIR

The paper says that correlation "selects neurons that exert large influence over the network output". Here the selected
neurons of all layers are set to zero together. The change of the output is compared with the change that as many random
live neurons of the same layers cause. The second table says how far the selections of the metrics agree.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explain_cnn_ros.experiments import bootstrap, markdown, results_cache
from explain_cnn_ros.experiments.bootstrap import Estimate
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.progress import ProgressCallback, no_progress
from explain_cnn_ros.experiments.selectors import PERTURBED_METRICS, selector
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import PAPER_METRICS
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.silencing import draw_live
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Presets of the noise, and the metrics that are computed with each: with the paper's noise all metrics, with the other
#: presets those that depend on the noise.
METRICS_BY_PRESET = {"paper": PAPER_METRICS, "authors": PERTURBED_METRICS, "stable": PERTURBED_METRICS}

#: The selections that are compared.
SELECTORS = tuple(selector(name, preset) for preset, names in METRICS_BY_PRESET.items() for name in names)


@dataclass(frozen=True)
class CausalSettings:
    """Settings of the experiment.

    Attributes:
        top_ns: Numbers of neurons of each layer that are silenced.
        draws: Number of sets of random neurons for comparison.
        layers: Layers whose neurons are silenced, all of them together.
        seed: Seed of the noise and of the random neurons.
    """

    top_ns: tuple[int, ...] = (1, 5, 20)
    draws: int = 10
    layers: tuple[int, ...] = ExplainSettings().layers
    seed: int = 0


@dataclass(frozen=True)
class CausalRow:
    """The effect of silencing the top N of a metric; means over windows with confidence intervals over photos.

    The output is the logit of person minus the logit of background.

    Attributes:
        selector: Name of the selection.
        top_n: Number of neurons of each layer.
        influence: Absolute change of the output.
        times_random: The same, divided by that of random neurons.
        against: Change of the output against the content of the window: its fall for persons, its rise for backgrounds.
        against_random: The same for random neurons.
        flips: Share of the windows whose decision at the threshold changes.
        flips_random: The same for random neurons.
    """

    selector: str
    top_n: int
    influence: Estimate
    times_random: Estimate
    against: Estimate
    against_random: Estimate
    flips: Estimate
    flips_random: Estimate


def measure(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    settings: CausalSettings,
    folder: Path,
    progress: ProgressCallback = no_progress,
) -> dict[str, Any]:
    """Silence the neurons of all windows; results are cached.

    Args:
        classifier: The classifier.
        examples: The windows.
        settings: Settings of the experiment.
        folder: Folder of the cache.
        progress: Receives reports of the progress.

    Returns:
        By window: "output", the outputs "selected" (by selector, one for each N) and "random" (by draw, one for each
        N) with neurons silenced, and the selected "channels" by selector and layer.
    """
    explainers = {
        preset: Explainer(
            classifier,
            ExplainSettings.preset(
                preset, top_n=max(settings.top_ns), metrics=metrics, layers=settings.layers, seed=settings.seed
            ),
        )
        for preset, metrics in METRICS_BY_PRESET.items()
    }
    key = results_cache.key_of(classifier, settings, *(e.settings for e in explainers.values()), *examples)
    return results_cache.compute(
        folder / "silenced.jsonl",
        key,
        {e.name: e for e in examples},
        lambda example: _silence(explainers, example, settings),
        lambda done, total: progress("silencing", done, total),
    )


def _silence(explainers: Mapping[str, Explainer], example: Example, settings: CausalSettings) -> dict[str, Any]:
    ranked = {preset: explainer.rank(example.image) for preset, explainer in explainers.items()}
    selected = {
        selector(name, preset): ranked[preset].of_metric(name)
        for preset, names in METRICS_BY_PRESET.items()
        for name in names
    }
    # Random neurons and silenced passes depend on the unperturbed window only, which is the same with all presets.
    explainer, window = explainers["stable"], ranked["stable"]
    rng = np.random.default_rng([settings.seed, *example.name.encode()])
    activations = window.evidence.activations
    drawn = [draw_live(activations, max(settings.top_ns), rng) for _ in range(settings.draws)]
    sets = [
        {layer: channels[:n] for layer, channels in chosen.items()}
        for chosen in [*selected.values(), *drawn]
        for n in settings.top_ns
    ]
    outputs = explainer.silence(window, [{}, *sets]).outputs
    after = np.array(outputs[1:]).reshape(-1, len(settings.top_ns))
    return {
        "output": outputs[0],
        "selected": {name: row.tolist() for name, row in zip(selected, after, strict=False)},
        "random": after[len(selected) :].tolist(),
        "channels": selected,
    }


def rows(
    records: Mapping[str, Any], examples: Sequence[Example], settings: CausalSettings, threshold: float
) -> list[CausalRow]:
    """Compute the table over some windows.

    Args:
        records: Results of `measure`.
        examples: The windows.
        settings: Settings of the experiment.
        threshold: A window is decided to show a person if P(person) is at least this.
    """
    photos = [example.photo for example in examples]
    before = np.array([records[e.name]["output"] for e in examples])
    side = np.array([1.0 if e.person else -1.0 for e in examples])
    limit = np.log(threshold / (1 - threshold))
    drawn = np.array([records[e.name]["random"] for e in examples])  # [windows, draws, N]
    found = []
    for name, (i, n) in itertools.product(SELECTORS, enumerate(settings.top_ns)):
        after = np.array([records[e.name]["selected"][name][i] for e in examples])
        random = drawn[:, :, i]
        change, random_change = np.abs(after - before), np.abs(random - before[:, None]).mean(1)
        found.append(
            CausalRow(
                name,
                n,
                bootstrap.mean(change, photos),
                bootstrap.ratio(change, random_change, photos),
                bootstrap.mean(side * (before - after), photos),
                bootstrap.mean(side * (before[:, None] - random).mean(1), photos),
                bootstrap.mean((after >= limit) != (before >= limit), photos),
                bootstrap.mean(((random >= limit) != (before >= limit)[:, None]).mean(1), photos),
            )
        )
    return found


def agreement(records: Mapping[str, Any], examples: Sequence[Example], top_n: int) -> list[list[float]]:
    """Compute the agreement of each two of SELECTORS.

    Args:
        records: Results of `measure`.
        examples: The windows.
        top_n: Number of neurons of each layer.

    Returns:
        A symmetric matrix: the Jaccard index of the selections of all layers, mean over windows.
    """
    total = np.zeros((len(SELECTORS), len(SELECTORS)))
    for example in examples:
        channels = records[example.name]["channels"]
        sets = [{(layer, c) for layer, top in channels[s].items() for c in top[:top_n]} for s in SELECTORS]
        total += [[jaccard(one, other) for other in sets] for one in sets]
    return (total / len(examples)).tolist()


def to_markdown(table: Sequence[CausalRow]) -> str:
    """Return the table in Markdown."""
    header = ["neurons by", "top N", "change of the output", "times random neurons'"]
    header += ["against what is shown", "random neurons'", "decisions that flip", "random neurons'"]
    return markdown.table(header, map(_cells, table))


def _cells(row: CausalRow) -> list[object]:
    flips = [f"{100 * m.value:.0f} %" for m in (row.flips, row.flips_random)]
    return [row.selector, row.top_n, row.influence, row.times_random, row.against, row.against_random, *flips]


def agreement_markdown(matrix: Sequence[Sequence[float]]) -> str:
    """Return the matrix of `agreement` in Markdown, a row and a column for each of SELECTORS."""
    lines = [
        [f"{i} {name}", *(f"{value:.2f}" for value in values)]
        for i, (name, values) in enumerate(zip(SELECTORS, matrix, strict=True), 1)
    ]
    return markdown.table(["", *map(str, range(1, len(SELECTORS) + 1))], lines)
