"""Table 1: all rows, and the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from explain_cnn_ros.experiments.cli import main
from explain_cnn_ros.experiments.examples import read_examples
from explain_cnn_ros.experiments.patch_accuracy import PatchAccuracySettings
from explain_cnn_ros.experiments.patch_table import (
    ELSEWHERE,
    MIDDLE,
    UNTRAINED,
    PatchTableSettings,
    measure,
    to_markdown,
)
from explain_cnn_ros.experiments.secondary import SecondarySettings
from explain_cnn_ros.experiments.selectors import RANDOM
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

QUICK = ExplainSettings(perturbations=2, layers=(3, 5), metrics=("activation_precision", "activation_sum"), top_n=3)


def test_the_whole_table_and_again(
    thin_channels: None, quick_classifier: PersonClassifier, inria: Path, tmp_path: Path
) -> None:
    """Every row exists. A second run gives the same digits, with a cache and without one."""
    classifier = quick_classifier
    examples = read_examples(inria, 2, 1)
    settings = PatchTableSettings(QUICK, (1, 3), PatchAccuracySettings(2, 40, SecondarySettings(steps=2, batch=8)))
    steps: list[str] = []
    rows = measure(classifier, examples, settings, tmp_path / "a", lambda step, done, total: steps.append(step))
    assert [(row.name, row.top_n) for row in rows] == [
        (name, n) for name in (*QUICK.metrics, RANDOM, ELSEWHERE, MIDDLE, UNTRAINED) for n in (1, 3)
    ]
    assert set(steps) == {"explaining", "explaining with the untrained network", "secondary classifiers"}
    middle = next(row for row in rows if row.name == MIDDLE)
    assert (middle.localization.touching, middle.localization.pointing) == (1.0, 1.0)
    assert measure(classifier, examples, settings, tmp_path / "a") == rows
    assert measure(classifier, examples, settings, tmp_path / "b") == rows
    assert to_markdown(rows).count("\n") == 2 + len(rows)


def test_the_command(inria: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["patches", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 1
    assert "no INRIA person data under" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["patches", "--help"])
    assert "--preset" in capsys.readouterr().out
