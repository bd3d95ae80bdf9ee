"""The labels file: readable by the analysis, complete whatever happens, and continued, never overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explain_cnn_ros.analysis.label_file import read_labels
from explain_cnn_ros.analysis.recording_labels import LabelsBySource, RecordingLabels
from explain_cnn_ros.analysis.region_labels import label_regions
from explain_cnn_ros.analysis.review import labels_writer
from explain_cnn_ros.analysis.review.label_times import frame_interval
from explain_cnn_ros.analysis.review.labels_writer import Answer, LabelsWriter, window_key
from explain_cnn_ros.analysis.review.windows import ReviewError
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.decider import Decision

SECOND = 10**9
START = 1_700_000_000 * SECOND
HEADER = "start,end,person,source,x,y,width,height\n"
BOX = Region(10, 20, 64, 128, 0.9)


def key(i: int, source: str = "/data/walk"):
    return window_key(frame_interval(START + i * SECOND, START), source, BOX)


def labels_at(path: Path, log_time: int, source: str = "/data/walk", start: int = START):
    return LabelsBySource(read_labels(path), [source]).of(source, start).at(log_time)


@given(
    st.integers(10**17, 4 * 10**18) | st.integers(0, 10**17 - 1),
    st.integers(0, 10**6) | st.integers(0, 10**16),
)
@settings(max_examples=40)
def test_a_label_covers_exactly_its_frame(tmp_path_factory, log_time: int, elapsed: int) -> None:
    """Times from 1970 are told apart from 480 ns on: labels are numbers of seconds in float64."""
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    start = max(0, log_time - elapsed)
    LabelsWriter(path).append(window_key(frame_interval(log_time, start), "walk", None), Answer.PERSON)
    (label,) = read_labels(path)
    found = RecordingLabels([label], start)
    assert found.at(log_time).person is True
    steps = (480, 10**3, 10**6) if log_time >= 10**17 else (1, 2, 10**6) if elapsed <= 10**6 else (4, 10**6)
    for step in steps:
        assert found.at(log_time - step).person is None
        assert found.at(log_time + step).person is None


def test_times_are_those_of_the_tables() -> None:
    assert frame_interval(START + 5, START) == (str(START + 5), "1700000000000000239")
    assert frame_interval(12_500_000_000, 2_500_000_000) == ("10.000000000", "10.000000001")
    assert frame_interval(0, 0) == ("0.000000000", "0.000000001")


def test_the_analysis_reads_the_answers(tmp_path) -> None:
    """The region that a label is about gets it, and another region of the frame does not."""
    writer = LabelsWriter(tmp_path / "labels.csv")
    writer.append(key(0), Answer.PERSON)
    writer.append(key(1), Answer.NOBODY)
    writer.append(key(2), Answer.SKIP)
    writer.append(window_key(frame_interval(START + 3 * SECOND, START), "/data/walk", None), Answer.NOBODY)
    decision = Decision((BOX, Region(300, 20, 64, 128, 0.8)), 0.5, False)
    found = [label_regions(decision, labels_at(writer.path, START + i * SECOND)).regions for i in range(4)]
    assert found == [(True, None), (False, None), (None, None), (False, False)]
    assert writer.counts() == {Answer.PERSON: 1, Answer.NOBODY: 2, Answer.SKIP: 1}
    assert writer.path.read_text().startswith(HEADER)


@pytest.mark.parametrize("source", ['/a "b", c;d/walk', "/a\nb/long walk", " walk ", "#walk", "=1+1", "/wälk\u2028x"])
def test_names_of_recordings(tmp_path, source) -> None:
    """A recording's name may hold anything; the label belongs to it all the same, and nothing else is written."""
    writer = LabelsWriter(tmp_path / "labels.csv")
    writer.append(key(0, source), Answer.PERSON)
    assert len(labels_at(writer.path, START, source).persons) == 1
    assert key(0, source) in LabelsWriter(writer.path).answered
    assert writer.path.read_text().count("\n") == 2


def test_answers_are_known_when_the_file_is_opened_again(tmp_path) -> None:
    path = tmp_path / "labels.csv"
    writer = LabelsWriter(path)
    for i, answer in enumerate(Answer):
        writer.append(key(i), answer)
    again = LabelsWriter(path)
    assert again.answered == {key(0), key(1), key(2)}
    assert again.counts() == writer.counts() == dict.fromkeys(Answer, 1)
    again.append(key(3), Answer.NOBODY)
    assert again.counts()[Answer.NOBODY] == 2
    assert path.read_text().count("start") == 1


