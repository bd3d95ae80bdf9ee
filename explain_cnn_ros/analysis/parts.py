"""Results piece by piece, on disk: what is there is complete, whatever happens to the process that writes it."""

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

#: Frames of a part.
PART_FRAMES = 64

Part = dict[str, pa.Table]


class PartStore:
    """A folder with the parts of an analysis: each holds the results of PART_FRAMES frames of a recording.

    A part is written beside, and takes its name when it is whole. Which recordings were read to their end is written
    down likewise.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.partial"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    def _name(self, source: int, number: int) -> Path:
        return self.folder / f"{source:05d}-{number:07d}"

    def has(self, source: int, number: int) -> bool:
        """Whether this part is there."""
        return self._name(source, number).is_dir()

    def write(self, source: int, number: int, part: Part) -> None:
        """Keep a part; one that is there already stays.

        Raises:
            OSError: the disk is full, or whatever else keeps it from being written; nothing is left behind then.
        """
        final = self._name(source, number)
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

    def finish(self, source: int, frames: int, problems: list[str]) -> None:
        """A recording was read to its end."""
        replace_text(self.folder / f"{source:05d}.json", json.dumps({"frames": frames, "problems": problems}))

    def finished(self, source: int) -> dict[str, Any] | None:
        """How many frames a recording has, and what was wrong with it; None if it was not read to its end."""
        path = self.folder / f"{source:05d}.json"
        done: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
        return done

    def numbers(self, source: int) -> list[int]:
        """Of the parts of a recording that are there, in order."""
        return sorted(int(path.name.partition("-")[2]) for path in self.folder.glob(f"{source:05d}-???????"))

    def tables(self, name: str) -> Iterator[pa.Table]:
        """One table, part by part, in the order of the recordings."""
        for path in sorted(self.folder.glob("?????-???????")):
            yield pq.read_table(path / f"{name}.parquet", schema=pa.schema(_schema(name)))

    def remove(self) -> None:
        """All of it."""
        shutil.rmtree(self.folder)


def _schema(name: str) -> list[tuple[str, pa.DataType]]:
    return [(column, kind) for column, (kind, _) in ALL[name].items()]
