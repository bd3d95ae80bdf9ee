"""The labelled windows of an analysis, and which of them a repair may learn from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explain_cnn_ros.analysis.finished import read_table
from explain_cnn_ros.model.windows import Region

#: Windows within this time before the cut belong to neither side, in ns: they resemble those after it.
GAP_NS = 2 * 10**9


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
    """

    training: tuple[LabelledWindow, ...]
    held_out: tuple[LabelledWindow, ...]


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
    frames = _rows(output, "frames", ["source", "frame", "log_time"])
    times = {(row["source"], row["frame"]): row["log_time"] for row in frames}
    columns = ["source", "frame", "region", "x", "y", "width", "height", "probability", "label", "wrong"]
    return [
        LabelledWindow(
            source=row["source"],
            frame=row["frame"],
            log_time=times[row["source"], row["frame"]],
            number=row["region"],
            region=Region(row["x"], row["y"], row["width"], row["height"], row["probability"]),
            person=row["label"],
            wrong=row["wrong"],
            cause=of_window.get((row["source"], row["frame"], row["region"])),
        )
        for row in _rows(output, "regions", columns)
        if row["label"] is not None
    ]


def _rows(output: Path, name: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(output, name, columns).to_pylist()
    return rows


def split(windows: Sequence[LabelledWindow], held_out: float = 1 / 3, gap: int = GAP_NS) -> Split:
    """Split windows by recording and time.

    The last part of each recording is held out, so that neighbouring frames are on one side, and the network is proved
    on what came later. The cut is where a share of the frames with wrong windows, or with any labelled windows if there
    are no wrong ones, lies behind it. Frames shortly before the cut belong to neither side.

    Args:
        windows: The windows.
        held_out: Share that is held out.
        gap: Time before the cut whose frames are left out, in ns.
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
    return Split(tuple(training), tuple(later))


def _cut(windows: Sequence[LabelledWindow], held_out: float) -> int:
    """Return the log time at which the held-out part of a recording begins."""
    times = sorted({window.log_time for window in windows if window.wrong} or {window.log_time for window in windows})
    return times[min(round(len(times) * (1 - held_out)), len(times) - 1)]