@pytest.mark.parametrize(
    ("before", "row"),
    [
        (HEADER + "0,5,person,rear,,,,\n", '"{start}","{end}","background","/data/walk","{x}","{y}","{w}","{h}"'),
        (
            "# by hand\nperson;Source;note;start;end;x;y;width;height\n1;rear;for Jürgen;0,0;5,5;;;;",
            '"background";"/data/walk";"";"{start}";"{end}";"{x}";"{y}";"{w}";"{h}"',
        ),
        (
            "start\tend\tperson\tsource\tx\ty\twidth\theight\r\n0\t5\tperson\r\n",
            '"{start}"\t"{end}"\t"background"\t"/data/walk"\t"{x}"\t"{y}"\t"{w}"\t"{h}"',
        ),
    ],
)
def test_a_labels_file_of_the_user_is_continued(tmp_path, before, row) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(before.encode())
    writer = LabelsWriter(path)
    assert len(writer.whole) == 1
    line = writer.append(key(0), Answer.NOBODY)
    k = key(0)
    written = row.format(start=k.start, end=k.end, x=k.x, y=k.y, w=k.width, h=k.height) + "\n"
    ended = before if before.endswith("\n") else before + "\n"
    assert path.read_bytes().decode() == ended + written
    assert len(read_labels(path)) == 2
    assert labels_at(path, START).others
    writer.withdraw(line)
    assert path.read_bytes().decode() == ended


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"start,end,person,source\n0,5,person,rear\n", "lacks the columns x, y, width, height: add their names"),
        (b"name,age\nx,3\n", "lacks the columns start, end, person, source"),
        (HEADER.encode() + b"0,5,maybe,,,,,\n", "person is 'maybe'.*; correct it, or give another --labels"),
        ((HEADER + "0,5,person,,,,,\n").encode("utf-16"), "is no text in UTF-8: save it as UTF-8"),
    ],
)
def test_other_files_are_refused_and_left_as_they_are(tmp_path, content, reason) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(ReviewError, match=reason):
        LabelsWriter(path)
    assert path.read_bytes() == content


def test_places_where_no_file_can_be(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReviewError, match="is a folder: give a file for the labels"):
        LabelsWriter(tmp_path)
    with pytest.raises(ReviewError, match="file is a file: give a folder"):
        LabelsWriter(tmp_path / "file" / "labels.csv")


@pytest.mark.parametrize("answer", list(Answer))
def test_a_line_that_was_cut_off_is_out_of_the_way(tmp_path, answer) -> None:
    """At every byte: all answers before it stay, and the next one is readable."""
    path = tmp_path / "labels.csv"
    writer = LabelsWriter(path)
    writer.append(key(0), Answer.PERSON)
    whole = path.read_bytes()
    line = writer.append(key(1), answer)
    for cut in range(len(line)):
        path.write_bytes(whole + line[:cut])
        again = LabelsWriter(path)
        complete = cut == len(line) - 1
        assert (key(1) in again.answered) == complete
        assert len(again.notes) == (0 < cut < len(line) - 1 and answer is not Answer.SKIP)
        again.append(key(2), Answer.NOBODY)
        found = read_labels(path)
        assert len(found) == 2 + (complete and answer is not Answer.SKIP)
        assert found[0].person
        assert not found[-1].person
        assert path.read_bytes().startswith(whole)
        assert LabelsWriter(path).notes == []


def test_a_first_line_that_was_cut_off(tmp_path) -> None:
    path = tmp_path / "labels.csv"
    for cut in range(len(HEADER)):
        path.write_text(HEADER[:cut])
        LabelsWriter(path).append(key(0), Answer.PERSON)
        assert path.read_text().startswith(HEADER)
        assert len(read_labels(path)) == 1


def test_a_last_line_of_the_user_without_an_end_is_kept(tmp_path) -> None:
    path = tmp_path / "labels.csv"
    for line in ("0,5,person,rear,,,,", "0,5,person", '"0","5","person","rear","","","",""'):
        path.write_text(HEADER + line)
        writer = LabelsWriter(path)
        writer.append(key(0), Answer.PERSON)
        assert path.read_text().startswith(HEADER + line + "\n")
        assert writer.notes == []
        assert len(read_labels(path)) == 2


