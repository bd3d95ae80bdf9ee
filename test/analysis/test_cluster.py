"""The same analysis on a local Ray cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import pyarrow as pa
import ray

from explain_cnn_ros.analysis import cluster
from explain_cnn_ros.analysis.cluster import Ray, slices
from explain_cnn_ros.analysis.job import Outcome, ProgressReporter, no_encoder
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.tables import table_of
from explain_cnn_ros.bags.sources import Place, Source, open_source
from explain_cnn_ros.cli import make_encoder

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def local_cluster() -> Iterator[None]:
    """A Ray cluster on this machine, which all tests use."""
    yield
    ray.shutdown()


@pytest.fixture
def local_ray(monkeypatch, local_cluster) -> Callable[..., Ray]:
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setattr(cluster, "PARTS_OF_TASK", 1)
    return partial(Ray, "")


class KillsAnActor(ProgressReporter):
    """After the first part has come, the process of an actor is killed."""

    killed = 0

    def advance(self, frames: int, explained: int) -> None:
        if not self.killed:
            # Ray names a process after the class of its actor.
            titles = {int(path.parent.name): path.read_text() for path in Path("/proc").glob("[0-9]*/cmdline")}
            self.killed = next(pid for pid, title in titles.items() if title.startswith("ray::AnalysisActor"))
            os.kill(self.killed, signal.SIGKILL)


@pytest.mark.slow
def test_the_same_tables_to_the_byte_whoever_is_lost(studio, tmp_path, local_ray) -> None:
    """Two bags, two actors, one of which is killed."""
    bags = [studio.record(tmp_path / str(n), [studio.jpeg(i) for i in range(n)]) for n in (150, 70)]
    settings = {"explain_every": 40, "confidence_threshold": 0.0}
    studio.analyse(tmp_path / "here", *bags, **settings)
    distribute, progress = local_ray(2, make_encoder), KillsAnActor()
    outcome = studio.analyse(tmp_path / "there", *bags, distribute=distribute, progress=progress, **settings)
    assert outcome.complete
    assert outcome.problems == []
    assert progress.killed
    assert studio.files(tmp_path / "there") == studio.files(tmp_path / "here")


@pytest.mark.slow
def test_resumed_while_inputs_are_away(studio, tmp_path, local_ray) -> None:
    """No result is lost on a cluster either, and Ray is not needed for what is complete or away."""
    home, away = tmp_path / "disk", tmp_path / "away"
    inputs = [studio.record(home / str(n), [studio.jpeg(i) for i in range(n)]) for n in (70, 10)]
    settings = {"explain_every": 0, "confidence_threshold": 0.0}
    studio.analyse(tmp_path / "here", *inputs, **settings)
    output = tmp_path / "there"
    studio.interrupt(output, *inputs, parts=1, **settings)

    def resume() -> Outcome:
        outcome: Outcome = studio.analyse(output, *inputs, resume=True, distribute=local_ray(1, no_encoder), **settings)
        return outcome

    def without_ray(*_: object) -> None:
        raise AssertionError("there is nothing to compute")

    (home / "70").rename(away)
    outcome = resume()
    assert not outcome.complete
    assert [f"{inputs[0]}: no such file" in problem for problem in outcome.problems] == [True]
    assert studio.table(output, "frames").num_rows == 64 + 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ray, "__call__", without_ray)
        (home / "10").rename(tmp_path / "away too")
        assert not resume().complete
        assert studio.table(output, "frames").num_rows == 64 + 10
    away.rename(home / "70")
    # The other recording was read to its end by the cluster, so it need not be there.
    assert studio.analyse(output, *inputs, resume=True, **settings).complete
    assert studio.files(output) == studio.files(tmp_path / "here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ray, "__call__", without_ray)
        assert resume().complete
    assert studio.files(output) == studio.files(tmp_path / "here")


@pytest.mark.slow
def test_faults_that_an_actor_finds_in_a_video_are_reported(studio, tmp_path, local_ray) -> None:
    """Only the process that reads a video knows that it ends early."""
    video = studio.film(tmp_path / "clip.avi", 100)
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 3 // 4])
    settings = {"explain_every": 0, "confidence_threshold": 0.0}
    here = studio.analyse(tmp_path / "here", video, **settings)
    there = studio.analyse(tmp_path / "there", video, distribute=local_ray(1, no_encoder), **settings)
    assert there.complete
    assert len(there.problems) == 1 and "of the 100 frames that the video announces could be read" in there.problems[0]
    assert there.problems == here.problems
    assert studio.files(tmp_path / "there") == studio.files(tmp_path / "here")


def test_faults_are_those_of_the_whole_recording(studio, tmp_path) -> None:
    """An actor that reads a slice cannot tell how much of the recording is missing."""
    video = studio.film(tmp_path / "clip.avi", 10)
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 3 // 4])
    actor = cluster.AnalysisActor(studio.job(tmp_path / "out", video, explain_every=0), no_encoder)
    assert len(actor.analyze(cluster.Slice(0, 0, 0, None, frozenset())).problems) == 1
    assert actor.analyze(cluster.Slice(0, 0, 1, None, frozenset())).problems == []


def analysed(index: int, source: Source, **changes: Any) -> pa.Table:
    """The table of a part that ends with a frame of a source."""
    frame = next(source.entries(index)).load()
    return table_of("frames", [{"frame": index, "log_time": frame.log_time, "topic": frame.topic} | changes])


@pytest.fixture
def photos(studio, tmp_path) -> Path:
    """A folder with ten images."""
    (tmp_path / "photos").mkdir()
    for i in range(10):
        (tmp_path / "photos" / f"{10 + i}.jpg").write_bytes(studio.jpeg(i))
    return Path(tmp_path / "photos")


@pytest.mark.parametrize("changes", [{"log_time": 1}, {"topic": "other.jpg"}])
def test_a_recording_that_has_changed_is_not_distributed(studio, photos, tmp_path, monkeypatch, changes) -> None:
    """Otherwise, the results would be a mixture of the old and the new recording."""
    monkeypatch.setattr(Ray, "_connect", lambda _: None)
    for number, path in enumerate((photos, studio.film(tmp_path / "clip.avi", 10))):
        source, store = open_source(path, studio.settings()), PartStore(tmp_path / f"parts{number}")
        store.write(0, 0, {"frames": analysed(4, source, **changes)})
        outcome = Outcome()
        Ray("", 1, no_encoder)(studio.job(tmp_path / "out", path), [(0, source)], store, ProgressReporter(), outcome)
        assert [problem.startswith(f"{path} has changed since") for problem in outcome.problems] == [True]
        assert store.finished(0) is None


def test_the_last_part_of_a_recording_that_grew_is_analysed_again(studio, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cluster, "PART_FRAMES", 4)
    monkeypatch.setattr(cluster, "PARTS_OF_TASK", 1)
    job, store = studio.job(tmp_path / "out", photos), PartStore(tmp_path / "parts")
    source = open_source(photos, studio.settings())
    for number, last in enumerate((3, 7, 9)):
        store.write(0, number, {"frames": analysed(last, source)})
    assert slices(0, source, store, job) == ([], 10)
    for i in range(10, 15):
        (photos / f"{10 + i}.jpg").write_bytes(studio.jpeg(i))
    tasks, frames = slices(0, open_source(photos, studio.settings()), store, job)
    assert ([task.first for task in tasks], frames) == ([2, 3], 15)
    # A part with more frames replaces the one before.
    store.write(0, 2, {"frames": pa.concat_tables([analysed(8, source), analysed(9, source)])})
    assert store.frames(0) == 4
    store.write(0, 2, {"frames": analysed(9, source)})
    assert store.frames(0) == 4


def test_slices_know_where_reading_begins(studio, tmp_path) -> None:
    bag = studio.record(tmp_path / "bag", [studio.jpeg(0)] * 600)
    source = open_source(bag, studio.settings())
    job = studio.job(tmp_path / "out", bag, explain_at=(30.0,))
    store = PartStore(tmp_path / "parts")
    tasks, frames = slices(0, source, store, job)
    assert frames == 600
    step = cluster.PARTS_OF_TASK
    assert [(t.first, t.near) for t in tasks] == [
        (first, Place(64 * first, studio.START + 64 * first * studio.SECOND // 10)) for first in range(0, 10, step)
    ]
    assert all(t.chosen == {300} for t in tasks)
    store.write(0, 0, {"frames": analysed(64 * step - 1, source)})
    for number in range(1, step):
        store.write(0, number, {"frames": analysed(64 * step - 1, source)})
    rest, _ = slices(0, source, store, job)
    assert rest == tasks[1:]
    source.close()
