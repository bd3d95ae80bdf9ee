"""Parts -> the tables that users get."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.tables import COLUMNS, schema

#: Rows that are written together: parts are small, and readers like larger pieces.
ROWS_TOGETHER = 16_384


def write_tables(store: PartStore, output: Path) -> None:
    """frames.parquet, neurons.parquet and patches.parquet, in the order of the recordings; part by part."""
    for name in COLUMNS:
        partial, final = output / f"{name}.parquet.partial", output / f"{name}.parquet"
        with pq.ParquetWriter(partial, schema(name), compression="zstd") as writer:
            waiting: list[pa.Table] = []
            for table in store.tables(name):
                waiting.append(table)
                if sum(t.num_rows for t in waiting) >= ROWS_TOGETHER:
                    writer.write_table(_joined(waiting, name))
                    waiting = []
            if waiting:
                writer.write_table(_joined(waiting, name))
        os.replace(partial, final)


def _joined(tables: list[pa.Table], name: str) -> pa.Table:
    return pa.concat_tables(tables).cast(schema(name))


def summary(store: PartStore) -> dict[str, Any]:
    """What came out, in numbers."""
    counts: Counter[str] = Counter()
    errors: dict[str, tuple[int, str]] = {}
    for frames in store.tables("frames"):
        counts["frames"] += frames.num_rows
        for name in ("person", "doubtful", "wrong"):
            counts[name] += pc.sum(frames[name]).as_py() or 0
        counts["labelled"] += frames.num_rows - frames["label"].null_count
        counts["explained"] += frames.num_rows - frames["trigger"].null_count
        for source, error in zip(frames["source"].to_pylist(), frames["error"].to_pylist(), strict=True):
            if error:
                counts["errors"] += 1
                seen, first = errors.get(source, (0, error))
                errors[source] = (seen + 1, first)
    problems = [
        f"{source}: {count} frame{'s' if count > 1 else ''} could not be analysed; the first: {first}"
        for source, (count, first) in errors.items()
    ]
    keys = ("frames", "person", "doubtful", "labelled", "wrong", "explained", "errors")
    return {name: counts[name] for name in keys} | {"problems": problems}
