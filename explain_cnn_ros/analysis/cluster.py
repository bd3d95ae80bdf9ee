"""The same analysis on a Ray cluster: a slice of a recording a task, actors that load the network once."""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.parts import PART_FRAMES, Part, PartStore
from explain_cnn_ros.analysis.prefetch import decoded
from explain_cnn_ros.analysis.run import AnalysisError, EncoderFactory, Job, Outcome, Progress, chosen_frames
from explain_cnn_ros.analysis.sources import Place, Source, VideoSource, open_source
from explain_cnn_ros.classifier import PersonClassifier

#: Parts of a task, and how often Ray tries one again whose worker is lost.
PARTS_OF_TASK, RETRIES = 4, 3


@dataclass(frozen=True)
class Slice:
    """A task: parts of a recording.

    source: number of the recording.
    first: number of the first part.
    parts: how many; 0 for all.
    near: where reading may begin.
    """

    source: int
    first: int
    parts: int
    near: Place | None
    chosen: frozenset[int]


class Worker:
    """What an actor does; runs wherever Ray puts it. Recordings must be there under the same paths."""

    def __init__(self, job: Job, make_encoder: EncoderFactory) -> None:
        if job.settings.threads:
            torch.set_num_threads(job.settings.threads)
        classifier = PersonClassifier.load(job.weights, job.device)
        self._job, self._analyzer = job, Analyzer(classifier, job.settings, job.labels, make_encoder(classifier))
        self._sources: dict[int, Source] = {}

    def analyse(self, task: Slice) -> list[Part]:
        """The parts of a slice."""
        if task.source not in self._sources:
            self._sources[task.source] = open_source(self._job.inputs[task.source], self._job.settings)
        source = self._sources[task.source]
        stop = task.parts * PART_FRAMES or None
        entries = itertools.islice(source.entries(task.first * PART_FRAMES, task.near), stop)
        frames, parts = decoded(entries), []
        while True:
            some = itertools.islice(frames, PART_FRAMES)
            part = self._analyzer.analyze(source.name, source.start, some, task.chosen)
            count = part["frames"].num_rows
            if count:
                parts.append(part)
            if count < PART_FRAMES:
                return parts


def slices(index: int, source: Source, store: PartStore, job: Job) -> tuple[list[Slice], int]:
    """The tasks that are missing of a recording, and how many frames it has."""
    chosen = chosen_frames(source, job.settings)
    if isinstance(source, VideoSource):
        # Videos are read from their beginning, whatever is wanted of them.
        return [Slice(index, 0, 0, None, chosen)], source.total
    times = [entry.log_time for entry in source.entries()]
    ascending = all(a <= b for a, b in itertools.pairwise(times))
    tasks = []
    for first in range(0, -(-len(times) // PART_FRAMES), PARTS_OF_TASK):
        numbers = range(first, min(first + PARTS_OF_TASK, -(-len(times) // PART_FRAMES)))
        if all(store.has(index, number) for number in numbers):
            continue
        time = times[first * PART_FRAMES]
        near = Place(bisect.bisect_left(times, time), time) if ascending else None
        tasks.append(Slice(index, first, PARTS_OF_TASK, near, chosen))
    return tasks, len(times)


class Ray:
    """Distributes an analysis over a Ray cluster.

    Args:
        address: of a running cluster, "auto" for the one that this machine belongs to; "" starts one here.
        workers: actors; 0: one a GPU, or one for as many CPUs as PyTorch has threads.
    """

    def __init__(self, address: str, workers: int, make_encoder: EncoderFactory) -> None:
        self._address, self._workers, self._make_encoder = address, workers, make_encoder

    def __call__(
        self, job: Job, sources: list[tuple[int, Source]], store: PartStore, progress: Progress, outcome: Outcome
    ) -> None:
        """Fill the store with what is missing."""
        try:
            import ray
        except ImportError as error:
            raise AnalysisError("--ray needs Ray: pip install ray") from error
        if not ray.is_initialized():
            try:
                options: dict[str, Any] = {"address": self._address} if self._address else {"include_dashboard": False}
                ray.init(log_to_driver=False, logging_level="error", **options)
            except (ConnectionError, ValueError) as error:
                raise AnalysisError(
                    f"no Ray cluster at {self._address!r}: {error}; `ray start --head` begins one"
                ) from error
        tasks: list[Slice] = []
        frames: dict[int, int] = {}
        for index, source in sources:
            if store.finished(index) is None:
                missing, frames[index] = slices(index, source, store, job)
                tasks += missing
        failed = self._work(ray, job, tasks, store, progress, outcome)
        for index, source in sources:
            if index in frames and index not in failed:
                store.finish(index, frames[index], source.problems)

    def _work(
        self, ray: Any, job: Job, tasks: Sequence[Slice], store: PartStore, progress: Progress, outcome: Outcome
    ) -> set[int]:
        """Numbers of the recordings of which something failed."""
        gpus, threads = ray.cluster_resources().get("GPU", 0), job.settings.threads or torch.get_num_threads()
        cpus = ray.cluster_resources().get("CPU", 1)
        # The same rounding everywhere: as many threads as here.
        job = replace(job, settings=replace(job.settings, threads=threads))
        count = self._workers or int(gpus) or max(1, int(cpus // threads))
        kind = ray.remote(Worker).options(
            num_gpus=1 if gpus else 0, num_cpus=min(threads, cpus / count), max_restarts=-1, max_task_retries=RETRIES
        )
        actors = [kind.remote(job, self._make_encoder) for _ in range(min(count, max(1, len(tasks))))]
        # One task an actor at a time: results that nobody has taken yet stay few.
        waiting, idle, failed = deque(tasks), deque(actors), set[int]()
        running: dict[Any, tuple[Any, Slice]] = {}
        try:
            while waiting or running:
                while waiting and idle:
                    actor, task = idle.popleft(), waiting.popleft()
                    running[actor.analyse.remote(task)] = (actor, task)
                (ready,), _ = ray.wait(list(running))
                actor, task = running.pop(ready)
                idle.append(actor)
                try:
                    parts = ray.get(ready)
                except ray.exceptions.RayError as error:
                    failed.add(task.source)
                    lost = str(error).strip().splitlines()[-1]
                    parts_lost = f"{job.inputs[task.source]}: parts {task.first} to {task.first + task.parts - 1}"
                    outcome.problems.append(f"{parts_lost} failed ({lost}); --resume tries them again")
                    continue
                for number, part in enumerate(parts, task.first):
                    store.write(task.source, number, part)
                    rows = part["frames"]
                    progress.advance(rows.num_rows, rows.num_rows - rows["trigger"].null_count)
        finally:
            for actor in actors:
                ray.kill(actor)
        return failed
