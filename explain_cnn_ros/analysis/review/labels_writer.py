"""The labels file of a review. Each answer is on the disk before it is confirmed."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from explain_cnn_ros.analysis.label_file import read_labels
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.review.windows import ReviewError
from explain_cnn_ros.files import reason, require_folder, visible
from explain_cnn_ros.model.windows import Window, person_box

#: The columns of a labels file. x, y, width and height are a box in pixels of the image; they are empty in labels of
#: whole frames.
COLUMNS = ("start", "end", "person", "source", "x", "y", "width", "height")

#: Lines about skipped windows begin with this, so readers of labels leave them out.
SKIPPED = "# skipped "

#: Before a line that was cut off when the machine lost its power.
_CUT_OFF = b"# cut off: "

_HEADER = ",".join(COLUMNS) + "\n"

#: Device, inode, size and time of the last change of a file.
_Stamp = tuple[int, int, int, int]


class Answer(Enum):
    """The answer about a window. The value is the name of the answer in the page."""

    PERSON = "person"
    NOBODY = "nobody"
    SKIP = "skip"


class WindowKey(NamedTuple):
    """The window that a label is about, as texts of the columns of a labels file.

    Attributes:
        start: Beginning of the interval that covers the frame.
        end: End of the interval.
        source: Path of the recording, or the longest part of it that a cell can hold.
        x: Left edge of the person in the window, in pixels of the image; "" if the label is about the whole frame.
        y: Top edge of the person.
        width: Width of the person.
        height: Height of the person.
    """

    start: str
    end: str
    source: str
    x: str = ""
    y: str = ""
    width: str = ""
    height: str = ""


def window_key(interval: tuple[str, str], source: str, window: Window | None) -> WindowKey:
    """Return the key of a window.

    Args:
        interval: Start and end of the label; see `label_times.frame_interval`.
        source: Path of the recording.
        window: The window, in pixels of the image; None for the whole frame. Boxes of labels are those of persons,
            without the margins that windows have around them.
    """
    # A cell holds no end of a line, and spaces at its ends are left out by readers.
    part = max(source.splitlines(), key=len, default="").strip()
    box = () if window is None else person_box(window)
    return WindowKey(*interval, part, *(f"{side:.1f}" for side in box))


class LabelsWriter:
    """Appends answers to a labels file, and withdraws the last ones. Rows of others stay as they are.

    Each answer is one line that is written and synchronised with the disk before the call returns. A withdrawn answer
    is cut off the end of the file, if it is still there. Every call locks the file that has the name at that time, so
    nothing is lost if an editor replaces the file in the meantime, or if another review writes to it.

    Args:
        path: The file. It is created with the first answer.

    Attributes:
        path: The file.
        answered: The windows with an answer, as the file has them at the beginning.
        whole: The labels of whole frames, as the file has them at the beginning.
        notes: Sentences about repairs of the file.

    Raises:
        ReviewError: The file cannot be continued. The message names the cause and the cure.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answered: set[WindowKey] = set()
        self.whole: list[Label] = []
        self.notes: list[str] = []
        self._names: list[str] = []
        self._delimiter = ","
        self._counts: Counter[Answer] = Counter()
        self._stamp: _Stamp | None = None
        try:
            if path.is_dir():
                raise ReviewError(f"{visible(path)} is a folder: give a file for the labels")
            require_folder(path.parent)
            if path.exists():
                with self._opened() as file:
                    self._load(file)
        except OSError as error:
            raise ReviewError(f"the labels cannot be written: {reason(error)}") from error

    def append(self, key: WindowKey, answer: Answer) -> bytes:
        """Append an answer.

        Args:
            key: The window.
            answer: The answer.

        Returns:
            The line that was written, for `withdraw`.

        Raises:
            ReviewError: The line could not be written, for instance because the disk is full. The file is as it was.
        """
        try:
            with self._opened(create=True) as file:
                self._load_if_changed(file)
                size = os.fstat(file).st_size
                # A file without columns is empty, or has comments only.
                names, delimiter = self._names or list(COLUMNS), self._delimiter
                line = _line(key, answer, names, delimiter)
                try:
                    _write_all(file, line if self._names else _HEADER.encode() + line)
                    os.fsync(file)
                except OSError:
                    with suppress(OSError):
                        os.ftruncate(file, size)
                    raise
                if not self._names:
                    self._names = names
                    _sync_folder(self.path.parent)
                self._stamp = _stamp(file)
        except OSError as error:
            raise ReviewError(f"the answer could not be stored: {reason(error)}") from error
        self._counts[answer] += 1
        return line

    def withdraw(self, line: bytes) -> None:
        """Remove an answer, the last line of the file.

        Args:
            line: The line, as `append` returned it.

        Raises:
            ReviewError: The line is not the last one any more, or the file cannot be written. The file is as it was.
        """
        try:
            with self._opened() as file:
                start = os.fstat(file).st_size - len(line)
                if start < 0 or os.pread(file, len(line), start) != line:
                    raise ReviewError(
                        f"{visible(self.path)} was changed by another program after this answer: correct the answer "
                        "there"
                    )
                self._load_if_changed(file)
                os.ftruncate(file, start)
                os.fsync(file)
                self._stamp = _stamp(file)
        except OSError as error:
            raise ReviewError(f"the answer could not be withdrawn: {reason(error)}") from error
        self._counts[self._answer_in(line.decode())] -= 1

    def counts(self) -> dict[Answer, int]:
        """Return the number of labels with a person and without, and of skipped windows, in the file."""
        return {answer: self._counts[answer] for answer in Answer}

    @contextmanager
    def _opened(self, create: bool = False) -> Iterator[int]:
        """Open the file for appending, and lock it in the body."""
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)

    def _load_if_changed(self, file: int) -> None:
        if _stamp(file) != self._stamp:
            self._load(file)

    def _load(self, file: int) -> None:
        """Read the file that is open, and repair its last line.

        Raises:
            ReviewError: It is no labels file with the columns of a review.
        """
        content = os.pread(file, os.fstat(file).st_size, 0)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ReviewError(
                f"{visible(self.path)} is no text in UTF-8: save it as UTF-8, or give another --labels"
            ) from error
        if text and _HEADER.startswith(text) and not text.endswith("\n") and text != _HEADER.rstrip("\n"):
            self._cut(file, len(content), content)
            text = ""
        lines = [line for line in text.splitlines() if line.strip(' \t,;"') and not line.lstrip().startswith("#")]
        self._names, self._delimiter = [], ","
        if lines:
            self._delimiter = max(",;\t", key=lines[0].count)
            self._names = [name.strip().lower() for name in _cells(lines[0], self._delimiter) or []]
            self._check_columns()
        if text and not text.endswith(("\n", "\r")):
            text = self._repair(file, content)
        self._read(text)
        self._stamp = _stamp(file)

    def _check_columns(self) -> None:
        missing = [name for name in COLUMNS if name not in self._names]
        if missing:
            raise ReviewError(
                f"{visible(self.path)} lacks the columns {', '.join(missing)}: add their names to its first line "
                "(the cells may stay empty), or give another --labels"
            )

    def _repair(self, file: int, content: bytes) -> str:
        """End the last line. A line of a review that was cut off becomes a comment."""
        start = content.rfind(b"\n") + 1
        last = content[start:].decode("utf-8-sig")
        cells = _cells(last, self._delimiter)
        # All cells of a line of a review have quotation marks.
        complete = cells is not None and len(cells) == len(self._names) and last.endswith('"')
        torn = last.startswith('"') and not complete
        if torn:
            self._cut(file, len(content), content[start:])
            _write_all(file, _CUT_OFF + content[start:] + b"\n")
        else:
            _write_all(file, b"\n")
        os.fsync(file)
        repaired: bytes = os.pread(file, os.fstat(file).st_size, 0)
        return repaired.decode("utf-8-sig")

    def _cut(self, file: int, size: int, line: bytes) -> None:
        """Cut a line that is not complete off the end of the file."""
        os.ftruncate(file, size - len(line))
        self.notes.append(f"the last line of {visible(self.path)} was not complete, and does not count")

    def _read(self, text: str) -> None:
        """Read labels, skipped windows and their numbers."""
        self._counts.clear()
        self.answered, self.whole, rows = set(), [], []
        named = False
        for line in text.splitlines():
            if line.startswith(SKIPPED):
                cells = _cells(line[len(SKIPPED) :], ",")
                if cells is not None and len(cells) == len(COLUMNS):
                    self._counts[Answer.SKIP] += 1
                    self.answered.add(_key(dict(zip(COLUMNS, cells, strict=True))))
            elif line.strip(' \t,;"') and not line.lstrip().startswith("#"):
                if named:
                    rows.append(dict(zip(self._names, _cells(line, self._delimiter) or [], strict=False)))
                named = True
        if not rows:
            return
        try:
            labels = read_labels(self.path)
        except ValueError as error:
            raise ReviewError(f"{error}; correct it, or give another --labels") from error
        for label, row in zip(labels, rows, strict=True):
            self._counts[Answer.PERSON if label.person else Answer.NOBODY] += 1
            self.answered.add(_key(row))
            if label.box is None:
                self.whole.append(label)

    def _answer_in(self, line: str) -> Answer:
        """Return the answer of a line that this object has written."""
        if line.startswith(SKIPPED):
            return Answer.SKIP
        row = dict(zip(self._names, _cells(line, self._delimiter) or [], strict=False))
        return Answer.PERSON if row["person"] == "person" else Answer.NOBODY


def _line(key: WindowKey, answer: Answer, names: Sequence[str], delimiter: str) -> bytes:
    """Return the line of an answer in a file with given columns."""
    values = key._asdict() | {"person": "person" if answer is Answer.PERSON else "background"}
    if answer is Answer.SKIP:
        values["person"] = ""
        return (SKIPPED + _row([values[name] for name in COLUMNS], ",")).encode()
    return _row([values.get(name, "") for name in names], delimiter).encode()


def _row(cells: Sequence[str], delimiter: str) -> str:
    text = io.StringIO()
    # Quotation marks around all cells show whether a line is complete.
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _cells(line: str, delimiter: str) -> list[str] | None:
    """Return the cells of a line; None if a quotation mark is not closed."""
    try:
        found = next(csv.reader(io.StringIO(line), delimiter=delimiter, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return None
    return [cell.strip() for cell in found]


def _key(row: Mapping[str, str]) -> WindowKey:
    return WindowKey(*(row.get(name, "") for name in WindowKey._fields))


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _stamp(file: int) -> _Stamp:
    status = os.fstat(file)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _sync_folder(folder: Path) -> None:
    """Synchronise the name of a new file with the disk, where the file system allows it."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
