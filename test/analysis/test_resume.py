"""Analyses that are interrupted, killed, or lose their disk, and are resumed."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest

from explain_cnn_ros.analysis import run as run_module
from explain_cnn_ros.analysis.cli import main
from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.job import AnalysisError, ProgressReporter
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.tables import COLUMNS

#: Number of times that the analysis is killed; `make soak` sets a larger one.
KILLS = int(os.environ.get("ANALYSIS_KILLS", "3"))

pytestmark = pytest.mark.timeout(600)


def manifest(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "analysis.json").read_text())
    return content


@pytest.mark.usefixtures("small_parts")
def test_interrupted_and_resumed(studio, bag, undisturbed, tmp_path, monkeypatch) -> None:
    """The results are written then, and only the part that was being analysed is computed twice."""
    output = tmp_path / "out"
    studio.interrupt(output, bag, parts=2)
    assert studio.table(output, "frames").num_rows == 8
    assert manifest(output)["status"] == "interrupted"
    assert (output / "report.html").is_file()
    analysed = []
    real = Analyzer._add

    def add(self: Analyzer, rows: Any, recording: Any, frame: Any, decision: Any) -> None:
        analysed.append(frame.index)
        real(self, rows, recording, frame, decision)

    monkeypatch.setattr(Analyzer, "_add", add)
    outcome = studio.analyse(output, bag, resume=True)
    assert outcome.complete
    assert analysed == list(range(8, 18))
    assert studio.files(output) == studio.files(undisturbed)
    with pytest.raises(AnalysisError, match="holds an analysis already"):
        studio.analyse(output, bag)


@pytest.mark.usefixtures("small_parts")
def test_only_the_same_analysis_is_resumed(studio, bag, tmp_path) -> None:
    output = tmp_path / "out"
    studio.interrupt(output, bag, parts=1)
    changed = r"other settings: settings\.confidence_threshold was [\d.]+ and is 0\.9 now\. Give the same settings"
    with pytest.raises(AnalysisError, match=changed):
        studio.analyse(output, bag, resume=True, confidence_threshold=0.9)
    changed = r"other labels: labels\.0\.start was null and is 0 now; .* now; and 4 more\. Give the same labels"
    with pytest.raises(AnalysisError, match=changed):
        studio.analyse(output, bag, resume=True, labels=[Label(0, 1, True), Label(2, 3, False)])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(AnalysisError, match="is not empty, and holds no analysis"):
        studio.analyse(tmp_path / "other", bag)
    (output / "analysis.json").write_text("{")
    with pytest.raises(AnalysisError, match=r"analysis\.json cannot be read"):
        studio.analyse(output, bag, resume=True)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.slow
def test_killed_again_and_again_and_resumed(studio, bag, undisturbed, tmp_path, command) -> None:
    """After SIGKILL at random moments, the tables are the same as without."""
    output = tmp_path / "out"
    slow = "from explain_cnn_ros.analysis import engine\nimport time\nreal = engine.Analyzer._add\n"
    slow += "engine.Analyzer._add = lambda *a: (time.sleep(0.1), real(*a))[1]"
    moments, killed = random.Random(4), 0
    for _ in range(KILLS):
        resume = ["--resume"] if output.exists() else []
        process = command(bag, "--output", output, *studio.flags, *resume, before=slow)
        deadline = time.monotonic() + 60
        while not (output / "parts").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(moments.uniform(0.0, 1.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed == KILLS
    assert studio.analyse(output, bag, resume=True).complete
    assert studio.files(output) == studio.files(undisturbed)


@contextmanager
def full_disk(size: int) -> Any:
    """Let no file become larger than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_parts")
