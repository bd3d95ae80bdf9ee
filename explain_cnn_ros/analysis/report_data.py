"""Parts -> what the report shows: bounded, however long the recordings are."""

from __future__ import annotations

import base64
import itertools
import math
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.recurrence import Recurrence, Selections
from explain_cnn_ros.analysis.settings import LOW_CONFIDENCE, WRONG

#: Points of a curve, marks on it, frames that are shown, their longer side, neurons of a metric, patches of a neuron.
POINTS, MARKS, SHOWN, SIDE, NEURONS, PATCHES = 600, 1500, 48, 640, 10, 6

#: Cells of a heat map, across and down; pixels of a patch in a gallery.
HEAT, PATCH_SIDE = (32, 24), 56

Key = tuple[str, int]


@dataclass
class Shown:
    """A frame that the report shows."""

    source: str
    frame: int
    seconds: float
    probability: float
    label: bool | None
    trigger: str
    region: tuple[int, int, int, int]
    size: tuple[int, int]
    similarity: float | None
    image: str = ""
    rankings: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Curves:
    """The frames of one recording: times in seconds from its first frame, and what is drawn."""

    times: list[float] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    marks: list[dict[str, Any]] = field(default_factory=list)
    similarity: list[tuple[float, float]] = field(default_factory=list)
    errors: int = 0
    start: int = 0


def collect(store: PartStore, threshold: float) -> dict[str, Any]:
    """Everything that the report draws, as plain values for JSON."""
    curves, explained = _frames(store)
    shown = _chosen(explained)
    selections, heat = Selections(), _Heat()
    _neurons(store, explained, shown, selections, heat)
    metrics = sorted({metric for metric, *_ in selections.counts})
    recurring = {metric: selections.recurring(metric, NEURONS) for metric in metrics}
    galleries = _pictures(store, explained, shown, recurring)
    kept = [s for s in shown.values() if s.image]
    numbers = {(s.source, s.frame): i for i, s in enumerate(kept)}
    return {
        "threshold": threshold,
        "curves": [
            {
                "source": source,
                "frames": len(c.times),
                "errors": c.errors,
                "band": _band(np.array(c.times), np.array(c.probabilities)),
                "marks": [m | {"shown": numbers.get((source, m["frame"]))} for m in _thinned(c.marks, MARKS)],
                "similarity": _thinned(c.similarity, POINTS),
            }
            for source, c in curves.items()
        ],
        "shown": [asdict(s) for s in kept],
        "groups": {"attention": selections.frames[True], "confident": selections.frames[False]},
        "metrics": metrics,
        "recurring": {
            metric: [asdict(r) | {"gallery": galleries[metric, r.layer, r.channel]} for r in found]
            for metric, found in recurring.items()
        },
        "heat": heat.to_dict(),
        "explained": len(explained),
    }


def _needs_attention(trigger: str) -> bool:
    return trigger in (WRONG, LOW_CONFIDENCE)


def _frames(store: PartStore) -> tuple[dict[str, Curves], dict[Key, Shown]]:
    """The curves of each recording, and every explained frame without its picture."""
    curves: dict[str, Curves] = {}
    explained: dict[Key, Shown] = {}
    for table in store.tables("frames"):
        for row in table.to_pylist():
            source = row["source"]
            curve = curves.setdefault(source, Curves(start=row["log_time"]))
            if row["probability"] is None:
                curve.errors += 1
                continue
            seconds = (row["log_time"] - curve.start) / 1e9
            curve.times.append(seconds)
            curve.probabilities.append(row["probability"])
            kind = "wrong" if row["wrong"] else "doubtful" if row["doubtful"] else "explained" if row["trigger"] else ""
            if kind:
                curve.marks.append({"t": seconds, "p": row["probability"], "kind": kind, "frame": row["frame"]})
            if row["set_similarity"] is not None:
                curve.similarity.append((seconds, row["set_similarity"]))
            if row["trigger"]:
                explained[source, row["frame"]] = Shown(
                    source,
                    row["frame"],
                    seconds,
                    row["probability"],
                    row["label"],
                    row["trigger"],
                    (row["region_x"], row["region_y"], row["region_width"], row["region_height"]),
                    (row["width"], row["height"]),
                    row["set_similarity"],
                )
    return curves, explained


