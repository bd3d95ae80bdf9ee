"""The best regions of each metric, of LIME and of Grad-CAM: their position, their effect and their stability.

    explain-cnn experiments regions --data DIR --output DIR

Each method gives a map of the window. For a metric, the map counts the patches of its neurons that cover a pixel. The
best region is the fifth of the window with the highest values.

A second table is about single patches: the share of a patch that lies on the person, and the fall of the output when
the patch is blurred. LIME and Grad-CAM have no patches. Instead, boxes of the sizes of influence's patches are laid
where their maps are strongest, and at random places.
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
from explain_cnn_ros.experiments.bootstrap import NOT_MEASURED, Estimate
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.extraction import draw_neurons
from explain_cnn_ros.experiments.layouts import WINDOW
from explain_cnn_ros.experiments.localization import Box
from explain_cnn_ros.experiments.progress import ProgressCallback, no_progress
from explain_cnn_ros.experiments.selectors import INFLUENCE, INFLUENCE_ALONE, LIVE, RANDOM, selector, settings_with
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import OPPOSING, PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Whether each pixel of a window belongs to a region, bool [H, W].
Mask = NDArray[np.bool_]

LIME, GRAD_CAM = "LIME", "Grad-CAM"

#: The metric whose ranking is unstable with the paper's noise. It is also measured with the preset "stable".
CORRELATION = "activation_output_correlation"
STABLE = selector(CORRELATION, "stable")

#: Influence's neurons, with patches that begin at their strongest activations, not at their largest contributions.
STRONGEST = f"{SUPPORTING}, strongest start"

#: The methods whose neurons have patches.
PATCH_METHODS = (INFLUENCE, STRONGEST, INFLUENCE_ALONE, OPPOSING, *PAPER_METRICS, STABLE, RANDOM)

#: The methods that are compared.
METHODS = (*PATCH_METHODS, LIME, GRAD_CAM)

#: Boxes of the sizes of influence's patches at random places.
PLACES = "random places"

#: The methods whose patches are compared.
BOX_METHODS = (*METHODS, PLACES)


@dataclass(frozen=True)
class RegionSettings:
    """Settings of the experiment.

    Attributes:
        share: Share of the window that the best region takes.
        samples: Number of samples of LIME.
        seeds: Number of seeds of the noise, of the random neurons and of LIME.
        elsewhere: Number of random places to which a region is moved for comparison.
        blur: Standard deviation of the blur that replaces a region, in pixels of a window of 128 pixels height.
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


@dataclass(frozen=True)
class PatchRow:
    """The single patches of a method; means over windows of persons.

    Attributes:
        method: Name of the method.
        patches: Mean number of patches in a window.
        area: Share of the window that a patch covers.
        inside: Share of a patch that lies on the person.
        drop: Fall of the output when a patch is blurred, in logits.
        drop_per_tenth: The same for each tenth of the window that the patch covers.
    """

    method: str
    patches: float
    area: Estimate
    inside: Estimate
    drop: Estimate
    drop_per_tenth: Estimate


@dataclass(frozen=True)
class Explained:
    """The explanations of one window.

    Attributes:
        maps: The map of each of METHODS.
        patches: The patches of each of PATCH_METHODS.
    """

    maps: Mapping[str, Map]
    patches: Mapping[str, list[Patch]]


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


def strongest_place(values: Map, width: int, height: int) -> Patch:
    """Return the box of a size in which the sum of a map is largest.

    Args:
        values: The map, [H, W].
        width: Width of the box, at most W.
        height: Height of the box, at most H.
    """
    total = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    y, x = np.unravel_index(sums.argmax(), sums.shape)
    return Patch(int(x), int(y), width, height)


def measure(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    settings: RegionSettings,
    folder: Path,
    progress: ProgressCallback = no_progress,
    layer_names: str = "",
) -> dict[str, Any]:
    """Measure the best regions of the persons among the windows; results are cached.

    Args:
        classifier: The classifier.
        examples: The windows.
        settings: Settings of the experiment.
        folder: Folder of the cache.
        progress: Receives reports of the progress.
        layer_names: Names or patterns of the layers, as in `ExplainSettings`; "" for the default layers.

    Returns:
        By window: the values of `RegionRow` by method ("methods"), and the overlap of each two methods ("overlaps").

    Raises:
        ImportError: captum is missing.
    """
    captum_attr()
    explainers = [
        {
            "paper": Explainer(classifier, settings_with("paper", seed=seed, layer_names=layer_names)),
            "stable": Explainer(
                classifier,
                ExplainSettings.preset("stable", seed=seed, metrics=(CORRELATION,), layer_names=layer_names),
            ),
            LIVE: Explainer(classifier, settings_with(LIVE, layer_names=layer_names)),
        }
        for seed in range(settings.seeds)
    ]
    explained = [explainer.settings for of_seed in explainers for explainer in of_seed.values()]
    return results_cache.compute_windows(
        folder / "regions.jsonl",
        results_cache.key_of(classifier, settings, BOX_METHODS, explained, *examples),
        [e for e in examples if e.person],
        lambda example: _measure_window(classifier, explainers, example, settings),
        progress,
        "comparing regions",
    )


