"""The command `explain-cnn review`, in a process of its own: killed, interrupted, continued; and its messages."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from explain_cnn_ros.analysis.label_file import read_labels
from explain_cnn_ros.analysis.labels import FrameLabels
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.recording_labels import RecordingLabels
from explain_cnn_ros.analysis.review.cli import main
from explain_cnn_ros.analysis.review.labels_writer import Answer
from explain_cnn_ros.analysis.tables import table_of


class Running:
    """A review in a process of its own, and a connection to it as a page has one."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "explain_cnn_ros.cli", "review", *map(str, arguments)]
        # A shell that starts processes in the background lets them ignore SIGINT.
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()
        found = re.search(r"http://(127\.0\.0\.1:\d+)(/[\w-]+/)", self.first)
        assert found is not None, self.first + self.process.communicate()[1]
        self.host, self.path = found[1], found[2]

    def ask(self, path: str, value: Any = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        body = None if value is None else json.dumps(value)
        method = "GET" if body is None else "POST"
        connection.request(method, self.path + path, body, {"Content-Type": "application/json"} if body else {})
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return found

    def shown(self) -> dict[str, Any]:
        """The window that is shown."""
        found: dict[str, Any] = self.ask("state")["windows"][0]
        return found

    def answer(self, answer: str) -> int:
        """Answer the window that is shown, and return its frame."""
        window = self.shown()
        assert not self.ask("answer", {"window": window["number"], "answer": answer})["stale"]
        return int(window["frame"])

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(*arguments: object) -> Running:
        running.append(Running(*arguments))
        return running[-1]

    yield begin
    for one in running:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def output(undisturbed: Path, tmp_path: Path) -> Path:
    """An analysis of 17 frames that could be decided, and of one that could not."""
    return Path(shutil.copytree(undisturbed, tmp_path / "out"))


def answer_until_killed(one: Running, confirmed: list[int]) -> None:
    """Answer windows until the process is gone, and note the frames of confirmed answers."""
    with suppress(OSError, http.client.HTTPException, ValueError):
        while True:
            confirmed.append(one.answer("person" if len(confirmed) % 2 else "nobody"))


def labelled_frames(studio, output: Path, path: Path) -> list[int]:
    """Frames of the labels in a file, in its order. Each label covers one frame."""
    times = [row["log_time"] for row in studio.rows(output)]
    labels = [RecordingLabels([label], 0) for label in read_labels(path)]
    found = [[f for f, time in enumerate(times) if label.at(time) != FrameLabels()] for label in labels]
    assert all(len(frames) == 1 for frames in found)
    return [frames[0] for frames in found]


@pytest.mark.slow
def test_killed_in_the_middle_nothing_is_lost(studio, output, start) -> None:
    """SIGKILL while answers arrive: every confirmed one is in the file, and the review goes on with the others."""
    labels = output / "review_labels.csv"
    before: list[int] = []
    for _ in range(3):
        one = start(output)
        assert one.shown()["frame"] not in before
        confirmed: list[int] = []
        thread = threading.Thread(target=answer_until_killed, args=(one, confirmed))
        thread.start()
        while len(confirmed) < 3 and thread.is_alive():
            time.sleep(0.001)
        one.process.kill()
        thread.join()
        now = labelled_frames(studio, output, labels)
        # At most one answer was stored whose confirmation did not arrive.
        assert now[: len(before) + len(confirmed)] == before + confirmed
        assert len(now) - len(before) - len(confirmed) in (0, 1)
        before = now
    # Cut off in the middle of a line, as after a loss of power.
    with labels.open("a") as file:
        file.write('"17000000')
    one = start(output)
    for _ in range(17 - len(before)):
        before.append(one.answer("person"))
    assert labelled_frames(studio, output, labels) == before
    assert sorted(before) == [frame for frame in range(18) if frame != 5]
    assert one.ask("state")["windows"] == []
    one.ask("end", {})
    out, err = one.process.communicate(timeout=60)
    assert one.process.returncode == 0
    assert err == f"review: the last line of {labels} was not complete, and does not count\n"
    assert f"17 labels in {labels} (" in out
    assert "next: explain-cnn analyze " in out
    assert f" --labels {labels} " in out


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_interrupted(output, start, number, status) -> None:
    one = start(output, "--count", 3, "--labels", output.parent / "my.csv")
    one.answer("person")
    one.answer("skip")
    ended, out, err = one.end(number)
    assert (ended, err) == (status, "")
    assert out.splitlines()[0] == f"1 labels in {output.parent / 'my.csv'} (1 person, 0 nobody, 1 skipped)"


@pytest.mark.slow
def test_all_answered_and_then_interrupted(output, start) -> None:
    one = start(output, "--count", 2)
    one.answer("nobody")
    one.answer("nobody")
    assert one.process.stdout.readline().startswith("all windows have an answer")
    ended, out, _ = one.end(signal.SIGINT)
    assert ended == 0
    assert "2 labels in" in out


def test_the_answers_are_labels_of_the_next_analysis(studio, bag, output, review, tmp_path) -> None:
    one = review(output=output)
    answers = {one.answer(Answer.PERSON if i % 3 else Answer.NOBODY): bool(i % 3) for i in range(17)}
    labels = read_labels(one.file.path)
    studio.analyse(tmp_path / "again", bag, labels=labels, explain_every=0, confidence_threshold=0.0)
    assert {row["frame"]: row["label"] for row in studio.rows(tmp_path / "again") if row["frame"] != 5} == answers


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_what_is_no_analysis_is_named(tables, tmp_path, capsys) -> None:
    assert said(capsys, tmp_path / "none") == (
        1,
        "",
        f"review: {tmp_path / 'none'}: no analysis there: give the --output of `analyze`\n",
    )
    folder = tables.add("walk", [0.5]).write()
    for name in ("frames", "regions", "proofs"):
        (folder / f"{name}.parquet").write_bytes(b"PAR1")
        status, _, err = said(capsys, folder)
        assert status == 1
        assert err.startswith(f"review: {folder}/{name}.parquet cannot be read (") and err.count("\n") == 1
        tables.write()
    (folder / "analysis.json").write_text('{"status": "running", "threshold": 0.5}')
    assert "no results yet (status running)" in said(capsys, folder)[2]
    (folder / "analysis.json").write_text("{")
    assert "analysis.json cannot be read (" in said(capsys, folder)[2]


def test_nothing_to_review(tables, tmp_path, capsys) -> None:
    folder = tables.add("walk", [None]).write()
    status, _, err = said(capsys, folder)
    assert (status, err) == (1, f"review: nothing to review: no frame was decided in {folder}\n")
    folder = tables.add(f"{tmp_path}/gone", [0.5, 0.5]).write()
    status, _, err = said(capsys, folder)
    assert status == 1
    gone, nothing = err.splitlines()
    assert f"{tmp_path}/gone: no such file or directory" in gone and gone.endswith("; 2 of its windows are left out")
    assert nothing.startswith("review: nothing to review: the frames are not there: run the command in the folder")
    labels = tmp_path / "labels.csv"
    labels.write_text("start,end,person,source,x,y,width,height\n,,person,,,,,\n")
    status, out, _ = said(capsys, folder, "--labels", labels)
    assert status == 0
    assert out.startswith(f"nothing is left to review: all windows have an answer or a label\n1 labels in {labels} (1 ")


def test_a_port_that_is_taken(output, capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, err = said(capsys, output, "--port", port)
    assert status == 1
    assert err == (
        f"review: port {port} cannot be used (another program uses it): give another --port, or 0 for any free one\n"
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--count", "0"], "--count is 0: it must be at least 1"),
        (["--port", "70000"], "--port is 70000: it must be between 0 and 65535"),
        (["--port", "-1"], "--port is -1: it must be between 0 and 65535"),
    ],
)
def test_wrong_arguments(tmp_path, capsys, arguments, text) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), *arguments])
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_labels_that_cannot_be_continued(output, capsys, tmp_path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("start,end,person\n0,1,person\n")
    status, _, err = said(capsys, output, "--labels", labels)
    assert status == 1
    assert err.startswith(f"review: {labels} lacks the columns source, x, y, width, height: add their names")
    assert labels.read_text() == "start,end,person\n0,1,person\n"


def test_pictures_of_the_analysis_replace_a_recording_that_is_gone(studio, review, tmp_path) -> None:
    """The report has those of the explained frames."""
    bag = studio.record(tmp_path / "walk", [studio.jpeg(i) for i in range(6)])
    studio.analyse(tmp_path / "out", bag, explain_every=2, confidence_threshold=0.0)
    shutil.rmtree(bag)
    one = review(output=tmp_path / "out")
    assert sorted(one.answer() for _ in range(3)) == [0, 2, 4]
    assert one.session.finished
    assert one.queue.missing == {str(bag): 3}


def test_pictures_of_parts(studio, review, tmp_path) -> None:
    """An analysis that is not complete has the pictures of all explained frames in its parts."""
    bag = studio.record(tmp_path / "walk", [studio.jpeg(i) for i in range(4)])
    studio.analyse(tmp_path / "out", bag, explain_every=2, confidence_threshold=0.0)
    (tmp_path / "out" / "report.html").unlink()
    rows = [{"source": str(bag), "frame": 1, "scale": 1.0, "jpeg": studio.jpeg(1)}]
    part = {name: table_of(name, rows if name == "pictures" else []) for name in ("frames", "pictures")}
    PartStore(tmp_path / "out" / "parts").write(0, 0, part)
    shutil.rmtree(bag)
    one = review(output=tmp_path / "out")
    assert one.answer() == 1
    assert one.session.finished


def test_another_recording_at_the_same_path(studio, review, tmp_path) -> None:
    bag = studio.record(tmp_path / "walk", [studio.jpeg(i) for i in range(3)])
    studio.analyse(tmp_path / "out", bag, explain_every=0, confidence_threshold=0.0)
    shutil.rmtree(bag)
    studio.record(bag, [studio.picture(i)[:100] for i in range(3)])
    one = review(output=tmp_path / "out")
    assert one.session.finished
    assert one.session.failed == 3


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_videos_and_folders(studio, review, tmp_path, kind) -> None:
    """Their times are counted from their start."""
    if kind == "video":
        source = studio.film(tmp_path / "film.avi", 12)
    else:
        source = tmp_path / "images"
        source.mkdir()
        for i in range(12):
            (source / f"{i}.jpg").write_bytes(studio.jpeg(i))
    studio.analyse(tmp_path / "out", source, explain_every=0, confidence_threshold=0.0)
    one = review(output=tmp_path / "out")
    assert not one.session.failed
    answered = [one.answer(Answer.NOBODY) for _ in range(12)]
    assert sorted(answered) == list(range(12))
    assert labelled_frames(studio, tmp_path / "out", one.file.path) == answered


def test_every_frame_is_shown_with_its_own_picture(output, studio, review) -> None:
    one = review(output=output)
    for window in one.queue.windows:
        pictures = one.session.pictures(window.number)
        assert pictures is not None
        shown: Any = cv2.imdecode(np.frombuffer(pictures.context, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(shown[..., ::-1].astype(int) - studio.picture(window.frame)).mean() < 4
