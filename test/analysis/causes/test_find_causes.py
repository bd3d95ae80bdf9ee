"""Causes in the results of an analysis."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from explain_cnn_ros.analysis.causes import causes as module
from explain_cnn_ros.analysis.causes.cli import main
from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.manifest import MANIFEST
from explain_cnn_ros.analysis.pages import page_data
from explain_cnn_ros.analysis.recording_labels import LabelsBySource
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
    analyzer = Analyzer(studio.classifier, studio.job(Path("x"), bag, **SETTINGS).settings, LabelsBySource(LABELS))
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


class TestNames:
    """The command that lists causes and names them."""

    @pytest.fixture
    def output(self, analysed: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(analysed, tmp_path / "copy"))

    def test_they_are_listed(self, output: Path, capsys) -> None:
        causes = causes_in(output)["causes"]
        before = {path.name: path.read_bytes() for path in output.glob("*.*")}
        assert main([str(output)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(causes)
        sizes = [len(cause["windows"]) for cause in causes]
        assert sizes == sorted(sizes, reverse=True)
        assert lines[0].startswith(f"group 1: {sizes[0]} ")
        assert {path.name: path.read_bytes() for path in output.glob("*.*")} == before

    def test_a_name_is_in_manifest_and_report(self, output: Path, capsys) -> None:
        name = 'lamp posts </script> = "tall"'
        assert main([str(output), "--name", f"1={name}"]) == 0
        assert capsys.readouterr().out.startswith(f"group 1, {name}: ")
        assert causes_in(output)["causes"][0]["name"] == name
        page = (output / "report.html").read_text()
        data = page_data(page)
        assert data["manifest"]["causes"] == causes_in(output)
        # Nothing else has changed, and taking the name away restores the page.
        assert page.count("</script>") == (output / "report.html").read_text().count("</script>") == 3
        assert main([str(output), "--name", "1="]) == 0
        assert causes_in(output)["causes"][0]["name"] == ""

    def test_without_a_name_the_report_is_the_same(self, analysed: Path, output: Path) -> None:
        assert main([str(output), "--name", "1=x"]) == main([str(output), "--name", "1="]) == 0
        assert (output / "report.html").read_bytes() == (analysed / "report.html").read_bytes()

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("lamp posts", "it must be NUMBER=NAME"),
            ("x=lamp posts", "it must be NUMBER=NAME"),
            ("0=lamp posts", "there are causes 1 to"),
            ("99=lamp posts", "there are causes 1 to"),
        ],
    )
    def test_names_that_do_not_fit(self, output: Path, capsys, name: str, reason: str) -> None:
        before = (output / MANIFEST).read_bytes()
        assert main([str(output), "--name", "1=fine", "--name", name]) == 1
        assert reason in capsys.readouterr().err
        assert (output / MANIFEST).read_bytes() == before

    def test_no_analysis_and_no_causes(self, undisturbed: Path, tmp_path: Path, capsys) -> None:
        assert main([str(tmp_path)]) == 1
        assert "no analysis there: give the --output of `analyze`" in capsys.readouterr().err
        assert main([str(undisturbed)]) == 1
        assert "no decision is known to be wrong: analyse the recording with --labels" in capsys.readouterr().err

    def test_damaged_causes(self, output: Path, capsys) -> None:
        manifest = json.loads((output / MANIFEST).read_text())
        manifest["causes"] = {"causes": [{"kind": 3}]}
        (output / MANIFEST).write_text(json.dumps(manifest))
        assert main([str(output)]) == 1
        assert "has causes of another form" in capsys.readouterr().err


def test_the_report_has_typical_windows(studio, analysed: Path) -> None:
    """The pictures are the windows that were decided."""
    found, data = causes_in(analysed)["causes"], page_data((analysed / "report.html").read_text())
    assert data["manifest"]["causes"]["causes"] == found
    assert [len(windows) for windows in data["cause_windows"]] == [min(8, len(cause["windows"])) for cause in found]
    for cause, windows in zip(found, data["cause_windows"], strict=True):
        for key, shown in zip(cause["windows"], windows, strict=False):
            assert (shown["source"], shown["frame"]) == (key["source"], key["frame"])
            png = base64.b64decode(shown["image"].removeprefix("data:image/png;base64,"))
            window = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            frame = cv2.imdecode(np.frombuffer(studio.jpeg(key["frame"]), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            np.testing.assert_array_equal(window, studio.classifier.resize(np.ascontiguousarray(frame)))
