"""A run: the kinds are tried in worker processes, which are watched. A worker that hangs or dies is replaced."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tools.fuzz.kind import Kind
from tools.fuzz.worker import STATE, Failure, Figures, Limits, work

#: Processor time after which a worker is killed, as a multiple of the limit of an input.
HANG = 8.0

#: Seconds after which a worker is killed that waits for something. Busy machines give it little processor time.
HANG_WAITING = 120.0

#: Number of inputs that a worker gets at a time.
PIECE = 2000

#: Seconds between two looks at the workers.
INTERVAL = 0.2

#: Request of prctl: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Run:
    """The settings and the results of a run.

    Attributes:
        counts: Number of inputs by kind.
        seed: The seed.
        limits: The limits of an input.
        jobs: Number of processes.
        stop: Time at which no further input is begun, by `time.monotonic`.
        figures: The figures by kind.
    """

    counts: Mapping[str, int]
    seed: int
    limits: Limits
    jobs: int
    stop: float = float("inf")
    figures: dict[str, Figures] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.figures = {name: Figures() for name in self.counts}

    @property
    def tried(self) -> int:
        """Number of inputs until now."""
        return sum(figures.tried for figures in self.figures.values())

    @property
    def failed(self) -> int:
        """Number of failures until now."""
        return sum(sum(figures.failed.values()) for figures in self.figures.values())


@dataclass
class _Task:
    kind: str
    numbers: range | bytes


class _Worker:
    """A worker process and the task that it has."""

    def __init__(self, load: Callable[[str], Kind], folder: Path, number: int) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, other = context.Pipe()
        self._state = mmap.mmap(-1, STATE.size)
        self.log = folder / f"worker_{number}.log"
        own = self.connection
        self.process: Any = context.Process(target=_begin, args=(own, other, self._state, load, self.log), daemon=True)
        self.process.start()
        other.close()
        self.task: _Task | None = None
        self._number, self._since = -1, time.monotonic()

    def give(self, task: _Task, run: Run) -> None:
        """Give it a task."""
        self.task, self._number, self._since = task, -1, time.monotonic()
        self.connection.send((task.kind, run.seed, task.numbers, run.limits, run.stop))

    @property
    def number(self) -> int:
        """Number of the input that it reads; -1 for none."""
        return int(STATE.unpack_from(self._state)[0])

    def hangs(self, seconds: float) -> str:
        """Return how long the present input takes if that is far beyond a limit in seconds; "" if it is not."""
        number, begin = STATE.unpack_from(self._state)
        now = time.monotonic()
        if number != self._number or number < 0:
            self._number, self._since = number, now
            return ""
        used = _processor_time(self.process.pid) - begin / 1e9
        if used > HANG * seconds:
            return f"it was killed after {used:.0f} s of processor time"
        waited = now - self._since
        return f"it was killed after {waited:.0f} s" if waited > HANG_WAITING else ""

    def end(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.kill()
        self.process.join()


def _begin(own: Connection, other: Connection, state: mmap.mmap, load: Callable[[str], Kind], log: Path) -> None:
    # The process group gets Ctrl-C, which the parent answers. A worker must not outlive a parent that was killed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    own.close()
    work(other, state, load, log)


def _processor_time(pid: int) -> float:
    """Return the processor time of a process, in seconds; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def run_all(
    run: Run,
    load: Callable[[str], Kind],
    folder: Path,
    report: Callable[[Run], None] = lambda run: None,
    single: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Try all inputs of a run. The results are in `run.figures`, also if this ends early.

    Args:
        run: The run.
        load: Returns a kind by its name. It is called in the processes.
        folder: Folder for the logs of the processes.
        report: Called from time to time.
        single: Inputs to try instead, each with its kind.
    """
    waiting = [_Task(kind, data) for kind, data in single] or _tasks(run)
    waiting.reverse()
    workers: list[_Worker] = []
    started = 0
    try:
        while waiting or any(worker.task for worker in workers):
            if time.monotonic() >= run.stop:
                waiting.clear()
            while waiting and len(workers) < run.jobs:
                workers.append(_Worker(load, folder, started % run.jobs))
                started += 1
            for worker in workers:
                if worker.task is None and waiting:
                    worker.give(waiting.pop(), run)
            busy = [worker for worker in workers if worker.task]
            ready = wait([worker.connection for worker in busy], INTERVAL)
            for worker in [worker for worker in busy if worker.connection in ready]:
                _collect(worker, run, waiting, workers)
            for worker in [worker for worker in workers if worker.task]:
                if text := worker.hangs(run.limits.seconds):
                    _lost(worker, text, "hang", run, waiting, workers)
            report(run)
    finally:
        for worker in workers:
            worker.end()


def _tasks(run: Run) -> list[_Task]:
    """Return the tasks of a run. The kinds take turns, so that a run that ends early has tried all of them."""
    pieces = {
        kind: [_Task(kind, range(i, min(i + _piece(count), count))) for i in range(0, count, _piece(count))]
        for kind, count in run.counts.items()
    }
    placed = [((index + 0.5) / len(tasks), task) for tasks in pieces.values() for index, task in enumerate(tasks)]
    return [task for _, task in sorted(placed, key=lambda entry: entry[0])]


def _piece(count: int) -> int:
    return max(1, min(PIECE, -(-count // 8)))


def _collect(worker: _Worker, run: Run, waiting: list[_Task], workers: list[_Worker]) -> None:
    """Take the figures of a worker, or replace it if it has died."""
    assert worker.task is not None
    try:
        figures = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode
        name = signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"
        _lost(worker, f"the process died: {name}", f"{name} {_crash_place(worker.log)}", run, waiting, workers)
        return
    run.figures[worker.task.kind].add(figures)
    worker.task = None


def _crash_place(log: Path) -> str:
    """Return the line at which a process died, by the traceback of faulthandler."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in lines if "explain_cnn_ros/" in line and line.strip().startswith("File")), "")


def _lost(worker: _Worker, text: str, place: str, run: Run, waiting: list[_Task], workers: list[_Worker]) -> None:
    """Note the input at which a worker was lost, and give the inputs after it to another one.

    The figures of the inputs before it are lost with the worker, so these are read again.
    """
    task, number = worker.task, worker.number
    assert task is not None
    trace = worker.log.read_text(errors="replace")[-4000:] if worker.log.exists() else ""
    worker.end()
    workers.remove(worker)
    figures = run.figures[task.kind]
    figures.tried += 1
    if isinstance(task.numbers, bytes) or number < 0:
        figures.fail(Failure(number, text, place, trace, task.numbers if isinstance(task.numbers, bytes) else b""))
        return
    figures.fail(Failure(number, text, place, trace))
    for rest in (range(task.numbers.start, number), range(number + 1, task.numbers.stop)):
        if rest:
            waiting.append(_Task(task.kind, rest))
