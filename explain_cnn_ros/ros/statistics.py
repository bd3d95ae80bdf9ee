"""What a node has done lately: counts, rates, percentiles, and frames that never came."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

#: Seconds that rates and percentiles look back.
WINDOW = 10.0

#: Differences between stamps that the camera's period is estimated from, and how many it takes.
STAMPS_KEPT, STAMPS_NEEDED = 60, 10

#: Of the differences between stamps, the share that are one period of the camera at most, however many frames are lost.
PERIOD_QUANTILE = 0.1

#: A longer gap, in periods, is a pause of the camera: a bag that starts again, a driver that was restarted.
PAUSE = 30


class Recent:
    """Values of the last seconds."""

    def __init__(self, seconds: float = WINDOW, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock, self._start = seconds, clock, clock()
        self._values: deque[tuple[float, float]] = deque()

    def add(self, value: float = 0.0) -> None:
        """Something happened now; `value` is how long it took, or whatever else is of interest."""
        self._values.append((self._clock(), value))
        self._forget()

    def rate(self) -> float:
        """How often a second."""
        self._forget()
        span = min(self._seconds, self._clock() - self._start)
        return len(self._values) / span if span > 0 else 0.0

    def percentile(self, share: float) -> float:
        """The value that `share` of the values do not exceed; NaN when there are none."""
        self._forget()
        values = sorted(value for _, value in self._values)
        return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)] if values else math.nan

    def _forget(self) -> None:
        horizon = self._clock() - self._seconds
        while self._values and self._values[0][0] < horizon:
            self._values.popleft()


class Gaps:
    """Frames that a camera sent and that never arrived, by the gaps between the stamps of those that did."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._differences: deque[int] = deque(maxlen=STAMPS_KEPT)

    def add(self, stamp: int) -> None:
        """The stamp of a frame that arrived, nanoseconds."""
        last, self._last = self._last, stamp
        if last is None:
            return
        difference = stamp - last
        period = self.period
        if difference <= 0 or (period and difference > PAUSE * period):
            # The clock jumped or the camera paused: nothing is known of the frames between.
            self._differences.clear()
            return
        self._differences.append(difference)

    @property
    def period(self) -> float:
        """The camera's, nanoseconds; 0 while too few frames have come."""
        if len(self._differences) < STAMPS_NEEDED:
            return 0.0
        return float(sorted(self._differences)[int(PERIOD_QUANTILE * len(self._differences))])

    @property
    def lost(self) -> float:
        """The share of frames that never arrived, lately; 0 while it is not known."""
        period = self.period
        if not period:
            return 0.0
        sent = sum(max(1, round(difference / period)) for difference in self._differences)
        return 1 - len(self._differences) / sent


class Statistics:
    """Counts and recent values by name, from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._recent: dict[str, Recent] = {}
        self._gaps = Gaps()

    def count(self, name: str) -> int:
        """One more; how many there are now."""
        with self._lock:
            self._counts[name] += 1
            return self._counts[name]

    def add(self, name: str, value: float = 0.0) -> None:
        """One more, with a value of interest."""
        with self._lock:
            self._counts[name] += 1
            if name not in self._recent:
                self._recent[name] = Recent(clock=self._clock)
            self._recent[name].add(value)

    def stamp(self, stamp: int) -> None:
        """A frame of this stamp arrived, nanoseconds."""
        with self._lock:
            self._gaps.add(stamp)

    @property
    def lost(self) -> float:
        """The share of frames that never arrived, lately."""
        with self._lock:
            return self._gaps.lost

    @property
    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def rate(self, name: str) -> float:
        """How often a second, lately."""
        with self._lock:
            return self._recent[name].rate() if name in self._recent else 0.0

    def percentile(self, name: str, share: float) -> float:
        """The value that `share` of the recent ones do not exceed; NaN when there are none."""
        with self._lock:
            return self._recent[name].percentile(share) if name in self._recent else math.nan
