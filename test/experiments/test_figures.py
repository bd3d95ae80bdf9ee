"""Figures of tables: the same bytes each time, with the colours and titles of the metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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


def layer_rows() -> list[LayerRow]:
    return [
        LayerRow(name, kind, layer, SOME, SOME)
        for kind in causal_tables.KINDS
        for name in causal.MAIN_SELECTORS
        for layer in range(3, 10)
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
        lambda path: figures.layer_influences(layer_rows(), "bars", PROVENANCE, path),
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
