"""Compares two analyses: before and after retraining, of two networks, or of two robots.

    explain-cnn compare A B --output compare.html

A and B are outputs of `analyze`. Shows which decisions changed, on recordings of the same name, and which neurons are
selected more or less often. Neurons of different networks are not compared, because a channel of one has no counterpart
in the other. Exit status: 0; 1 if there is nothing to compare.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from explain_cnn_ros.analysis.finished import ResultsError, read_results
from explain_cnn_ros.analysis.intervals import lift
from explain_cnn_ros.analysis.legend import legend, target_texts
from explain_cnn_ros.analysis.pages import render
from explain_cnn_ros.explain.network_adapter import PERSON
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.files import reason, replace_text, require_folder, visible

#: Maximum numbers of changed frames and of neurons of a metric that are shown.
CHANGED, NEURONS = 300, 12

#: The scatter plot has at least this number of points if there are as many frames, and fewer than twice this number.
POINTS = 2000


class CompareError(Exception):
    """There is nothing to compare. The message names the cause and the cure."""


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return read_results(folder)
    except ResultsError as error:
        raise CompareError(str(error)) from error


def _rows(folder: Path, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield some columns of a table, row by row.

    Raises:
        CompareError: The table cannot be read.
    """
    path = folder / f"{table}.parquet"
    try:
        with path.open("rb") as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(columns=list(columns)):
                yield from zip(*(batch[name].to_pylist() for name in columns), strict=True)
    except (OSError, KeyError, pa.ArrowException) as error:
        cause = reason(error) if isinstance(error, OSError) else error
        raise CompareError(f"{path} cannot be read ({cause}): run `analyze` again, with another --output") from error


def compare(a: Path, b: Path) -> dict[str, Any]:
    """Compute the differences between two analyses, as plain values for JSON.

    Args:
        a: Output of the first analysis.
        b: Output of the second analysis.

    Raises:
        CompareError: One of the folders holds no analysis with results.
    """
    manifests = [_manifest(folder) for folder in (a, b)]
    neurons, layers = _neurons(a, b)
    named = layers[0] | layers[1]
    return {
        "names": [str(a), str(b)],
        "manifests": manifests,
        "targets": [target_texts(_target(manifest)) for manifest in manifests],
        "incomparable": _incomparable(manifests, layers),
        **_decisions(a, b),
        "neurons": neurons,
        **legend(neurons["by_metric"], named, _explain_settings(manifests[1])),
    }


def _target(manifest: dict[str, Any]) -> str:
    """Return the classes that the explanations are about. Earlier versions did not write them."""
    settings = _explain_settings(manifest)
    return str(manifest.get("target") or (settings and settings.target) or PERSON)


def _incomparable(manifests: Sequence[dict[str, Any]], layers: Sequence[Mapping[int, str]]) -> str:
    """Return why the neurons of two analyses cannot be compared; "" if they can.

    Args:
        manifests: The manifests of both analyses.
        layers: The names of the layers of the selected neurons by number, of both analyses.
    """
    architectures = [str(manifest.get("network", {}).get("architecture") or "") for manifest in manifests]
    both = layers[0].keys() & layers[1].keys()
    if (all(architectures) and architectures[0] != architectures[1]) or any(layers[0][n] != layers[1][n] for n in both):
        named = "A and B are different networks"
        if all(architectures) and architectures[0] != architectures[1]:
            named += f" ({' and '.join(architectures)})"
        return f"{named}: a neuron of one has no counterpart in the other, so neurons are not compared."
    if all(layers) and not both:
        return "The explanations are about different layers, so there is no neuron to compare."
    return ""


def _explain_settings(manifest: dict[str, Any]) -> ExplainSettings | None:
    """Return the settings of the explanations; None if another version of this package wrote them."""
    try:
        return ExplainSettings(**manifest["settings"]["explain"])
    except (KeyError, TypeError, ValueError):
        return None


def _decisions(a: Path, b: Path) -> dict[str, Any]:
    """Compare the decisions about the frames that both analyses have."""
    columns = ("source", "frame", "topic", "stamp", "log_time", "probability", "person", "label")
    names_a, names_b = _names(*({source for (source,) in _rows(folder, "frames", ("source",))} for folder in (a, b)))
    before = _Frames(_rows(a, "frames", columns), names_a)
    # An analysis without labels is judged by those of the other one.
    labelled = [any(label is not None for (label,) in _rows(folder, "frames", ("label",))) for folder in (a, b)]
    counts: Counter[str] = Counter()
    changed: list[dict[str, Any]] = []
    points: list[tuple[float, float]] = []
    step = 1  # Every step-th frame is a point.
    for source, frame, *of_image, p_b, person_b, label in _rows(b, "frames", columns):
        old = before.find(names_b[source], frame, *of_image)
        if old is None or old[0] is None or p_b is None:
            continue
        p_a, person_a, label_a = old
        counts["common"] += 1
        if (counts["common"] - 1) % step == 0:
            points.append((round(p_a, 4), round(p_b, 4)))
        if len(points) == 2 * POINTS:
            points, step = points[::2], 2 * step
        if person_a == person_b:
            continue
        counts["changed"] += 1
        # With boxes, the label of a frame depends on the decision, so each decision is judged by its own label.
        own_a, own_b = label_a if labelled[0] else label, label if labelled[1] else label_a
        if own_a is not None and own_b is not None and (person_a == own_a) != (person_b == own_b):
            counts["repaired" if person_b == own_b else "broken"] += 1
        changed.append(
            {"source": names_b[source], "frame": frame, "a": p_a, "b": p_b, "person": person_b, "label": own_b}
        )
        if len(changed) == 2 * CHANGED:
            changed = _largest(changed)
    names = ("common", "changed", "repaired", "broken")
    return {"counts": {n: counts[n] for n in names}, "changed": _largest(changed), "points": points}


