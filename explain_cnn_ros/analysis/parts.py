"""The store of the parts of an analysis, on disk. A part is complete or absent, even after a crash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from explain_cnn_ros.analysis.tables import ALL
from explain_cnn_ros.files import replace_text

#: Number of frames of a part.
PART_FRAMES = 64

#: Name of the table with the results of silencing. Parts get it when all recordings have been read.
SILENCING = "silencing"

Part = dict[str, pa.Table]


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
            shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()

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
        """Write a part. A part that exists already is left as it is.

        Args:
            source: Number of the recording.
            number: Number of the part in the recording, counted from 0.
            part: The tables of the part.

        Raises:
            OSError: The part cannot be written, for instance because the disk is full. Nothing of the part is left.
        """
        final = self._path(source, number)
        if final.exists():
            return
        partial = final.with_name(final.name + ".partial")
        try:
            partial.mkdir()
            for name, table in part.items():
                pq.write_table(table, partial / f"{name}.parquet", compression="zstd")
            partial.rename(final)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def finish(self, source: int, frames: int, problems: list[str], fingerprint: dict[str, Any] | None = None) -> None:
        """Record that a recording was read to its end.

        Args:
            source: Number of the recording.
            frames: Number of its frames.
            problems: Its faults, a sentence each.
            fingerprint: Its fingerprint; None if it is unknown.
        """
        record = {"frames": frames, "problems": problems, "fingerprint": fingerprint}
        replace_text(self.folder / f"{source:05d}.json", json.dumps(record))

    def finished(self, source: int) -> dict[str, Any] | None:
        """Return what `finish` recorded about a recording; None if it was not read to its end."""
        path = self.folder / f"{source:05d}.json"
        record: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
        return record

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
        """
        return pq.read_table(self._path(source, number) / f"{name}.parquet", columns=columns)

    def begin_silencing(self, sets: str) -> None:
        """Prepare the store for the results of silencing, and remove those that belong to other sets of neurons.

        Args:
            sets: A text that describes the sets.
        """
        path = self.folder / "silencing.json"
        if not path.is_file() or path.read_text(encoding="utf-8") != sets:
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
        final = self._path(source, number) / f"{SILENCING}.parquet"
        partial = final.with_name(final.name + ".partial")
        try:
            pq.write_table(table, partial, compression="zstd")
            partial.rename(final)
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def frames(self, source: int) -> int:
        """Return the number of frames in the parts of a recording."""
        paths = [self._path(source, number) / "frames.parquet" for number in self.numbers(source)]
        return sum(pq.read_metadata(path).num_rows for path in paths)

    def tables(self, name: str) -> Iterator[pa.Table]:
        """Yield one table, part by part, in the order of the recordings, of the parts that have it."""
        for path in sorted(self.folder.glob(f"?????-???????/{name}.parquet")):
            yield pq.read_table(path, schema=pa.schema(_schema(name)))

    def remove(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.folder)


def _schema(name: str) -> list[tuple[str, pa.DataType]]:
    return [(column, kind) for column, (kind, _) in ALL[name].items()]
