"""Statistics of the recent past: counts, rates, percentiles, and the share of lost frames."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

#: Period that rates and percentiles refer to, in seconds.
WINDOW = 10.0

#: Maximum number of differences between stamps that are stored, and the minimum numbers from which the camera's period
#: and the loss are estimated. Fewer do not tell a camera's own pattern from loss.
STAMPS_MAX, STAMPS_MIN, LOSS_MIN = 60, 10, 30

#: Quantiles of the differences between stamps at which the search for the camera's period starts. The first one is the
#: period even if most frames are lost.
PERIOD_QUANTILES = (0.1, 0.03, 0.25, 0.5)

#: Maximum mean distance of the differences from multiples of the period, in periods. If the stamps only jitter, it is
#: larger: 0.25 for differences that have nothing to do with the period.
MISFIT_MAX = 0.12

#: Number of consecutive differences that show a change of the camera's rate, if they are equal within EVEN and are not
#: the period.
EVEN_COUNT, EVEN = 8, 0.15

#: A longer gap, in periods, is a pause of the camera: a recording starts again, or the driver is restarted.
PAUSE = 30

#: Maximum length of a pattern that a camera repeats, in periods, and the maximum probability that loss at random looks
#: like the pattern.
PATTERN_MAX, CHANCE_MAX = 8, 1e-3


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
    """Estimates the share of lost frames from the gaps between the stamps of those that arrived.

    Lost frames leave gaps that are multiples of the camera's period. Stamps that only jitter, because they are taken at
    the arrival or because the exposure changes, leave gaps of any length: their loss is not known, and counts as 0.

    A camera, or a node that forwards a part of its frames, may repeat a pattern of at most PATTERN_MAX periods, for
    instance gaps of one and of three periods in turn. The places of the pattern at which no frame ever arrives are not
    loss.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._differences: deque[int] = deque(maxlen=STAMPS_MAX)

    def add(self, stamp: int) -> None:
        """Add the stamp of a frame that arrived, in nanoseconds."""
        last, self._last = self._last, stamp
        if last is None:
            return
        difference = stamp - last
        # Also before there are enough differences for an estimate: a gap of seconds would count for a long time.
        usual = _quantile(sorted(self._differences), PERIOD_QUANTILES[0]) if self._differences else math.inf
        if difference <= 0 or difference > PAUSE * usual:
            # The clock jumped or the camera paused: the number of frames in between is unknown.
            self._differences.clear()
            return
        if len(self._differences) == 1 and usual > PAUSE * difference:
            # The first difference was such a jump: for instance, the driver has set its clock.
            self._differences.clear()
        self._differences.append(difference)
        self._follow_rate()

    def _follow_rate(self) -> None:
        """Forget the differences before a change of the camera's rate, whose frames would look lost."""
        differences = list(self._differences)
        before, recent = sorted(differences[:-EVEN_COUNT]), differences[-EVEN_COUNT:]
        middle = sorted(recent)[len(recent) // 2]
        even = all(abs(value - middle) <= EVEN * middle for value in recent)
        if len(before) >= EVEN_COUNT and even:
            period = _quantile(before, PERIOD_QUANTILES[0])
            if not 2 / 3 < middle / period < 1.5:
                self._differences = deque(recent, maxlen=STAMPS_MAX)

    @property
    def period(self) -> float:
        """The camera's period in nanoseconds, or the least time between frames; 0 while too few have arrived."""
        if len(self._differences) < STAMPS_MIN:
            return 0.0
        return _quantile(sorted(self._differences), PERIOD_QUANTILES[0])

    @property
    def lost(self) -> float:
        """Share of the recent frames that were lost; 0 while it is not known."""
        # The newest differences may be the first ones of another rate.
        recent = list(self._differences)[: 1 - EVEN_COUNT]
        if len(recent) < LOSS_MIN:
            return 0.0
        differences = sorted(recent)
        for quantile in PERIOD_QUANTILES:
            period = _period(differences, _quantile(differences, quantile))
            if period:
                return _lost([round(difference / period) for difference in recent])
        return 0.0


def _quantile(values: list[int], share: float) -> float:
    return float(values[int(share * len(values))])


def _period(differences: list[int], period: float) -> float:
    """Return the period of which the differences are multiples; 0 if they are no multiples of a period.

    Args:
        differences: Differences of the stamps, in nanoseconds; sorted.
        period: A first estimate of the period, in nanoseconds.
    """
    # Small multiples tell the period before large ones can be told apart.
    for bound in (2.5, 4.5, math.inf):
        near = [difference for difference in differences if 0.5 * period <= difference <= bound * period]
        if not near:
            return 0.0
        period = sum(near) / sum(round(difference / period) for difference in near)
    multiples = [round(difference / period) for difference in differences]
    pairs = zip(differences, multiples, strict=True)
    misfit = sum(abs(difference / period - multiple) for difference, multiple in pairs) / len(multiples)
    counts = Counter(multiples)
    single = counts[1] / len(multiples)
    # If frames are lost at random, no multiple is much more frequent than the period itself. Two frames in a burst, and
    # a long gap, are no lattice either: the mean of the multiples is then much more than the period's share tells.
    plausible = counts[1] >= 0.5 * max(counts.values()) and (
        single > 0.75 or sum(multiples) / len(multiples) <= 2 / single
    )
    return period if misfit <= MISFIT_MAX and plausible else 0.0


def _lost(multiples: Sequence[int]) -> float:
    """Return the share of lost frames.

    Args:
        multiples: Numbers of periods between the frames that arrived.
    """
    arrived = list(itertools.accumulate(multiples))
    total = arrived[-1]
    at_random = max(0.0, 1 - len(arrived) / total)
    expected = total
    for length in range(2, PATTERN_MAX + 1):
        used = {place % length for place in arrived}
        # The number of places from 1 to total. There may be billions of them if the clock has jumped.
        usual = sum((total - place) // length + (place > 0) for place in used)
        # The probability that frames that are lost at random leave any so many places of the pattern empty.
        chance = math.comb(length, len(used)) * at_random ** (total - usual)
        if chance <= CHANCE_MAX:
            expected = min(expected, usual)
    return max(0.0, 1 - len(arrived) / expected)


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
