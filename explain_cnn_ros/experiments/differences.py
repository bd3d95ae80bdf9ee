"""The points in which the paper, the authors' published code and this package differ, and what each of them does.

    explain-cnn experiments differences --data DIR --output DIR

Each variation changes one point of the defaults (`paper`: the paper's noise, n = 50, layers 3 to 9). Three things are
measured with each metric that the point concerns: whether the same neurons are selected, whether another seed of the
noise selects the same neurons, and the change of the output when the selected neurons are silenced, relative to that of
random live neurons of the same layers. A second table says how many patches touch the person, with the box around all
nonzero pixels of a reconstruction and with the box around its strong pixels.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from explain_cnn_ros.experiments import bootstrap, markdown, results_cache
from explain_cnn_ros.experiments.bootstrap import Estimate
from explain_cnn_ros.experiments.causal import OTHER_SEED
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.localization import Box, compare
from explain_cnn_ros.experiments.networks import across
from explain_cnn_ros.experiments.progress import ProgressCallback, no_progress
from explain_cnn_ros.experiments.selectors import RANDOM, settings_with
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import PAPER_METRICS, SUPPORTING, Reads, metric
from explain_cnn_ros.explain.network_adapter import Channels, Neuron
from explain_cnn_ros.explain.ranking import RankedWindow
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.silencing import draw_live
from explain_cnn_ros.scan.classifier import PersonClassifier

#: The metrics that are measured.
METRICS = (SUPPORTING, *PAPER_METRICS)

CORRELATION, PRECISION = "activation_output_correlation", "activation_precision"
SUM, VARIANCE = "activation_sum", "activation_variance"

#: Settings that the passes through the network depend on. The others only change what is computed from them.
PASS_SETTINGS = ("noise", "activation", "output", "layers")

#: All metrics with the defaults.
DEFAULTS = "defaults"

#: The sources of an option: the paper (its text and equations), the authors' published code, and our defaults.
PAPER, CODE, OURS = "paper", "code", "ours"


@dataclass(frozen=True)
class Variation:
    """One point in which an explanation may differ from the defaults.

    Attributes:
        name: The point and the option, for instance "eq. 3: mean of the inverse variances".
        found_in: Sources of the option, some of PAPER, CODE and OURS; empty for a control.
        metrics: The metrics that the point concerns.
        changes: The settings that differ from the defaults.
    """

    name: str
    found_in: tuple[str, ...]
    metrics: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)


#: Everything that the published code does differently, together.
CODE_CHANGES = {
    "noise": "authors",
    "output": "probability",
    "precision_lambda_absolute": True,
    "live_share_min": 0.0,
    "weights": "incoming",
    "layers": (4, 5, 6, 7, 8, 9, 10),
}

VARIATIONS = (
    Variation(DEFAULTS, (OURS,), METRICS),
    Variation(
        "z before the ReLU (eq. 1)",
        (PAPER,),
        (CORRELATION, PRECISION, SUM, VARIANCE),
        {"activation": "pre_relu"},
    ),
    Variation("mean of the inverse variances (eq. 3)", (PAPER,), (PRECISION,), {"precision_mean_of_inverse": True}),
    Variation("lambda: 0.1, absolute", (CODE,), (PRECISION,), {"precision_lambda_absolute": True}),
    Variation("lambda: none", (), (PRECISION,), {"precision_lambda": 0.0}),
    Variation("neurons with few live positions too", (CODE,), (CORRELATION,), {"live_share_min": 0.0}),
    Variation("noise of the code", (CODE,), (CORRELATION, PRECISION, SUPPORTING), {"noise": "authors"}),
    Variation("noise that grows, of raw pixel values", (), (CORRELATION, PRECISION, SUPPORTING), {"noise": "ramp"}),
    Variation("o: P(person) instead of the logit", (CODE,), (CORRELATION, SUPPORTING), {"output": "probability"}),
    Variation("weights into the neuron", (CODE,), ("weight_sum", "weight_variance"), {"weights": "incoming"}),
    Variation("layers 4 to 10 (counted from 0)", (CODE,), METRICS, {"layers": CODE_CHANGES["layers"]}),
    Variation("all choices of the code", (CODE,), PAPER_METRICS, CODE_CHANGES),
)

#: Ways in which a patch is found: settings of the reconstruction and of the box.
PATCHES: dict[str, dict[str, Any]] = {
    "strong pixels": {"patch_share": 0.2},
    "all nonzero pixels": {"patch_share": 0.0},
    "all nonzero pixels, the code's reconstruction": {"patch_share": 0.0, "deconvnet": "guided"},
}


@dataclass(frozen=True)
class DifferenceSettings:
    """Settings of the experiment.

    Attributes:
        top_n: Number of selected neurons of each layer.
        draws: Number of sets of random neurons for comparison.
        seed: Seed of the noise and of the random neurons.
        layers: Layers whose neurons are selected, except by variations of the layers.
    """

    top_n: int = 5
    draws: int = 10
    seed: int = 0
    layers: tuple[int, ...] = ExplainSettings().layers


@dataclass(frozen=True)
class DifferenceRow:
    """A variation with one metric; means over windows with confidence intervals over photos.

    Attributes:
        variation: Name of the variation.
        found_in: Source of the variation: PAPER, CODE, or both.
        metric: Name of the metric.
        side: Windows: "all", "persons" or "backgrounds".
        same: Jaccard index of the neurons that it selects and those that the defaults select, all layers together.
        seeds: Jaccard index of the neurons that two seeds of the noise select, all layers together.
        times_random: Absolute change of the output without the neurons, divided by that of random live neurons.
    """

    variation: str
    found_in: str
    metric: str
    side: str
    same: Estimate
    seeds: Estimate
    times_random: Estimate


@dataclass(frozen=True)
class TouchingRow:
    """Patches of one selection, found in one way; means over patches with confidence intervals over photos.

    Attributes:
        name: Metric whose neurons have the patches, or `RANDOM`.
        way: The way in which the patches are found, one of PATCHES.
        touching: Share of the patches that touch the person.
        area: Mean share of the window's area that a patch covers.
    """

    name: str
    way: str
    touching: Estimate
    area: Estimate


@dataclass(frozen=True)
class DifferenceTables:
    """The tables of the experiment.

    Attributes:
        rows: The variations.
        touching: The patches; empty without persons.
    """

    rows: list[DifferenceRow]
    touching: list[TouchingRow]


def explain_settings(variation: Variation, settings: DifferenceSettings, seed: int) -> ExplainSettings:
    """Return the settings of an explanation with a variation.

    Args:
        variation: The variation.
        settings: Settings of the experiment.
        seed: Seed of the noise.
    """
    changes: dict[str, Any] = {"layers": settings.layers, "top_n": settings.top_n, "seed": seed}
    return settings_with("paper", metrics=variation.metrics, **(changes | dict(variation.changes)))


def measure(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    settings: DifferenceSettings,
    folder: Path,
    progress: ProgressCallback = no_progress,
) -> dict[str, Any]:
    """Measure all variations in all windows; results are cached.

    Args:
        classifier: The classifier.
        examples: The windows.
        settings: Settings of the experiment.
        folder: Folder of the cache.
        progress: Receives reports of the progress.

    Returns:
        By window, JSON values: the "output"; by variation and metric "same", "seeds" and the output "after" silencing;
        the outputs with random neurons silenced, "random", by variation and draw; and for persons the "patches": by the
        way in which patches are found and by metric, the numbers of patches and of those that touch the person, and the
        mean area.
    """
    passes = _Passes(classifier, settings)
    requested = [explain_settings(v, settings, settings.seed) for v in VARIATIONS]
    key = results_cache.key_of(classifier, settings, OTHER_SEED, requested, PATCHES, *examples)
    return results_cache.compute_windows(
        folder / "differences.jsonl",
        key,
        examples,
        lambda example: _measure_window(passes, example, settings),
        progress,
        "comparing variations",
    )


class _Passes:
    """The explainers of all variations; variations with the same passes through the network share one.

    Args:
        classifier: The classifier.
        settings: Settings of the experiment.

    Attributes:
        settings: Settings of the experiment.
        patches: Explainers that compute patches, by the way in which these are found.
    """

    def __init__(self, classifier: PersonClassifier, settings: DifferenceSettings) -> None:
        self._explainers: dict[tuple[Any, ...], Explainer] = {}
        self.settings = settings
        groups: dict[tuple[Any, ...], list[str]] = {}
        for variation, seed in itertools.product(VARIATIONS, self.seeds):
            groups.setdefault(self.key(variation, seed), []).extend(variation.metrics)
        for variation, seed in itertools.product(VARIATIONS, self.seeds):
            key = self.key(variation, seed)
            if key not in self._explainers:
                metrics = tuple(dict.fromkeys(groups[key]))
                own = explain_settings(dataclasses.replace(variation, metrics=metrics), settings, seed)
                self._explainers[key] = Explainer(classifier, own)
        base = self.explainer(VARIATIONS[0], settings.seed).settings
        self.patches = {
            way: Explainer(classifier, dataclasses.replace(base, **changes)) for way, changes in PATCHES.items()
        }

    @property
    def seeds(self) -> tuple[int, int]:
        """The seeds of the noise that are compared."""
        return self.settings.seed, self.settings.seed + OTHER_SEED

    def key(self, variation: Variation, seed: int) -> tuple[Any, ...]:
        """Return what the passes of a variation depend on."""
        own = explain_settings(variation, self.settings, seed)
        return (*(getattr(own, name) for name in PASS_SETTINGS), seed)

    def explainer(self, variation: Variation, seed: int) -> Explainer:
        """Return the explainer whose passes a variation uses."""
        return self._explainers[self.key(variation, seed)]

    def rank(self, example: Example) -> dict[tuple[Any, ...], RankedWindow]:
        """Rank the neurons of a window with all explainers."""
        return {key: explainer.rank(example.image) for key, explainer in self._explainers.items()}

    def selected(
        self, ranked: Mapping[tuple[Any, ...], RankedWindow], variation: Variation, seed: int
    ) -> dict[str, dict[int, list[int]]]:
        """Return the channels by metric and layer that a variation selects."""
        window = ranked[self.key(variation, seed)]
        own = dataclasses.replace(
            explain_settings(variation, self.settings, seed),
            compute_precision=window.evidence.settings.compute_precision,
        )
        evidence = dataclasses.replace(window.evidence, settings=own)
        return {
            name: {layer: evidence.select(name, evidence.score(name, layer)) for layer in own.layers}
            for name in variation.metrics
        }


def _neurons(channels: Channels) -> set[tuple[int, int]]:
    return {(layer, channel) for layer, chosen in channels.items() for channel in chosen}


def _measure_window(passes: _Passes, example: Example, settings: DifferenceSettings) -> dict[str, Any]:
    ranked, (seed, other) = passes.rank(example), passes.seeds
    base_explainer = passes.explainer(VARIATIONS[0], seed)
    base = ranked[passes.key(VARIATIONS[0], seed)]
    rng = np.random.default_rng([settings.seed, *example.name.encode()])
    default = passes.selected(ranked, VARIATIONS[0], seed)
    sets: list[Channels] = [{}]
    found: dict[str, Any] = {"variations": {}, "random": {}}
    draws: dict[tuple[int, ...], list[dict[int, list[int]]]] = {}
    for variation in VARIATIONS:
        chosen, again = (passes.selected(ranked, variation, s) for s in (seed, other))
        found["variations"][variation.name] = {
            name: {
                "same": jaccard(_neurons(default[name]), _neurons(chosen[name])),
                "seeds": jaccard(_neurons(chosen[name]), _neurons(again[name])),
            }
            for name in variation.metrics
        }
        sets += chosen.values()
        layers = explain_settings(variation, settings, seed).layers
        if layers not in draws:
            activations = ranked[passes.key(variation, seed)].evidence.activations
            draws[layers] = [draw_live(activations, settings.top_n, rng) for _ in range(settings.draws)]
            sets += draws[layers]
    outputs = iter(base_explainer.silence(base, sets).outputs)
    found["output"] = next(outputs)
    random: dict[tuple[int, ...], list[float]] = {}
    for variation in VARIATIONS:
        for name in variation.metrics:
            found["variations"][variation.name][name]["after"] = next(outputs)
        layers = explain_settings(variation, settings, seed).layers
        if layers not in random:
            random[layers] = [next(outputs) for _ in range(settings.draws)]
        found["random"][variation.name] = random[layers]
    if example.box is not None:
        found["patches"] = _patches(passes, example, default | {RANDOM: draws[settings.layers][0]})
    return found


def _patches(passes: _Passes, example: Example, selections: Mapping[str, Channels]) -> dict[str, Any]:
    """Compare patches with the person's box.

    Returns:
        By the way in which patches are found and by name of the selection: the number of patches, the number of those
        that touch the box, and the sum of their areas as shares of the window.
    """
    assert example.box is not None
    window_area = example.image.shape[0] * example.image.shape[1]
    found: dict[str, Any] = {}
    for way, explainer in passes.patches.items():
        traced = explainer.trace(example.image)
        found[way] = {}
        for name, channels in selections.items():
            neurons = [Neuron(layer, channel) for layer, channel in sorted(_neurons(channels))]
            boxes: list[Box] = [(p.x, p.y, p.width, p.height) for p in explainer.locate(traced, neurons).values()]
            touching = int(compare(boxes, [example.box] * len(boxes)).touching.sum())
            found[way][name] = [len(boxes), touching, sum(box[2] * box[3] for box in boxes) / window_area]
    return found


def rows(records: Mapping[str, Any], examples: Sequence[Example]) -> list[DifferenceRow]:
    """Compute the table of the variations.

    Args:
        records: Results of `measure`.
        examples: The windows.
    """
    found = []
    for variation in VARIATIONS:
        for name in variation.metrics:
            for side, some in sides(examples).items():
                photos = [e.photo for e in some]
                entries = [records[e.name]["variations"][variation.name][name] for e in some]
                before = np.array([records[e.name]["output"] for e in some])
                change = np.abs(np.array([entry["after"] for entry in entries]) - before)
                random = np.array([records[e.name]["random"][variation.name] for e in some])
                found.append(
                    DifferenceRow(
                        variation.name,
                        ", ".join(variation.found_in),
                        name,
                        side,
                        bootstrap.mean([entry["same"] for entry in entries], photos),
                        bootstrap.mean([entry["seeds"] for entry in entries], photos),
                        bootstrap.ratio(change, np.abs(random - before[:, None]).mean(1), photos),
                    )
                )
    return found


def sides(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Return all windows, the persons and the backgrounds, except those of which there are none."""
    parts = {
        "all": list(examples),
        "persons": [e for e in examples if e.person],
        "backgrounds": [e for e in examples if not e.person],
    }
    return {name: part for name, part in parts.items() if part}


