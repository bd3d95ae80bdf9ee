"""The time that the phases of a repair take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Phase:
    """A phase of a repair.

    Attributes:
        name: Name of the phase, for instance "training".
        seconds: Its time, in seconds.
        continued: Whether an earlier run of the command had done a part of the phase. Its time is not included.
    """

    name: str
    seconds: float = 0.0
    continued: bool = False


class Phases:
    """Measures the phases of a repair.

    Attributes:
        done: The phases, in order.
    """

    def __init__(self) -> None:
        self.done: list[Phase] = []

    @contextmanager
    def measure(self, name: str) -> Iterator[Phase]:
        """Measure the time of the body of a `with` statement as a phase.

        Args:
            name: Name of the phase.

        Yields:
            The phase. The body may set `continued`.
        """
        phase = Phase(name)
        begin = time.monotonic()
        try:
            yield phase
        finally:
            phase.seconds = time.monotonic() - begin
            self.done.append(phase)
