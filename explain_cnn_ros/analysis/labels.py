"""Labels of recordings: when there was a person, and when there was none."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Seconds below this count from the recording's start; others since 1970.
RELATIVE_MAX = 1e8

_YES, _NO = ("1", "true", "yes", "person"), ("0", "false", "no", "background", "none")


@dataclass(frozen=True)
class Label:
    """A stretch of time with a person in front of the camera, or without.

    start, end: seconds; from the recording's start if below RELATIVE_MAX, else since 1970. `end` is left out.
    source: a part of the recording's path, for labels of some recordings only.
    """

    start: float
    end: float
    person: bool
    source: str = ""

    def covers(self, source: str, log_time: int, recording_start: int) -> bool:
        """Whether a frame, by its log time in ns, lies in this stretch."""
        seconds = log_time / 1e9 if self.start >= RELATIVE_MAX else (log_time - recording_start) / 1e9
        return self.source in source and self.start <= seconds < self.end


def read_labels(path: Path) -> list[Label]:
    """Read a CSV file with the columns start, end, person and, if there are several recordings, source.

    Raises:
        ValueError: which line is wrong, and what it should hold.
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
    """Whether a frame shows a person; None if nothing says so. Of several labels the last counts."""
    for label in reversed(labels):
        if label.covers(source, log_time, recording_start):
            return label.person
    return None
