"""Measurements of the networks of a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from explain_cnn_ros.experiments import convergence
from explain_cnn_ros.experiments.bootstrap import Estimate
from explain_cnn_ros.experiments.checkpoints import Checkpoint
from explain_cnn_ros.experiments.convergence import (
    SELECTORS,
    ConvergenceRow,
    ConvergenceSettings,
    chance_similarity,
    jaccard_of_overlap,
    measure,
    plain,
    rank_correlation,
    read_run,
    summary,
)
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.patch_accuracy import PatchAccuracySettings
from explain_cnn_ros.experiments.provenance import ResultProvenance, write_tables
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


@pytest.mark.slow
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
    text = convergence.to_markdown(rows)
    assert text.count("\n| 0 |") == 3
    assert "| network, accuracy | 35.2 to 89.0 % |" in text
    # The authors' overlap of .16 to .40 is a Jaccard index of .19 to .67.
    assert "| similarity (Jaccard index), paper noise | 0.19 to 0.67 |" in text


def _centre(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (image.shape[0] - 128) // 2, (image.shape[1] - 64) // 2
    return image[top : top + 128, left : left + 64]


def test_similarity_of_sets_drawn_at_random(quick_classifier: PersonClassifier) -> None:
    """For one layer, it is the mean of k / (10 - k) over the hypergeometric distribution."""
    channels = 16
    weights = [math.comb(5, k) * math.comb(channels - 5, 5 - k) / math.comb(channels, 5) for k in range(6)]
    expected = sum(weight * k / (10 - k) for k, weight in enumerate(weights))
    assert chance_similarity(quick_classifier, (3,), 5, 20_000) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("shared", "size"), [(0, 5), (2, 5), (5, 5)])
def test_the_overlap_of_the_authors_as_a_jaccard_index(shared: int, size: int) -> None:
    one, other = set(range(size)), set(range(size - shared, 2 * size - shared))
    overlap = len(one & other) / (len(one) + len(other))
    assert jaccard_of_overlap(overlap) == pytest.approx(len(one & other) / len(one | other))


def row(step: int, value: float, deviation: float = 0.1, of_layer: float | None = None) -> ConvergenceRow:
    return ConvergenceRow(
        step,
        step / 10,
        value,
        dict.fromkeys(SELECTORS, (value, deviation)),
        {preset: Estimate(value, value - 0.1, value + 0.1) for preset in convergence.NOISES},
        {preset: {3: Estimate(value if of_layer is None else of_layer, 0, 1)} for preset in convergence.NOISES},
    )


def test_runs_with_different_seeds(tmp_path: Path) -> None:
    """Means over runs; deviations and ranges are those of the runs, whatever each run says of itself."""
    runs = []
    for seed, shift in enumerate((0.0, 0.2)):
        table = [row(0, 0.5 + shift), row(10, 0.6 + shift)]
        folder = tmp_path / str(seed)
        provenance = ResultProvenance("command", "data", "model")
        write_tables(folder, "convergence", provenance, "", plain(table, 0.01))
        assert read_run(folder) == (table, 0.01)
        runs.append(table)
    first, last = summary(runs)
    assert (first.step, first.epoch, first.accuracy) == (0, 0.0, pytest.approx(0.6))
    mean, deviation = last.secondary[SELECTORS[0]]
    assert (mean, deviation) == (pytest.approx(0.7), pytest.approx(0.2 / math.sqrt(2)))
    similarity = last.similarity["paper"]
    assert (similarity.value, similarity.low, similarity.high) == pytest.approx((0.7, 0.6, 0.8))
    with pytest.raises(ValueError, match="at least two runs with the same checkpoints"):
        summary(runs[:1])
    with pytest.raises(ValueError, match="at least two runs with the same checkpoints"):
        summary([runs[0], runs[1][:1]])
    with pytest.raises(FileNotFoundError, match=r"convergence.json does not exist: run the experiment"):
        read_run(tmp_path / "none")


@pytest.mark.parametrize(("deviation", "text"), [(0.1, "| 60.0 ± 10.0 % |"), (math.nan, "| 60.0 % |")])
def test_a_single_secondary_classifier_has_no_deviation(tmp_path: Path, deviation: float, text: str) -> None:
    provenance = ResultProvenance("command", "data", "model")
    rows = [row(0, 0.5, of_layer=math.nan), row(10, 0.6, deviation)]
    write_tables(tmp_path, "convergence", provenance, "", plain(rows, 0.01))
    assert "NaN" not in (tmp_path / "convergence.json").read_text()
    table, _ = read_run(tmp_path)
    line = next(line for line in convergence.to_markdown(table).splitlines() if line.startswith("| 1 |"))
    assert line.count(text[1:]) >= len(SELECTORS)
    assert math.isnan(table[0].similarity_by_layer["paper"][3].value)


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 500]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # The ranks, by hand, are 0, 1.5, 1.5, 3 against 0, 2, 1, 3.
    assert rank_correlation([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
