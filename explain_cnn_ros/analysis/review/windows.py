"""The windows that an analysis judged, column by column, and the proofs of their explanations."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from explain_cnn_ros.analysis.finished import ResultsError, read_results, read_table
from explain_cnn_ros.bags.sources import Place, SourceSettings
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.scan.decider import WHOLE

#: Value of `DecidedWindows.label` for windows without a label.
UNKNOWN = -1

#: Frames at most this far apart are neighbours, in ns.
NEIGHBOUR_NS = 10**9

#: Names of the columns x, y, width and height in the table "frames".
_BEST = ("region_x", "region_y", "region_width", "region_height")

_BOX = ("x", "y", "width", "height")

#: Columns that are read, by table.
_COLUMNS = {
    "frames": ["source", "frame", "log_time", "width", "height", "probability", "person", "label", *_BEST],
    "regions": ["source", "frame", "region", *_BOX, "probability", "person", "label"],
    "proofs": ["source", "frame", "metric", "together", "disagrees"],
}


class ReviewError(Exception):
    """A review cannot begin, or an answer cannot be stored. The message names the cause and the cure."""


@dataclass(frozen=True)
class ProofPair:
    """The proofs of one explanation.

    Attributes:
        supporting: Measured change of the output with the supporting neurons silenced together, without its sign.
        opposing: The same of the opposing neurons.
        disagrees: Whether the proof of one of the two disagrees; see `explanation.Proof`.
    """

    supporting: float
    opposing: float
    disagrees: bool


@dataclass(frozen=True)
class DecidedWindows:
    """The N windows that an analysis judged, in the order of the recordings and frames, the best one of a frame first.

    Attributes:
        sources: Paths of the recordings, as in the tables.
        source: Number of each window's recording in `sources`: int64 [N].
        frame: Number of the frame in its recording: int64 [N].
        log_time: Log time of the frame, in ns: int64 [N].
        probability: P(person): float64 [N].
        person: The decision about the window: bool [N].
        label: 1 for a person, 0 for nobody, or UNKNOWN: int8 [N].
        region: x, y, width and height, in pixels of the image: int64 [N, 4].
        size: Width and height of the image, in pixels: int64 [N, 2].
        before: Position of the first window of the frame before, and of the first one after that frame's windows:
            int64 [N, 2]. Both are 0 if the frame before was not decided, or is more than NEIGHBOUR_NS away.
        after: The same for the frame after.
        proofs: The proofs of the explained windows, by position.
    """

    sources: Sequence[str]
    source: NDArray[np.int64]
    frame: NDArray[np.int64]
    log_time: NDArray[np.int64]
    probability: NDArray[np.float64]
    person: NDArray[np.bool_]
    label: NDArray[np.int8]
    region: NDArray[np.int64]
    size: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    proofs: dict[int, ProofPair] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class Timeline:
    """The log times of all frames of one recording, also of those that were not decided.

    Attributes:
        times: Log times in the order of the frames, in ns: int64 [M].
        complete: Whether the frames are numbered 0 to M - 1 and their log times ascend.
    """

    times: NDArray[np.int64]
    complete: bool

    def place(self, log_time: int) -> Place | None:
        """Return the place where reading a frame may begin; None if reading must begin at the first frame.

        Args:
            log_time: Log time of the frame, in ns.
        """
        return Place(int(np.searchsorted(self.times, log_time)), log_time) if self.complete else None


@dataclass(frozen=True)
class ReviewedAnalysis:
    """The results of an analysis that a review needs.

    Attributes:
        output: Folder of the analysis.
        inputs: Paths of its inputs, as they were given.
        settings: The part of the inputs that was read.
        threshold: The decision is "person" if P(person) is at least this.
        input_size: Width and height of the network's windows, in pixels; None if an earlier version wrote the analysis.
        whole: Whether each frame is one window, so that labels are about whole frames.
        windows: The judged windows.
        timelines: The times of the frames, by recording.
    """

    output: Path
    inputs: tuple[Path, ...]
    settings: SourceSettings
    threshold: float
    input_size: tuple[int, int] | None
    whole: bool
    windows: DecidedWindows
    timelines: dict[str, Timeline]


def read_analysis(output: Path) -> ReviewedAnalysis:
    """Read an analysis.

    Args:
        output: Folder of the analysis.

    Raises:
        ReviewError: There is no analysis with results in the folder.
    """
    try:
        return _read(output, read_results(output))
    except ResultsError as error:
        raise ReviewError(str(error)) from error


def _read(output: Path, manifest: dict[str, Any]) -> ReviewedAnalysis:
    frames = _table(output, "frames")
    windows = _windows(frames, _table(output, "regions") if (output / "regions.parquet").is_file() else None)
    windows.proofs.update(_proofs(output, windows))
    settings = manifest.get("settings", {})
    return ReviewedAnalysis(
        output,
        tuple(Path(path) for path in manifest.get("inputs", [])),
        _source_settings(settings),
        float(manifest["threshold"]),
        _size(manifest.get("input_size")),
        settings.get("regions") == WHOLE,
        windows,
        _timelines(frames),
    )


def _size(value: Any) -> tuple[int, int] | None:
    """Return a width and a height of a manifest; None if it has none."""
    known = isinstance(value, list) and len(value) == 2 and all(isinstance(side, int) and side > 0 for side in value)
    return (value[0], value[1]) if known else None


def _table(output: Path, name: str) -> pa.Table:
    """Read the columns of a table that a review needs.

    Raises:
        ResultsError: The table cannot be read.
    """
    return read_table(output, name, _COLUMNS[name])


def _windows(frames: pa.Table, regions: pa.Table | None) -> DecidedWindows:
    """Return the judged windows: the regions, or the best one of each frame if an earlier version wrote no regions."""
    rows: list[dict[str, Any]] = frames.to_pylist()
    decided = {(row["source"], row["frame"]): i for i, row in enumerate(rows) if row["probability"] is not None}
    judged = list(decided.values())
    if regions is None:
        found = [
            rows[i] | {name: rows[i][best] for name, best in zip(_BOX, _BEST, strict=True)} for i in decided.values()
        ]
    else:
        found = [row for row in regions.to_pylist() if (row["source"], row["frame"]) in decided]
        judged = [decided[row["source"], row["frame"]] for row in found]
    sources = list(dict.fromkeys(row["source"] for row in rows))
    numbers = {source: number for number, source in enumerate(sources)}
    of_frame = np.array(judged, np.int64)

    def column(values: Iterable[Any], kind: Any = np.int64) -> NDArray[Any]:
        return np.array(list(values), kind)

    return DecidedWindows(
        sources,
        column(numbers[row["source"]] for row in found),
        column(row["frame"] for row in found),
        column(rows[i]["log_time"] for i in judged),
        column((row["probability"] for row in found), np.float64),
        column((row["person"] for row in found), np.bool_),
        column((UNKNOWN if row["label"] is None else row["label"] for row in found), np.int8),
        column([row[name] for name in _BOX] for row in found).reshape(-1, 4),
        column([rows[i]["width"], rows[i]["height"]] for i in judged).reshape(-1, 2),
        _neighbours(rows, of_frame, -1),
        _neighbours(rows, of_frame, 1),
    )


def _neighbours(rows: Sequence[dict[str, Any]], of_frame: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Return the positions of the windows of neighbouring frames; see `DecidedWindows.before`.

    Args:
        rows: The frames.
        of_frame: Number of each window's frame in `rows`, ascending.
        step: -1 for the frame before, 1 for the frame after.
    """
    result = np.zeros((len(of_frame), 2), np.int64)
    for position, i in enumerate(of_frame.tolist()):
        row, other = rows[i], rows[i + step] if 0 <= i + step < len(rows) else None
        if (
            other is not None
            and other["source"] == row["source"]
            and other["frame"] == row["frame"] + step
            and other["probability"] is not None
            and abs(other["log_time"] - row["log_time"]) <= NEIGHBOUR_NS
        ):
            result[position] = np.searchsorted(of_frame, [i + step, i + step + 1])
    return result


