"""The best regions of each metric, of LIME and of Grad-CAM: where they lie, whether they matter, and are stable.

    ros2 run explain_cnn_ros experiments regions --data DIR --output DIR

Each method becomes a map of the window; of a metric, how many of its neurons' patches cover a pixel. The best region is
the fifth of the window with the highest values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments import bootstrap, kept, markdown
from explain_cnn_ros.experiments.attributions import Map, captum_attr, grad_cam, lime
from explain_cnn_ros.experiments.bootstrap import Mean
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.extraction import draw_neurons
from explain_cnn_ros.experiments.localization import Box
from explain_cnn_ros.experiments.progress import Progress, silent
from explain_cnn_ros.experiments.selectors import RANDOM, selector
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.importance import METRICS
from explain_cnn_ros.patches import Patch
from explain_cnn_ros.settings import ExplainSettings

Mask = NDArray[np.bool_]

LIME, GRAD_CAM = "LIME", "Grad-CAM"

#: Correlation once more, with noise that gives it a stable ranking.
STABLE = selector("activation_output_correlation", "stable")

METHODS = (*METRICS, STABLE, RANDOM, LIME, GRAD_CAM)


@dataclass(frozen=True)
class Regions:
    """Settings of the experiment.

    share: of the window that the best region takes.
    samples: of LIME.
    seeds: of everything that is drawn.
    elsewhere: places to which a region is moved at random, for comparison.
    blur: of what takes the place of a region, pixels.
    """

    share: float = 0.2
    samples: int = 200
    seeds: int = 2
    elsewhere: int = 10
    blur: float = 10.0


@dataclass(frozen=True)
class Row:
    """Of a method's best regions; means over windows of persons.

    inside: share of the region that lies on the person; inside_elsewhere: of the same region elsewhere.
    drop: by how much the output falls when the region is blurred, logits; drop_elsewhere: the same region elsewhere.
    seeds: intersection over union of the regions of two seeds.
    """

    method: str
    inside: Mean
    inside_elsewhere: Mean
    drop: Mean
    drop_elsewhere: Mean
    seeds: Mean


def coverage(patches: Iterable[Patch | None], width: int, height: int) -> Map:
    """How many patches cover each pixel of a window, float64 [H, W]."""
    found = np.zeros((height, width))
    for patch in patches:
        if patch is not None:
            bottom, right = max(0, patch.y + patch.height), max(0, patch.x + patch.width)
            found[max(0, patch.y) : bottom, max(0, patch.x) : right] += 1
    return found


def best(values: Map, share: float, rng: np.random.Generator) -> Mask:
    """The share of the pixels with the highest values; among equals, the dice decide."""
    order = np.lexsort((rng.random(values.size), -values.ravel()))
    mask = np.zeros(values.size, bool)
    mask[order[: round(share * values.size)]] = True
    return mask.reshape(values.shape)


def inside(mask: Mask, box: Box) -> float:
    """Share of a region's pixels whose middle lies in the box."""
    x, y, width, height = box
    rows, columns = np.nonzero(mask)
    within = (columns + 0.5 >= x) & (columns + 0.5 < x + width) & (rows + 0.5 >= y) & (rows + 0.5 < y + height)
    return float(within.mean())


def moved(mask: Mask, rng: np.random.Generator) -> Mask:
    """The same region elsewhere; what leaves the window comes in on the other side."""
    shift = [int(rng.integers(side)) for side in mask.shape]
    return np.roll(mask, shift, (0, 1))


def overlap(one: Mask, other: Mask) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


def measure(
    classifier: PersonClassifier, examples: Sequence[Example], how: Regions, folder: Path, progress: Progress = silent
) -> dict[str, Any]:
    """By window of a person, and method: inside, drop, elsewhere, seeds; and the overlap of each two methods.

    Raises:
        ImportError: captum is missing.
    """
    captum_attr()
    explainers = [
        (
            Explainer(classifier, ExplainSettings(seed=seed)),
            Explainer(
                classifier, ExplainSettings.preset("stable", seed=seed, metrics=("activation_output_correlation",))
            ),
        )
        for seed in range(how.seeds)
    ]
    settings = [explainer.settings for pair in explainers for explainer in pair]
    return kept.compute(
        folder / "regions.jsonl",
        kept.key_of(classifier, how, METHODS, settings, *examples),
        {e.name: e for e in examples if e.person},
        lambda example: _of_window(classifier, explainers, example, how),
        lambda done, of: progress("comparing regions", done, of),
    )


