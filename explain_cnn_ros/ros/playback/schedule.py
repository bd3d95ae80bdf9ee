"""When the messages of a recording, and /clock, are due."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from explain_cnn_ros.bags.reader import Message

#: A step back of the log time that is longer than this is a jump of the clock, in seconds. Messages of several files
#: of a recording overlap by less.
STEP_BACK = 1.0

SECOND = 10**9


class Event(NamedTuple):
    """Something to publish.

    Attributes:
        stamp: Log time, in ns.
        message: The message; None for /clock.
    """

    stamp: int
    message: Message | None


class Pace:
    """Maps log times to a monotonic clock.

    All times are relative to the start, so that delays do not add up.

    Args:
        start: Log time, in ns, that corresponds to the current time.
        rate: Speed: 1 is as recorded; 0 never waits.
    """

    def __init__(self, start: int, rate: float) -> None:
        self._start = start
        self._rate = rate
        self._began = time.monotonic()

    def left(self, stamp: int) -> float:
        """Return the time until log time `stamp` (ns), in seconds; negative if it has passed."""
        if self._rate == 0:
            return 0.0
        return self._began + (stamp - self._start) / SECOND / self._rate - time.monotonic()

    def skip(self, length: int) -> None:
        """Leave out a part of the recording.

        Args:
            length: Length of the part, in ns; negative if the log time jumps back.
        """
        self._start += length


class Schedule:
    """The order and the times in which the messages of a recording are published.

    Args:
        start: Log time at which the recording begins, in ns.
        rate: Speed: 1 is as recorded; 0 never waits.
        clock: Rate of /clock, in messages per second of wall-clock time; 0 for no clock.
        gap_max: Maximum length of a part without messages, in seconds of the recording. A longer one is skipped.
        report: Called with a sentence about each part that is skipped, and each jump of the log time.
    """

    def __init__(
        self,
        start: int,
        rate: float = 1.0,
        clock: float = 0.0,
        gap_max: float = math.inf,
        report: Callable[[str], None] = print,
    ) -> None:
        self._start, self._gap_max, self._report = start, gap_max, report
        # The step is in log time. The rate is that of wall-clock time, at any speed.
        self._clock_step = max(round(SECOND * (rate or 1.0) / clock), 1) if clock else 0
        self._rate = rate
        self._pace = Pace(start, rate)
        self._played = 0

    def events(self, messages: Iterable[Message]) -> Iterator[Event]:
        """Yield the messages and the times of /clock, in order. The time of the first event is now."""
        self._pace = Pace(self._start, self._rate)
        self._played = 0
        tick = before = self._start
        for message in messages:
            skipped = self._skipped(before, message.stamp)
            if skipped:
                self._pace.skip(skipped)
                tick = message.stamp
            self._played += max(message.stamp - before - skipped, 0)
            before = message.stamp if skipped else max(before, message.stamp)
            while self._clock_step and tick <= message.stamp:
                yield Event(tick, None)
                tick += self._clock_step
            yield Event(message.stamp, message)

    def left(self, stamp: int) -> float:
        """Return the time until an event with this log time (ns) is due, in seconds; negative if it has passed."""
        return self._pace.left(stamp)

    @property
    def played(self) -> float:
        """Time that the last round took at speed 1, in seconds of the recording."""
        return self._played / SECOND

    def _skipped(self, before: int, stamp: int) -> int:
        """Return the time between two messages that is skipped, in ns; 0 if it is not skipped."""
        step = (stamp - before) / SECOND
        if -STEP_BACK <= step <= self._gap_max:
            return 0
        at = (before - self._start) / SECOND
        if step < 0:
            self._report(f"the log time jumps back by {duration(-step)} after {at:.1f} s: playing on without a pause")
        else:
            self._report(f"skipping {duration(step)} without messages after {at:.1f} s")
        return stamp - before


def duration(seconds: float) -> str:
    """Return a duration in words, in the unit that suits its size."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
