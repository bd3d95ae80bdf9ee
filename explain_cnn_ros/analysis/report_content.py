"""The contents of the report. Their size is bounded, even for long recordings."""

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

from explain_cnn_ros.analysis.legend import legend
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.recurrence import Recurrence, Selections
from explain_cnn_ros.analysis.settings import LOW_CONFIDENCE, WRONG
from explain_cnn_ros.explain.settings import ExplainSettings

#: Maximum numbers of points of a curve, of marks on it, of frames with a picture, of recurring neurons of a metric, and
#: of patches of a neuron.
POINTS, MARKS, SHOWN, NEURONS, PATCHES = 600, 1500, 48, 10, 6

#: Maximum width and height of a picture, and width and height of a patch in a gallery, in pixels.
SIDE, PATCH_SIDE = 640, 56

#: Number of cells of a heat map, across and down.
HEAT = (32, 24)

#: Path of the recording, and number of the frame.
Key = tuple[str, int]

#: x, y, width and height, in pixels of the image.
Box = tuple[int, int, int, int]


@dataclass
class Shown:
    """An explained frame that the report can show.

    Attributes:
        source: Path of the recording.
        frame: Number of the frame.
        seconds: Time after the first frame of the recording, in seconds.
        probability: P(person).
        person: The decision.
        label: Whether there was a person; None without a label.
        trigger: Reason for the explanation.
        region: The explained region.
        size: Width and height of the image, in pixels.
        similarity: Set similarity; None if it is unknown.
        image: The picture, a data URI; "" until the picture is loaded.
        rankings: The neurons, by metric and layer.
    """

    source: str
    frame: int
    seconds: float
    probability: float
    person: bool
    label: bool | None
    trigger: str
    region: Box
    size: tuple[int, int]
    similarity: float | None
    image: str = ""
    rankings: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Curves:
    """The curves of one recording.

    Attributes:
        times: Times of the frames after the first frame, in seconds.
        probabilities: P(person) of the frames.
        marks: Frames that are marked: wrong, doubtful or explained.
        similarity: Time and set similarity of the explained frames.
        errors: Number of frames that could not be decoded.
        start: Log time of the first frame, in ns.
    """

    times: list[float] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    marks: list[dict[str, Any]] = field(default_factory=list)
    similarity: list[tuple[float, float]] = field(default_factory=list)
    errors: int = 0
    start: int = 0


