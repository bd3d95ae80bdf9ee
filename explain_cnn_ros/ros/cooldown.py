"""A minimum time between two events, also by a clock that may be set."""

from __future__ import annotations

import time
from collections.abc import Callable


class Cooldown:
    """Says whether enough time has passed since something happened.

    If the clock was set to a time before the event, the time since then is not known, and counts as enough. All methods
    may be called from any thread.

    Args:
        clock: Returns the time in nanoseconds. The default never jumps.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._last: int | None = None

    def begin(self) -> None:
        """Note that it happens now."""
        self._last = self._clock()

    def reset(self) -> None:
        """Forget when it happened."""
        self._last = None

    def over(self, seconds: float) -> bool:
        """Return whether it happened at least so many seconds ago, or never."""
        last = self._last  # another thread may reset it
        return last is None or not 0 <= self._clock() - last < seconds * 1e9

    def begin_if_over(self, seconds: float) -> bool:
        """Return whether the time since the last event is over. If it is, the time begins anew.

        Log messages are throttled by this. With `throttle_duration_sec`, rclpy measures by the clock of the system: if
        that is set back by hours, nothing is logged for hours.
        """
        over = self.over(seconds)
        if over:
            self.begin()
        return over
