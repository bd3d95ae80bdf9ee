"""Whole analyses, and their results."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from bag_kit import BagKit
from networks_kit import small_classifier, small_network
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin

from explain_cnn_ros.analysis import engine
from explain_cnn_ros.analysis import run as run_module
from explain_cnn_ros.analysis.cli import job_of, main, parser
from explain_cnn_ros.analysis.engine import Analyzer, Recording
from explain_cnn_ros.analysis.job import ProgressReporter
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.pages import page_data
from explain_cnn_ros.analysis.provenance import fingerprint
from explain_cnn_ros.analysis.recording_labels import RecordingLabels
from explain_cnn_ros.analysis.region_labels import LabelledRegions
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.analysis.tables import COLUMNS, description
from explain_cnn_ros.bags.frame_source import Frame
from explain_cnn_ros.bags.image_messages import to_rgb
from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS, OPPOSING, PAPER_METRICS, SUPPORTING, metric_names
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS
from explain_cnn_ros.model.windows import crop
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decider
from explain_cnn_ros.scan.scanning import ScanSettings

pytestmark = pytest.mark.timeout(600)


def test_tables_say_what_the_classifier_and_the_explainer_say(studio, bag, undisturbed) -> None:
    classifier = studio.classifier
    explainer = Explainer(classifier, studio.QUICK)
    rows = studio.rows(undisturbed)
    assert [row["frame"] for row in rows] == list(range(18))
    assert [row["trigger"] for row in rows if row["frame"] % 4 == 0] == ["periodic"] * 5
    neurons, patches = (studio.table(undisturbed, name).to_pylist() for name in ("neurons", "patches"))
    for row, message in zip(rows, BagReader(bag).messages(), strict=True):
        assert (row["log_time"], row["stamp"]) == (message.stamp, message.stamp - 1000)
        assert (row["source"], row["topic"], row["frame_id"]) == (str(bag), "/camera/image/compressed", "camera")
        if row["frame"] == 5:
            assert "truncated" in row["error"]
            assert row["probability"] is row["person"] is row["trigger"] is row["width"] is None
            continue
        image = np.ascontiguousarray(cv2.imdecode(np.frombuffer(studio.jpeg(row["frame"]), np.uint8), 1)[..., ::-1])
        p = float(classifier.probability(classifier.resize(image)[None])[0])
        assert row["probability"] == pytest.approx(p, rel=1e-3, abs=1e-6)
        assert row["person"] == (p >= classifier.threshold)
        assert row["doubtful"] == (max(p, 1 - p) < 0.75)
        if row["trigger"] is None:
            continue
        explanation = explainer.explain(image)
        mine = [n for n in neurons if n["frame"] == row["frame"]]
        assert [(n["metric"], n["layer"], n["rank"], n["channel"]) for n in mine] == [
            (r.metric, r.layer, i, n.channel) for r in explanation.rankings for i, n in enumerate(r.neurons, 1)
        ]
        np.testing.assert_allclose(
            [n["score"] for n in mine], [n.score for r in explanation.rankings for n in r.neurons], rtol=1e-4
        )
        boxes = {
            (r.metric, n.layer, n.channel): dataclasses.astuple(n.patch)
            for r in explanation.rankings
            for n in r.neurons
            if n.patch is not None
        }
        found = {
            (p["metric"], p["layer"], p["channel"]): (p["x"], p["y"], p["width"], p["height"])
            for p in patches
            if p["frame"] == row["frame"]
        }
        assert found == boxes


def test_columns_are_described(studio, undisturbed) -> None:
    for name, columns in COLUMNS.items():
        schema = studio.table(undisturbed, name).schema
        assert schema.names == list(columns)
        assert all(schema.field(c).metadata[b"description"].decode() == description(name, c) for c in columns)


def test_the_other_results(studio, undisturbed) -> None:
    manifest = json.loads((undisturbed / "analysis.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["summary"]["frames"] == 18
    assert manifest["summary"]["errors"] == 1
    assert any("1 frame could not be analysed" in problem for problem in manifest["problems"])
    assert manifest["model"] == studio.classifier.model_hash
    (fingerprint,) = manifest["fingerprints"].values()
    assert len(fingerprint["sha256"]) == 64
    assert (undisturbed / "report.html").stat().st_size > 10_000
    assert not (undisturbed / "parts").exists()
    assert not list(undisturbed.glob("*.partial"))


def test_parts_do_not_depend_on_each_other(studio, bag, undisturbed, tmp_path) -> None:
    """Parts of 64 frames give the same rows, except for the rounding of larger batches."""
    outcome = studio.analyse(tmp_path / "large", bag)
    assert outcome.complete
    for name in ("neurons", "patches"):
        assert studio.table(tmp_path / "large", name).equals(studio.table(undisturbed, name))
    large, small = (studio.table(folder, "frames").to_pydict() for folder in (tmp_path / "large", undisturbed))
    for column in COLUMNS["frames"]:
        if column == "probability":
            both = [np.array(rows[column], float) for rows in (large, small)]
            np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-7)
        else:
            assert large[column] == small[column]


def test_labels_make_an_error_analysis(studio, bag, tmp_path) -> None:
    labels = [Label(0, 0.35, True), Label(0.35, 1.0, False)]
    outcome = studio.analyse(tmp_path / "out", bag, labels=labels, explain_every=0, confidence_threshold=0.0)
    rows = studio.rows(tmp_path / "out")
    assert [row["label"] for row in rows] == [True] * 4 + [False] * 6 + [None] * 8
    for row in rows:
        if row["label"] is None or row["person"] is None:
            assert row["wrong"] is None
        else:
            assert row["wrong"] == (row["person"] != row["label"])
        assert (row["trigger"] == "wrong") == bool(row["wrong"])
    assert outcome.summary["labelled"] == 9, "the broken frame has no decision"
    assert outcome.summary["wrong"] == sum(bool(row["wrong"]) for row in rows) > 0


@pytest.mark.parametrize(
    ("label", "settings", "covers"),
    [
        (Label(0, 0.35, True), {"start": 1.0}, False),
        (Label(0, 0.35, True), {"end": 0.2}, True),
        (Label(0, 0.35, False, box=(1, 2, 3, 4)), {"start": 1.0}, True),  # Perhaps: no decision may lie in the box.
        (Label(0, 0.35, True, box=(40, 20, 30, 60)), {"start": 1.0}, False),
        (Label(500, 600, True), {"end": 0.2}, True),  # This has its own sentence.
    ],
)
def test_labels_of_frames_that_are_not_analysed(studio, bag, tmp_path, label, settings, covers) -> None:
    outcome = studio.analyse(tmp_path / "out", bag, labels=[label], explain_every=0, **settings)
    said = "no label covers a frame that was analysed: compare the times of the labels with --start and --end"
    assert (said in outcome.problems) == (not covers)


def test_the_report_counts_times_as_labels_do(studio, tmp_path) -> None:
    """Times count from the first message of the recording, even if the first image that is analysed comes later."""
    kit = BagKit()
    images = [kit.compressed(i, "/camera/compressed", studio.jpeg(0)) for i in range(60, 80)]
    recorded = kit.write(tmp_path / "bag", [kit.string(0), *images])
    outcome = studio.analyse(tmp_path / "out", recorded, explain_every=5, start=7.0)
    assert outcome.complete
    data = page_data((tmp_path / "out" / "report.html").read_text())
    (curve,) = data["curves"]
    assert curve["band"][0][0] == pytest.approx(7.0)
    assert data["shown"][0]["seconds"] == pytest.approx(7.0)
    first = studio.rows(tmp_path / "out")[0]
    assert (first["log_time"] - data["manifest"]["starts"][str(recorded)]) / 1e9 == pytest.approx(7.0)


def test_labels_of_a_recording_are_not_those_of_another(studio, tmp_path) -> None:
    """The path of run10 contains that of run1, and times from the start of a recording fit both."""
    folders = [tmp_path / name for name in ("run1", "run10")]
    for folder in folders:
        folder.mkdir()
        for i in range(2):
            (folder / f"{i}.jpg").write_bytes(studio.jpeg(i))
    labels = [Label(0, 0.05, True, str(folders[0])), Label(0.05, 0.15, False, "run")]
    assert studio.analyse(tmp_path / "out", *folders, labels=labels, explain_every=0, explain_wrong=False).complete
    assert [row["label"] for row in studio.rows(tmp_path / "out")] == [True, False, None, False]


def test_missed_persons_that_cannot_be_judged_cost_one_row(studio, monkeypatch) -> None:
    """An error about one frame must not end a long analysis."""
    real = Decider.judge
    calls: list[int] = []

    def judge(self: Decider, image: Any, regions: Any) -> Any:
        calls.append(len(regions))
        if len(calls) == 1:
            raise RuntimeError("CUDA out of memory")
        return real(self, image, regions)

    monkeypatch.setattr(Decider, "judge", judge)
    missed = LabelledRegions(True, (None,), ((20.0, 20.0, 30.0, 60.0),))
    monkeypatch.setattr(engine, "label_regions", lambda *_: missed)
    frames = [Frame(i, i, i, "/camera", "", studio.picture(i)) for i in range(2)]
    analyzer = Analyzer(studio.classifier, studio.settings(explain_every=0, explain_wrong=False))
    part = analyzer.analyze(Recording("walk", RecordingLabels([], 0)), frames)
    assert calls == [1, 1]
    errors = part["frames"]["error"].to_pylist()
    assert errors == ["its missed persons cannot be judged: RuntimeError: CUDA out of memory", None]
    found = [(row["frame"], row["missed"]) for row in part["regions"].to_pylist()]
    assert found == [(0, False), (1, False), (1, True)]


def test_missed_persons_whose_boxes_do_not_fit_are_named(studio, monkeypatch) -> None:
    missed = LabelledRegions(True, (None,), ((20.0, 20.0, 30.0, 60.0), (5000.0, 20.0, 30.0, 60.0)))
    monkeypatch.setattr(engine, "label_regions", lambda *_: missed)
    analyzer = Analyzer(studio.classifier, studio.settings(explain_every=0, explain_wrong=False))
    frame = Frame(0, 0, 0, "/camera", "", studio.picture(0))
    part = analyzer.analyze(Recording("walk", RecordingLabels([], 0)), [frame])
    assert part["frames"]["error"].to_pylist()[0].startswith("1 of its 2 missed persons cannot be judged: ")
    assert [row["missed"] for row in part["regions"].to_pylist()] == [False, True]


def test_frames_at_given_times_and_all_of_them(studio, bag, tmp_path) -> None:
    studio.analyse(tmp_path / "at", bag, explain_every=0, confidence_threshold=0.0, explain_at=(1.21, 0.3, 99.0))
    rows = studio.rows(tmp_path / "at")
    assert {row["frame"]: row["trigger"] for row in rows if row["trigger"]} == {3: "chosen", 13: "chosen"}
    studio.analyse(tmp_path / "all", bag, explain_every=0, confidence_threshold=0.0, explain_all=True)
    rows = studio.rows(tmp_path / "all")
    assert [row["trigger"] for row in rows] == [None if row["frame"] == 5 else "chosen" for row in rows]


def test_scanning_gives_the_scans_regions(studio, tmp_path) -> None:
    bag = studio.record(tmp_path / "bag", [np.ascontiguousarray(studio.street[150:390, 150:470])])
    scan = ScanSettings(person_height_min=80, person_height_max=100)
    studio.analyse(tmp_path / "out", bag, weights=DEFAULT_WEIGHTS, regions="scan", scan=scan, explain_every=0)
    (row,) = studio.rows(tmp_path / "out")
    best = PersonClassifier.load(DEFAULT_WEIGHTS, "cpu").scan(studio.street[150:390, 150:470].copy(), scan)[0]
    assert (row["region_x"], row["region_y"], row["region_width"], row["region_height"]) == dataclasses.astuple(best)[
        :4
    ]


@pytest.mark.parametrize("allowed", [True, False], ids=["no proposer", "proposer switched off"])
def test_a_search_that_is_not_possible_is_refused_at_the_start(allowed: bool) -> None:
    """A network of torchvision cannot judge all windows of a frame. Without a proposer, it cannot search."""
    network = small_classifier(small_network("residual", torch.float32))
    network.proposer = None if allowed else PersonClassifier.load(DEFAULT_WEIGHTS, "cpu").proposer
    settings = AnalysisSettings(scan=ScanSettings(proposer=allowed), explain=ExplainSettings.preset("live"))
    with pytest.raises(ValueError, match="resnet18 cannot judge all windows of a frame"):
        Analyzer(network, settings)


def test_regions_are_labelled_by_boxes(studio, tmp_path) -> None:
    """One person is labelled, another one is labelled as none, and a third box is where nobody can be found."""
    picture, scan = studio.street, ScanSettings(person_height_min=80)
    found = PersonClassifier.load(DEFAULT_WEIGHTS, "cpu").scan(picture, scan)
    assert len(found) >= 2
    bag = studio.record(tmp_path / "bag", [picture, picture], delay=1_000_000_000)
    corner = (512.0, 410.0, 40.0, 96.0)
    labels = [
        Label(0, 0.1, False),
        Label(0, 0.1, True, box=found[0].person_box),
        Label(0, 0.1, True, box=corner),
        Label(0.1, 9, False, box=found[0].person_box),
    ]
    settings = {"weights": DEFAULT_WEIGHTS, "regions": "scan", "scan": scan, "explain_every": 0}
    outcome = studio.analyse(tmp_path / "out", bag, labels=labels, explain_wrong=False, **settings)
    assert outcome.complete
    frames, regions = studio.rows(tmp_path / "out"), studio.rows(tmp_path / "out", "regions")
    assert [row["label"] for row in frames] == [True, False]
    first, second = ([row for row in regions if row["frame"] == frame] for frame in (0, 1))
    assert [row["region"] for row in first] == list(range(len(found) + 1))
    assert [row["label"] for row in first] == [True, *[False] * (len(found) - 1), True]
    assert [row["wrong"] for row in first] == [False, *[True] * (len(found) - 1), True]
    assert [row["missed"] for row in first] == [False] * len(found) + [True]
    missed = first[-1]
    assert not missed["person"]
    assert missed["probability"] < 0.5
    # The person takes three quarters of the window's height.
    assert (missed["height"], missed["width"]) == (128, 64)
    assert missed["x"] + missed["width"] / 2 == corner[0] + corner[2] / 2
    assert [row["label"] for row in second] == [False, *[None] * (len(found) - 1)]
    assert outcome.summary["wrong"] == 1
    assert outcome.summary["labelled_regions"] == len(found) + 2
    assert outcome.summary["wrong_regions"] == len(found) + 1


def test_the_default_finds_the_people_of_the_sample(studio, tmp_path) -> None:
    """The command without options searches the frames; --regions whole takes each for a window."""
    assert AnalysisSettings().regions == "scan"
    assert job_of(parser().parse_args(["bag", "--output", "out"])).settings.regions == "scan"
    bag = studio.record(tmp_path / "bag", [np.ascontiguousarray(studio.street[150:390, 150:470])])
    flags = (str(bag), "--weights", str(DEFAULT_WEIGHTS), "--device", "cpu", "--explain-every", "0")
    flags += ("--confidence-threshold", "0")
    assert main([*flags, "--output", str(tmp_path / "scan")]) == 0
    assert main([*flags, "--output", str(tmp_path / "whole"), "--regions", "whole"]) == 0
    (found,), (whole,) = studio.rows(tmp_path / "scan"), studio.rows(tmp_path / "whole")
    assert found["person"]
    assert found["region_width"] < 320
    assert not whole["person"]
    assert (whole["region_width"], whole["region_height"]) == (320, 240)


def test_a_folder_of_windows(studio, tmp_path) -> None:
    """Images that are windows are decided as they are, or searched: both find the person."""
    best = PersonClassifier.load(DEFAULT_WEIGHTS, "cpu").scan(studio.street)[0]
    person = crop(studio.street, best.x, best.y, best.width, best.height, (64, 128))
    background = np.ascontiguousarray(studio.street[400:528, 500:564])
    (tmp_path / "windows").mkdir()
    for name, window in (("a", person), ("b", background)):
        cv2.imwrite(str(tmp_path / f"windows/{name}.png"), window[..., ::-1])
    for regions in ("whole", "scan"):
        output = tmp_path / regions
        settings = {"weights": DEFAULT_WEIGHTS, "regions": regions, "explain_every": 1, "confidence_threshold": 0.0}
        assert studio.analyse(output, tmp_path / "windows", **settings).complete
        rows = studio.rows(output)
        assert [row["person"] for row in rows] == [True, False]
        assert [row["trigger"] for row in rows] == ["periodic", "periodic"]
        assert rows[0]["probability"] > 0.99
        assert (rows[0]["region_width"], rows[0]["region_height"]) == pytest.approx((64, 128), abs=6)


def test_an_explanation_that_fails_costs_one_row(studio, bag, tmp_path, monkeypatch) -> None:
    real = Explainer.explain

    def explain(self: Explainer, image: Any, region: Any = None, **more: Any) -> Any:
        if np.array_equal(image[:20], reference[:20]):
            raise RuntimeError("no memory left")
        return real(self, image, region, **more)

    reference = np.ascontiguousarray(cv2.imdecode(np.frombuffer(studio.jpeg(8), np.uint8), 1)[..., ::-1])
    monkeypatch.setattr(Explainer, "explain", explain)
    outcome = studio.analyse(tmp_path / "out", bag)
    rows = studio.rows(tmp_path / "out")
    assert rows[8]["error"] == "explanation failed: RuntimeError: no memory left"
    assert rows[8]["probability"] is not None
    assert [r["frame"] for r in rows if r["trigger"] == "periodic"] == [0, 4, 12, 16]
    assert any("2 frames could not be analysed" in problem for problem in outcome.problems)


def test_a_decision_that_fails_costs_one_row(studio, bag, tmp_path, monkeypatch) -> None:
    reference = np.ascontiguousarray(cv2.imdecode(np.frombuffer(studio.jpeg(8), np.uint8), 1)[..., ::-1])
    real = Decider.decide_all

    def decide_all(self: Decider, frames: Any) -> Any:
        if any(np.array_equal(frame[:20], reference[:20]) for frame in frames):
            raise RuntimeError("no memory left")
        return real(self, frames)

    monkeypatch.setattr(Decider, "decide_all", decide_all)
    outcome = studio.analyse(tmp_path / "out", bag)
    rows = studio.rows(tmp_path / "out")
    assert outcome.complete
    assert rows[8]["error"] == "the decision failed: RuntimeError: no memory left"
    assert [row["frame"] for row in rows if row["probability"] is None] == [5, 8]


class StandIn:
    """Encodes every frame but one as a message."""

    def __init__(self, fails: int = -1) -> None:
        self._fails = fails

    def __call__(self, classifier: PersonClassifier) -> StandIn:
        return self

    def encode(self, frame: Any, *_: Any) -> list[tuple[str, str, bytes]]:
        if frame.index == self._fails:
            raise OverflowError("sec is out of range")
        return [("/text", "std_msgs/msg/String", b"\0\1\0\0\2\0\0\0a\0")]


class Said(ProgressReporter):
    def __init__(self, interrupted: bool = False) -> None:
        self.texts: list[str] = []
        self._interrupted = interrupted

    def begin(self, total: int, done: int) -> None:
        if self._interrupted:
            raise KeyboardInterrupt

    def say(self, text: str) -> None:
        self.texts.append(text)


def test_messages_that_cannot_be_encoded_cost_one_row(studio, bag, tmp_path) -> None:
    outcome = studio.analyse(tmp_path / "out", bag, make_encoder=StandIn(fails=8))
    assert outcome.complete
    rows = studio.rows(tmp_path / "out")
    assert rows[8]["error"] == "its messages cannot be encoded: OverflowError: sec is out of range"
    assert rows[8]["probability"] is not None
    with BagReader(tmp_path / "out/explanations") as recording:
        assert sum(topic.count for topic in recording.topics) == 16


def test_why_there_is_no_recording(studio, bag, tmp_path) -> None:
    """ROS is not blamed if there was nothing to write."""
    for name, arguments, reason in (
        ("interrupted", {"make_encoder": StandIn(), "progress": Said(interrupted=True)}, "no frame was decided"),
        ("nothing", {"make_encoder": StandIn(), "progress": Said(), "start": 1e6, "end": 0.0}, "no frame was decided"),
        (
            "without",
            {"make_encoder": lambda _: None, "progress": Said()},
            "it needs ROS and the messages of this package",
        ),
        ("written", {"make_encoder": StandIn(), "progress": Said()}, ""),
    ):
        studio.analyse(tmp_path / name, bag, **({"end": 0.3} | arguments))
        said = [text for text in arguments["progress"].texts if "no recording" in text]
        assert said == [] if not reason else reason in said[0], name
        assert (tmp_path / name / "explanations").exists() == (not reason)
    silent = Said()
    studio.analyse(tmp_path / "python", bag, end=0.3, progress=silent)
    assert silent.texts == ["writing tables, recording and report"]


def test_an_input_that_is_given_twice_is_analysed_once(bag, studio, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(bag.parent)
    (tmp_path / "latest").symlink_to(bag)
    inputs = (bag.name, f"./{bag.name}", str(bag), str(tmp_path / "latest"), f"../{bag.parent.name}/{bag.name}")
    assert main([*inputs, "--output", str(tmp_path / "out"), *map(str, studio.flags)]) == 3
    assert f"{bag.name} is given 5 times: it is analysed once" in capsys.readouterr().err
    assert [(row["source"], row["frame"]) for row in studio.rows(tmp_path / "out")] == [
        (bag.name, i) for i in range(18)
    ]


def test_a_recording_that_cannot_be_written_costs_only_itself(studio, bag, tmp_path, monkeypatch) -> None:
    def write_recording(*_: Any) -> int:
        raise struct.error("argument out of range")

    monkeypatch.setattr(run_module, "write_recording", write_recording)
    outcome = studio.analyse(tmp_path / "out", bag, make_encoder=StandIn())
    assert outcome.complete and outcome.reported
    assert "no recording is written: error: argument out of range" in outcome.problems


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("file", "file is a file: give a folder"),
        ("file/sub", "file is a file: give a folder"),
        ("dangling", "dangling is a link to a place that does not exist"),
        ("dangling/sub", "dangling is a link to a place that does not exist"),
        ("x" * 300, "File name too long"),
        ("full", "is not empty, and holds no analysis"),
    ],
)
def test_outputs_that_cannot_be(studio, bag, tmp_path, capsys, output, text) -> None:
    """They are refused with one line, and nothing is changed."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    assert main([str(bag), "--output", str(tmp_path / output), *map(str, studio.flags)]) == 1
    printed = capsys.readouterr()
    assert text in printed.err and printed.err.startswith("analyze: ") and printed.err.count("\n") == 1
    assert printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_within_the_input_does_not_change_its_fingerprint(studio, tmp_path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(3):
        (tmp_path / f"photos/{i}.jpg").write_bytes(studio.jpeg(i))
    before = fingerprint(tmp_path / "photos")
    for output in (tmp_path / "photos/out", tmp_path / "photos/deep/out"):
        assert studio.analyse(output, tmp_path / "photos", explain_every=0).complete
        (found,) = json.loads((output / "analysis.json").read_text())["fingerprints"].values()
        assert found == before
        shutil.rmtree(output)


def test_labels_with_open_ends(studio, bag, tmp_path, capsys) -> None:
    """Manifest and report are JSON, and the analysis is resumed with the same labels."""
    (tmp_path / "open.csv").write_text("start,end,person,source\n0,,person\n,0.5,background\n,,person,other\n")
    arguments = [str(bag), "--output", str(tmp_path / "out"), "--labels", str(tmp_path / "open.csv")]
    for resume in ([], ["--resume"]):
        assert main([*arguments, *map(str, studio.flags), *resume]) == 3
        assert "Traceback" not in capsys.readouterr().err
    assert [row["label"] for row in studio.rows(tmp_path / "out")] == [False] * 5 + [True] * 13
    page = (tmp_path / "out/report.html").read_text()
    for content in (
        (tmp_path / "out/analysis.json").read_text(),
        page.partition('id="data">')[2].partition("</script>")[0],
    ):
        json.loads(content, parse_constant=pytest.fail)


def test_weights_that_are_none(bag, tmp_path, capsys) -> None:
    (tmp_path / "w.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    flags = ["--output", str(tmp_path / "out"), "--weights", str(tmp_path / "w.safetensors")]
    assert main([str(bag), *flags]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("analyze: ") and "it is a pointer of Git LFS" in printed and printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_damage_is_named_and_the_rest_analysed(studio, bag, tmp_path, capsys) -> None:
    """A truncated MCAP, sqlite3 without metadata, a recording without images, and a path that does not exist."""
    truncated = tmp_path / "truncated"
    shutil.copytree(bag, truncated)
    (file,) = truncated.glob("*.mcap")
    os.truncate(file, file.stat().st_size * 2 // 3)
    sqlite = studio.record(tmp_path / "sqlite", [studio.jpeg(i) for i in range(3)], storage=StoragePlugin.SQLITE3)
    (sqlite / "metadata.yaml").unlink()
    texts = studio.record_texts(tmp_path / "texts")
    output = tmp_path / "out"
    flags = (*studio.flags, "--explain-every", 0, "--confidence-threshold", 0)
    arguments = (truncated, sqlite, texts, tmp_path / "none", "--output", output, *flags)
    status, problems = main([*map(str, arguments)]), capsys.readouterr().err
    assert status == 3, problems
    rows = studio.rows(output)
    by_source = {name: sum(r["source"] == str(name) for r in rows) for name in (truncated, sqlite)}
    assert 3 <= by_source[truncated] < 18
    assert by_source[sqlite] == 3
    for text in (
        "truncated",
        "no metadata.yaml",
        "no image topic",
        "no such file or directory",
    ):
        assert text in problems
    report = (output / "report.html").read_text()
    assert "no metadata.yaml" in report
    assert "no such file or directory" in report


def test_nothing_at_all(tmp_path, capsys) -> None:
    assert main([str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 1
    assert "no such file or directory" in capsys.readouterr().err


def test_wrong_arguments_name_the_cure(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bag", "--output", str(tmp_path / "out"), "--start", "5", "--end", "3"])
    assert ended.value.code == 2
    assert "end is 3.0: it must be 0, or above start (5.0)" in capsys.readouterr().err


@pytest.mark.parametrize("time", ["inf", "nan", "-1"])
def test_times_are_finite(tmp_path, capsys, time) -> None:
    with pytest.raises(SystemExit):
        main(["bag", "--output", str(tmp_path / "out"), f"--explain-at={time}"])
    assert "finite times of at least 0, in seconds" in capsys.readouterr().err


def test_the_recording_holds_what_the_node_would_have_published(studio, bag, tmp_path) -> None:
    """At the original times, with types that ROS reads, and the images' own stamps."""
    pytest.importorskip("rclpy")
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import CompressedImage
    from visualization_msgs.msg import ImageMarker

    from explain_cnn_ros.cli import make_encoder
    from explain_cnn_ros.msg import Classification, Explanation
    from explain_cnn_ros.ros.messages import explanation_from

    output = tmp_path / "out"
    studio.analyse(output, bag, make_encoder=make_encoder)
    kinds = {
        "classification": Classification,
        "explanation": Explanation,
        "overlay/compressed": CompressedImage,
        "annotations": ImageMarker,
    }
    rows = [row for row in studio.rows(output) if row["probability"] is not None]
    explained = [row for row in rows if row["trigger"]]
    # A reader that knows nothing of this package's types learns them from the file.
    with AnyReader([output / "explanations"]) as stranger:
        read = [stranger.deserialize(data, c.msgtype) for c, _, data in stranger.messages()]
    assert len(read) == 2 * len(rows) + 2 * len(explained)
    with BagReader(output / "explanations") as recording:
        assert recording.problems == []
        for name, kind in kinds.items():
            messages = list(recording.messages([f"/explain_node/{name}"]))
            expected = rows if name in ("classification", "annotations") else explained
            assert [m.stamp for m in messages] == [row["log_time"] for row in expected]
            for message, row in zip(messages, expected, strict=True):
                read = deserialize_message(message.data, kind)
                assert read.header.frame_id == "camera"
                assert read.header.stamp.sec * 10**9 + read.header.stamp.nanosec == row["stamp"]
                if name == "classification":
                    assert (read.probability, read.person) == (row["probability"], row["person"])
                elif name == "explanation":
                    assert read.trigger == row["trigger"]
                    mine = explanation_from(read)
                    neurons = [n for n in studio.table(output, "neurons").to_pylist() if n["frame"] == row["frame"]]
                    assert [n.channel for r in mine.rankings for n in r.neurons] == [n["channel"] for n in neurons]
                elif name == "overlay/compressed":
                    assert to_rgb(read).shape == (120, 160, 3)
                elif row["trigger"]:
                    assert len(read.points) == 2 * len(read.outline_colors) > 8
                else:
                    # Viewers remove older boxes from this frame.
                    assert len(read.points) == len(read.outline_colors) == 0


def test_metrics_of_the_command_are_those_of_the_registry() -> None:
    arguments = parser().parse_args(["bag", "--output", "out"])
    assert job_of(arguments).settings.explain.metrics == DEFAULT_METRICS
    for preset, metrics in (("paper", PAPER_METRICS), ("live", (SUPPORTING, OPPOSING)), ("stable", DEFAULT_METRICS)):
        arguments = parser().parse_args(["bag", "--output", "out", "--preset", preset])
        assert job_of(arguments).settings.explain == ExplainSettings.preset(preset)
        assert job_of(arguments).settings.explain.metrics == metrics
    every = parser().parse_args(["bag", "--output", "out", "--metrics", *metric_names()])
    assert job_of(every).settings.explain.metrics == metric_names()