def collect(store: PartStore, threshold: float, settings: ExplainSettings) -> dict[str, Any]:
    """Collect the data of the report, as plain values for JSON.

    Args:
        store: The store with the parts of the analysis.
        threshold: The decision is "person" if P(person) is at least this.
        settings: Settings of the explanations.
    """
    curves, explained = _frames(store)
    shown = _chosen(explained)
    selections, heat = Selections(), _Heat()
    _add_neurons(store, explained, shown, selections, heat)
    recurring = {
        metric: selections.recurring(metric, NEURONS) for metric in sorted({metric for metric, *_ in selections.counts})
    }
    galleries = _add_pictures(store, explained, shown, recurring)
    with_picture = [s for s in shown.values() if s.image]
    numbers = {(s.source, s.frame): i for i, s in enumerate(with_picture)}
    return legend(recurring, selections.names, settings) | {
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
        "shown": [asdict(s) for s in with_picture],
        "groups": {"attention": selections.frames[True], "confident": selections.frames[False]},
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
    """Return the curves of each recording, and all explained frames, without their pictures."""
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
                explained[source, row["frame"]] = _shown(row, seconds)
    return curves, explained


def _shown(row: dict[str, Any], seconds: float) -> Shown:
    return Shown(
        source=row["source"],
        frame=row["frame"],
        seconds=seconds,
        probability=row["probability"],
        person=row["person"],
        label=row["label"],
        trigger=row["trigger"],
        region=(row["region_x"], row["region_y"], row["region_width"], row["region_height"]),
        size=(row["width"], row["height"]),
        similarity=row["set_similarity"],
    )


def _chosen(explained: dict[Key, Shown]) -> dict[Key, Shown]:
    """Return at most SHOWN frames, in the order of the recordings. Up to two thirds of them need attention."""
    wrong = [k for k, s in explained.items() if s.trigger == WRONG]
    doubtful = [k for k, s in explained.items() if s.trigger == LOW_CONFIDENCE]
    others = [k for k, s in explained.items() if not _needs_attention(s.trigger)]
    room = max(SHOWN - len(others), SHOWN * 2 // 3)
    attention = _thinned(wrong, room)
    attention += _thinned(doubtful, room - len(attention))
    chosen = set(attention + _thinned(others, SHOWN - len(attention)))
    return {key: s for key, s in explained.items() if key in chosen}


def _thinned(items: list[Any], count_max: int) -> list[Any]:
    """Return at most `count_max` of the items, evenly spaced."""
    if len(items) <= count_max:
        return list(items)
    if count_max <= 0:
        return []
    return [items[i] for i in np.linspace(0, len(items) - 1, count_max).round().astype(int)]


def _band(times: NDArray[np.float64], values: NDArray[np.float64]) -> list[tuple[float, float, float]]:
    """Return time, minimum and maximum of at most POINTS intervals of a curve."""
    if not len(times):
        return []
    edges = np.linspace(0, len(times), min(POINTS, len(times)) + 1).round().astype(int)
    return [(float(times[a]), float(values[a:b].min()), float(values[a:b].max())) for a, b in itertools.pairwise(edges)]


class _Heat:
    """Counts of the patches at each place of the image, by metric, in frames that need attention and in others."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, bool], NDArray[np.float64]] = defaultdict(lambda: np.zeros(HEAT[::-1]))
        self._patches: dict[tuple[str, bool], int] = defaultdict(int)

    def add(self, metric: str, attention: bool, box: Box, size: tuple[int, int]) -> None:
        """Count a patch.

        Args:
            metric: Metric that selects its neuron.
            attention: Whether the frame needs attention.
            box: The patch.
            size: Width and height of the image, in pixels.
        """
        x, y, width, height = box
        left, right = (int(HEAT[0] * v / size[0]) for v in (x, x + width - 1))
        top, bottom = (int(HEAT[1] * v / size[1]) for v in (y, y + height - 1))
        self._cells[metric, attention][max(top, 0) : bottom + 1, max(left, 0) : right + 1] += 1
        self._patches[metric, attention] += 1

    def to_dict(self) -> dict[str, dict[str, list[list[float]]]]:
        """Return the share of the patches that cover each cell, as rows, by metric and group of frames."""
        found: dict[str, dict[str, list[list[float]]]] = defaultdict(dict)
        for (metric, attention), cells in self._cells.items():
            shares = (cells / self._patches[metric, attention]).round(4)
            found[metric]["attention" if attention else "confident"] = shares.tolist()
        return dict(found)


def _boxes(patches: pa.Table) -> dict[tuple[str, int, int, int], Box]:
    """Return the patches by recording, frame, layer and channel."""
    columns = [patches[c].to_pylist() for c in ("source", "frame", "layer", "channel", "x", "y", "width", "height")]
    return {tuple(values[:4]): tuple(values[4:]) for values in zip(*columns, strict=True)}


def _add_neurons(
    store: PartStore, explained: dict[Key, Shown], shown: dict[Key, Shown], selections: Selections, heat: _Heat
) -> None:
    """Count all selected neurons and their patches, and add those of the shown frames to the frames."""
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
                _add_neuron(shown[key], row, box)


def _add_neuron(shown: Shown, row: dict[str, Any], box: Box | None) -> None:
    by_layer = shown.rankings.setdefault(row["metric"], {})
    empty = {"name": row["layer_name"], "stability": row["stability"], "unstable": row["unstable"], "neurons": []}
    ranking = by_layer.setdefault(str(row["layer"]), empty)
    ranking["neurons"].append([row["channel"], _short(row["score"]), *(box or ())])


def _short(value: float | None) -> float | None:
    """Return a number with four digits."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def _add_pictures(
    store: PartStore,
    explained: dict[Key, Shown],
    shown: dict[Key, Shown],
    recurring: dict[str, list[Recurrence]],
) -> dict[tuple[str, int, int], list[str]]:
    """Load the pictures of the shown frames, and cut the patches of the recurring neurons out of all pictures.

    Returns:
        The patches as data URIs, by metric, layer and channel. Those of frames that need attention come first.
    """
    wanted = {(r.layer, r.channel) for found in recurring.values() for r in found}
    crops: dict[tuple[int, int], list[tuple[bool, str]]] = defaultdict(list)
    for pictures, patches in zip(store.tables("pictures"), store.tables("patches"), strict=True):
        boxes: dict[Key, list[tuple[tuple[int, int], Box]]] = defaultdict(list)
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
        (r.metric, r.layer, r.channel): ordered.get((r.layer, r.channel), [])
        for found in recurring.values()
        for r in found
    }


def _fitted(picture: NDArray[np.uint8], side: int) -> Any:
    scale = min(1.0, side / max(picture.shape[:2]))
    return picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _patch(picture: NDArray[np.uint8], box: Box, scale: float) -> Any:
    """Cut a patch and a margin around it out of a picture, as a square."""
    x, y, width, height = (v * scale for v in box)
    side = max(8.0, 1.3 * max(width, height))
    left = round(min(max(0.0, x + width / 2 - side / 2), max(0.0, picture.shape[1] - side)))
    top = round(min(max(0.0, y + height / 2 - side / 2), max(0.0, picture.shape[0] - side)))
    part = picture[top : top + round(side), left : left + round(side)]
    return cv2.resize(
        part, (PATCH_SIDE, PATCH_SIDE), interpolation=cv2.INTER_AREA if side > PATCH_SIDE else cv2.INTER_CUBIC
    )


def _jpeg(bgr: NDArray[np.uint8], quality: int) -> str:
    """Encode a picture as a data URI."""
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
