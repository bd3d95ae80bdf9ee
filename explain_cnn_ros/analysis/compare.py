"""Sets two analyses side by side: before and after retraining, or two robots.

    ros2 run explain_cnn_ros compare_analyses A B --output compare.html

A and B are outputs of `analyze`. Shows which decisions changed, on recordings of the same name, and which neurons are
selected more or less often. Exit status: 0; 1 if there is nothing to compare.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from explain_cnn_ros.analysis.pages import render
from explain_cnn_ros.analysis.recurrence import lift
from explain_cnn_ros.analysis.run import MANIFEST
from explain_cnn_ros.files import replace_text

#: Frames whose decision changed, points of the scatter plot, and neurons of a metric that are shown.
CHANGED, POINTS, NEURONS = 300, 2000, 12


class CompareError(Exception):
    """There is nothing to compare; the text names the cause and the cure."""


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CompareError(f"{folder}: no analysis there ({error}): give the --output of `analyze`") from error
    if not (folder / "frames.parquet").is_file():
        raise CompareError(f"{folder}: the analysis has no results yet (status {manifest.get('status')})")
    return manifest


def _rows(folder: Path, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Some columns of a table, row by row."""
    with pq.ParquetFile(folder / f"{table}.parquet") as file:
        for batch in file.iter_batches(columns=list(columns)):
            yield from zip(*(batch[name].to_pylist() for name in columns), strict=True)


def compare(a: Path, b: Path) -> dict[str, Any]:
    """What changed from one analysis to the other, as plain values for JSON.

    Raises:
        CompareError: one of them is no analysis.
    """
    manifests = [_manifest(folder) for folder in (a, b)]
    return {
        "names": [str(a), str(b)],
        "manifests": manifests,
        **_decisions(a, b),
        "neurons": _neurons(a, b),
    }


def _decisions(a: Path, b: Path) -> dict[str, Any]:
    columns = ("source", "frame", "stamp", "probability", "person", "label")
    before: dict[tuple[str, int], tuple[Any, ...]] = {}
    for source, frame, *rest in _rows(a, "frames", columns):
        before[Path(source).name, frame] = tuple(rest)
    counts: Counter[str] = Counter()
    changed: list[dict[str, Any]] = []
    points: list[tuple[float, float]] = []
    for source, frame, stamp, p_b, person_b, label in _rows(b, "frames", columns):
        key = (Path(source).name, frame)
        old = before.get(key)
        # The same frame has the same stamp; recordings may have the same name by chance.
        if old is None or old[0] != stamp or old[1] is None or p_b is None:
            continue
        _, p_a, person_a, label_a = old
        label = label if label is not None else label_a
        counts["common"] += 1
        points.append((round(p_a, 4), round(p_b, 4)))
        if person_a == person_b:
            continue
        counts["changed"] += 1
        if label is not None:
            counts["repaired" if person_b == label else "broken"] += 1
        changed.append({"source": key[0], "frame": frame, "a": p_a, "b": p_b, "person": person_b, "label": label})
    changed.sort(key=lambda c: -abs(c["b"] - c["a"]))
    step = max(1, len(points) // POINTS)
    names = ("common", "changed", "repaired", "broken")
    return {"counts": {n: counts[n] for n in names}, "changed": changed[:CHANGED], "points": points[::step]}


def _neurons(a: Path, b: Path) -> dict[str, Any]:
    """By metric: neurons that are selected in a larger share of the explained frames than before, and in a smaller."""
    explained, selected = [], []
    names: dict[int, str] = {}
    for folder in (a, b):
        explained.append(sum(trigger is not None for (trigger,) in _rows(folder, "frames", ("trigger",))))
        counts: Counter[tuple[str, int, int]] = Counter()
        for metric, layer, name, channel in _rows(folder, "neurons", ("metric", "layer", "layer_name", "channel")):
            counts[metric, layer, channel] += 1
            names[layer] = name
        selected.append(counts)
    found: dict[str, Any] = {}
    for metric in sorted({m for counts in selected for m, _, _ in counts}):
        rows: list[dict[str, Any]] = []
        for _, layer, channel in sorted({k for counts in selected for k in counts if k[0] == metric}):
            in_a, in_b = (counts[metric, layer, channel] for counts in selected)
            ratio, low, high = lift(in_b, explained[1], in_a, explained[0])
            rows.append(
                {"layer": layer, "name": names[layer], "channel": channel, "a": in_a, "b": in_b}
                | {"lift": ratio, "low": low, "high": high}
            )
        came = sorted((r for r in rows if r["low"] > 1), key=lambda r: -r["low"])[:NEURONS]
        went = sorted((r for r in rows if r["high"] < 1), key=lambda r: r["high"])[:NEURONS]
        found[metric] = {"came": came, "went": went, "neurons": len(rows)}
    return {"explained": explained, "by_metric": found}


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="compare_analyses", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", metavar="A", type=Path, help="the one before")
    parser.add_argument("b", metavar="B", type=Path, help="the one after")
    parser.add_argument("--output", type=Path, default=Path("compare.html"), help="[%(default)s]")
    arguments = parser.parse_args(argv)
    try:
        found = compare(arguments.a, arguments.b)
        replace_text(arguments.output, render("compare", f"{arguments.a.name} and {arguments.b.name}", found))
    except (CompareError, OSError) as error:
        print(f"compare_analyses: {error}", file=sys.stderr)
        return 1
    counts = found["counts"]
    print(f"{counts['common']} frames in common, {counts['changed']} decisions changed: open {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
