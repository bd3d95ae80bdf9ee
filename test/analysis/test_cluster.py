"""The same analysis on a local Ray cluster."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("ray")

import ray

from explain_cnn_ros.analysis import cluster
from explain_cnn_ros.analysis.cli import make_encoder
from explain_cnn_ros.analysis.cluster import Ray, slices
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.run import Job, Progress
from explain_cnn_ros.analysis.sources import Place, open_source

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def local_ray(monkeypatch):
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setattr(cluster, "PARTS_OF_TASK", 1)
    yield Ray("", 2, make_encoder)
    ray.shutdown()


class KillsAWorker(Progress):
    """After the first part has come, an actor's process is killed."""

    killed = 0

    def advance(self, frames: int, explained: int) -> None:
        if not self.killed:
            # Ray names a worker's process after what it does.
            titles = {int(path.parent.name): path.read_text() for path in Path("/proc").glob("[0-9]*/cmdline")}
            self.killed = next(pid for pid, title in titles.items() if title.startswith("ray::Worker"))
            os.kill(self.killed, signal.SIGKILL)


def test_the_same_tables_to_the_byte_whoever_is_lost(studio, tmp_path, local_ray) -> None:
    """Two bags, two workers, one of which is killed."""
    bags = [studio.record(tmp_path / str(n), [studio.jpeg(i) for i in range(n)]) for n in (150, 70)]
    studio.analyse(tmp_path / "here", *bags, explain_every=40)
    progress = KillsAWorker()
    outcome = studio.analyse(tmp_path / "there", *bags, explain_every=40, distribute=local_ray, progress=progress)
    assert outcome.complete
    assert outcome.problems == []
    assert progress.killed
    assert studio.files(tmp_path / "there") == studio.files(tmp_path / "here")


def test_slices_know_where_reading_begins(studio, tmp_path) -> None:
    bag = studio.record(tmp_path / "bag", [studio.jpeg(0)] * 600)
    source = open_source(bag, studio.settings())
    job = Job((bag,), tmp_path / "out", studio.settings(explain_at=(30.0,)))
    store = PartStore(tmp_path / "parts")
    tasks, frames = slices(0, source, store, job)
    assert frames == 600
    step = cluster.PARTS_OF_TASK
    assert [(t.first, t.near) for t in tasks] == [
        (first, Place(64 * first, studio.START + 64 * first * studio.SECOND // 10)) for first in range(0, 10, step)
    ]
    assert all(t.chosen == {300} for t in tasks)
    for number in range(step):
        store.write(0, number, {})
    rest, _ = slices(0, source, store, job)
    assert rest == tasks[1:]
    source.close()
