"""Statistics of the recent past: counts, rates, percentiles, and the share of lost frames."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

#: Period that rates and percentiles refer to, in seconds.
WINDOW = 10.0

#: Maximum and minimum number of differences between stamps that the camera's period is estimated from.
STAMPS_MAX, STAMPS_MIN = 60, 10

#: Quantile of the differences between stamps that estimates the camera's period, even if most frames are lost.
PERIOD_QUANTILE = 0.1

#: A longer gap, in periods, is a pause of the camera: a recording starts again, or the driver is restarted.
PAUSE = 30


class RecentValues:
    """Values of the last seconds.

    Args:
        seconds: Period in which values are stored.
        clock: Returns the time in seconds.
    """

    def __init__(self, seconds: float = WINDOW, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock, self._start = seconds, clock, clock()
        self._values: deque[tuple[float, float]] = deque()

    def add(self, value: float = 0.0) -> None:
        """Add a value with the current time."""
        self._values.append((self._clock(), value))
        self._forget()

    def rate(self) -> float:
        """Return the number of values per second."""
        self._forget()
        span = min(self._seconds, self._clock() - self._start)
        return len(self._values) / span if span > 0 else 0.0

    def percentile(self, share: float) -> float:
        """Return the smallest value that at least `share` of the values do not exceed; NaN if there are none."""
        self._forget()
        values = sorted(value for _, value in self._values)
        return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)] if values else math.nan

    def _forget(self) -> None:
        horizon = self._clock() - self._seconds
        while self._values and self._values[0][0] < horizon:
            self._values.popleft()


class Gaps:
    """Estimates the share of lost frames from the gaps between the stamps of those that arrived."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._differences: deque[int] = deque(maxlen=STAMPS_MAX)

    def add(self, stamp: int) -> None:
        """Add the stamp of a frame that arrived, in nanoseconds."""
        last, self._last = self._last, stamp
        if last is None:
            return
        difference = stamp - last
        period = self.period
        if difference <= 0 or (period and difference > PAUSE * period):
            # The clock jumped or the camera paused: the number of frames in between is unknown.
            self._differences.clear()
            return
        self._differences.append(difference)

    @property
    def period(self) -> float:
        """The camera's period in nanoseconds; 0 while too few frames have arrived."""
        if len(self._differences) < STAMPS_MIN:
            return 0.0
        return float(sorted(self._differences)[int(PERIOD_QUANTILE * len(self._differences))])

    @property
    def lost(self) -> float:
        """Share of the recent frames that were lost; 0 while it is not known."""
        period = self.period
        if not period:
            return 0.0
        sent = sum(max(1, round(difference / period)) for difference in self._differences)
        return 1 - len(self._differences) / sent


class Statistics:
    """Counts and recent values by name. All methods may be called from any thread.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._recent: dict[str, RecentValues] = {}
        self._gaps = Gaps()

    def count(self, name: str) -> int:
        """Increase a count by one and return it."""
        with self._lock:
            self._counts[name] += 1
            return self._counts[name]

    def add(self, name: str, value: float = 0.0) -> None:
        """Increase a count by one and add a value."""
        with self._lock:
            self._counts[name] += 1
            if name not in self._recent:
                self._recent[name] = RecentValues(clock=self._clock)
            self._recent[name].add(value)

    def stamp(self, stamp: int) -> None:
        """Add the stamp of a frame that arrived, in nanoseconds."""
        with self._lock:
            self._gaps.add(stamp)

    @property
    def lost(self) -> float:
        """Share of the recent frames that were lost."""
        with self._lock:
            return self._gaps.lost

    @property
    def counts(self) -> dict[str, int]:
        """All counts by name."""
        with self._lock:
            return dict(self._counts)

    def rate(self, name: str) -> float:
        """Return the recent number of values per second."""
        with self._lock:
            return self._recent[name].rate() if name in self._recent else 0.0

    def percentile(self, name: str, share: float) -> float:
        """Return the smallest recent value that at least `share` of them do not exceed; NaN if there are none."""
        with self._lock:
            return self._recent[name].percentile(share) if name in self._recent else math.nan