def explain(explainers: Mapping[str, Explainer], window: NDArray[np.uint8], samples: int, seed: int) -> Explained:
    """Compute the map and the patches of each method.

    Args:
        explainers: The explainers with the paper's noise, with the preset "stable" and of the image alone, by preset.
        window: uint8 [H, W, 3] RGB, of the classifier's size.
        samples: Number of samples of LIME.
        seed: Seed of the random neurons and of LIME.
    """
    paper = explainers["paper"]
    drawn = draw_neurons(paper, np.random.default_rng([seed, *window[::16, ::16].tobytes()]))
    ranked = {preset: explainer.rank(window) for preset, explainer in explainers.items()}
    located = {preset: explainers[preset].locate_selected(ranked[preset]) for preset in explainers}

    def of_metric(name: str, preset: str) -> list[Patch]:
        patches = (located[preset].get((name, neuron)) for neuron in ranked[preset].neurons_of(name))
        return [patch for patch in patches if patch is not None]

    def of_neurons(neurons: list[Neuron]) -> list[Patch]:
        patches = paper.locate(ranked["paper"], neurons)
        return [patches[neuron] for neuron in neurons if neuron in patches]

    found = {name: of_metric(name, "paper") for name in (SUPPORTING, OPPOSING, *PAPER_METRICS)}
    found[STRONGEST] = of_neurons(ranked["paper"].neurons_of(SUPPORTING))
    found[INFLUENCE_ALONE] = of_metric(SUPPORTING, LIVE)
    found[STABLE] = of_metric(CORRELATION, "stable")
    found[RANDOM] = of_neurons(drawn)
    height, width = window.shape[:2]
    maps = {method: coverage(patches, width, height) for method, patches in found.items()}
    maps[LIME] = lime(paper.classifier, window, samples, seed, paper.settings.compute_precision)
    maps[GRAD_CAM] = grad_cam(paper.classifier, window)
    return Explained(maps, found)


def _measure_window(
    classifier: PersonClassifier,
    explainers: Sequence[Mapping[str, Explainer]],
    example: Example,
    settings: RegionSettings,
) -> dict[str, Any]:
    assert example.box is not None
    found = [explain(of_seed, example.image, settings.samples, seed) for seed, of_seed in enumerate(explainers)]
    regions: list[dict[str, Mask]] = []
    for explained in found:
        # Equal values are decided alike for each seed, so that regions differ because of the method only.
        regions.append(
            {
                method: best(values, settings.share, np.random.default_rng(list(example.name.encode())))
                for method, values in explained.maps.items()
            }
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
    return {
        "methods": methods,
        "overlaps": overlaps,
        "patches": _patches(classifier, example, found[0], settings.blur, rng),
    }


def _patches(
    classifier: PersonClassifier, example: Example, found: Explained, blur: float, rng: np.random.Generator
) -> dict[str, dict[str, float] | None]:
    """Return the means over the patches of each of BOX_METHODS: the fields of `PatchRow`; None if there are none."""
    assert example.box is not None
    height, width = example.image.shape[:2]
    sizes = [(patch.width, patch.height) for patch in found.patches[INFLUENCE]]
    patches = dict(found.patches)
    for method in (LIME, GRAD_CAM):
        patches[method] = [strongest_place(found.maps[method], *size) for size in sizes]
    patches[PLACES] = [
        Patch(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h) for w, h in sizes
    ]
    boxes = sorted({(p.x, p.y, p.width, p.height) for each in patches.values() for p in each})
    masks = [coverage([Patch(*box)], width, height) > 0 for box in boxes]
    drops = dict(zip(boxes, _drops(classifier, example.image, masks, blur), strict=True))
    shares = {box: inside(mask, example.box) for box, mask in zip(boxes, masks, strict=True)}
    means: dict[str, dict[str, float] | None] = {}
    for method in BOX_METHODS:
        own = [(p.x, p.y, p.width, p.height) for p in patches[method]]
        means[method] = None
        if own:
            means[method] = {
                "patches": len(own),
                "area": float(np.mean([w * h for _, _, w, h in own])) / (width * height),
                "inside": float(np.mean([shares[box] for box in own])),
                "drop": float(np.mean([drops[box] for box in own])),
            }
    return means


def _drops(classifier: PersonClassifier, window: NDArray[np.uint8], masks: Sequence[Mask], blur: float) -> Map:
    """Compute the fall of the output when each region is blurred, in logits: [N]."""
    blurred = cv2.GaussianBlur(window, (0, 0), blur * window.shape[0] / WINDOW[1])
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


def patch_rows(records: Mapping[str, Any], examples: Sequence[Example]) -> list[PatchRow]:
    """Compute the table of single patches.

    Args:
        records: Results of `measure`.
        examples: The windows.
    """
    found = []
    for method in BOX_METHODS:
        some = [e for e in examples if e.person and records[e.name]["patches"][method]]
        photos = [e.photo for e in some]
        values = {
            field: [records[e.name]["patches"][method][field] for e in some]
            for field in ("patches", "area", "inside", "drop")
        }
        if not some:
            found.append(PatchRow(method, 0.0, *[NOT_MEASURED] * 4))
            continue
        means = {field: bootstrap.mean(values[field], photos) for field in ("area", "inside", "drop")}
        per_tenth = bootstrap.ratio(values["drop"], 10 * np.array(values["area"]), photos)
        found.append(PatchRow(method, float(np.mean(values["patches"])), **means, drop_per_tenth=per_tenth))
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
    return [
        row.method,
        row.inside.percent,
        row.inside_elsewhere.percent,
        row.drop,
        row.drop_elsewhere,
        f"{row.seeds.value:.2f}",
    ]


def patches_markdown(table: Sequence[PatchRow]) -> str:
    """Return the table of single patches in Markdown."""
    header = ("patches by", "patches in a window", "share of the window", "on the person", "output falls by")
    lines = [[r.method, f"{r.patches:.1f}", r.area.percent, r.inside.percent, r.drop, r.drop_per_tenth] for r in table]
    return markdown.table((*header, "the same per tenth of the window"), lines)
