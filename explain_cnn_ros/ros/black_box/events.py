"""The events that trigger recordings, and when repeated causes count as events; without ROS.

All times are in seconds of a clock that does not jump back.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from explain_cnn_ros.ros.black_box.settings import SPARE

#: Causes of events, which are a part of the names of the recordings.
REQUEST, DOUBT, CHANGE, TOPIC, ERROR, ABORT = "request", "doubt", "change", "topic", "error", "abort"
CAUSES = (REQUEST, DOUBT, CHANGE, TOPIC, ERROR, ABORT)

#: Maximum number of names that are remembered, for instance of statuses on /diagnostics.
REMEMBERED = 1000

K = TypeVar("K")


@dataclass(frozen=True)
class TriggerEvent:
    """A moment that matters.

    Attributes:
        cause: Its cause, one of CAUSES.
        time: Time at which it began.
        stamp: The same by the clock of the recordings, in nanoseconds since 1970.
        text: Description in one line.
    """

    cause: str
    time: float
    stamp: int
    text: str


class Edge(Generic[K]):
    """Reports the moments at which something becomes true, for each name, with a minimum time between two reports."""

    def __init__(self) -> None:
        self._states: OrderedDict[K, tuple[bool, float | None]] = OrderedDict()

    def update(self, name: K, value: bool, time: float, holdoff: float = 0.0, wanted: bool = True) -> bool:
        """Take a value; return whether it has become true, and the last report was at least `holdoff` seconds ago.

        Args:
            name: Name of the thing. A new one was false before.
            value: Its value.
            time: Time of the value.
            holdoff: Minimum time between two reports of this name.
            wanted: Whether reports are wanted now.
        """
        before, reported = self._states.pop(name, (False, None))
        rises = wanted and value and not before and (reported is None or time - reported >= holdoff)
        self._states[name] = value, time if rises else reported
        while len(self._states) > REMEMBERED:
            self._states.popitem(last=False)
        return rises


class StableChange:
    """Reports changes of a value that last, and the time at which they began. Flicker is no change.

    If no value comes for so long that the messages around the beginning may have left the memory, the change counts
    from the value that shows that it has lasted.
    """

    def __init__(self) -> None:
        self._value: bool | None = None
        self._since: tuple[float, int] | None = None  # beginning of another value
        self._reported: float | None = None

    def update(
        self, value: bool, time: float, stamp: int, stable: float, holdoff: float, wanted: bool = True
    ) -> tuple[float, int] | None:
        """Take a value.

        Args:
            value: The value. The first one is no change.
            time: Time of the value.
            stamp: Stamp of the value.
            stable: Time that a new value must last.
            holdoff: Minimum time between two reports. A change within it counts, and is not reported.
            wanted: Whether reports are wanted now. Without, a change counts, and is not reported.

        Returns:
            Time and stamp of the beginning of a change; None if there is nothing to report.
        """
        if self._value is None or value == self._value:
            self._value, self._since = value, None
            return None
        if self._since is None:
            self._since = time, stamp
        began = self._since
        if time - began[0] < stable:
            return None
        if time - began[0] > stable + SPARE:
            began = time, stamp
        self._value, self._since = value, None
        if not wanted or (self._reported is not None and began[0] - self._reported < holdoff):
            return None
        self._reported = began[0]
        return began


class AbortedGoals:
    """Finds goals that an action has aborted, each once.

    Args:
        start: Time of the start, in nanoseconds of the clock of the goals. Goals that were aborted before the first
            message are reported only if they were accepted after it.
    """

    def __init__(self, start: int) -> None:
        self._start = start
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._heard: set[str] = set()

    def update(self, action: str, aborted: list[tuple[bytes, int]]) -> list[bytes]:
        """Take the status of all goals of an action.

        Args:
            action: Name of the action.
            aborted: Identifier of each goal that is aborted, and the time in ns at which it was accepted.

        Returns:
            The identifiers of the goals that were not aborted before.
        """
        first = action not in self._heard
        self._heard.add(action)
        found = []
        for goal, accepted in aborted:
            if (action, goal) in self._known:
                self._known.move_to_end((action, goal))
                continue
            self._known[action, goal] = None
            if not first or accepted >= self._start:
                found.append(goal)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found
