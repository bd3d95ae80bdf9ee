"""The best regions of each metric, of LIME and of Grad-CAM: their position, their effect and their stability.

    explain-cnn experiments regions --data DIR --output DIR

Each method gives a map of the window. For a metric, the map counts the patches of its neurons that cover a pixel. The
best region is the fifth of the window with the highest values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.experiments import bootstrap, markdown, results_cache
from explain_cnn_ros.experiments.attributions import Map, captum_attr, grad_cam, lime
from explain_cnn_ros.experiments.bootstrap import Estimate
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.extraction import draw_neurons
from explain_cnn_ros.experiments.localization import Box
from explain_cnn_ros.experiments.progress import ProgressCallback, no_progress
from explain_cnn_ros.experiments.selectors import RANDOM, selector
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import PAPER_METRICS
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.ranking import RankedWindow
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Whether each pixel of a window belongs to a region, bool [H, W].
Mask = NDArray[np.bool_]

LIME, GRAD_CAM = "LIME", "Grad-CAM"

#: The metric whose ranking is unstable with the paper's noise. It is also measured with the preset "stable".
CORRELATION = "activation_output_correlation"
STABLE = selector(CORRELATION, "stable")

#: The methods that are compared.
METHODS = (*PAPER_METRICS, STABLE, RANDOM, LIME, GRAD_CAM)


@dataclass(frozen=True)
class RegionSettings:
    """Settings of the experiment.

    Attributes:
        share: Share of the window that the best region takes.
        samples: Number of samples of LIME.
        seeds: Number of seeds of the noise, of the random neurons and of LIME.
        elsewhere: Number of random places to which a region is moved for comparison.
        blur: Standard deviation of the blur that replaces a region, in pixels.
    """

    share: float = 0.2
    samples: int = 200
    seeds: int = 2
    elsewhere: int = 10
    blur: float = 10.0


@dataclass(frozen=True)
class RegionRow:
    """The best regions of a method; means over windows of persons.

    Attributes:
        method: Name of the method.
        inside: Share of the region that lies on the person.
        inside_elsewhere: The same for the region moved to random places.
        drop: Fall of the output when the region is blurred, in logits.
        drop_elsewhere: The same for the region moved to random places.
        seeds: Intersection over union of the regions of two seeds.
    """

    method: str
    inside: Estimate
    inside_elsewhere: Estimate
    drop: Estimate
    drop_elsewhere: Estimate
    seeds: Estimate


def coverage(patches: Iterable[Patch | None], width: int, height: int) -> Map:
    """Count the patches that cover each pixel of a window of `width` x `height` pixels: float64 [H, W]."""
    found = np.zeros((height, width))
    for patch in patches:
        if patch is not None:
            bottom, right = max(0, patch.y + patch.height), max(0, patch.x + patch.width)
            found[max(0, patch.y) : bottom, max(0, patch.x) : right] += 1
    return found


def best(values: Map, share: float, rng: np.random.Generator) -> Mask:
    """Return the pixels with the highest values.

    Args:
        values: The map, [H, W].
        share: Share of the pixels that are returned.
        rng: Source of randomness, which decides between equal values.
    """
    order = np.lexsort((rng.random(values.size), -values.ravel()))
    mask = np.zeros(values.size, bool)
    mask[order[: round(share * values.size)]] = True
    return mask.reshape(values.shape)


def inside(mask: Mask, box: Box) -> float:
    """Compute the share of a region's pixels whose middle lies in a box."""
    x, y, width, height = box
    rows, columns = np.nonzero(mask)
    within = (columns + 0.5 >= x) & (columns + 0.5 < x + width) & (rows + 0.5 >= y) & (rows + 0.5 < y + height)
    return float(within.mean())


def moved(mask: Mask, rng: np.random.Generator) -> Mask:
    """Return the region moved to a random place. Pixels that leave the window enter it on the other side."""
    shift = [int(rng.integers(side)) for side in mask.shape]
    return np.roll(mask, shift, (0, 1))


def overlap(one: Mask, other: Mask) -> float:
    """Compute the intersection over union of two regions."""
    return float((one & other).sum() / (one | other).sum())


def measure(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    settings: RegionSettings,
    folder: Path,
    progress: ProgressCallback = no_progress,
) -> dict[str, Any]:
    """Measure the best regions of the persons among the windows; results are cached.

    Args:
        classifier: The classifier.
        examples: The windows.
        settings: Settings of the experiment.
        folder: Folder of the cache.
        progress: Receives reports of the progress.

    Returns:
        By window: the values of `RegionRow` by method ("methods"), and the overlap of each two methods ("overlaps").

    Raises:
        ImportError: captum is missing.
    """
    captum_attr()
    explainers = [
        (
            Explainer(classifier, ExplainSettings(seed=seed)),
            Explainer(classifier, ExplainSettings.preset("stable", seed=seed, metrics=(CORRELATION,))),
        )
        for seed in range(settings.seeds)
    ]
    explained = [explainer.settings for pair in explainers for explainer in pair]
    return results_cache.compute(
        folder / "regions.jsonl",
        results_cache.key_of(classifier, settings, METHODS, explained, *examples),
        {e.name: e for e in examples if e.person},
        lambda example: _measure_window(classifier, explainers, example, settings),
        lambda done, total: progress("comparing regions", done, total),
    )