def test_a_full_disk(studio, bag, undisturbed, tmp_path, capsys) -> None:
    """If the system takes no more bytes, the parts that were analysed stay, and a later run continues."""
    output = tmp_path / "out"
    with full_disk(9000):
        status = main([*map(str, (bag, "--output", output, *studio.flags))])
    printed = capsys.readouterr()
    problems = printed.err
    assert status in (1, 3), problems
    assert "File too large" in problems
    assert "free some space and go on with --resume" in problems
    assert "Traceback" not in problems
    assert not (output / "report.html").exists()
    assert "report.html" not in printed.out + problems
    assert not list(output.glob("*.partial"))
    assert studio.analyse(output, bag, resume=True).complete
    assert studio.files(output) == studio.files(undisturbed)


class Disk:
    """Two recordings, a of ten frames and b of six, which can be taken away; and their analysis."""

    output: Path

    def __init__(self, studio: Any, folder: Path) -> None:
        self.studio = studio
        self._home, self._away = folder / "disk", folder / "away"
        self._home.mkdir()
        self._away.mkdir()
        self.a = studio.record(self._home / "a", [studio.jpeg(i) for i in range(10)])
        self.b = studio.record(self._home / "b", [studio.jpeg(20 + i) for i in range(6)])
        self.inputs: tuple[Path, ...] = (self.a, self.b)

    def take_away(self, names: str) -> None:
        """Take away the recordings with these letters, and put back the others."""
        for name in "ab":
            home, away = self._home / name, self._away / name
            if name in names and home.exists():
                home.rename(away)
            elif name not in names and away.exists():
                away.rename(home)

    def resume(self) -> Any:
        return self.studio.analyse(self.output, *self.inputs, resume=True)

    def frames(self) -> dict[str, int]:
        """Numbers of analysed frames in the tables."""
        sources = [Path(row["source"]).name for row in self.studio.rows(self.output)]
        return {name: sources.count(name) for name in "ab"}


@pytest.fixture(scope="module")
def module_disk(studio, tmp_path_factory) -> Disk:
    return Disk(studio, tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="module")
def all_there(studio, module_disk, tmp_path_factory) -> dict[str, bytes]:
    """The tables of an analysis during which nothing is away."""
    output = tmp_path_factory.mktemp("all_there") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "PART_FRAMES", 4)
        studio.analyse(output, *module_disk.inputs)
    tables: dict[str, bytes] = studio.files(output)
    return tables


@pytest.fixture
def disk(module_disk, all_there, small_parts, tmp_path) -> Iterator[Disk]:
    """The disk with an output of its own, in parts of four frames."""
    module_disk.output, module_disk.inputs = tmp_path / "out", (module_disk.a, module_disk.b)
    yield module_disk
    module_disk.take_away("")


@pytest.mark.parametrize(
    ("parts", "steps"),
    [
        # Parts before the interruption; then: recordings that are away, and frames of a and b in the results.
        (1, [("a", 4, 6), ("", 10, 6)]),
        (1, [("b", 10, 0), ("", 10, 6)]),
        (1, [("ab", 4, 0), ("ab", 4, 0), ("", 10, 6)]),
        (1, [("b", 10, 0), ("ab", 10, 0), ("a", 10, 6)]),
        (1, [("a", 4, 6), ("ab", 4, 6), ("b", 10, 6)]),
        (4, [("b", 10, 4), ("ab", 10, 4), ("a", 10, 6)]),
        (4, [("a", 10, 6)]),
    ],
)
def test_resumed_while_inputs_are_away(studio, disk, all_there, parts, steps) -> None:
    """No result is ever lost, and the analysis is complete as soon as everything was read."""
    studio.interrupt(disk.output, *disk.inputs, parts=parts)
    for away, a, b in steps:
        disk.take_away(away)
        outcome = disk.resume()
        assert disk.frames() == {"a": a, "b": b}
        complete = (a, b) == (10, 6)
        assert outcome.complete == complete
        assert manifest(disk.output)["status"] == ("complete" if complete else "incomplete")
        assert (disk.output / "parts").exists() != complete
        report = (disk.output / "report.html").read_text()
        for name, path, total, frames in (("a", disk.a, 10, a), ("b", disk.b, 6, b)):
            named = [problem for problem in outcome.problems if f"{path}: no such file" in problem]
            assert bool(named) == (name in away and frames < total)
            assert all((f"{frames} of its frames were analysed before" in problem) == (frames > 0) for problem in named)
            assert all(problem in report for problem in named)
    assert studio.files(disk.output) == all_there
    assert set(manifest(disk.output)["fingerprints"]) == {str(disk.a), str(disk.b)}