def _proofs(output: Path, windows: DecidedWindows) -> dict[int, ProofPair]:
    """Return the proofs of the explained windows, the best ones of their frames; none if there is no such table."""
    if not (output / "proofs.parquet").is_file():
        return {}
    found: dict[tuple[str, int], dict[str, tuple[float | None, bool]]] = defaultdict(dict)
    for row in _table(output, "proofs").to_pylist():
        found[row["source"], row["frame"]][row["metric"]] = (row["together"], bool(row["disagrees"]))
    positions: dict[tuple[str, int], int] = {}
    for position, (source, frame) in enumerate(zip(windows.source.tolist(), windows.frame.tolist(), strict=True)):
        positions.setdefault((windows.sources[source], frame), position)
    pairs = {}
    for key, by_metric in found.items():
        if key in positions:
            supporting, opposing = (by_metric.get(name, (None, False)) for name in (SUPPORTING, OPPOSING))
            disagrees = supporting[1] or opposing[1]
            pairs[positions[key]] = ProofPair(abs(supporting[0] or 0.0), abs(opposing[0] or 0.0), disagrees)
    return pairs


def _timelines(rows: pa.Table) -> dict[str, Timeline]:
    found: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for source, frame, time in zip(*(rows[name].to_pylist() for name in ("source", "frame", "log_time")), strict=True):
        found[source][0].append(frame)
        found[source][1].append(time)
    timelines = {}
    for source, (frames, times) in found.items():
        array = np.array(times, np.int64)
        ascends = bool((np.diff(array) >= 0).all()) and frames == list(range(len(frames)))
        timelines[source] = Timeline(array, ascends)
    return timelines


def _source_settings(settings: dict[str, Any]) -> SourceSettings:
    """Return the part of the inputs that was read; the whole inputs if another version wrote other settings."""
    names = {field.name for field in dataclasses.fields(SourceSettings)}
    try:
        values = {name: value for name, value in settings.items() if name in names}
        values["topics"] = tuple(values.get("topics", ()))
        return SourceSettings(**values)
    except (TypeError, ValueError):
        return SourceSettings()
