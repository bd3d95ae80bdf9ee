"""The store of the parts of an analysis, on disk. A part is complete or absent, even after a crash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from explain_cnn_ros.analysis.tables import ALL, OF_PART
from explain_cnn_ros.files import json_text, replace_text, replacing

#: Number of frames of a part.
PART_FRAMES = 64

#: Name of the table with the results of silencing. Parts get it when all recordings have been read.
SILENCING = "silencing"

Part = dict[str, pa.Table]


@dataclass(frozen=True)
class StoredFrame:
    """A frame that was analysed.

    Attributes:
        index: Number of the frame in its recording, counted from 0.
        log_time: Time at which the frame was recorded, in ns.
        topic: Topic of the message, or name of the file.
    """

    index: int
    log_time: int
    topic: str


class DamagedPartError(Exception):
    """A part cannot be read, for instance because the machine lost its power while it was written.

    Args:
        source: Number of the recording.
        number: Number of the part in the recording.
        cause: What is wrong.

    Attributes:
        source: Number of the recording.
        number: Number of the part in the recording.
    """

    def __init__(self, source: int, number: int, cause: object) -> None:
        super().__init__(f"part {number} of recording {source} is damaged: {cause}")
        self.source, self.number = source, number


class PartStore:
    """A folder with the parts of an analysis. Each part holds the results of PART_FRAMES frames of a recording.

    A part gets its final name when it is complete. A file for each recording tells that it was read to its end.

    Args:
        folder: The folder; it is created if it does not exist. Parts that are not complete are removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob("*.partial"):
            if unfinished.is_dir() and not unfinished.is_symlink():
                shutil.rmtree(unfinished)
            else:
                unfinished.unlink()

    @property
    def output(self) -> Path:
        """Folder of the results, in which the store lies."""
        return self.folder.parent

    @staticmethod
    def has_results(folder: Path) -> bool:
        """Whether a store in a folder has results. The folder is left as it is."""
        return any(path.suffix != ".partial" for path in folder.glob("?????[-.]*"))

    def _path(self, source: int, number: int) -> Path:
        return self.folder / f"{source:05d}-{number:07d}"

    def has(self, source: int, number: int) -> bool:
        """Whether a part exists.

        Args:
            source: Number of the recording.
            number: Number of the part in the recording, counted from 0.
        """
        return self._path(source, number).is_dir()

    def write(self, source: int, number: int, part: Part) -> None:
        """Write a part. A part that exists already is left as it is, unless this one has more frames.

        A part has fewer frames than others at the end of a recording. If the recording grew meanwhile, it is replaced.

        Args:
            source: Number of the recording.
            number: Number of the part in the recording, counted from 0.
            part: The tables of the part.

        Raises:
            OSError: The part cannot be written, for instance because the disk is full. Nothing of the part is left.
            DamagedPartError: The part that exists cannot be read.
        """
        final = self._path(source, number)
        if final.exists() and self._frame_count(source, number) >= part["frames"].num_rows:
            return
        partial = final.with_name(final.name + ".partial")
        try:
            partial.mkdir()
            for name, table in part.items():
                _write_table(table, partial / f"{name}.parquet")
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _frame_count(self, source: int, number: int) -> int:
        return self.read(source, number, "frames", ["frame"]).num_rows

    def last_frame(self, source: int) -> StoredFrame | None:
        """Return the last frame of the last part of a recording; None if it has no parts.

        Raises:
            DamagedPartError: The part cannot be read.
        """
        numbers = self.numbers(source)
        if not numbers:
            return None
        rows = self.read(source, numbers[-1], "frames", ["frame", "log_time", "topic"]).to_pylist()
        return StoredFrame(rows[-1]["frame"], rows[-1]["log_time"], rows[-1]["topic"]) if rows else None

    def finish(self, source: int, frames: int, problems: list[str], fingerprint: dict[str, Any] | None = None) -> None:
        """Record that a recording was read to its end.

        Args:
            source: Number of the recording.
            frames: Number of its frames.
            problems: Its faults, a sentence each.
            fingerprint: Its fingerprint; None if it is unknown.
        """
        record = {"frames": frames, "problems": problems, "fingerprint": fingerprint}
        replace_text(self._record(source), json_text(record))

    def _record(self, source: int) -> Path:
        return self.folder / f"{source:05d}.json"

    def finished(self, source: int) -> dict[str, Any] | None:
        """Return what `finish` recorded about a recording; None if it was not read to its end."""
        try:
            record = json.loads(self._record(source).read_bytes())
            fine = isinstance(record["frames"], int) and isinstance(record["problems"], list)
        except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError):
            # A damaged record is none.
            return None
        found: dict[str, Any] | None = record if fine else None
        return found

    def discard(self, source: int, number: int) -> None:
        """Remove a part. Its recording then counts as one that was not read to its end."""
        self._record(source).unlink(missing_ok=True)
        shutil.rmtree(self._path(source, number))

    def discard_damaged(self) -> int:
        """Remove the parts that cannot be read, and records of recordings of which parts are missing.

        Returns:
            The number of parts and records that were removed.
        """
        count = 0
        for source, number in self.parts():
            folder = self._path(source, number)
            silencing = folder / f"{SILENCING}.parquet"
            if silencing.exists() and not _is_table(silencing, SILENCING):
                silencing.unlink()
            if not all(_is_table(folder / f"{name}.parquet", name) for name in OF_PART):
                self.discard(source, number)
                count += 1
        for path in self.folder.glob("[0-9]" * 5 + ".json"):
            numbers = self.numbers(int(path.stem))
            if self.finished(int(path.stem)) is None or numbers != list(range(len(numbers))):
                path.unlink()
                count += 1
        return count

    def numbers(self, source: int) -> list[int]:
        """Return the numbers of the parts of a recording that exist, in order."""
        return sorted(int(path.name.partition("-")[2]) for path in self.folder.glob(f"{source:05d}-???????"))

    def parts(self) -> list[tuple[int, int]]:
        """Return the numbers of all parts, (recording, part), in the order of the recordings."""
        names = sorted(path.name for path in self.folder.glob("?????-???????"))
        return [(int(name[:5]), int(name[6:])) for name in names]

    def read(self, source: int, number: int, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read one table of a part.

        Args:
            source: Number of the recording.
            number: Number of the part in the recording, counted from 0.
            name: Name of the table.
            columns: Names of the columns; None for all.

        Raises:
            DamagedPartError: The part cannot be read.
        """
        path = self._path(source, number) / f"{name}.parquet"
        try:
            with path.open("rb") as file:
                return pq.read_table(file, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from error

    def begin_silencing(self, sets: str) -> None:
        """Prepare the store for the results of silencing, and remove those that belong to other sets of neurons.

        Args:
            sets: A text that describes the sets.
        """
        path = self.folder / "silencing.json"
        if not path.is_file() or path.read_bytes() != sets.encode():
            for stale in self.folder.glob(f"?????-???????/{SILENCING}.parquet"):
                stale.unlink()
            replace_text(path, sets)

    def has_silencing(self, source: int, number: int) -> bool:
        """Whether a part has results of silencing."""
        return (self._path(source, number) / f"{SILENCING}.parquet").is_file()

    def write_silencing(self, source: int, number: int, table: pa.Table) -> None:
        """Add the results of silencing to a part.

        Args:
            source: Number of the recording.
            number: Number of the part in the recording, counted from 0.
            table: The table "silencing".

        Raises:
            OSError: The table cannot be written. Nothing of it is left.
        """
        with replacing(self._path(source, number) / f"{SILENCING}.parquet") as partial:
            _write_table(table, partial)

    def frames(self, source: int) -> int:
        """Return the number of frames in the parts of a recording."""
        return sum(self._frame_count(source, number) for number in self.numbers(source))

    def tables(self, name: str) -> Iterator[pa.Table]:
        """Yield one table, part by part, in the order of the recordings, of the parts that have it.

        Raises:
            DamagedPartError: A part cannot be read.
        """
        for path in sorted(self.folder.glob(f"?????-???????/{name}.parquet")):
            try:
                with path.open("rb") as file:
                    table = pq.read_table(file, schema=pa.schema(_schema(name)))
            except (OSError, pa.ArrowException) as error:
                raise _damaged(path, error) from error
            yield table

    def remove(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.folder)


def _schema(name: str) -> list[tuple[str, pa.DataType]]:
    return [(column, kind) for column, (kind, _) in ALL[name].items()]


def _write_table(table: pa.Table, path: Path) -> None:
    # pyarrow opens no paths that are not UTF-8.
    with path.open("wb") as file:
        pq.write_table(table, file, compression="zstd")


def _is_table(path: Path, name: str) -> bool:
    """Whether a file has the beginning and the end of a table of a part."""
    try:
        with path.open("rb") as file:
            return set(ALL[name]) <= set(pq.read_schema(file).names)
    except (OSError, pa.ArrowException):
        return False


def _damaged(path: Path, error: Exception) -> Exception:
    """Return the error of a part from that of a file in it. An error of the system stays as it is."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
        return error
    source, _, number = path.parent.name.partition("-")
    return DamagedPartError(int(source), int(number), f"{path}: {error}")