def touching_rows(records: Mapping[str, Any], examples: Sequence[Example]) -> list[TouchingRow]:
    """Compute the table of the patches.

    Args:
        records: Results of `measure`.
        examples: The windows; only persons count.
    """
    persons = [e for e in examples if e.person]
    photos, found = [e.photo for e in persons], []
    for name, way in itertools.product((*METRICS, RANDOM), PATCHES) if persons else ():
        counts = np.array([records[e.name]["patches"][way][name] for e in persons], np.float64)
        touching, area = (bootstrap.ratio(counts[:, i], counts[:, 0], photos) for i in (1, 2))
        found.append(TouchingRow(name, way, touching, area))
    return found


def tables(records: Mapping[str, Any], examples: Sequence[Example]) -> DifferenceTables:
    """Compute both tables of one network.

    Args:
        records: Results of `measure`.
        examples: The windows.
    """
    return DifferenceTables(rows(records, examples), touching_rows(records, examples))


def across_networks(results: Sequence[DifferenceTables]) -> DifferenceTables:
    """Summarise the tables of several networks."""
    return DifferenceTables(across([r.rows for r in results]), across([r.touching for r in results]))


def to_markdown(tables: DifferenceTables) -> str:
    """Return both tables in Markdown."""
    by_line: dict[tuple[str, str, str], dict[str, DifferenceRow]] = {}
    for row in tables.rows:
        by_line.setdefault((row.variation, row.found_in, row.metric), {})[row.side] = row
    parts = list(dict.fromkeys(row.side for row in tables.rows))
    single = [part for part in parts if part != "all"]
    header = ["variation", "found in", "neurons by"]
    header += [f"same neurons as by default, {part}" for part in single]
    header += [f"another seed, {part}" for part in single]
    header += [f"times random neurons', {part}" for part in parts]
    lines = [
        [
            *(variation, found_in or "—", name),
            *(f"{by_side[part].same.value:.2f}" for part in single),
            *(_of_seeds(by_side[part]) for part in single),
            *(by_side[part].times_random for part in parts),
        ]
        for (variation, found_in, name), by_side in by_line.items()
    ]
    text = markdown.table(header, lines)
    if not tables.touching:
        return text
    by_name: dict[str, list[TouchingRow]] = {}
    for touching in tables.touching:
        by_name.setdefault(touching.name, []).append(touching)
    header = ["neurons by", *(f"touch the person: {way}" for way in PATCHES), *(f"area: {way}" for way in PATCHES)]
    patches = [
        [name, *(row.touching.percent for row in found), *(f"{100 * row.area.value:.0f} %" for row in found)]
        for name, found in by_name.items()
    ]
    return f"{text}\nPatches of the neurons that the defaults select:\n\n{markdown.table(header, patches)}"


def _of_seeds(row: DifferenceRow) -> str:
    """Return the agreement of seeds; a dash for metrics that do not read the noise."""
    seeded = metric(row.metric).reads in (Reads.PERTURBATIONS, Reads.GRADIENTS)
    return f"{row.seeds.value:.2f}" if seeded else "—"
