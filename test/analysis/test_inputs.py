"""Inputs of an analysis: what is unusual about them is named, and one that goes away does not end the others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from bag_kit import BagKit

from explain_cnn_ros.analysis.compare import main as compare
from explain_cnn_ros.analysis.inputs import Inputs, reading, recording_of
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.recording_labels import LabelsBySource
from explain_cnn_ros.bags.sources import SourceError, open_source


def test_labels_that_cover_nothing_are_a_problem_if_none_covers_anything(studio, bag, tmp_path: Path) -> None:
    store = PartStore(tmp_path / "parts")
    nowhere, fine = Label(0, 5, True, "front_camera"), Label(0, 0.2, True)
    inputs = Inputs(studio.job(tmp_path / "out", bag, labels=(nowhere, fine)))
    assert inputs.notes == [
        "the label from 0 to 5 s covers no frame: 'front_camera' is no part of the path of any input"
    ]
    assert inputs.problems(store) == []
    inputs.close()
    inputs = Inputs(studio.job(tmp_path / "out", bag, labels=(nowhere,)))
    assert inputs.notes == []
    assert inputs.problems(store)[0].startswith("no label covers a frame: the label from 0 to 5 s")
    inputs.close()


def test_boxes_fit_one_camera_only(studio, tmp_path: Path) -> None:
    kit = BagKit()
    sent = [kit.compressed(i, topic, studio.jpeg(i)) for i in range(3) for topic in ("/left", "/right")]
    bag = kit.write(tmp_path / "bag", sent)
    box, frame = Label(0, 9, True, box=(1, 2, 3, 4)), Label(0, 9, False)
    both = ("/left", "/right")
    for topics, labels, noted in ((both, (frame, box), 1), (both[:1], (box,), 0), (both, (frame,), 0)):
        inputs = Inputs(studio.job(tmp_path / "out", bag, labels=labels, topics=topics))
        assert sum("hold for the images of all topics" in note for note in inputs.notes) == noted
        inputs.close()


def test_labels_of_an_input_that_is_away_are_not_named(studio, bag, tmp_path: Path) -> None:
    away = tmp_path / "front_camera"
    inputs = Inputs(studio.job(tmp_path / "out", bag, away, labels=(Label(0, 500, True, "front_camera"),)))
    assert list(inputs.missing) == [1]
    assert inputs.notes == []
    inputs.close()


def test_windows_of_a_stretch_of_time_are_stored_as_sparsely_as_those_of_a_recording(studio, tmp_path) -> None:
    """Twenty of the sixty frames lie in the interval, and two of them shall be decided again."""
    bag = studio.record(tmp_path / "bag", [studio.jpeg(0)] * 60)
    strides = []
    for interval in ({}, {"start": 1.0, "end": 3.0}, {"start": 5.85}):
        settings = studio.settings(silence_frames=2, **interval)
        source = open_source(bag, settings)
        strides.append(recording_of(source, settings, LabelsBySource()).stride)
        source.close()
    assert strides == [30, 10, 1]


def test_an_input_that_vanishes_is_lost_and_named(studio, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(studio.jpeg(i))
    source = open_source(folder)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="it has gone while it was read"), reading(source):
        assert all(entry.load().image is None for entry in source.entries())


def test_names_that_are_not_utf8(studio, tmp_path: Path) -> None:
    """Tables, report and manifest are written, with the other bytes as escapes."""
    folder = tmp_path / os.fsdecode(b"stra\xdfe")
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(studio.jpeg(0))
    output = tmp_path / os.fsdecode(b"out\xe9")
    outcome = studio.analyse(output, folder, explain_every=0)
    assert outcome.complete and outcome.problems == []
    assert compare([str(output), str(output), "--output", str(output / "compare.html")]) == 0
    shutil.copytree(output, tmp_path / "out")
    (row,) = studio.rows(tmp_path / "out")
    assert row["source"].endswith("/stra\\xdfe") and row["topic"] == "caf\\xe9.jpg" and row["error"] is None
    assert (tmp_path / "out" / "report.html").is_file()
    assert studio.analyse(output, folder, explain_every=0, resume=True).complete
