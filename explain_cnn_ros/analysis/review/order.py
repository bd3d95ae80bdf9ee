"""The order in which windows are shown: the most informative first, without near-duplicates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.review.windows import DecidedWindows

#: Windows of a recording are near-duplicates if their log times differ by less than NEAR_NS, in ns, and the
#: intersection of their regions is at least NEAR_IOU of the union.
NEAR_NS, NEAR_IOU = 10**9, 0.5

#: Log time, and x, y, width and height of a region.
_Taken = tuple[int, int, int, int, int]


def in_order(windows: DecidedWindows, score: NDArray[np.float64]) -> Iterator[int]:
    """Yield the positions of all windows in the order in which they are shown.

    The windows are sorted by their scores, the highest first; windows with equal scores are in the order of the
    recordings and frames. They are then taken in rounds. A round passes through the remaining windows in this order,
    and takes each one that is no near-duplicate of a window that the same round has taken before. Near-duplicates
    are left for the next round. Thus each short time and place is shown once before any of them is shown twice.

    The order does not depend on the answers. A review that is continued leaves out the windows that have an answer.

    Args:
        windows: The windows.
        score: Their scores: float64 [N].
    """
    waiting = np.argsort(-score, kind="stable").tolist()
    while waiting:
        taken: defaultdict[tuple[int, int], list[_Taken]] = defaultdict(list)
        later = []
        for position in waiting:
            source, time = int(windows.source[position]), int(windows.log_time[position])
            x, y, width, height = windows.region[position].tolist()
            window = (time, x, y, width, height)
            cell = time // NEAR_NS
            if any(_near(window, other) for c in (cell - 1, cell, cell + 1) for other in taken.get((source, c), ())):
                later.append(position)
            else:
                taken[source, cell].append(window)
                yield position
        waiting = later


def _near(a: _Taken, b: _Taken) -> bool:
    """Whether windows of one recording, given by log time and region, are near-duplicates."""
    if abs(a[0] - b[0]) >= NEAR_NS:
        return False
    width = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    height = min(a[2] + a[4], b[2] + b[4]) - max(a[2], b[2])
    shared = max(0, width) * max(0, height)
    return shared >= NEAR_IOU * (a[3] * a[4] + b[3] * b[4] - shared)
