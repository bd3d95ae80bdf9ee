"""The neurons that pushed wrong decisions the wrong way, by their signed influence.

In a missed person, these are the neurons that argue against the person; in a false alarm, those that argue for one. In
both, they are the neurons that support the decision, which is wrong. In rightly decided frames of the same label, they
are the neurons that oppose the decision.

An explained frame counts if its best window has the label of the frame: influence is about this window, and a person
who was missed may be elsewhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from explain_cnn_ros.analysis.intervals import lift
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING

#: Kinds of wrong decisions: a labelled person that was not found, and a person that was found where there is none.
MISSED, FALSE_ALARM = "missed", "false_alarm"
KINDS = (MISSED, FALSE_ALARM)


@dataclass(frozen=True)
class Pushes:
    """The frames of one group in which a neuron argued against the label.

    Attributes:
        frames: Number of explained frames of the group.
        selected: Number of those in which the neuron is among those that argue most against the label.
        push: Mean of its influence in those frames, in the direction against the label; 0 without frames.
        share: Mean of its influence as a share of the output in those frames; None if it is unknown in all of them.
    """

    frames: int
    selected: int
    push: float
    share: float | None


@dataclass(frozen=True)
class WrongWay:
    """A neuron that argued for wrong decisions of one kind.

    Attributes:
        kind: One of KINDS.
        layer: Layer of the neuron, counted from 1.
        layer_name: Name of the layer.
        channel: Channel of the neuron, counted from 0.
        wrong: Its pushes in the wrong frames of the kind.
        right: Its pushes in rightly decided frames with the same label; None if there are none, or if the opposing
            neurons are unknown.
        lift: Share of the wrong frames over the share of the right frames in which it is selected, with the lower and
            the upper end of the 95 % confidence interval; None without right frames.
    """

    kind: str
    layer: int
    layer_name: str
    channel: int
    wrong: Pushes
    right: Pushes | None
    lift: tuple[float, float, float] | None


#: A kind of wrong decisions that the label makes possible, and whether the frame is one of them.
_Group = tuple[str, bool]


class WrongWays:
    """Sums of the influences that argue against the labels.

    Attributes:
        frames: Number of explained frames with a label, by the kind of wrong decisions that their label makes possible
            and by whether the decision is wrong.
    """

    def __init__(self) -> None:
        self.frames: Counter[_Group] = Counter()
        self._selected: Counter[tuple[_Group, int, int]] = Counter()
        self._sums: dict[tuple[_Group, int, int], float] = defaultdict(float)
        self._shares: dict[tuple[_Group, int, int], float] = defaultdict(float)
        self._with_share: Counter[tuple[_Group, int, int]] = Counter()
        self._names: dict[int, str] = {}
        self._opposing = False

    def add(self, frames: pa.Table, neurons: pa.Table, regions: pa.Table) -> None:
        """Add the frames of a part, their selected neurons and their regions, tables as in `tables.COLUMNS`."""
        own = own_labels(regions)
        known: dict[tuple[str, int], dict[str, Any]] = {}
        columns = ["source", "frame", "person", "label", "wrong", "trigger", "output"]
        for row in frames.select(columns).to_pylist():
            key = row["source"], row["frame"]
            if row["trigger"] and row["label"] is not None and own.get(key, row["label"]) == row["label"]:
                known[key] = row
                self.frames[_group(row)] += 1
        if not known:
            return
        for neuron in neurons.select(
            ["source", "frame", "metric", "layer", "layer_name", "channel", "score"]
        ).to_pylist():
            frame = known.get((neuron["source"], neuron["frame"]))
            if frame is not None and neuron["metric"] in (SUPPORTING, OPPOSING):
                self._opposing |= neuron["metric"] == OPPOSING
                self._add(frame, neuron)

    def _add(self, frame: dict[str, Any], neuron: dict[str, Any]) -> None:
        push = -neuron["score"] if frame["label"] else neuron["score"]
        if not push > 0:
            return
        key = (_group(frame), neuron["layer"], neuron["channel"])
        self._names[neuron["layer"]] = neuron["layer_name"]
        self._selected[key] += 1
        self._sums[key] += push
        # Close to the threshold, the output may argue for the other decision; a share of it would mean nothing.
        if frame["output"] and (frame["output"] > 0) == frame["person"]:
            self._shares[key] += push / abs(frame["output"])
            self._with_share[key] += 1

    def neurons(self, kind: str, count_max: int) -> list[WrongWay]:
        """Return the neurons that argued for wrong decisions of a kind, those with the largest sum of influences first.

        Args:
            kind: One of KINDS.
            count_max: Maximum number of neurons.
        """
        keys = [key for key in self._selected if key[0] == (kind, True)]
        keys.sort(key=lambda key: (-self._sums[key], -self._selected[key], *key[1:]))
        return [self._neuron(kind, layer, channel) for _, layer, channel in keys[:count_max]]

    def _neuron(self, kind: str, layer: int, channel: int) -> WrongWay:
        wrong = self._pushes((kind, True), layer, channel)
        right = self._pushes((kind, False), layer, channel)
        if not self._opposing or not right.frames:
            return WrongWay(kind, layer, self._names[layer], channel, wrong, None, None)
        ratio = lift(wrong.selected, wrong.frames, right.selected, right.frames)
        return WrongWay(kind, layer, self._names[layer], channel, wrong, right, ratio)

    def _pushes(self, group: _Group, layer: int, channel: int) -> Pushes:
        key = (group, layer, channel)
        count, with_share = self._selected[key], self._with_share[key]
        return Pushes(
            frames=self.frames[group],
            selected=count,
            push=self._sums[key] / count if count else 0.0,
            share=self._shares[key] / with_share if with_share else None,
        )


def _group(frame: dict[str, Any]) -> _Group:
    return MISSED if frame["label"] else FALSE_ALARM, bool(frame["wrong"])


def own_labels(regions: pa.Table) -> dict[tuple[str, int], bool | None]:
    """Return the label of the best window of each frame, by recording and number of the frame.

    The label of a frame says whether anybody is in it. With boxes, the best window may show nobody all the same.

    Args:
        regions: Table "regions" of a part.
    """
    rows = regions.select(["source", "frame", "region", "label"]).to_pylist()
    return {(row["source"], row["frame"]): row["label"] for row in rows if row["region"] == 0}


def wrong_ways(store: PartStore) -> WrongWays:
    """Return the sums over all parts of an analysis."""
    found = WrongWays()
    tables = (store.tables(name) for name in ("frames", "neurons", "regions"))
    for frames, neurons, regions in zip(*tables, strict=True):
        found.add(frames, neurons, regions)
    return found