def test_exit_status_while_inputs_are_away(studio, disk, all_there, capsys) -> None:
    arguments = [str(a) for a in (*disk.inputs, "--output", disk.output, "--resume", *studio.flags)]
    disk.take_away("b")
    assert main(arguments) == 3
    said = capsys.readouterr().err
    assert f"{disk.b}: no such file or directory" in said
    assert "the analysis is not complete; --resume continues it" in said
    disk.take_away("ab")
    assert main(arguments) == 3
    disk.take_away("")
    assert main(arguments) == 0
    assert studio.files(disk.output) == all_there


def test_nothing_analysed_and_nothing_there(studio, disk) -> None:
    """The manifest stays as it is."""
    studio.interrupt(disk.output, *disk.inputs, parts=0)
    before = manifest(disk.output)
    disk.take_away("ab")
    with pytest.raises(AnalysisError, match="no such file or directory"):
        disk.resume()
    assert manifest(disk.output) == before
    disk.take_away("")
    assert disk.resume().complete


class TakesAway(ProgressReporter):
    """A recording goes away while it is read."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk, self._name = disk, name

    def advance(self, frames: int, explained: int) -> None:
        self._disk.take_away(self._name)


def test_an_input_goes_away_while_it_is_read(studio, disk, all_there) -> None:
    outcome = studio.analyse(disk.output, *disk.inputs, progress=TakesAway(disk, "a"))
    assert not outcome.complete
    assert any(f"{disk.a}: it has gone while it was read (4 of its frames" in problem for problem in outcome.problems)
    assert disk.frames() == {"a": 4, "b": 6}
    disk.take_away("")
    assert disk.resume().complete
    assert studio.files(disk.output) == all_there


@pytest.mark.usefixtures("small_parts")
def test_a_folder_of_images_goes_away_while_it_is_read(studio, tmp_path) -> None:
    """Images that cannot be read for this reason are no results."""
    folder, away = tmp_path / "images", tmp_path / "away"
    folder.mkdir()
    for i in range(10):
        cv2.imwrite(str(folder / f"{i}.png"), studio.picture(i))

    class Unmounts(ProgressReporter):
        def advance(self, frames: int, explained: int) -> None:
            folder.rename(away)

    outcome = studio.analyse(tmp_path / "out", folder, progress=Unmounts())
    assert not outcome.complete
    assert [row["error"] for row in studio.rows(tmp_path / "out")] == [None] * 4
    away.rename(folder)
    assert studio.analyse(tmp_path / "out", folder, resume=True).complete
    assert [row["error"] for row in studio.rows(tmp_path / "out")] == [None] * 10


@pytest.mark.parametrize("away", ["", "b", "ab"])
@pytest.mark.parametrize("problem", [False, True])
def test_a_complete_analysis_is_left_as_it_is(studio, disk, tmp_path, capsys, away, problem) -> None:
    """Also if the process was killed while it removed the parts."""
    if problem:
        frames = [studio.jpeg(i) for i in range(3)]
        disk.inputs = (studio.record(tmp_path / "broken", [*frames, b"nothing"]), *disk.inputs)
    arguments = [str(a) for a in (*disk.inputs, "--output", disk.output, *studio.flags)]
    status = 3 if problem else 0
    assert main(arguments) == status
    printed = capsys.readouterr()
    (disk.output / "parts").mkdir()
    before = {path.name: path.read_bytes() for path in disk.output.iterdir() if path.is_file()}
    disk.take_away(away)
    assert main([*arguments, "--resume"]) == status
    again = capsys.readouterr()
    assert "is complete already" in again.err
    assert again.out == printed.out
    assert ("is not JPEG or PNG" in again.err) == problem
    assert {path.name: path.read_bytes() for path in disk.output.iterdir() if path.is_file()} == before
    assert not (disk.output / "parts").exists()


@pytest.fixture
def interrupted(studio, bag, small_parts, tmp_path) -> Path:
    """An analysis of three parts of five."""
    studio.interrupt(tmp_path / "out", bag, parts=3)
    return Path(tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        "",
        "{",
        "[]",
        "null",
        "5",
        "[" * 100_000,
        {"settings": []},
        {"inputs": {}},
        {"status": 3},
        {"fingerprints": []},
        {"fingerprints": {"a": "b"}},
        {"status": "complete", "summary": {"frames": 3}},
        {"status": "complete", "summary": {"frames": "three"}},
        {"status": "complete", "problems": "none"},
        {"status": "complete", "problems": [3]},
        {"status": "complete", "wrong_way": []},
        {"status": "complete", "wrong_way": {"effects": [{"kind": "missed"}]}},
    ],
)
def test_a_damaged_manifest_is_named(studio, bag, interrupted, change) -> None:
    path = interrupted / "analysis.json"
    path.write_text(change if isinstance(change, str) else json.dumps(manifest(interrupted) | change))
    before = path.read_bytes()
    with pytest.raises(
        AnalysisError, match=r"analysis\.json cannot be read \(.*\): repair it, or give another --output"
    ):
        studio.analyse(interrupted, bag, resume=True)
    assert path.read_bytes() == before
    assert (interrupted / "parts/00000-0000002").is_dir()


def test_a_manifest_that_is_not_utf8(studio, bag, interrupted) -> None:
    (interrupted / "analysis.json").write_bytes(b'{"status": "\xff"}')
    with pytest.raises(AnalysisError, match=r"analysis\.json cannot be read"):
        studio.analyse(interrupted, bag, resume=True)


CHANGED = "has changed since a part of it was analysed, so the rest does not fit: give another --output"


@pytest.fixture
def photos(studio, tmp_path) -> Path:
    """A folder with ten images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(10):
        (folder / f"photo{10 + i}.jpg").write_bytes(studio.jpeg(i))
    return Path(folder)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_images_that_are_added_in_between_are_not_mixed_with_the_others(studio, photos, tmp_path, parts) -> None:
    """The new image shifts the numbers of the later frames, so that old and new results would not fit together."""
    output, added = tmp_path / "out", photos / "photo05.jpg"
    studio.interrupt(output, photos, parts=parts, explain_every=0)
    before = studio.rows(output)
    added.write_bytes(studio.jpeg(20))
    outcome = studio.analyse(output, photos, resume=True, explain_every=0)
    assert not outcome.complete
    assert outcome.problems == [
        f"{photos} {CHANGED} to analyse it from its beginning ({len(before)} of its frames were analysed before and "
        "are in the results)"
    ]
    assert studio.rows(output) == before
    added.unlink()
    assert studio.analyse(output, photos, resume=True, explain_every=0).complete
    assert [row["topic"] for row in studio.rows(output)] == [f"photo{10 + i}.jpg" for i in range(10)]


