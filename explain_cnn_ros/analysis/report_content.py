"""The contents of the report. Their size is bounded, even for long recordings."""

from __future__ import annotations

import base64
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from explain_cnn_ros.analysis.legend import legend, target_texts
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.recurrence import Selections
from explain_cnn_ros.analysis.rows import proof_of
from explain_cnn_ros.analysis.settings import LOW_CONFIDENCE, WRONG
from explain_cnn_ros.analysis.silencing import spread
from explain_cnn_ros.analysis.wrong_way import FALSE_ALARM, MISSED
from explain_cnn_ros.bags.reader import CLOCK_UNSET
from explain_cnn_ros.draw.captions import proof_text, proof_warning
from explain_cnn_ros.explain.metrics import SUPPORTING
from explain_cnn_ros.explain.network_adapter import PERSON
from explain_cnn_ros.explain.settings import ExplainSettings

#: Maximum numbers of points of a curve, of marks on it, of frames with a picture, of recurring neurons of a metric, and
#: of patches of a neuron.
POINTS, MARKS, SHOWN, NEURONS, PATCHES = 600, 1500, 48, 10, 6

#: Maximum width and height of a picture, and width and height of a patch in a gallery, in pixels.
SIDE, PATCH_SIDE = 640, 56

#: Threshold of decisions about other targets than the person.
TARGET_THRESHOLD = 0.5

#: Number of cells of a heat map, across and down.
HEAT = (32, 24)

#: Path of the recording, and number of the frame.
Key = tuple[str, int]

#: A gallery of patches: name of the metric, or the kind of wrong decisions; layer; channel.
_Gallery = tuple[str, int, int]

#: x, y, width and height, in pixels of the image.
Box = tuple[int, int, int, int]


