"""The same analysis on a Ray cluster. Each task is a slice of a recording; actors load the network once."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.inputs import chosen_frames, finish, open_input, reading, recording_of, unchanged
from explain_cnn_ros.analysis.job import AnalysisError, EncoderFactory, Job, Outcome, ProgressReporter
from explain_cnn_ros.analysis.labelled_source import LabelledSource
from explain_cnn_ros.analysis.parts import PART_FRAMES, Part, PartStore
from explain_cnn_ros.analysis.prefetch import decoded
from explain_cnn_ros.analysis.recording_labels import LabelsBySource
from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.bags.sources import Place, Source, SourceError, VideoSource
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Number of parts of a task.
PARTS_OF_TASK = 4

#: Number of times that Ray repeats a task whose process is lost.
RETRIES = 3


@dataclass(frozen=True)
class Slice:
    """A task: consecutive parts of a recording.

    Attributes:
        source: Number of the recording.
        first: Number of the first part.
        parts: Number of parts; 0 for all.
        near: Place where reading may begin; None for the beginning.
        chosen: Numbers of the frames that are explained in any case.
    """

    source: int
    first: int
    parts: int
    near: Place | None
    chosen: frozenset[int]

    @property
    def reads_all(self) -> bool:
        """Whether the recording is read from its beginning to its end."""
        return not self.parts


@dataclass(frozen=True)
class SliceResult:
    """The results of a task.

    Attributes:
        parts: The parts, in order.
        problems: Faults of the recording that only the actor has found, a sentence each.
    """

    parts: list[Part]
    problems: list[str]


class AnalysisActor:
    """Analyses slices, in a process that Ray starts. The recordings must be there under the same paths.

    Args:
        job: The job.
        make_encoder: Creates the encoder of the results as ROS messages.
    """

    def __init__(self, job: Job, make_encoder: EncoderFactory) -> None:
        if job.settings.threads:
            torch.set_num_threads(job.settings.threads)
        classifier = PersonClassifier.load(job.weights, job.device)
        labels = LabelsBySource(job.labels, map(printable, job.inputs))
        self._job, self._analyzer = job, Analyzer(classifier, job.settings, labels, make_encoder(classifier))
        self._sources: dict[int, Source] = {}

    def _open(self, number: int) -> Source:
        """Return a recording, and free the memory of the labels of the others."""
        if number not in self._sources:
            self._sources[number], _ = open_input(self._job.inputs[number], self._job.settings)
        for other, source in self._sources.items():
            if other != number and isinstance(source, LabelledSource):
                source.release()
        return self._sources[number]

    def analyze(self, task: Slice) -> SliceResult:
        """Analyse a slice.

        Raises:
            SourceError: The recording cannot be read.
        """
        source = self._open(task.source)
        recording = recording_of(source, self._job.settings, self._analyzer.labels, task.chosen)
        stop = task.parts * PART_FRAMES or None
        frames = decoded(itertools.islice(source.entries(task.first * PART_FRAMES, task.near), stop))
        parts = []
        while True:
            with reading(source):
                part = self._analyzer.analyze(recording, itertools.islice(frames, PART_FRAMES))
            count = part["frames"].num_rows
            if count:
                parts.append(part)
            if count < PART_FRAMES:
                # An actor that has read only a part of a recording would report the rest as missing.
                return SliceResult(parts, list(source.problems) if task.reads_all else [])


def slices(number: int, source: Source, store: PartStore, job: Job) -> tuple[list[Slice], int | None]:
    """Divide the parts of a recording that do not exist yet into tasks.

    Args:
        number: Number of the recording.
        source: The recording.
        store: The store with the parts that exist.
        job: The job.

    Returns:
        The tasks, and the number of frames of the recording; None if only reading it tells.

    Raises:
        SourceError: The recording has changed since a part of it was analysed.
        DamagedPartError: The last part that was analysed cannot be read.
    """
    chosen, stored = chosen_frames(source, job.settings), store.last_frame(number)
    if isinstance(source, VideoSource):
        if stored is not None:
            next(unchanged(source, source.entries(stored.index), stored), None)
        # Videos are always read from their beginning.
        return [Slice(number, 0, 0, None, chosen)], None
    times = [entry.log_time for entry in unchanged(source, source.entries(), stored)]
    # The last part ended with the recording. If the recording has grown since, the part is analysed again.
    grown = stored is not None and stored.index + 1 < len(times) and (stored.index + 1) % PART_FRAMES > 0
    short = stored.index // PART_FRAMES if stored is not None and grown else None
    ascending = all(a <= b for a, b in itertools.pairwise(times))
    tasks = []
    for first in range(0, -(-len(times) // PART_FRAMES), PARTS_OF_TASK):
        numbers = range(first, min(first + PARTS_OF_TASK, -(-len(times) // PART_FRAMES)))
        if all(store.has(number, part) and part != short for part in numbers):
            continue
        time = times[first * PART_FRAMES]
        near = Place(bisect.bisect_left(times, time), time) if ascending else None
        tasks.append(Slice(number, first, PARTS_OF_TASK, near, chosen))
    return tasks, len(times)


class Ray:
    """Distributes an analysis over a Ray cluster.

    Args:
        address: Address of a running cluster, or "auto" for that of this machine; "" starts a cluster here.
        actors: Number of actors; 0: one for each GPU, or without GPUs one for as many CPUs as PyTorch has threads.
        make_encoder: Creates the encoder of the results as ROS messages. It must be a function that can be imported.
    """

    def __init__(self, address: str, actors: int, make_encoder: EncoderFactory) -> None:
        self._address, self._actors, self._make_encoder = address, actors, make_encoder

    def __call__(
        self,
        job: Job,
        sources: list[tuple[int, Source]],
        store: PartStore,
        progress: ProgressReporter,
        outcome: Outcome,
    ) -> None:
        """Analyse the rest of the sources, which are given with their numbers.

        Raises:
            AnalysisError: Ray is not installed, or there is no cluster at the address.
        """
        ray = self._connect()
        results = _Results(store, progress)
        tasks: list[Slice] = []
        frames: dict[int, int | None] = {}
        for number, source in sources:
            try:
                missing, frames[number] = slices(number, source, store, job)
            except SourceError as error:
                results.failed.add(number)
                outcome.problems.append(str(error))
                continue
            tasks += missing
        if tasks:
            self._work(ray, job, tasks, results, outcome)
        for number, source in sources:
            if number not in results.failed:
                total = frames[number]
                found = results.problems[number]
                finish(store, number, store.frames(number) if total is None else total, source, found)

    def _connect(self) -> Any:
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
                    f"no Ray cluster at {self._address!r}: {error}; start one with `ray start --head`"
                ) from error
        return ray

    def _start_actors(self, ray: Any, job: Job, count_max: int) -> list[Any]:
        gpus, cpus = ray.cluster_resources().get("GPU", 0), ray.cluster_resources().get("CPU", 1)
        threads = job.settings.threads or torch.get_num_threads()
        # Rounding depends on the number of threads, so actors have as many as this process.
        job = replace(job, settings=replace(job.settings, threads=threads))
        count = self._actors or int(gpus) or max(1, int(cpus // threads))
        kind = ray.remote(AnalysisActor).options(
            num_gpus=1 if gpus else 0, num_cpus=min(threads, cpus / count), max_restarts=-1, max_task_retries=RETRIES
        )
        return [kind.remote(job, self._make_encoder) for _ in range(min(count, count_max))]

    def _work(
        self,
        ray: Any,
        job: Job,
        tasks: Sequence[Slice],
        results: _Results,
        outcome: Outcome,
    ) -> None:
        """Do the tasks."""
        actors = self._start_actors(ray, job, len(tasks))
        # Each actor has one task at a time, so that few results wait until they are written.
        waiting, idle = deque(tasks), deque(actors)
        running: dict[Any, tuple[Any, Slice]] = {}
        try:
            while waiting or running:
                while waiting and idle:
                    actor, task = idle.popleft(), waiting.popleft()
                    running[actor.analyze.remote(task)] = (actor, task)
                (ready,), _ = ray.wait(list(running))
                actor, task = running.pop(ready)
                idle.append(actor)
                try:
                    result = ray.get(ready)
                except ray.exceptions.RayError as error:
                    results.failed.add(task.source)
                    outcome.problems.append(_failure(job, task, error))
                    continue
                results.add(task, result)
        finally:
            for actor in actors:
                ray.kill(actor)


class _Results:
    """Writes the results of tasks, and collects the faults that the actors report.

    Args:
        store: The store that the parts are written to.
        progress: Is notified of the parts.

    Attributes:
        failed: Numbers of the recordings that have changed, or of which a task failed.
        problems: Faults that actors have found, by the number of the recording.
    """

    def __init__(self, store: PartStore, progress: ProgressReporter) -> None:
        self._store, self._progress = store, progress
        self.failed = set[int]()
        self.problems: defaultdict[int, list[str]] = defaultdict(list)

    def add(self, task: Slice, result: SliceResult) -> None:
        """Write the parts of a task, and record the faults that it has found."""
        self.problems[task.source] += result.problems
        for number, part in enumerate(result.parts, task.first):
            self._store.write(task.source, number, part)
            rows = part["frames"]
            self._progress.advance(rows.num_rows, rows.num_rows - rows["trigger"].null_count)


def _failure(job: Job, task: Slice, error: Exception) -> str:
    reason = str(error).strip().splitlines()[-1]
    lost = f"parts {task.first} to {task.first + task.parts - 1}" if task.parts else "all parts"
    return f"{job.inputs[task.source]}: {lost} failed ({reason}); --resume tries them again"