def test_the_last_answers_can_be_withdrawn(tmp_path) -> None:
    writer = LabelsWriter(tmp_path / "labels.csv")
    contents, lines = [], []
    for i, answer in enumerate((Answer.PERSON, Answer.SKIP, Answer.NOBODY)):
        lines.append(writer.append(key(i), answer))
        contents.append(writer.path.read_bytes())
    for line, content in zip(reversed(lines), [*contents[1::-1], HEADER.encode()], strict=True):
        writer.withdraw(line)
        assert writer.path.read_bytes() == content
    assert writer.counts() == dict.fromkeys(Answer, 0)


def test_what_another_program_writes_meanwhile_stays(tmp_path) -> None:
    path = tmp_path / "labels.csv"
    writer = LabelsWriter(path)
    line = writer.append(key(0), Answer.PERSON)
    with path.open("a") as file:
        file.write("7,8,person,rear,,,,")
    with pytest.raises(ReviewError, match="was changed by another program after this answer"):
        writer.withdraw(line)
    writer.append(key(1), Answer.NOBODY)
    assert [label.source for label in read_labels(path)] == ["/data/walk", "rear", "/data/walk"]
    assert writer.counts() == {Answer.PERSON: 2, Answer.NOBODY: 1, Answer.SKIP: 0}
    # An editor writes a new file of the same name.
    (tmp_path / "new").write_text(HEADER + "1,2,person,side,,,,\n")
    os.replace(tmp_path / "new", path)
    writer.append(key(2), Answer.NOBODY)
    assert [label.source for label in read_labels(path)] == ["side", "/data/walk"]
    path.unlink()
    writer.append(key(3), Answer.PERSON)
    assert path.read_text().startswith(HEADER)
    path.write_text("start,end,person\n")
    with pytest.raises(ReviewError, match="lacks the columns source, x"):
        writer.append(key(4), Answer.PERSON)
    assert path.read_text() == "start,end,person\n"


def test_an_answer_is_on_the_disk_before_it_is_confirmed(tmp_path, monkeypatch) -> None:
    path = tmp_path / "labels.csv"
    synced: list[tuple[bool, bytes]] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(file).st_mode), path.read_bytes()))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    writer = LabelsWriter(path)
    writer.append(key(0), Answer.PERSON)
    # The file, and then its name in the folder.
    assert synced == [(False, path.read_bytes()), (True, path.read_bytes())]
    line = writer.append(key(1), Answer.NOBODY)
    assert synced[2:] == [(False, path.read_bytes())]
    writer.withdraw(line)
    assert synced[3:] == [(False, path.read_bytes())]


@pytest.mark.parametrize("written", [0, 1, 20, 60])
def test_a_full_disk_leaves_nothing_of_an_answer(tmp_path, monkeypatch, written) -> None:
    path = tmp_path / "labels.csv"
    writer = LabelsWriter(path)
    for i in range(2):
        before = path.read_bytes() if path.exists() else b""
        real = os.write

        def write(file: int, content: bytes, real=real) -> int:
            if len(content) <= written or written == 0:
                raise OSError(28, "No space left on device")
            return real(file, content[:written])

        with monkeypatch.context() as patch:
            patch.setattr(labels_writer.os, "write", write)
            with pytest.raises(ReviewError, match="the answer could not be stored: No space left on device"):
                writer.append(key(i), Answer.PERSON)
        assert path.read_bytes() == before
        writer.append(key(i), Answer.PERSON)
        assert len(read_labels(path)) == i + 1
    assert writer.counts()[Answer.PERSON] == 2


def test_two_reviews_of_one_file(tmp_path) -> None:
    path = tmp_path / "labels.csv"
    a, b = LabelsWriter(path), LabelsWriter(path)
    first = a.append(key(0), Answer.PERSON)
    b.append(key(1), Answer.NOBODY)
    a.append(key(2), Answer.PERSON)
    assert [label.person for label in read_labels(path)] == [True, False, True]
    with pytest.raises(ReviewError, match="another program"):
        a.withdraw(first)
    assert len(read_labels(path)) == 3