@dataclass
class Shown:
    """An explained frame that the report can show.

    Attributes:
        source: Path of the recording.
        frame: Number of the frame.
        seconds: Time after the start of the recording's curve, in seconds.
        probability: P(person).
        person: The decision.
        label: Whether there was a person; None without a label.
        trigger: Reason for the explanation.
        region: The explained region.
        size: Width and height of the image, in pixels.
        similarity: Set similarity; None if it is unknown.
        image: The picture, a data URI; "" until the picture is loaded.
        output: Output of the explained region; None if it is unknown.
        decided: The decision that is explained: `person`, or whether another target has a probability of at least 0.5.
        of_target: Probability of another target than the person; None for the person.
        rankings: The neurons, by metric and layer.
        proofs: Text and warning about the proof of each metric.
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
    output: float | None = None
    decided: bool = False
    of_target: float | None = None
    rankings: dict[str, dict[str, Any]] = field(default_factory=dict)
    proofs: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class Curves:
    """The curves of one recording.

    Attributes:
        times: Times of the frames after `start`, in seconds. Frames that were recorded before have 0.
        probabilities: P(person) of the frames.
        marks: Frames that are marked: wrong, doubtful or explained.
        similarity: Time and set similarity of the explained frames.
        errors: Number of frames that could not be decoded.
        start: Log time of the first message of the recording, in ns, from which labels are counted as well. If it is
            not known, that of the first frame; of the first one after the clock was set, if there are such frames.
    """

    times: list[float] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    marks: list[dict[str, Any]] = field(default_factory=list)
    similarity: list[tuple[float, float]] = field(default_factory=list)
    errors: int = 0
    start: int = 0


def collect(
    store: PartStore,
    threshold: float,
    settings: ExplainSettings,
    wrong_way: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
    target: str = PERSON,
    starts: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Any]:
    """Collect the data of the report, as plain values for JSON.

    Args:
        store: The store with the parts of the analysis.
        threshold: The decision is "person" if P(person) is at least this.
        settings: Settings of the explanations.
        wrong_way: The neurons that pushed the wrong way, by kind of wrong decisions.
        target: Names of the classes that the explanations are about; see `Explainer.target`.
        starts: Start of each recording by its path: the log time of its first message, in ns. Recordings whose start is
            not known are left out.
    """
    curves, explained = _frames(store, starts)
    if target != PERSON:
        _decide_target(explained.values(), settings)
    shown = _chosen(explained)
    selections, heat = Selections(), _Heat()
    _add_neurons(store, explained, shown, selections, heat)
    recurring = {
        metric: selections.recurring(metric, NEURONS) for metric in sorted({metric for metric, *_ in selections.counts})
    }
    _add_proofs(store, shown, target)
    wanted = {(r.metric, r.layer, r.channel) for found in recurring.values() for r in found}
    wanted |= {(kind, n["layer"], n["channel"]) for kind, found in wrong_way.items() for n in found}
    galleries = _add_pictures(store, explained, shown, wanted)
    with_picture = [s for s in shown.values() if s.image]
    numbers = {(s.source, s.frame): i for i, s in enumerate(with_picture)}
    return legend(recurring, selections.names, settings) | {
        "threshold": threshold,
        "target": target_texts(target),
        "curves": [
            {
                "source": source,
                "frames": len(c.times),
                "errors": c.errors,
                "band": _band(np.array(c.times), np.array(c.probabilities)),
                "marks": [m | {"shown": numbers.get((source, m["frame"]))} for m in spread(c.marks, MARKS)],
                "similarity": spread(c.similarity, POINTS),
            }
            for source, c in curves.items()
        ],
        "shown": [asdict(s) for s in with_picture],
        "groups": {"attention": selections.frames[True], "confident": selections.frames[False]},
        "recurring": {
            metric: [asdict(r) | {"gallery": galleries.get((metric, r.layer, r.channel), [])} for r in found]
            for metric, found in recurring.items()
        },
        "wrong_way_galleries": {
            kind: [galleries.get((kind, n["layer"], n["channel"]), []) for n in found]
            for kind, found in wrong_way.items()
        },
        "heat": heat.to_dict(),
        "heat_size": _usual_size(explained),
        "explained": len(explained),
    }


def _needs_attention(trigger: str) -> bool:
    return trigger in (WRONG, LOW_CONFIDENCE)


def _frames(store: PartStore, known: Mapping[str, int]) -> tuple[dict[str, Curves], dict[Key, Shown]]:
    """Return the curves of each recording, and all explained frames, without their pictures."""
    starts = _starts(store) | dict(known)
    curves: dict[str, Curves] = {}
    explained: dict[Key, Shown] = {}
    for table in store.tables("frames"):
        for row in table.to_pylist():
            source = row["source"]
            curve = curves.setdefault(source, Curves(start=starts[source]))
            if row["probability"] is None:
                curve.errors += 1
                continue
            seconds = max(0.0, (row["log_time"] - curve.start) / 1e9)
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


def _starts(store: PartStore) -> dict[str, int]:
    """Return the log time at which the curve of each recording starts, in ns."""
    first: dict[str, int] = {}
    later: dict[str, int] = {}
    for table in store.tables("frames"):
        for source, time in zip(table["source"].to_pylist(), table["log_time"].to_pylist(), strict=True):
            first[source] = min(time, first.get(source, time))
            if time >= CLOCK_UNSET:
                later[source] = min(time, later.get(source, time))
    return first | later


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
        output=_short(row["output"]),
        decided=row["person"],
    )


def _decide_target(frames: Iterable[Shown], settings: ExplainSettings) -> None:
    """Add the probability of another target than the person, and the decision about it, to explained frames."""
    for frame in frames:
        if frame.output is None:
            continue
        logit = settings.output == "logit"
        # exp of more than 700 is too large for a float.
        frame.of_target = 1 / (1 + math.exp(min(-frame.output, 700.0))) if logit else frame.output
        frame.decided = frame.of_target >= TARGET_THRESHOLD


def _chosen(explained: dict[Key, Shown]) -> dict[Key, Shown]:
    """Return at most SHOWN frames, in the order of the recordings. Up to two thirds of them need attention."""
    wrong = [k for k, s in explained.items() if s.trigger == WRONG]
    doubtful = [k for k, s in explained.items() if s.trigger == LOW_CONFIDENCE]
    others = [k for k, s in explained.items() if not _needs_attention(s.trigger)]
    room = max(SHOWN - len(others), SHOWN * 2 // 3)
    attention = spread(wrong, room)
    attention += spread(doubtful, room - len(attention))
    chosen = set(attention + spread(others, SHOWN - len(attention)))
    return {key: s for key, s in explained.items() if key in chosen}


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


def _usual_size(explained: Mapping[Key, Shown]) -> tuple[int, int]:
    """Return the most frequent width and height of the explained images, in pixels."""
    sizes = Counter(s.size for s in explained.values())
    return sizes.most_common(1)[0][0] if sizes else HEAT


def _boxes(patches: pa.Table) -> dict[tuple[str, int, str, int, int], Box]:
    """Return the patches by recording, frame, metric, layer and channel."""
    names = ("source", "frame", "metric", "layer", "channel", "x", "y", "width", "height")
    columns = [patches[name].to_pylist() for name in names]
    return {tuple(values[:5]): tuple(values[5:]) for values in zip(*columns, strict=True)}


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
            box = boxes.get((*key, metric, layer, channel))
            selections.add(metric, layer, row["layer_name"], channel, attention)
            if box is not None:
                heat.add(metric, attention, box, explained[key].size)
            if key in shown:
                _add_neuron(shown[key], row, box)


def _add_neuron(shown: Shown, row: dict[str, Any], box: Box | None) -> None:
    by_layer = shown.rankings.setdefault(row["metric"], {})
    empty = {"name": row["layer_name"], "stability": row["stability"], "unstable": row["unstable"], "neurons": []}
    ranking = by_layer.setdefault(str(row["layer"]), empty)
    ranking["neurons"].append([row["channel"], _short(row["score"]), _short(row["silenced"]), *(box or ())])


def _add_proofs(store: PartStore, shown: dict[Key, Shown], target: str) -> None:
    """Add the texts about the proofs to the shown frames."""
    for table in store.tables("proofs"):
        for row in table.to_pylist():
            frame = shown.get((row["source"], row["frame"]))
            if frame is not None:
                proof = proof_of(row)
                frame.proofs[proof.metric] = {
                    "text": proof_text(proof, target=target),
                    "warning": proof_warning(proof),
                }


def _short(value: float | None) -> float | None:
    """Return a number with four digits."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def _add_pictures(
    store: PartStore, explained: dict[Key, Shown], shown: dict[Key, Shown], wanted: Collection[_Gallery]
) -> dict[_Gallery, list[str]]:
    """Load the pictures of the shown frames, and cut the patches of galleries out of all pictures.

    Args:
        store: The store with the parts of the analysis.
        explained: All explained frames.
        shown: The frames whose pictures are loaded.
        wanted: The galleries.

    Returns:
        The patches of each gallery as data URIs. Those of frames that need attention come first.
    """
    crops: dict[_Gallery, list[tuple[bool, str]]] = defaultdict(list)
    for pictures, patches in zip(store.tables("pictures"), store.tables("patches"), strict=True):
        boxes: dict[Key, list[tuple[_Gallery, Box]]] = defaultdict(list)
        for (source, frame, metric, layer, channel), box in _boxes(patches).items():
            kind = _wrong_kind(explained[source, frame]) if metric == SUPPORTING else ""
            for gallery in ((metric, layer, channel), (kind, layer, channel)):
                if gallery in wanted:
                    boxes[source, frame].append((gallery, box))
        for row in pictures.to_pylist():
            key = (row["source"], row["frame"])
            attention = _needs_attention(explained[key].trigger)
            needed = [(g, box) for g, box in boxes[key] if sum(a >= attention for a, _ in crops[g]) < PATCHES]
            if key not in shown and not needed:
                continue
            picture: Any = cv2.imdecode(np.frombuffer(row["jpeg"], np.uint8), cv2.IMREAD_COLOR)
            if key in shown:
                shown[key].image = _jpeg(_fitted(picture, SIDE), 72)
            for gallery, box in needed:
                crops[gallery].append((attention, _jpeg(_patch(picture, box, row["scale"]), 80)))
    return {g: [image for _, image in sorted(found, key=lambda c: not c[0])[:PATCHES]] for g, found in crops.items()}


def _wrong_kind(frame: Shown) -> str:
    """Return the kind of a wrong decision; "" if the decision is right or has no label."""
    if frame.label is None or frame.label == frame.person:
        return ""
    return MISSED if frame.label else FALSE_ALARM


def _fitted(picture: NDArray[np.uint8], side: int) -> Any:
    scale = min(1.0, side / max(picture.shape[:2]))
    height, width = (max(1, round(scale * length)) for length in picture.shape[:2])
    return picture if scale == 1 else cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


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
