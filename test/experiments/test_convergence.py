"""Measurements of the networks of a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from explain_cnn_ros.experiments import convergence
from explain_cnn_ros.experiments.checkpoints import Checkpoint
from explain_cnn_ros.experiments.convergence import (
    SELECTORS,
    ConvergenceSettings,
    chance_similarity,
    measure,
    rank_correlation,
)
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.patch_accuracy import PatchAccuracySettings
from explain_cnn_ros.experiments.secondary import SecondarySettings
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier


@pytest.fixture
def networks(thin_channels: None, quick_classifier: PersonClassifier, tmp_path: Path) -> list[Checkpoint]:
    path = tmp_path / "step-00000.safetensors"
    quick_classifier.save(path)
    return [Checkpoint(0, 0.0, path)]


@pytest.fixture
def validation(picture: Callable[..., NDArray[np.uint8]]) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Bright persons, dark backgrounds."""
    return [picture(96, 160, i) // 2 + 100 for i in range(2)], [picture(64, 128, 100 + i) // 2 for i in range(2)]


def test_everything_is_measured_and_the_same_again(
    networks: list[Checkpoint],
    validation: tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]],
    examples: Callable[[int], list[Example]],
    tmp_path: Path,
) -> None:
    secondary = PatchAccuracySettings(2, 40, SecondarySettings(steps=2, batch=8))
    quick = ConvergenceSettings(secondary, top_n=2, layers=(3, 4))
    windows = examples(4)
    rows = measure(networks, windows, validation, quick, tmp_path / "a", "cpu")
    assert [row.step for row in rows] == [0]
    for row, checkpoint in zip(rows, networks, strict=False):
        assert set(row.secondary) == set(SELECTORS)
        assert all(0 <= mean <= 1 for mean, _ in row.secondary.values())
        classifier = checkpoint.load("cpu")
        right = [(p >= 0.5) == side for side, images in ((True, validation[0]), (False, validation[1]))
                 for p in classifier.probability(np.stack([_centre(image) for image in images]))]  # fmt: skip
        assert row.accuracy == pytest.approx(np.mean(right))
        for preset in ("paper", "authors"):
            settings = ExplainSettings.preset(preset, top_n=2, layers=(3, 4))
            explanations = [Explainer(classifier, settings).explain(e.image) for e in windows]
            overall = row.similarity[preset]
            assert overall.value == pytest.approx(np.mean([e.set_similarity for e in explanations]))
            assert overall.low <= overall.value <= overall.high
            for layer in (3, 4):
                by_layer = np.mean([e.set_similarity_by_layer[layer] for e in explanations])
                assert row.similarity_by_layer[preset][layer].value == pytest.approx(by_layer)
    assert measure(networks, windows, validation, quick, tmp_path / "a", "cpu") == rows
    assert measure(networks, windows, validation, quick, tmp_path / "b", "cpu") == rows
    assert convergence.to_markdown(rows).count("\n| 0 |") == 3


def _centre(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (image.shape[0] - 128) // 2, (image.shape[1] - 64) // 2
    return image[top : top + 128, left : left + 64]


def test_similarity_of_sets_drawn_at_random(quick_classifier: PersonClassifier) -> None:
    """For one layer, it is the mean of k / (10 - k) over the hypergeometric distribution."""
    channels = 16
    weights = [math.comb(5, k) * math.comb(channels - 5, 5 - k) / math.comb(channels, 5) for k in range(6)]
    expected = sum(weight * k / (10 - k) for k, weight in enumerate(weights))
    assert chance_similarity(quick_classifier, (3,), 5, 20_000) == pytest.approx(expected, rel=0.1)


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 500]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # The ranks, by hand, are 0, 1.5, 1.5, 3 against 0, 2, 1, 3.
    assert rank_correlation([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
