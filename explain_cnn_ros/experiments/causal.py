"""Which metric's neurons matter causally, and how far metrics agree: silencing by metric and N, against random neurons.

    ros2 run explain_cnn_ros experiments causal --data DIR --output DIR

The paper says that correlation "selects neurons that exert large influence over the network output". Here the selected
neurons of all layers are set to zero at once, and the output is compared with what it is without as many random live
neurons of the same layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explain_cnn_ros.classifier import BACKGROUND, PERSON, PersonClassifier
from explain_cnn_ros.experiments import bootstrap, kept, markdown
from explain_cnn_ros.experiments.bootstrap import Mean
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.progress import Progress, silent
from explain_cnn_ros.experiments.ranker import Ranker
from explain_cnn_ros.experiments.selectors import selector
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.importance import METRICS, PERTURBATION_METRICS, jaccard
from explain_cnn_ros.settings import ExplainSettings
from explain_cnn_ros.silencing import draw_live, in_batches

#: Whose noise ranks: the paper's for all metrics, the others for those that depend on it.
PRESETS = ("paper", "authors", "stable")


@dataclass(frozen=True)
class Causal:
    """Settings of the experiment.

    top_ns: how many neurons of each layer are silenced.
    draws: of as many random neurons.
    layers: that are silenced, all at once.
    """

    top_ns: tuple[int, ...] = (1, 5, 20)
    draws: int = 10
    layers: tuple[int, ...] = ExplainSettings().layers
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """What silencing the top N of a metric does; means over windows, with confidence intervals over photos.

    influence: of the change of the output (logit of person minus that of background), whichever way it goes.
    times_random: the same over that of random neurons.
    against: change of the output against what the window shows: down for persons, up for backgrounds.
    against_random: the same of random neurons.
    flips, flips_random: share of the windows whose decision at the threshold is another afterwards.
    """

    selector: str
    top_n: int
    influence: Mean
    times_random: Mean
    against: Mean
    against_random: Mean
    flips: Mean
    flips_random: Mean


#: What is compared: all metrics with the paper's noise, and those that depend on it with the others.
SELECTORS = (
    *METRICS,
    *(selector(metric, preset) for preset in PRESETS[1:] for metric in PERTURBATION_METRICS),
)


def measure(
    classifier: PersonClassifier, examples: Sequence[Example], how: Causal, folder: Path, progress: Progress = silent
) -> dict[str, Any]:
    """By window: output, outputs without selected and without random neurons, and what was selected."""
    most = max(how.top_ns)
    rankers = {}
    for preset in PRESETS:
        metrics = METRICS if preset == "paper" else PERTURBATION_METRICS
        settings = ExplainSettings.preset(preset, top_n=most, metrics=metrics, layers=how.layers, seed=how.seed)
        rankers[preset] = Ranker(Explainer(classifier, settings))
    key = kept.key_of(classifier, how, *(ranker.explainer.settings for ranker in rankers.values()), *examples)
    return kept.compute(
        folder / "silenced.jsonl",
        key,
        {e.name: e for e in examples},
        lambda example: _silence(rankers, example, how),
        lambda done, of: progress("silencing", done, of),
    )


@torch.inference_mode()
def _silence(rankers: Mapping[str, Ranker], example: Example, how: Causal) -> dict[str, Any]:
    selected: dict[str, dict[int, list[int]]] = {}
    for preset, ranker in rankers.items():
        (ranked,) = ranker.rank(example.image)
        for (metric, layer), channels in ranked.channels.items():
            selected.setdefault(selector(metric, preset), {})[layer] = channels
    rng = np.random.default_rng([how.seed, *example.name.encode()])
    drawn = [draw_live(ranked.activations, max(how.top_ns), rng) for _ in range(how.draws)]
    tops = [(chosen, n) for chosen in [*selected.values(), *drawn] for n in how.top_ns]
    sets = [{layer: channels[:n] for layer, channels in chosen.items()} for chosen, n in tops]
    classifier = ranker.explainer.classifier
    window = classifier.normalise(classifier.to_pixels(example.image[None]))
    logits = in_batches(classifier.network, window, [{}, *sets])
    outputs = (logits[:, PERSON] - logits[:, BACKGROUND]).tolist()
    after = np.array(outputs[1:]).reshape(-1, len(how.top_ns))
    return {
        "output": outputs[0],
        "selected": {name: row.tolist() for name, row in zip(selected, after, strict=False)},
        "random": after[len(selected) :].tolist(),
        "channels": selected,
    }


def rows(records: Mapping[str, Any], examples: Sequence[Example], how: Causal, threshold: float) -> list[Row]:
    """The table, over the given windows.

    threshold: P(person) from which on a window is decided to be a person.
    """
    photos = [example.photo for example in examples]
    before = np.array([records[e.name]["output"] for e in examples])
    side = np.array([1.0 if e.person else -1.0 for e in examples])
    limit = np.log(threshold / (1 - threshold))
    drawn = np.array([records[e.name]["random"] for e in examples])  # [windows, draws, N]
    found = []
    for name, (i, n) in itertools.product(SELECTORS, enumerate(how.top_ns)):
        after = np.array([records[e.name]["selected"][name][i] for e in examples])
        random = drawn[:, :, i]
        change, random_change = np.abs(after - before), np.abs(random - before[:, None]).mean(1)
        found.append(
            Row(
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
    """Mean Jaccard index of what each two of SELECTORS select of all layers, over windows: symmetric, 1 with itself."""
    total = np.zeros((len(SELECTORS), len(SELECTORS)))
    for example in examples:
        channels = records[example.name]["channels"]
        sets = [{(layer, c) for layer, top in channels[s].items() for c in top[:top_n]} for s in SELECTORS]
        total += [[jaccard(one, other) for other in sets] for one in sets]
    return (total / len(examples)).tolist()


def to_markdown(table: Sequence[Row]) -> str:
    """The table, as people read it."""
    header = ["neurons by", "top N", "change of the output", "times random neurons'"]
    header += ["against what is shown", "random neurons'", "decisions that flip", "random neurons'"]
    return markdown.table(header, map(_cells, table))


def _cells(row: Row) -> list[object]:
    flips = [f"{100 * m.value:.0f} %" for m in (row.flips, row.flips_random)]
    return [row.selector, row.top_n, row.influence, row.times_random, row.against, row.against_random, *flips]


def agreement_markdown(matrix: Sequence[Sequence[float]]) -> str:
    """The agreement, a row and a column a selector."""
    lines = [
        [f"{i} {name}", *(f"{value:.2f}" for value in values)]
        for i, (name, values) in enumerate(zip(SELECTORS, matrix, strict=True), 1)
    ]
    return markdown.table(["", *map(str, range(1, len(SELECTORS) + 1))], lines)
