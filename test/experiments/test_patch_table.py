"""Table 1: all rows, and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explain_cnn_ros.experiments.cli import main
from explain_cnn_ros.experiments.examples import read_examples
from explain_cnn_ros.experiments.patch_accuracy import SPLITS, PatchAccuracySettings
from explain_cnn_ros.experiments.patch_table import (
    ELSEWHERE,
    MIDDLE,
    PAPER_TABLE,
    UNTRAINED,
    PatchTableSettings,
    _elsewhere,
    _middle,
    measure,
    to_markdown,
)
from explain_cnn_ros.experiments.secondary import SecondarySettings
from explain_cnn_ros.experiments.selectors import RANDOM
from explain_cnn_ros.explain.metrics import PAPER_METRICS
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

QUICK = ExplainSettings(perturbations=2, layers=(3, 5), metrics=("activation_precision", "activation_sum"), top_n=3)


@pytest.mark.slow
def test_the_whole_table_and_again(
    thin_channels: None, quick_classifier: PersonClassifier, inria: Path, tmp_path: Path
) -> None:
    """Every row exists. A second run gives the same digits, with a cache and without one."""
    classifier = quick_classifier
    examples = read_examples(inria, 2, 1)
    quick = SecondarySettings(steps=2, batch=8)
    settings = PatchTableSettings(QUICK, (1, 3), PatchAccuracySettings(2, 40, quick, repeats=3, few=quick))
    steps: list[str] = []
    rows = measure(classifier, examples, settings, tmp_path / "a", lambda step, done, total: steps.append(step))
    assert [(row.name, row.top_n) for row in rows] == [
        (name, n) for name in (*QUICK.metrics, RANDOM, ELSEWHERE, MIDDLE, UNTRAINED) for n in (1, 3)
    ]
    assert set(steps) == {
        *(f"explaining ({name})" for name in ("patches", "nonzero")),
        *(f"explaining with the untrained network ({name})" for name in ("patches", "nonzero")),
        "secondary classifiers",
    }
    middle = next(row for row in rows if row.name == MIDDLE)
    assert (middle.strong.touching.value, middle.strong.pointing.value) == (1.0, 1.0)
    for row in rows:
        assert tuple(row.accuracies) == SPLITS
        assert [len(found.seeds) for found in row.accuracies.values()] == [2, 2, 3]
        if row.name not in (ELSEWHERE, MIDDLE):  # the box of all nonzero pixels contains that of the strong ones
            assert row.nonzero.touching.value >= row.strong.touching.value
    assert measure(classifier, examples, settings, tmp_path / "a") == rows
    assert measure(classifier, examples, settings, tmp_path / "b") == rows
    lines = to_markdown(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    # The paper's numbers stand beside ours where there are any.
    of_precision = next(i for i, row in enumerate(rows) if row.name == "activation_precision") + 2
    assert "| — |" in lines[of_precision]  # top 1 is not in the paper
    whole = [replace(row, top_n=5) for row in rows]
    assert lines[of_precision] != (line := to_markdown(whole).splitlines()[of_precision])
    assert "| 96 % |" in line and "| 94.0 % |" in line


def test_boxes_lie_in_the_windows_of_any_network() -> None:
    rng = np.random.default_rng(0)
    for size in ((64, 128), (40, 32)):
        for move in (_elsewhere, _middle):
            x, y, width, height = move((50, 60, 30, 20), size, rng)
            assert (width, height) == (30, 20)
            assert 0 <= x <= size[0] - 30 and 0 <= y <= size[1] - 20
    assert _middle((50, 60, 30, 20), (40, 32), rng)[:2] == (5, 6)


def test_numbers_of_the_paper() -> None:
    """Each of the six metrics has a row for N = 5 and one for N = 20; the best are those that the paper names."""
    assert set(PAPER_TABLE) == {(name, n) for name in PAPER_METRICS for n in (5, 20)}
    assert max(PAPER_TABLE, key=lambda key: PAPER_TABLE[key][0]) == ("activation_precision", 5)


def test_the_command(inria: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["patches", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 1
    assert "no INRIA person data under" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["patches", "--help"])
    assert "--preset" in capsys.readouterr().out
