"""The interval of time that covers one frame, as the columns start and end of a labels file have it."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

from explain_cnn_ros.analysis.labels import RELATIVE_MAX

_SECOND = 10**9


def frame_interval(log_time: int, recording_start: int) -> tuple[str, str]:
    """Return start and end of a label that covers one frame.

    Log times of at least RELATIVE_MAX seconds are given in ns from 1970. Shorter ones, of recordings with simulated
    time, of videos and of folders, are given in seconds from the start of the recording. Labels have their times as
    floating-point numbers of seconds, whose steps are 238 ns in this century. The interval is a single step, so frames
    that are farther apart have different labels.

    Args:
        log_time: Log time of the frame, in ns.
        recording_start: Log time of the first message of the recording, in ns.
    """
    if log_time >= RELATIVE_MAX * _SECOND:
        return str(log_time), str(_next(log_time))
    time = log_time - recording_start
    return _seconds(time), _seconds(_next(time))


def _next(time: int) -> int:
    """Return the first time, in ns, that is another number of seconds than `time`."""
    step = Fraction(math.nextafter(time / _SECOND, math.inf)) * _SECOND
    return max(time + 1, math.ceil(step))


def _seconds(time: int) -> str:
    return f"{Decimal(time).scaleb(-9):.9f}"
