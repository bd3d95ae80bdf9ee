"""The windows of time that are recorded around events. Events that overlap extend a window; without ROS."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field

from explain_cnn_ros.ros.black_box.events import TriggerEvent

#: Maximum number of windows that wait to be recorded, and of events that one window lists.
WAITING_MAX, LISTED_MAX = 10, 100


@dataclass
class EventWindow:
    """A window of time to record.

    Attributes:
        begin: Its first moment, in seconds.
        end: Its last moment; events move it.
        limit: Maximum of `end`.
        events: The events, at most LISTED_MAX.
        name: Name of the recording.
        number: Number of the first message in the buffer.
        more: Number of further events.
        closed: Whether the end is final.
    """

    begin: float
    end: float
    limit: float
    events: list[TriggerEvent] = field(default_factory=list)
    name: str = ""
    number: int = 0
    more: int = 0
    closed: bool = False

    @property
    def causes(self) -> list[str]:
        """The causes of the events, each once."""
        return list(dict.fromkeys(event.cause for event in self.events))

    def include(self, event: TriggerEvent) -> None:
        """Add an event, or count it if the window has LISTED_MAX events."""
        if len(self.events) < LISTED_MAX:
            self.events.append(event)
        else:
            self.more += 1


class EventWindows:
    """The windows that are to be recorded, for one thread that adds events and one that records.

    Windows do not overlap: each one begins after the end of the one before, so that no message is recorded twice. If
    the clock stands still, the time before an event cannot be told from that before the last one: it is recorded again.
    """

    def __init__(self) -> None:
        self._waiting: deque[EventWindow] = deque()
        self._end = -math.inf  # of the last window that was removed
        self._lock = threading.Lock()

    def add(
        self, event: TriggerEvent, before: float, after: float, length_max: float
    ) -> tuple[EventWindow | None, bool]:
        """Add an event.

        Args:
            event: The event.
            before: Seconds to record before it.
            after: Seconds to record after it.
            length_max: Maximum length of a window, in seconds. If it is less than `before` and `after` together, they
                are shortened in proportion.

        Returns:
            The window of the event, and whether it is a new one; no window if too many wait.
        """
        if before + after > length_max:
            share = length_max / (before + after)
            before, after = before * share, after * share
        with self._lock:
            newest = self._waiting[-1] if self._waiting else None
            if newest is not None and not newest.closed and event.time <= newest.end:
                newest.end = min(max(newest.end, event.time + after), newest.limit)
                newest.include(event)
                return newest, False
            if len(self._waiting) >= WAITING_MAX:
                return None, False
            end = newest.end if newest is not None else self._end
            after_last = end if event.time == end else math.nextafter(end, math.inf)
            begin = max(event.time - before, after_last)
            window = EventWindow(begin, max(event.time + after, begin), begin + length_max)
            window.include(event)
            self._waiting.append(window)
            return window, True

    @property
    def first(self) -> EventWindow | None:
        """The window to record now; None if there is none."""
        with self._lock:
            return self._waiting[0] if self._waiting else None

    def finish(self, window: EventWindow, now: float) -> bool:
        """Close a window if its end has passed; return whether it is closed."""
        with self._lock:
            window.closed = window.closed or now > window.end
            return window.closed

    def cut(self, window: EventWindow, end: float) -> None:
        """Close a window early.

        Args:
            window: The window.
            end: Its end. The next window may begin there.
        """
        with self._lock:
            window.end, window.closed = min(window.end, end), True

    def remove(self, window: EventWindow) -> EventWindow | None:
        """Remove a closed window, recorded or given up; return the next one."""
        with self._lock:
            self._waiting.remove(window)
            self._end = window.end
            return self._waiting[0] if self._waiting else None

    def close_all(self, now: float) -> None:
        """Close all windows now: the process ends."""
        with self._lock:
            for window in self._waiting:
                window.end, window.closed = min(window.end, max(now, window.begin)), True
