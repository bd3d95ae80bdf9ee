"""CSV files with labels, as people and spreadsheets write them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

from explain_cnn_ros.analysis.labels import RELATIVE_MAX, Box, Label
from explain_cnn_ros.files import quoted

#: Optional columns of a box, in pixels of the image.
BOX_COLUMNS = ("x", "y", "width", "height")

#: Names that other programs give to the columns of a box, and names of a column with the recording.
_OTHER_BOXES = re.compile(
    r"bbox.*|(.*_)?([xy]_?(min|max|cent(er|re)|[012])|(min|max)_?[xy]|c[xy]|left|top|right|bottom|[xywh]|width|height)"
)
_OTHER_SOURCES = ("bag", "rosbag", "recording", "file", "filename", "path", "video")

#: First line with which spreadsheets name the separator of the columns.
_SEPARATOR = re.compile(r"sep=([,;\t])", re.IGNORECASE)

#: Minimum width and height of a box, in pixels. Smaller numbers are mostly shares of the image.
_BOX_MIN = 1.0

#: Words for boxes in which decisions do not count.
_IGNORE = ("ignore",)

_YES, _NO = ("1", "true", "yes", "y", "person"), ("0", "false", "no", "n", "background", "none")

#: Units of times from 1970, as powers of ten of a second, by the smallest number that must be meant.
_UNITS = ((Decimal(10) ** 17, 9), (Decimal(10) ** 14, 6), (Decimal(10) ** 11, 3))

_FORMS = (
    "a number of seconds, from 1970 also of ms, us or ns; 1:02:03.5; or 2026-05-31T14:05:00, which is UTC unless an "
    "offset is given"
)


def read_labels(path: Path) -> list[Label]:
    """Read a CSV file with the columns start, end, person and, if there are several recordings, source.

    If there are the columns x, y, width and height, a label belongs to a box, or to the whole frame if they are empty.
    Columns are separated by commas, semicolons or tabs. Numbers may have decimal commas if the columns have not. Lines
    that are empty or begin with # are left out. Files are UTF-8, UTF-16 with a byte order mark, or Windows-1252.

    Args:
        path: The file.

    Raises:
        ValueError: The file cannot be read, or a line is malformed; the message names the line and what is expected.
    """
    try:
        text = _decoded(path.read_bytes())
        lines = [line for line in enumerate(text.splitlines(), 1) if not line[1].lstrip().startswith("#")]
        return _labels(path, [line for line in lines if line[1].strip(' \t,;"')])
    except (OSError, csv.Error) as error:
        raise ValueError(f"{path}: the labels cannot be read: {error}") from error


def _decoded(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _labels(path: Path, lines: list[tuple[int, str]]) -> list[Label]:
    separator = _SEPARATOR.fullmatch(lines[0][1].strip(" ")) if lines else None
    lines = lines[1:] if separator else lines
    head = lines[0][1] if lines else ""
    delimiter = separator[1] if separator else max(",;\t", key=head.count)
    names = [name.strip().lower() for name in _cells(head, delimiter)]
    missing = {"start", "end", "person"} - set(names)
    if missing:
        raise ValueError(
            f"{path}: no column {', '.join(sorted(missing))}; the first line is start,end,person, the others "
            "look like 12.5,30,person"
        )
    _check_columns(path, names)
    if len(lines) == 1:
        raise ValueError(f"{path}: there are no labels in it, only the names of the columns")
    found = []
    for number, line in lines[1:]:
        place, cells = f"{path}, line {number}", _cells(line, delimiter)
        if any(cells[len(names) :]):
            raise ValueError(
                f"{place}: it has more cells than there are columns; numbers with decimal commas need columns that are "
                "separated by semicolons or tabs"
            )
        found.append(_label(place, dict(zip(names, cells, strict=False)), delimiter))
    return found


def _check_columns(path: Path, names: Sequence[str]) -> None:
    """Check that the columns of boxes and of the recordings have the names that are read. Other columns are ignored.

    Raises:
        ValueError: The columns of a box are not complete, or columns seem to have other names.
    """
    absent = [name for name in BOX_COLUMNS if name not in names]
    others = [name for name in names if _OTHER_BOXES.fullmatch(name)] if absent else []
    if others and len(absent) == len(BOX_COLUMNS):
        raise ValueError(
            f"{path}: the columns {', '.join(map(quoted, others))} seem to be those of a box, but they are not read: "
            f"give the left edge, the upper edge and the size, in pixels, as {', '.join(BOX_COLUMNS)}"
        )
    if 0 < len(absent) < len(BOX_COLUMNS):
        raise ValueError(f"{path}: no column {', '.join(absent)}: a box needs the columns {', '.join(BOX_COLUMNS)}")
    recordings = [name for name in names if name in _OTHER_SOURCES]
    if recordings and "source" not in names:
        raise ValueError(
            f"{path}: the column {recordings[0]} is not read, so each label would hold for all recordings: call it "
            "source if it names the recording, or remove it"
        )


def _cells(line: str, delimiter: str) -> list[str]:
    return [
        cell.strip() for cell in next(csv.reader(io.StringIO(line), delimiter=delimiter, skipinitialspace=True), [])
    ]


def _label(place: str, row: dict[str, str], delimiter: str) -> Label:
    texts = row.get("start", ""), row.get("end", "")
    try:
        start = _seconds(texts[0], delimiter) if texts[0] else -math.inf
        end = _seconds(texts[1], delimiter) if texts[1] else math.inf
    except (ValueError, ArithmeticError):  # also those of Decimal
        raise ValueError(
            f"{place}: start and end are {quoted(texts[0])}, {quoted(texts[1])}: each must be {_FORMS}"
        ) from None
    if not start < end:
        raise ValueError(f"{place}: end ({end:.10g}) must lie after start ({start:.10g})")
    if start < RELATIVE_MAX <= end < math.inf and start > -math.inf:
        raise ValueError(
            f"{place}: start ({start:g}) is counted from the start of the recording, and end ({end:.10g}) from 1970: "
            "count both in the same way"
        )
    word = row.get("person", "").lower()
    box = _box(place, row, delimiter)
    if word not in _YES + _NO + (_IGNORE if box else ()):
        of_boxes = "; ignore is for boxes only" if word in _IGNORE else ""
        raise ValueError(
            f"{place}: person is {quoted(row.get('person', ''))}: use person or background, or 1 or 0{of_boxes}"
        )
    return Label(start, end, word in _YES, row.get("source", ""), box, word in _IGNORE)


def _box(place: str, row: dict[str, str], delimiter: str) -> Box | None:
    texts = [row.get(name, "") for name in BOX_COLUMNS]
    if not any(texts):
        return None
    try:
        values = [float(text.replace(",", ".") if delimiter != "," else text) for text in texts]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)) or min(values[2:]) < _BOX_MIN:
        raise ValueError(
            f"{place}: x, y, width and height are {', '.join(map(quoted, texts))}: they must be numbers of pixels, and "
            f"width and height at least {_BOX_MIN:g}; leave all of them empty for the whole frame"
        )
    x, y, width, height = values
    return x, y, width, height


def _seconds(text: str, delimiter: str) -> float:
    """Return a time in seconds.

    Raises:
        ValueError: The text is no time.
        ArithmeticError: The text is no number, or too large.
    """
    if re.fullmatch(r"[+-]?inf(inity)?", text.lower()):
        return float(text)
    if delimiter != "," and text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    if clock := re.fullmatch(r"(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)", text):
        hours, minutes, seconds = clock.groups(default="0")
        return float(3600 * int(hours) + 60 * int(minutes) + Decimal(seconds))
    if re.match(r"\d{4}-\d{2}-\d{2}", text):
        time = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
        return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError("not finite")
    digits = next((digits for least, digits in _UNITS if abs(number) >= least), 0)
    # One rounding, so that a log time that was copied is the same time.
    return float(number.scaleb(-digits))
