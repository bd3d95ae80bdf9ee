"""Figures of tables: the same bytes each time, with the colours and titles of the metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from explain_cnn_ros.experiments import causal, causal_tables, convergence, figures, regions, stability
from explain_cnn_ros.experiments.bootstrap import Estimate
from explain_cnn_ros.experiments.causal_tables import CausalRow, LayerRow
from explain_cnn_ros.experiments.convergence import ConvergenceRow
from explain_cnn_ros.experiments.provenance import ResultProvenance
from explain_cnn_ros.experiments.regions import PatchRow, RegionRow
from explain_cnn_ros.experiments.selectors import INFLUENCE_METRICS, LIVE, NOISY_METRICS, RANDOM, selector
from explain_cnn_ros.experiments.stability import StabilityRow
from explain_cnn_ros.explain.metrics import PAPER_METRICS, metric

PROVENANCE = ResultProvenance("experiments figure", "0123 (1 person, 1 background)", "4567")
SOME = Estimate(0.5, 0.4, 0.7)


def causal_rows() -> list[CausalRow]:
    return [
        CausalRow(name, kind, n, *[SOME] * 9)
        for kind in causal_tables.KINDS
        for name in causal.SELECTORS
        for n in (1, 5, 20)
    ]


#: Layers of a VGG and of a ResNet, by number.
VGG = {layer: f"conv{1 + layer // 3}_1" for layer in range(3, 10)}
RESNET = {5: "layer1.1.conv2", 10: "layer2.1.conv2", 20: "layer4.1.conv2"}


def layer_rows(layers: Mapping[int, str]) -> list[LayerRow]:
    return [
        LayerRow(name, kind, number, layer_name, SOME, SOME)
        for kind in causal_tables.KINDS
        for name in causal.MAIN_SELECTORS
        for number, layer_name in layers.items()
    ]


def stability_rows() -> list[StabilityRow]:
    settings = stability.StabilitySettings()
    return [
        StabilityRow(preset, sigma, n, metric, Estimate(0.9, 0.8, 1.0), 0.9)
        for preset, sigma, ns in stability.points(settings)
        for n in ns
        for metric in NOISY_METRICS
    ] + [StabilityRow(LIVE, 0.0, 0, name, Estimate(1.0, 1.0, 1.0), float("nan")) for name in INFLUENCE_METRICS]


def convergence_rows() -> list[ConvergenceRow]:
    by_layer = {preset: dict.fromkeys((3, 4), SOME) for preset in convergence.NOISES}
    similarity = dict.fromkeys(convergence.NOISES, SOME)
    secondary = dict.fromkeys(convergence.SELECTORS, (0.7, 0.01))
    return [ConvergenceRow(step, step / 8, 0.9, secondary, similarity, by_layer) for step in (0, 1, 4, 8, 16)]


def region_rows() -> list[RegionRow]:
    return [RegionRow(method, *[SOME] * 5) for method in regions.METHODS]


def patch_rows() -> list[PatchRow]:
    return [PatchRow(method, 35.0, *[SOME] * 4) for method in regions.BOX_METHODS]


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: figures.accuracies(convergence_rows(), PROVENANCE, path),
        lambda path: figures.similarity(convergence_rows(), 0.02, PROVENANCE, path),
        lambda path: figures.stabilities(stability_rows(), 0.8, PROVENANCE, path),
        lambda path: figures.influences(causal_rows(), "bars", PROVENANCE, path),
        lambda path: figures.layer_influences(layer_rows(VGG), "bars", PROVENANCE, path),
        lambda path: figures.layer_influences(layer_rows(RESNET), "bars", PROVENANCE, path),
        lambda path: figures.guide(causal_rows(), stability_rows(), 0.8, "bars", PROVENANCE, path),
        lambda path: figures.best_regions(region_rows(), "bars", PROVENANCE, path),
        lambda path: figures.single_patches(patch_rows(), "bars", PROVENANCE, path),
        lambda path: figures.matrix(["weight_sum", "LIME"], [[1, 0.5], [0.5, 1]], "agreement", PROVENANCE, path),
    ],
)
def test_figures_are_the_same_each_time(draw: Callable[[Path], None], tmp_path: Path) -> None:
    for name in "ab":
        draw(tmp_path / "new" / f"{name}.png")
    one, other = ((tmp_path / "new" / f"{name}.png").read_bytes() for name in "ab")
    assert one == other
    image = cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR)
    assert min(image.shape[:2]) > 400 and image.std() > 10


@pytest.mark.parametrize(
    ("layers", "places", "labels"),
    [(VGG, [3, 4, 5, 6, 7, 8, 9], None), (RESNET, [0, 1, 2], list(RESNET.values()))],
    ids=["VGG", "ResNet"],
)
def test_layers_stand_at_their_numbers_or_names(
    layers: dict[int, str], places: list[int], labels: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "save", lambda figure, *_: drawn.append(figure))
    figures.layer_influences(layer_rows(layers), "bars", PROVENANCE, Path("unused.png"))
    for axes in drawn[0].axes:
        lines = [line for line in axes.lines if len(line.get_xdata()) == len(places)]
        assert len(lines) == len(causal.MAIN_SELECTORS)
        assert all(list(line.get_xdata()) == places for line in lines)
        if labels is not None:
            assert [tick.get_text() for tick in axes.get_xticklabels()] == labels


def test_colours_and_titles_are_those_of_the_metrics() -> None:
    for name in PAPER_METRICS:
        for preset in ("paper", "stable"):
            assert figures.colour_of(selector(name, preset)) == metric(name).colour
        assert figures.label_of(name) == metric(name).title
    assert figures.label_of(selector("weight_sum", "authors")) == "weight sum, the authors' noise"
    assert figures.label_of(RANDOM) == RANDOM
    assert figures.label_of(selector("influence", "live")) == "influence, supporting, image alone"
    assert figures.label_of(regions.STRONGEST) == "influence, supporting, strongest start"


def test_every_method_has_a_colour() -> None:
    names = {*causal.SELECTORS, *convergence.SELECTORS, *regions.BOX_METHODS}
    assert all(figures.colour_of(name).startswith("#") for name in names)