def _chosen(explained: dict[Key, Shown]) -> dict[Key, Shown]:
    """The frames to show, in the order of the recordings: two thirds of them such as need attention."""
    wrong = [k for k, s in explained.items() if s.trigger == WRONG]
    doubtful = [k for k, s in explained.items() if s.trigger == LOW_CONFIDENCE]
    others = [k for k, s in explained.items() if not _needs_attention(s.trigger)]
    room = max(SHOWN - len(others), SHOWN * 2 // 3)
    attention = _thinned(wrong, room)
    attention += _thinned(doubtful, room - len(attention))
    chosen = set(attention + _thinned(others, SHOWN - len(attention)))
    return {key: s for key, s in explained.items() if key in chosen}


def _thinned(items: list[Any], most: int) -> list[Any]:
    """At most so many of them, evenly."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, max(most, 0)).round().astype(int)] if most > 0 else []


def _band(times: NDArray[np.float64], values: NDArray[np.float64]) -> list[tuple[float, float, float]]:
    """(time, lowest, highest) of as many stretches as a curve has points."""
    if not len(times):
        return []
    edges = np.linspace(0, len(times), min(POINTS, len(times)) + 1).round().astype(int)
    return [(float(times[a]), float(values[a:b].min()), float(values[a:b].max())) for a, b in itertools.pairwise(edges)]


class _Heat:
    """Where in the image patches lie, by metric, in frames that need attention and in confident ones."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, bool], NDArray[np.float64]] = defaultdict(lambda: np.zeros(HEAT[::-1]))
        self._patches: dict[tuple[str, bool], int] = defaultdict(int)

    def add(self, metric: str, attention: bool, box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
        """A patch (x, y, width, height) of an image of (width, height)."""
        x, y, width, height = box
        left, right = (int(HEAT[0] * v / size[0]) for v in (x, x + width - 1))
        top, bottom = (int(HEAT[1] * v / size[1]) for v in (y, y + height - 1))
        self._cells[metric, attention][max(top, 0) : bottom + 1, max(left, 0) : right + 1] += 1
        self._patches[metric, attention] += 1

    def to_dict(self) -> dict[str, dict[str, list[list[float]]]]:
        """Metric -> group -> rows of shares: of the patches that cover a cell."""
        found: dict[str, dict[str, list[list[float]]]] = defaultdict(dict)
        for (metric, attention), cells in self._cells.items():
            shares = (cells / self._patches[metric, attention]).round(4)
            found[metric]["attention" if attention else "confident"] = shares.tolist()
        return dict(found)


def _boxes(patches: pa.Table) -> dict[tuple[str, int, int, int], tuple[int, int, int, int]]:
    """(source, frame, layer, channel) -> (x, y, width, height)."""
    columns = [patches[c].to_pylist() for c in ("source", "frame", "layer", "channel", "x", "y", "width", "height")]
    return {(s, f, la, c): (x, y, w, h) for s, f, la, c, x, y, w, h in zip(*columns, strict=True)}


def _neurons(
    store: PartStore, explained: dict[Key, Shown], shown: dict[Key, Shown], selections: Selections, heat: _Heat
) -> None:
    for s in explained.values():
        selections.frames[_needs_attention(s.trigger)] += 1
    for neurons, patches in zip(store.tables("neurons"), store.tables("patches"), strict=True):
        boxes = _boxes(patches)
        for row in neurons.to_pylist():
            key = (row["source"], row["frame"])
            metric, layer, channel = row["metric"], row["layer"], row["channel"]
            attention = _needs_attention(explained[key].trigger)
            box = boxes.get((*key, layer, channel))
            selections.add(metric, layer, row["layer_name"], channel, attention)
            if box is not None:
                heat.add(metric, attention, box, explained[key].size)
            if key in shown:
                of_metric = shown[key].rankings.setdefault(metric, {})
                ranking = of_metric.setdefault(
                    str(layer),
                    {
                        "name": row["layer_name"],
                        "stability": row["stability"],
                        "unstable": row["unstable"],
                        "neurons": [],
                    },
                )
                ranking["neurons"].append([channel, _short(row["score"]), *(box or ())])


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def _pictures(
    store: PartStore,
    explained: dict[Key, Shown],
    shown: dict[Key, Shown],
    recurring: dict[str, list[Recurrence]],
) -> dict[tuple[str, int, int], list[str]]:
    """Fills in the shown frames' images; the galleries: patches of the recurring neurons, as JPEG, by (metric, layer,
    channel), of frames that need attention first."""
    wanted = {(r.layer, r.channel) for found in recurring.values() for r in found}
    crops: dict[tuple[int, int], list[tuple[bool, str]]] = defaultdict(list)
    for pictures, patches in zip(store.tables("pictures"), store.tables("patches"), strict=True):
        boxes: dict[Key, list[tuple[tuple[int, int], tuple[int, int, int, int]]]] = defaultdict(list)
        for (source, frame, layer, channel), box in _boxes(patches).items():
            if (layer, channel) in wanted:
                boxes[source, frame].append(((layer, channel), box))
        for row in pictures.to_pylist():
            key = (row["source"], row["frame"])
            attention = _needs_attention(explained[key].trigger)
            needed = [(n, box) for n, box in boxes[key] if sum(a >= attention for a, _ in crops[n]) < PATCHES]
            if key not in shown and not needed:
                continue
            picture: Any = cv2.imdecode(np.frombuffer(row["jpeg"], np.uint8), cv2.IMREAD_COLOR)
            if key in shown:
                shown[key].image = _jpeg(_fitted(picture, SIDE), 72)
            for neuron, box in needed:
                crops[neuron].append((attention, _jpeg(_patch(picture, box, row["scale"]), 80)))
    ordered = {n: [image for _, image in sorted(found, key=lambda c: not c[0])[:PATCHES]] for n, found in crops.items()}
    return {
        (r.metric, r.layer, r.channel): ordered.get((r.layer, r.channel), []) for f in recurring.values() for r in f
    }


def _fitted(picture: NDArray[np.uint8], side: int) -> Any:
    scale = min(1.0, side / max(picture.shape[:2]))
    return picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _patch(picture: NDArray[np.uint8], box: tuple[int, int, int, int], scale: float) -> Any:
    """A patch with a little around it, square."""
    x, y, width, height = (v * scale for v in box)
    side = max(8.0, 1.3 * max(width, height))
    left = round(min(max(0.0, x + width / 2 - side / 2), max(0.0, picture.shape[1] - side)))
    top = round(min(max(0.0, y + height / 2 - side / 2), max(0.0, picture.shape[0] - side)))
    part = picture[top : top + round(side), left : left + round(side)]
    return cv2.resize(
        part, (PATCH_SIDE, PATCH_SIDE), interpolation=cv2.INTER_AREA if side > PATCH_SIDE else cv2.INTER_CUBIC
    )


def _jpeg(bgr: NDArray[np.uint8], quality: int) -> str:
    """As a data URI."""
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
