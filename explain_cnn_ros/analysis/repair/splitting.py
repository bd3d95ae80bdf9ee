"""The split of labelled windows: those that a network learns from, and those that prove the effect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explain_cnn_ros.analysis.repair.labelled import LabelledWindow
from explain_cnn_ros.analysis.silencing import spread
from explain_cnn_ros.bags.reader import CLOCK_UNSET

#: Windows within this time before the cut belong to neither side, in ns: they resemble those after it.
GAP_NS = 2 * 10**9

#: Maximum number of windows that a network learns from. Each takes 46 kB of memory, so all of them take 0.9 GB. The
#: default training draws a window of them about 1400 times, so more of them would hardly change it.
LEARNED_MAX = 20_000


@dataclass(frozen=True)
class Split:
    """The two sides of a repair.

    Attributes:
        training: Windows that the network learns from.
        held_out: Windows that prove the effect.
        left_out: Number of windows that the network does not learn from only because there are more than LEARNED_MAX.
    """

    training: tuple[LabelledWindow, ...]
    held_out: tuple[LabelledWindow, ...]
    left_out: int = 0


def split(windows: Sequence[LabelledWindow], held_out: float = 1 / 3, gap: int = GAP_NS) -> Split:
    """Split windows by recording and time.

    The last part of each recording is held out, so that neighbouring frames are on one side, and the network is proved
    on what came later. The cut is where a share of the frames with wrong windows, or with any labelled windows if there
    are no wrong ones, lies behind it. Frames shortly before the cut belong to neither side. The same is true of frames
    shortly before or after a held-out window of another recording, which may continue this one or show the same scene.
    If there are too many windows to learn from, some of them are left out; see `choose_learned`.

    Args:
        windows: The windows.
        held_out: Share that is held out.
        gap: Time before the cut, and around held-out windows of other recordings, whose frames are left out, in ns.
    """
    by_source: dict[str, list[LabelledWindow]] = defaultdict(list)
    for window in windows:
        by_source[window.source].append(window)
    training: list[LabelledWindow] = []
    later: list[LabelledWindow] = []
    for some in by_source.values():
        cut = _cut(some, held_out)
        training += [window for window in some if window.log_time < cut - gap]
        later += [window for window in some if window.log_time >= cut]
    apart = _apart(training, later, gap)
    learned = choose_learned(apart)
    return Split(tuple(learned), tuple(later), len(apart) - len(learned))


def _apart(training: Sequence[LabelledWindow], held_out: Sequence[LabelledWindow], gap: int) -> list[LabelledWindow]:
    """Return the windows to learn from that are more than a time apart from all held-out windows.

    Times of different recordings can be compared only if they are those of a real clock.

    Args:
        training: The windows to learn from.
        held_out: The held-out windows.
        gap: The time, in ns.
    """
    later = np.unique(np.array([w.log_time for w in held_out if w.log_time >= CLOCK_UNSET], np.int64))
    times = np.array([w.log_time for w in training], np.int64)
    near = np.searchsorted(later, times - gap, "left") < np.searchsorted(later, times + gap, "right")
    return [window for window, close in zip(training, near, strict=True) if not close]


def choose_learned(windows: Sequence[LabelledWindow], count_max: int = LEARNED_MAX) -> list[LabelledWindow]:
    """Choose the windows that a network learns from, in their order.

    The wrong windows come first, but if there are very many of them, half of the places remain for right windows:
    without these, the training would break right decisions. If there are too many windows of a kind, those that are
    chosen are evenly spread.

    Args:
        windows: The windows.
        count_max: Maximum number of windows that are chosen.
    """
    if len(windows) <= count_max:
        return list(windows)
    wrong = [number for number, window in enumerate(windows) if window.wrong]
    right = [number for number, window in enumerate(windows) if not window.wrong]
    wrong = spread(wrong, max(count_max // 2, count_max - len(right)))
    return [windows[number] for number in sorted(wrong + spread(right, count_max - len(wrong)))]


def _cut(windows: Sequence[LabelledWindow], held_out: float) -> int:
    """Return the log time at which the held-out part of a recording begins."""
    times = sorted({window.log_time for window in windows if window.wrong} or {window.log_time for window in windows})
    return times[min(round(len(times) * (1 - held_out)), len(times) - 1)]
