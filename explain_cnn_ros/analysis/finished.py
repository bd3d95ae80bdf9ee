"""Reading of the results of an analysis: its manifest and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from explain_cnn_ros.analysis.manifest import MANIFEST, read_manifest
from explain_cnn_ros.files import reason, visible


class ResultsError(Exception):
    """There are no results of an analysis, or they cannot be read. The message names the cause and the cure."""


def read_results(output: Path) -> dict[str, Any]:
    """Read the manifest of an analysis that has results.

    Args:
        output: Folder of the analysis.

    Raises:
        ResultsError: There is no analysis with results in the folder.
    """
    try:
        manifest = read_manifest(output)
    except (OSError, ValueError) as error:
        cause = reason(error) if isinstance(error, OSError) else error
        raise ResultsError(f"{output}: {MANIFEST} cannot be read ({cause}): give the --output of `analyze`") from error
    if manifest is None:
        raise ResultsError(f"{output}: no analysis there: give the --output of `analyze`")
    needed = {"summary", "model", "threshold"}
    if not needed <= manifest.keys() or not (output / "frames.parquet").is_file():
        raise ResultsError(
            f"{output}: the analysis has no results yet (status {manifest.get('status')}): wait until `analyze` has "
            "ended, or continue it with --resume"
        )
    return manifest


def read_table(output: Path, name: str, columns: Sequence[str]) -> pa.Table:
    """Read columns of a table.

    Args:
        output: Folder of the analysis.
        name: Name of the table.
        columns: Names of the columns.

    Raises:
        ResultsError: The table cannot be read, or lacks a column.
    """
    path = output / f"{name}.parquet"
    try:
        # pyarrow opens no paths that are not UTF-8.
        with path.open("rb") as file:
            table = pq.read_table(file, columns=list(columns))
        return table.select(list(columns))
    except (OSError, KeyError, pa.ArrowException) as error:
        cause = reason(error) if isinstance(error, OSError) and error.errno else visible(str(error)[:500])
        raise ResultsError(f"{path} cannot be read ({cause}): run `analyze` again, with another --output") from error
