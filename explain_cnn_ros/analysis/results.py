"""The results of an analysis: tables, recording and report, from the parts in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.tables import COLUMNS, schema
from explain_cnn_ros.bags.storage import Message
from explain_cnn_ros.files import replacing

#: Minimum number of rows that are written together: parts are small, and readers prefer larger pieces.
ROWS_TOGETHER = 16_384

#: Names of the counts of frames in a summary.
COUNTS = ("frames", "person", "doubtful", "labelled", "wrong", "explained", "errors")

#: Names of the counts of regions in a summary.
REGION_COUNTS = ("labelled_regions", "wrong_regions")

#: Name of the folder with the recording in the output.
RECORDING = "explanations"


def write_tables(store: PartStore, output: Path) -> None:
    """Write the tables, each into a file of its name, in the order of the recordings.

    Raises:
        OSError: A table cannot be written. An existing file is left as it is.
    """
    for name in COLUMNS:
        with (
            replacing(output / f"{name}.parquet") as partial,
            partial.open("wb") as file,
            pq.ParquetWriter(file, schema(name), compression="zstd") as writer,
        ):
            for group in _groups(store.tables(name)):
                writer.write_table(_joined(group, name))


def _groups(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Yield the tables that have rows, in groups of at least ROWS_TOGETHER rows, except for the last one."""
    group: list[pa.Table] = []
    rows = 0
    for table in tables:
        if count := table.num_rows:
            group.append(table)
            rows += count
        if rows >= ROWS_TOGETHER:
            yield group
            group, rows = [], 0
    if group:
        yield group


def _joined(tables: list[pa.Table], name: str) -> pa.Table:
    return pa.concat_tables(tables).cast(schema(name))


def messages(store: PartStore) -> Iterator[Message]:
    """Yield the ROS messages in the order of the recordings."""
    for table in store.tables("messages"):
        for row in table.to_pylist():
            yield Message(row["topic"], row["log_time"], row["type"], row["data"])


def summarise(store: PartStore) -> tuple[dict[str, int], list[str]]:
    """Count the frames and the labelled regions, and describe the frames with errors.

    Returns:
        The counts by name, and a sentence about each recording with errors.
    """
    counts: Counter[str] = Counter()
    errors: dict[str, tuple[int, str]] = {}
    for frames in store.tables("frames"):
        counts["frames"] += frames.num_rows
        for name in ("person", "doubtful", "wrong"):
            counts[name] += pc.sum(frames[name]).as_py() or 0
        counts["labelled"] += frames.num_rows - frames["wrong"].null_count
        counts["errors"] += frames["probability"].null_count  # other frames with an error were decided
        counts["explained"] += frames.num_rows - frames["trigger"].null_count
        for source, error in zip(frames["source"].to_pylist(), frames["error"].to_pylist(), strict=True):
            if error:
                seen, first = errors.get(source, (0, error))
                errors[source] = (seen + 1, first)
    for regions in store.tables("regions"):
        counts["labelled_regions"] += regions.num_rows - regions["label"].null_count
        counts["wrong_regions"] += pc.sum(regions["wrong"]).as_py() or 0
    problems = [
        f"{source}: {count} frame{'s' if count > 1 else ''} could not be analysed; the first: {first}"
        for source, (count, first) in errors.items()
    ]
    summary: dict[str, Any] = {name: counts[name] for name in (*COUNTS, *REGION_COUNTS)}
    return summary, problems