@pytest.mark.usefixtures("small_parts")
def test_another_recording_at_the_same_path_does_not_go_on(studio, tmp_path) -> None:
    bag, jpegs = tmp_path / "bag", [studio.jpeg(i) for i in range(10)]
    studio.record(bag, jpegs)
    studio.interrupt(tmp_path / "out", bag, parts=1, explain_every=0)
    bag.rename(tmp_path / "before")
    studio.record(bag, jpegs, others=[("/camera/image/compressed", 50_000_000, studio.jpeg(20))])
    (problem,) = studio.analyse(tmp_path / "out", bag, resume=True, explain_every=0).problems
    assert CHANGED in problem
    assert len(studio.rows(tmp_path / "out")) == 4


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("left", [3, 2])
def test_a_recording_that_became_shorter_does_not_go_on(studio, photos, tmp_path, left) -> None:
    studio.interrupt(tmp_path / "out", photos, parts=1, explain_every=0)
    for path in sorted(photos.iterdir())[left:]:
        path.unlink()
    (problem,) = studio.analyse(tmp_path / "out", photos, resume=True, explain_every=0).problems
    assert CHANGED in problem


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_recording_that_grew_at_its_end_goes_on(studio, photos, tmp_path, parts) -> None:
    """This includes a recording whose last part had fewer frames than the other parts."""
    output = tmp_path / "out"
    studio.interrupt(output, photos, parts=parts, explain_every=0)
    for i in range(10, 15):
        (photos / f"photo{10 + i}.jpg").write_bytes(studio.jpeg(i))
    assert studio.analyse(output, photos, resume=True, explain_every=0).complete
    assert studio.analyse(tmp_path / "new", photos, explain_every=0).complete
    assert studio.files(output) == studio.files(tmp_path / "new")