def maps(explainers: tuple[Explainer, Explainer], window: NDArray[np.uint8], samples: int, seed: int) -> dict[str, Map]:
    """A map a method.

    Args:
        explainers: with the paper's settings, and with the stable noise.
    """
    paper, stable = explainers
    height, width = window.shape[:2]
    of_paper, of_stable = paper.explain(window), stable.explain(window)
    found = {}
    for name, explanation, metric in (
        *((metric, of_paper, metric) for metric in METRICS),
        (STABLE, of_stable, "activation_output_correlation"),
    ):
        layers = explanation.settings.layers
        neurons = [neuron for layer in layers for neuron in explanation.ranking(metric, layer)]
        found[name] = coverage([neuron.patch for neuron in neurons], width, height)
    drawn = draw_neurons(paper, np.random.default_rng([seed, *window[::16, ::16].tobytes()]))
    found[RANDOM] = coverage(paper.patches(window, drawn).values(), width, height)
    found[LIME] = lime(paper.classifier, window, samples, seed, paper.settings.arithmetic)
    found[GRAD_CAM] = grad_cam(paper.classifier, window)
    return found


def _of_window(
    classifier: PersonClassifier, explainers: Sequence[tuple[Explainer, Explainer]], example: Example, how: Regions
) -> dict[str, Any]:
    assert example.box is not None
    regions: list[dict[str, Mask]] = []
    for seed, pair in enumerate(explainers):
        found = maps(pair, example.image, how.samples, seed)
        # The same dice for each seed: what differs, differs because of the method.
        regions.append(
            {m: best(v, how.share, np.random.default_rng(list(example.name.encode()))) for m, v in found.items()}
        )
    rng = np.random.default_rng([1, *example.name.encode()])
    elsewhere = {method: [moved(mask, rng) for _ in range(how.elsewhere)] for method, mask in regions[0].items()}
    order = [(method, mask) for method in METHODS for mask in (regions[0][method], *elsewhere[method])]
    drops = _drops(classifier, example.image, [mask for _, mask in order], how.blur).reshape(len(METHODS), -1)
    record: dict[str, Any] = {"methods": {}, "overlaps": []}
    for method, drop in zip(METHODS, drops, strict=True):
        record["methods"][method] = {
            "inside": inside(regions[0][method], example.box),
            "inside_elsewhere": float(np.mean([inside(mask, example.box) for mask in elsewhere[method]])),
            "drop": float(drop[0]),
            "drop_elsewhere": float(drop[1:].mean()),
            "seeds": float(np.mean([overlap(regions[0][method], other[method]) for other in regions[1:]])),
        }
    record["overlaps"] = [[overlap(regions[0][a], regions[0][b]) for b in METHODS] for a in METHODS]
    return record


def _drops(classifier: PersonClassifier, window: NDArray[np.uint8], masks: Sequence[Mask], blur: float) -> Map:
    """By how much the output falls when each region is blurred, logits, [N]."""
    blurred = cv2.GaussianBlur(window, (0, 0), blur)
    without = [np.where(mask[..., None], blurred, window) for mask in masks]
    outputs = classifier.locate(np.stack([window, *without]))[0].astype(np.float64)
    drops: Map = outputs[0] - outputs[1:]
    return drops


def rows(records: Mapping[str, Any], examples: Sequence[Example]) -> list[Row]:
    """The table."""
    persons = [e for e in examples if e.person]
    photos = [e.photo for e in persons]
    found = []
    for method in METHODS:
        values = [records[e.name]["methods"][method] for e in persons]
        means = {field: bootstrap.mean([v[field] for v in values], photos) for field in values[0]}
        found.append(Row(method, **means))
    return found


def overlaps(records: Mapping[str, Any], examples: Sequence[Example]) -> list[list[float]]:
    """Mean overlap of each two of METHODS, over windows."""
    found = np.mean([records[e.name]["overlaps"] for e in examples if e.person], axis=0)
    return found.tolist()


def to_markdown(table: Sequence[Row]) -> str:
    """The table, as people read it."""
    header = ("best region by", "on the person", "the same elsewhere", "output falls by", "the same elsewhere")
    return markdown.table((*header, "another seed: overlap"), map(_cells, table))


def _cells(row: Row) -> list[object]:
    shares = [
        f"{100 * m.value:.0f} % ({100 * m.low:.0f} to {100 * m.high:.0f})" for m in (row.inside, row.inside_elsewhere)
    ]
    return [row.method, *shares, row.drop, row.drop_elsewhere, f"{row.seeds.value:.2f}"]