class _Frames:
    """The decisions of an analysis, which are found by the frames of another one.

    The numbers of the frames differ if the analyses have read different parts of a recording, or different topics. A
    recording that was made again, for instance of the same images, has other log times.

    Args:
        rows: Path of the recording, number of the frame, topic, stamp, log time, and the decision: P(person), whether
            there is a person, and the label.
        names: Names of the recordings by their paths.
    """

    def __init__(self, rows: Iterable[tuple[Any, ...]], names: Mapping[str, str]) -> None:
        self._by_time: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._by_number: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._seen: Counter[tuple[Any, ...]] = Counter()
        times: Counter[tuple[Any, ...]] = Counter()
        for source, frame, topic, stamp, log_time, *decision in rows:
            key = (names[source], topic, stamp, log_time)
            self._by_time[(*key, times[key])] = tuple(decision)
            times[key] += 1
            if stamp:
                self._by_number[names[source], frame, stamp] = tuple(decision)

    def find(self, name: str, frame: int, topic: str, stamp: int, log_time: int) -> tuple[Any, ...] | None:
        """Return the decision about a frame; None if the analysis does not have it.

        Of several frames with the same times, each call returns the next one.
        """
        key = (name, topic, stamp, log_time)
        found = self._by_time.get((*key, self._seen[key]))
        self._seen[key] += 1
        # Different recordings may have the same name. The same frame has the same stamp as well.
        return found if found is not None or not stamp else self._by_number.get((name, frame, stamp))


def _largest(changed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the frames whose P(person) changed most, at most CHANGED, the largest change first."""
    return sorted(changed, key=lambda c: -abs(c["b"] - c["a"]))[:CHANGED]


def _names(a: set[str], b: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the names of the recordings of two analyses: the last parts of their paths, as few as tell them apart."""
    for count in range(1, 1 + max((len(Path(source).parts) for source in a | b), default=0)):
        names = [{source: "/".join(Path(source).parts[-count:]) for source in sources} for sources in (a, b)]
        if all(len(set(found.values())) == len(found) for found in names):
            return names[0], names[1]
    return {source: source for source in a}, {source: source for source in b}


def _neurons(a: Path, b: Path) -> tuple[dict[str, Any], list[dict[int, str]]]:
    """Compare how often each metric selects each neuron in the explained frames.

    Returns:
        The neurons that are selected more often and less often than before, by metric; and the names of the layers of
        each analysis, by number. Layers of different networks that have the same number are different layers.
    """
    explained, selected = [], []
    names: list[dict[int, str]] = []
    for folder in (a, b):
        names.append({})
        explained.append(sum(trigger is not None for (trigger,) in _rows(folder, "frames", ("trigger",))))
        counts: Counter[tuple[str, int, str, int]] = Counter()
        for metric, layer, name, channel in _rows(folder, "neurons", ("metric", "layer", "layer_name", "channel")):
            counts[metric, layer, name, channel] += 1
            names[-1][layer] = name
        selected.append(counts)
    found: dict[str, Any] = {}
    for metric in sorted({m for counts in selected for m, *_ in counts}):
        rows: list[dict[str, Any]] = []
        for key in sorted({key for counts in selected for key in counts if key[0] == metric}):
            _, layer, name, channel = key
            in_a, in_b = (counts[key] for counts in selected)
            ratio, low, high = lift(in_b, explained[1], in_a, explained[0])
            rows.append(
                {"layer": layer, "name": name, "channel": channel, "a": in_a, "b": in_b}
                | {"lift": ratio, "low": low, "high": high}
            )
        came = sorted((r for r in rows if r["low"] > 1), key=lambda r: -r["low"])
        went = sorted((r for r in rows if r["high"] < 1), key=lambda r: r["high"])
        found[metric] = {"came": came[:NEURONS], "went": went[:NEURONS], "neurons": len(rows)}
        found[metric]["listed"] = [len(came), len(went)]
    return {"explained": explained, "by_metric": found}, names


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with arguments (None for those of the process), and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="explain-cnn compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", metavar="A", type=Path, help="Output of the first analysis.")
    parser.add_argument("b", metavar="B", type=Path, help="Output of the second analysis.")
    parser.add_argument("--output", type=Path, default=Path("compare.html"), help="The page [%(default)s].")
    arguments = parser.parse_args(argv)
    try:
        require_folder(arguments.output.parent)
        found = compare(arguments.a, arguments.b)
        replace_text(arguments.output, render("compare", f"{arguments.a.name} and {arguments.b.name}", found))
    except (CompareError, OSError) as error:
        print(f"compare: {visible(reason(error) if isinstance(error, OSError) else str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("compare: interrupted", file=sys.stderr)
        return 130
    counts = found["counts"]
    if not counts["common"]:
        left = "nothing is" if found["incomparable"] else "only the neurons are"
        print(
            f"compare: no frame is in both analyses, so {left} compared: decisions are compared on recordings of the "
            "same name, at the same stamps",
            file=sys.stderr,
        )
    if found["incomparable"]:
        print(f"compare: {visible(found['incomparable'])}", file=sys.stderr)
    print(
        f"{counts['common']} frames in common, {counts['changed']} decisions changed: open {visible(arguments.output)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