@pytest.mark.usefixtures("small_parts")
def test_a_change_is_found_after_a_missing_part_as_well(studio, photos, tmp_path) -> None:
    """The frames before the missing part have not changed, so the change is noticed after it."""
    output = tmp_path / "out"
    studio.interrupt(output, photos, parts=2, explain_every=0)
    shutil.rmtree(output / "parts" / "00000-0000000")
    (photos / "photo125.jpg").write_bytes(studio.jpeg(20))
    (photos / "photo125.jpg").rename(photos / "photo12a.jpg")
    (problem,) = studio.analyse(output, photos, resume=True, explain_every=0).problems
    assert CHANGED in problem


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda parts: truncate(parts / "00000-0000001/frames.parquet"),
        lambda parts: (parts / "00000-0000000/neurons.parquet").write_bytes(b""),
        lambda parts: (parts / "00000-0000002/pictures.parquet").unlink(),
        lambda parts: [truncate(path) for path in parts.glob("*/*.parquet")],
        lambda parts: (parts / "00000.json").write_text("{"),
        lambda parts: (parts / "00000.json").write_text('{"frames": 12, "problems": 3}'),
        lambda parts: (parts / "left.partial").symlink_to(parts.parent.parent),
    ],
)
def test_damaged_parts_are_analysed_again(studio, bag, undisturbed, interrupted, damage) -> None:
    damage(interrupted / "parts")
    assert studio.analyse(interrupted, bag, resume=True).complete
    assert studio.files(interrupted) == studio.files(undisturbed)
    assert bag.is_dir() and interrupted.is_dir()


def test_damage_within_a_table_is_found_when_it_is_read(studio, bag, undisturbed, interrupted) -> None:
    """The results are written without the part, which the next run analyses again."""
    table = interrupted / "parts/00000-0000001/frames.parquet"
    content = bytearray(table.read_bytes())
    content[4:400] = bytes(396)
    table.write_bytes(content)
    outcome = studio.analyse(interrupted, bag, resume=True)
    assert not outcome.complete and outcome.reported
    assert [
        p for p in outcome.problems if "part 1 of recording 0 is damaged" in p and "--resume analyses them again" in p
    ]
    assert [row["frame"] for row in studio.rows(interrupted)] == [0, 1, 2, 3, *range(8, 18)]
    assert studio.analyse(interrupted, bag, resume=True).complete
    assert studio.files(interrupted) == studio.files(undisturbed)


def test_links_in_the_output_are_not_followed(studio, bag, undisturbed, interrupted, tmp_path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("report.html", "analysis.json", *(f"{table}.parquet" for table in COLUMNS)):
        (interrupted / f"{name}.partial").symlink_to(precious)
    assert studio.analyse(interrupted, bag, resume=True).complete
    assert precious.read_text() == "precious"
    assert studio.files(interrupted) == studio.files(undisturbed)
    assert not list(interrupted.glob("*.partial"))
