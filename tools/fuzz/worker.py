"""The process that reads inputs, one after another, and measures the time and the memory of each."""

from __future__ import annotations

import faulthandler
import gc
import mmap
import os
import resource
import shutil
import struct
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from tools.fuzz.kind import Kind

#: Memory that a worker may take beyond that at its start, for the sake of the machine, in bytes.
MACHINE_LIMIT = 4 * 2**30

#: The input that a worker reads: its number, and the processor time of the process when it began, in ns.
STATE = struct.Struct("<qq")

#: Number of failures of the same place whose inputs are stored.
EXAMPLES = 3

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Limits:
    """The limits of an input.

    Attributes:
        seconds: Processor time.
        mib: Memory that is taken while it is read.
    """

    seconds: float = 1.0
    mib: float = 1024.0


class Failure(NamedTuple):
    """An input that was neither read nor refused within the limits.

    Attributes:
        number: Its number; -1 if it has none.
        text: What happened.
        place: The line at which it happened. Failures of the same place are counted together.
        trace: The traceback; "" if there is none.
        data: The input.
    """

    number: int
    text: str
    place: str
    trace: str = ""
    data: bytes = b""


@dataclass
class Figures:
    """The figures of inputs of one kind.

    Attributes:
        tried: Number of inputs.
        read: Number of inputs that were read.
        refused: Number of refused inputs by the name of the refusal.
        slowest: Largest processor time, in seconds, and the number of its input.
        memory: Largest memory that was taken, in MiB, and the number of its input.
        failures: Failures, at most EXAMPLES of each place.
        failed: Number of failures by place.
        seconds: Processor time of all inputs.
    """

    tried: int = 0
    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    memory: tuple[float, int] = (0.0, 0)
    failures: list[Failure] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def fail(self, failure: Failure) -> None:
        """Count a failure, and store it if there are few of its place."""
        self.failed[failure.place] += 1
        if sum(other.place == failure.place for other in self.failures) < EXAMPLES:
            self.failures.append(failure)

    def add(self, other: Figures) -> None:
        """Add the figures of further inputs."""
        self.tried += other.tried
        self.read += other.read
        self.refused += other.refused
        self.slowest, self.memory = max(self.slowest, other.slowest), max(self.memory, other.memory)
        self.seconds += other.seconds
        counts = self.failed + other.failed
        for failure in other.failures:
            self.fail(failure)
        self.failed = counts


class Reader:
    """Reads inputs of one kind in this process.

    Args:
        kind: The kind.
        limits: The limits of an input.
        folder: An empty folder, which the inputs are written to.
    """

    def __init__(self, kind: Kind, limits: Limits, folder: Path) -> None:
        self._kind, self._limits, self._folder = kind, limits, folder
        self._base = _reset_peak()

    def run(
        self,
        seed: int,
        numbers: range,
        stop: float = float("inf"),
        begins: Callable[[int], None] = lambda number: None,
    ) -> Figures:
        """Read inputs, and return their figures.

        Args:
            seed: Seed of the run.
            numbers: Numbers of the inputs.
            stop: Time at which no further input is begun, by `time.monotonic`.
            begins: Called with the number of each input before it is made.
        """
        figures = Figures()
        for number in numbers:
            if time.monotonic() >= stop:
                break
            begins(number)
            try:
                data = self._kind.input(seed, number)
            except Exception as error:  # a fault of the tool
                figures.tried += 1
                figures.fail(Failure(number, f"the input cannot be made: {error}", _place(error), _trace(error)))
                continue
            self.read(number, data, figures)
        return figures

    def read(self, number: int, data: bytes, figures: Figures) -> None:
        """Read one input, and add it to the figures.

        Args:
            number: Its number.
            data: The input.
            figures: The figures.
        """
        outcome, seconds, mib = self._measured(data)
        limits = self._limits
        if isinstance(outcome, str) and (seconds > limits.seconds or mib > limits.mib):
            # Libraries are loaded when they are needed first, and a part of the memory may be that of earlier inputs.
            gc.collect()
            self._base = _reset_peak()
            outcome, again, mib = self._measured(data)
            seconds = min(seconds, again)
            if isinstance(outcome, str) and seconds > limits.seconds:
                outcome = Failure(number, f"it took {seconds:.1f} s of processor time", "slow")
            elif isinstance(outcome, str) and mib > limits.mib:
                outcome = Failure(number, f"it took {mib:,.0f} MiB of memory", "memory")
            self._base = _reset_peak()
        if isinstance(outcome, str) and outcome and number < self._kind.valid_count:
            outcome = Failure(number, f"a valid input was refused: {outcome}", "valid")
        figures.tried += 1
        figures.seconds += seconds
        figures.slowest = max(figures.slowest, (seconds, number))
        figures.memory = max(figures.memory, (mib, number))
        if isinstance(outcome, Failure):
            figures.fail(outcome._replace(number=number, data=data))
        elif outcome:
            figures.refused[outcome] += 1
        else:
            figures.read += 1

    def _measured(self, data: bytes) -> tuple[str | Failure, float, float]:
        """Return the outcome of an input, its processor time in seconds, and its memory in MiB."""
        begin = time.process_time()
        outcome: str | Failure
        try:
            outcome = self._kind.read(data, self._folder)
        except Exception as error:
            outcome = Failure(0, f"{type(error).__name__}: {str(error)[:500]}", _place(error), _trace(error))
        seconds = time.process_time() - begin
        mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - self._base
        for entry in os.scandir(self._folder):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry)
            else:
                os.unlink(entry)
        return outcome, seconds, mib


def _reset_peak() -> float:
    """Forget the largest memory of this process, and return its memory, in MiB."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _place(error: BaseException) -> str:
    """Return the kind of an error, and the last line of the package or of the tool that it came through."""
    found = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(_ROOT) and ".venv" not in path.parts and path.name != "kind.py":
            found = f"{path.relative_to(_ROOT)}:{frame.lineno}"
    return f"{type(error).__name__} at {found}"


def _trace(error: BaseException) -> str:
    lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-12, chain=False)
    return "".join(lines)[-4000:]


def work(connection: Connection, state: mmap.mmap, load: Callable[[str], Kind], log: Path) -> None:
    """Read the inputs that the other end of a connection names, until it is closed.

    Each request is (kind, seed, numbers, limits, stop), and each answer Figures. A request whose numbers are an input
    instead of a range reads this input.

    Args:
        connection: The connection.
        state: Memory in which STATE is written.
        load: Returns a kind by its name.
        log: File for the messages of libraries, which would hide the report.
    """
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable(2)
    _limit_threads()

    def begins(number: int) -> None:
        STATE.pack_into(state, 0, number, time.process_time_ns())

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        while True:
            begins(-1)
            try:
                name, seed, numbers, limits, stop = connection.recv()
            except EOFError:
                return
            kind = load(name)
            _limit_memory()
            reader = Reader(kind, limits, Path(folder))
            if isinstance(numbers, bytes):
                figures = Figures()
                begins(0)
                reader.read(len(kind.seeds), numbers, figures)
            else:
                figures = reader.run(seed, numbers, stop, begins)
            begins(-1)
            log.write_bytes(b"")
            connection.send(figures)


def _limit_threads() -> None:
    """Let libraries compute in one thread, so that the processor time is that of one core."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    import cv2

    cv2.setNumThreads(1)


def _limit_memory() -> None:
    """Limit the memory of this process, so that the machine lives if an input takes all of it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    used = sum(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + MACHINE_LIMIT, hard))