def maps(explainers: tuple[Explainer, Explainer], window: NDArray[np.uint8], samples: int, seed: int) -> dict[str, Map]:
    """Compute the map of each method.

    Args:
        explainers: The explainers with the paper's settings and with the preset "stable".
        window: uint8 [H, W, 3] RGB, of the classifier's size.
        samples: Number of samples of LIME.
        seed: Seed of the random neurons and of LIME.
    """
    paper, stable = explainers
    drawn = draw_neurons(paper, np.random.default_rng([seed, *window[::16, ::16].tobytes()]))
    ranked, ranked_stably = paper.rank(window), stable.rank(window)
    located = paper.locate(ranked, [*ranked.neurons, *drawn])
    height, width = window.shape[:2]

    def count(neurons: Iterable[Neuron], patches: Mapping[Neuron, Patch]) -> Map:
        return coverage([patches.get(neuron) for neuron in neurons], width, height)

    found = {name: count(_selected(ranked, name), located) for name in PAPER_METRICS}
    found[STABLE] = count(_selected(ranked_stably, CORRELATION), stable.locate(ranked_stably))
    found[RANDOM] = count(drawn, located)
    found[LIME] = lime(paper.classifier, window, samples, seed, paper.settings.compute_precision)
    found[GRAD_CAM] = grad_cam(paper.classifier, window)
    return found


def _selected(ranked: RankedWindow, name: str) -> list[Neuron]:
    return [Neuron(layer, channel) for layer, top in ranked.of_metric(name).items() for channel in top]


def _measure_window(
    classifier: PersonClassifier,
    explainers: Sequence[tuple[Explainer, Explainer]],
    example: Example,
    settings: RegionSettings,
) -> dict[str, Any]:
    assert example.box is not None
    regions: list[dict[str, Mask]] = []
    for seed, pair in enumerate(explainers):
        found = maps(pair, example.image, settings.samples, seed)
        # Equal values are decided alike for each seed, so that regions differ because of the method only.
        regions.append(
            {m: best(v, settings.share, np.random.default_rng(list(example.name.encode()))) for m, v in found.items()}
        )
    rng = np.random.default_rng([1, *example.name.encode()])
    elsewhere = {method: [moved(mask, rng) for _ in range(settings.elsewhere)] for method, mask in regions[0].items()}
    order = [mask for method in METHODS for mask in (regions[0][method], *elsewhere[method])]
    drops = _drops(classifier, example.image, order, settings.blur).reshape(len(METHODS), -1)
    methods = {
        method: {
            "inside": inside(regions[0][method], example.box),
            "inside_elsewhere": float(np.mean([inside(mask, example.box) for mask in elsewhere[method]])),
            "drop": float(drop[0]),
            "drop_elsewhere": float(drop[1:].mean()),
            "seeds": float(np.mean([overlap(regions[0][method], other[method]) for other in regions[1:]])),
        }
        for method, drop in zip(METHODS, drops, strict=True)
    }
    overlaps = [[overlap(regions[0][a], regions[0][b]) for b in METHODS] for a in METHODS]
    return {"methods": methods, "overlaps": overlaps}


def _drops(classifier: PersonClassifier, window: NDArray[np.uint8], masks: Sequence[Mask], blur: float) -> Map:
    """Compute the fall of the output when each region is blurred, in logits: [N]."""
    blurred = cv2.GaussianBlur(window, (0, 0), blur)
    without = [np.where(mask[..., None], blurred, window) for mask in masks]
    outputs = classifier.locate(np.stack([window, *without]))[0].astype(np.float64)
    drops: Map = outputs[0] - outputs[1:]
    return drops


def rows(records: Mapping[str, Any], examples: Sequence[Example]) -> list[RegionRow]:
    """Compute the table.

    Args:
        records: Results of `measure`.
        examples: The windows.
    """
    persons = [e for e in examples if e.person]
    photos = [e.photo for e in persons]
    found = []
    for method in METHODS:
        values = [records[e.name]["methods"][method] for e in persons]
        means = {field: bootstrap.mean([v[field] for v in values], photos) for field in values[0]}
        found.append(RegionRow(method, **means))
    return found


def overlaps(records: Mapping[str, Any], examples: Sequence[Example]) -> list[list[float]]:
    """Compute the overlap of each two of METHODS, mean over windows of persons.

    Args:
        records: Results of `measure`.
        examples: The windows.
    """
    found = np.mean([records[e.name]["overlaps"] for e in examples if e.person], axis=0)
    return found.tolist()


def to_markdown(table: Sequence[RegionRow]) -> str:
    """Return the table in Markdown."""
    header = ("best region by", "on the person", "the same elsewhere", "output falls by", "the same elsewhere")
    return markdown.table((*header, "another seed: overlap"), map(_cells, table))


def _cells(row: RegionRow) -> list[object]:
    shares = [
        f"{100 * m.value:.0f} % ({100 * m.low:.0f} to {100 * m.high:.0f})" for m in (row.inside, row.inside_elsewhere)
    ]
    return [row.method, *shares, row.drop, row.drop_elsewhere, f"{row.seeds.value:.2f}"]
