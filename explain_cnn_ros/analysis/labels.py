"""Labels of recordings: times at which there was a person, or none."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Seconds below this are counted from the start of the recording, others from 1970.
RELATIVE_MAX = 1e8

_YES, _NO = ("1", "true", "yes", "person"), ("0", "false", "no", "background", "none")


@dataclass(frozen=True)
class Label:
    """An interval of time with a person in front of the camera, or without.

    Attributes:
        start: Beginning of the interval, in seconds: from the start of the recording if it is below RELATIVE_MAX, else
            from 1970.
        end: End of the interval, in the same way; it does not belong to the interval.
        person: Whether there was a person.
        source: A part of the path of the recordings that the label belongs to; "" for all recordings.
    """

    start: float
    end: float
    person: bool
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON. An interval without a beginning or an end has null there."""
        times = {"start": self.start, "end": self.end}
        return dataclasses.asdict(self) | {n: time if math.isfinite(time) else None for n, time in times.items()}

    def covers(self, source: str, log_time: int, recording_start: int) -> bool:
        """Whether a frame lies in this interval.

        Args:
            source: Path of the recording.
            log_time: Log time of the frame, in ns.
            recording_start: Log time of the first message of the recording, in ns.
        """
        seconds = log_time / 1e9 if self.start >= RELATIVE_MAX else (log_time - recording_start) / 1e9
        return self.source in source and self.start <= seconds < self.end


def read_labels(path: Path) -> list[Label]:
    """Read a CSV file with the columns start, end, person and, if there are several recordings, source.

    Args:
        path: The file.

    Raises:
        ValueError: The file cannot be read, or a line is malformed; the message names the line and what is expected.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            missing = {"start", "end", "person"} - set(reader.fieldnames or ())
            if missing:
                raise ValueError(
                    f"{path}: no column {', '.join(sorted(missing))}; the first line is start,end,person, the others "
                    "look like 12.5,30,person"
                )
            return [_label(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: the labels cannot be read: {error}") from error


def _label(path: Path, line: int, row: dict[str, str]) -> Label:
    try:
        start, end = float(row["start"]), float(row["end"] or "inf")
    except (TypeError, ValueError):
        raise ValueError(
            f"{path}, line {line}: start and end are seconds, not {row['start']!r}, {row['end']!r}"
        ) from None
    if not start < end or math.isnan(start):
        raise ValueError(f"{path}, line {line}: end ({end:g}) must lie after start ({start:g})")
    word = (row["person"] or "").strip().lower()
    if word not in _YES + _NO:
        raise ValueError(f"{path}, line {line}: person is {row['person']!r}: use person or background, or 1 or 0")
    return Label(start, end, word in _YES, (row.get("source") or "").strip())


def label_of(labels: Sequence[Label], source: str, log_time: int, recording_start: int) -> bool | None:
    """Return whether a frame shows a person, by the last label whose interval it lies in; None without a label.

    Args:
        labels: The labels.
        source: Path of the recording.
        log_time: Log time of the frame, in ns.
        recording_start: Log time of the first message of the recording, in ns.
    """
    for label in reversed(labels):
        if label.covers(source, log_time, recording_start):
            return label.person
    return None
