"""Stability is the agreement of the selections of explanations with different seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from explain_cnn_ros.experiments import stability
from explain_cnn_ros.experiments.bootstrap import Estimate
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.selectors import INFLUENCE_METRICS, LIVE, NOISY_METRICS
from explain_cnn_ros.experiments.stability import StabilityRow, StabilitySettings, points, stable_from
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier


def test_the_points_that_are_measured() -> None:
    found = points(StabilitySettings())
    assert ("paper", 0.1, (10, 20, 50, 100, 200)) in found
    assert [(sigma, n) for preset, sigma, n in found if preset == "authors" and sigma != 0.1] == [
        (sigma, (50,)) for sigma in (0.02, 0.05, 0.2, 0.4)
    ]
    assert ("stable", 0.005, (10, 14, 20, 50, 100, 200)) in found and ("stable", 0.1, (14,)) in found


def shared(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0


@pytest.mark.parametrize(
    ("network", "ns"),
    [pytest.param("quick_classifier", (14, 28), marks=pytest.mark.slow), ("residual_classifier", (10, 20))],
)
def test_the_rows_agree_with_whole_explanations(
    request: pytest.FixtureRequest,
    network: str,
    ns: tuple[int, ...],
    examples: Callable[..., list[Example]],
    tmp_path: Path,
) -> None:
    classifier: PersonClassifier = request.getfixturevalue(network)
    windows = examples(2, classifier.info.input_size)
    settings = StabilitySettings(presets=("stable",), ns=(10, 20), sigmas=(), seeds=3, top_n=4, layers=(2, 3))
    rows = stability.measure(classifier, windows, settings, tmp_path)
    # In windows of 64 x 128 pixels, 10 becomes two blocks of 7, as many as the preset has.
    measured = [row for row in rows if row.preset != LIVE]
    assert [(r.perturbations, r.metric) for r in measured] == [(n, m) for n in ns for m in NOISY_METRICS]
    assert [(r.preset, r.perturbations, r.metric, r.seeds.value) for r in rows[len(measured) :]] == [
        (LIVE, 0, name, 1.0) for name in INFLUENCE_METRICS
    ]
    for row in measured:
        pairs, halves = [], []
        for example in windows:
            explanations = [
                Explainer(
                    classifier,
                    ExplainSettings.preset("stable", perturbations=row.perturbations, seed=s, top_n=4, layers=(2, 3)),
                ).explain(example.image)
                for s in range(3)
            ]
            for layer in (2, 3):
                sets = [{n.channel for n in e.ranking(row.metric, layer)} for e in explanations]
                pairs += [shared(a, b) for a, b in itertools.combinations(sets, 2)]
                halves += [e.layer_ranking(row.metric, layer).stability for e in explanations]
        assert row.seeds.value == pytest.approx(np.mean(pairs))
        assert row.halves == pytest.approx(np.nanmean(halves))
    again = stability.measure(classifier, windows, settings, tmp_path / "again")
    assert stability.to_markdown(again) == stability.to_markdown(rows)
    text = stability.to_markdown(rows)
    assert text.count("\n") == 2 + len(rows)
    assert "| none (the image alone) | — | 0 | influence | 1 by definition: there is no seed | — |" in text


def line(*values: float) -> list[StabilityRow]:
    return [StabilityRow("paper", 0.1, 10 * (i + 1), "m", Estimate(v, v, v), v) for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "reached"),
    [((0.1, 0.5, 0.9), 30), ((0.9, 0.5, 0.85), 30), ((0.8, 0.9, 0.9), 10), ((0.9, 0.9, 0.7), None)],
)
def test_the_ranking_stays_stable(values: tuple[float, ...], reached: int | None) -> None:
    other = [
        StabilityRow("paper", 0.4, 5, "m", Estimate(1, 1, 1), 1),
        StabilityRow("paper", 0.1, 5, "other", Estimate(1, 1, 1), 1),
    ]
    assert stable_from(line(*values) + other, "paper", "m", 0.8) == reached
