"""The labelled windows of an analysis, and which of them a repair may learn from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from explain_cnn_ros.analysis.finished import read_table
from explain_cnn_ros.analysis.silencing import spread
from explain_cnn_ros.bags.reader import CLOCK_UNSET
from explain_cnn_ros.model.windows import Region

#: Windows within this time before the cut belong to neither side, in ns: they resemble those after it.
GAP_NS = 2 * 10**9

#: Maximum number of windows that a network learns from. Each takes 46 kB of memory, so all of them take 0.9 GB. The
#: default training draws a window of them about 1400 times, so more of them would hardly change it.
LEARNED_MAX = 20_000


class RepairError(Exception):
    """A repair cannot begin or go on. The message names the cause and the cure."""


@dataclass(frozen=True)
class LabelledWindow:
    """A window whose label is known.

    Attributes:
        source: Path of the recording.
        frame: Number of the frame.
        log_time: Log time of the frame, in ns.
        number: Number of the region in its frame.
        region: The region, with the P(person) of the analysis.
        person: Whether it shows a person: the label.
        wrong: Whether the decision of the analysis was wrong.
        cause: Number of its cause, counted from 0; None if it has none.
    """

    source: str
    frame: int
    log_time: int
    number: int
    region: Region
    person: bool
    wrong: bool
    cause: int | None = None


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


def labelled_windows(output: Path, causes: Sequence[dict[str, Any]] = ()) -> list[LabelledWindow]:
    """Read the labelled windows of an analysis, in the order of the recordings.

    Args:
        output: Folder of the analysis.
        causes: The causes in its manifest, as plain values.

    Raises:
        ResultsError: A table cannot be read.
    """
    of_window = {
        (window["source"], window["frame"], window["region"]): number
        for number, cause in enumerate(causes)
        for window in cause["windows"]
    }
    columns = ["source", "frame", "region", "x", "y", "width", "height", "probability", "label", "wrong"]
    regions = read_table(output, "regions", columns)
    # A long recording has millions of regions, most of them without a label. Python values take far more memory than
    # those of the table, so only labelled regions become Python values.
    rows = regions.filter(pc.is_valid(regions["label"])).to_pylist()
    times = _times(read_table(output, "frames", ["source", "frame", "log_time"]), {_frame(row) for row in rows})
    return [
        LabelledWindow(
            source=row["source"],
            frame=row["frame"],
            log_time=times[_frame(row)],
            number=row["region"],
            region=Region(row["x"], row["y"], row["width"], row["height"], row["probability"]),
            person=row["label"],
            wrong=row["wrong"],
            cause=of_window.get((row["source"], row["frame"], row["region"])),
        )
        for row in rows
    ]


def _frame(row: Mapping[str, Any]) -> tuple[str, int]:
    """Return the recording and the number of the frame of a row."""
    return row["source"], row["frame"]


def _times(frames: pa.Table, wanted: Container[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Return the log times of some frames, in ns, by recording and number. The table is read in small batches."""
    batches = frames.to_batches(max_chunksize=1024)
    return {_frame(row): row["log_time"] for batch in batches for row in batch.to_pylist() if _frame(row) in wanted}


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
