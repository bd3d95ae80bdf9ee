"""The labelled windows of an analysis."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from explain_cnn_ros.analysis.finished import read_table
from explain_cnn_ros.model.windows import Region


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
