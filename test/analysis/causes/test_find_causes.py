"""Causes in the results of an analysis."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from explain_cnn_ros.analysis.causes import causes as module
from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.manifest import MANIFEST
from explain_cnn_ros.explain.settings import ExplainSettings

INFLUENCE = ExplainSettings.preset("live", layers=(3, 5), top_n=3, proof="none")
LABELS = (Label(0, 0.9, True), Label(0.9, 9, False))
SETTINGS = {"labels": LABELS, "explain": INFLUENCE, "explain_every": 0, "explain_wrong": False, "silence_frames": 1000}


@pytest.fixture(scope="module")
def analysed(studio, bag, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("causes") / "out"
    assert studio.analyse(output, bag, **SETTINGS).complete
    return output


def causes_in(output: Path) -> dict:
    return json.loads((output / MANIFEST).read_text())["causes"]


def test_each_wrong_window_belongs_to_one_cause_or_to_none(studio, analysed: Path) -> None:
    found = causes_in(analysed)
    wrong = {"missed": set(), "false_alarm": set()}
    for row in studio.rows(analysed, "regions"):
        if row["wrong"]:
            wrong["missed" if row["label"] else "false_alarm"].add((row["source"], row["frame"], row["region"]))
    assert wrong["missed"]
    assert wrong["false_alarm"]
    for kind, windows in wrong.items():
        grouped = [tuple(w.values()) for c in found["causes"] if c["kind"] == kind for w in c["windows"]]
        assert len(grouped) == len(set(grouped))
        assert set(grouped) <= windows
        assert len(grouped) + found["alone"][kind] == len(windows)
    assert found["skipped"] == {"missed": 0, "false_alarm": 0}
    assert found["search"] == 0


def test_silencing_is_measured(studio, bag, analysed: Path) -> None:
    """The oracle decides each window of the recording again, with the neurons of the cause silenced."""
    (cause, *_) = causes_in(analysed)["causes"]
    analyzer = Analyzer(studio.classifier, studio.job(Path("x"), bag, **SETTINGS).settings, LABELS)
    channels = {layer: [n["channel"] for n in cause["neurons"] if n["layer"] == layer] for layer in (3, 5)}
    members = {window["frame"] for window in cause["windows"]}
    counts = {"turned_right": 0, "right": 0, "turned_wrong": 0}
    for row in studio.rows(analysed):
        if row["label"] is None or row["probability"] is None:
            continue
        # The frames are JPEG files: the decoder is the same as that of the analysis.
        frame = cv2.imdecode(np.frombuffer(studio.jpeg(row["frame"]), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        window = studio.classifier.resize(np.ascontiguousarray(frame))
        (silenced,) = analyzer.silence(window, [channels])
        right = (silenced >= analyzer.threshold) == row["label"]
        if row["wrong"]:
            counts["turned_right"] += row["frame"] in members and right
        else:
            counts["right"] += 1
            counts["turned_wrong"] += not right
    assert cause["silenced"]["wrong"] == len(cause["windows"])
    assert {name: cause["silenced"][name] for name in counts} == counts


def test_a_complete_analysis_returns_its_causes(studio, bag, analysed: Path) -> None:
    assert studio.analyse(analysed, bag, resume=True, **SETTINGS).causes == causes_in(analysed)


@pytest.mark.parametrize("changes", [{"causes_windows": 0}, {"labels": ()}, {"silence_neurons": 0}])
def test_nothing_to_group(studio, bag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict) -> None:
    monkeypatch.setattr(module, "PushMeter", None)
    outcome = studio.analyse(tmp_path / "out", bag, **(SETTINGS | changes))
    assert outcome.complete
    assert outcome.causes["causes"] == ()
    assert causes_in(tmp_path / "out")["causes"] == []


def test_at_most_some_windows_are_grouped(studio, bag, tmp_path: Path) -> None:
    outcome = studio.analyse(tmp_path / "out", bag, **SETTINGS, causes_windows=2)
    rows = studio.rows(tmp_path / "out", "regions")
    for kind, label in (("missed", True), ("false_alarm", False)):
        wrong = sum(row["wrong"] is True and row["label"] is label for row in rows)
        assert wrong > 2
        assert outcome.causes["skipped"][kind] == wrong - 2
        grouped = sum(len(cause["windows"]) for cause in outcome.causes["causes"] if cause["kind"] == kind)
        assert grouped + outcome.causes["alone"][kind] == 2
