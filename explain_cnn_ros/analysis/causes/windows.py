"""The windows whose decisions are examined for causes, and the pushes of all neurons in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.causes.cause import StoredWindow
from explain_cnn_ros.analysis.causes.pushes import PushMeter
from explain_cnn_ros.analysis.job import ProgressReporter
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.rows import Row, window_of
from explain_cnn_ros.analysis.silencing import spread
from explain_cnn_ros.analysis.wrong_way import FALSE_ALARM, KINDS, MISSED

#: Kind of wrong decisions that the label makes possible, and whether the decision is wrong.
Group = tuple[str, bool]


@dataclass(frozen=True)
class Chosen:
    """The windows that are examined.

    Attributes:
        groups: The windows of each group.
        skipped: Number of wrong windows that are left out, by kind.
        search: Number of persons that only the search missed: the network decides about their windows rightly.
    """

    groups: dict[Group, list[StoredWindow]]
    skipped: dict[str, int]
    search: int


@dataclass
class MeasuredWindows:
    """Windows of one group.

    Attributes:
        label: Whether they show a person.
        keys: The windows.
        pixels: Their pixels, uint8 [H, W, 3] RGB each.
        pushes: Pushes of all neurons in each window, [D]; see `PushMeter`.
        outputs: Output of each window, in the direction against the label.
    """

    label: bool
    keys: list[StoredWindow] = field(default_factory=list)
    pixels: list[NDArray[np.uint8]] = field(default_factory=list)
    pushes: list[NDArray[np.float32]] = field(default_factory=list)
    outputs: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, key: StoredWindow, window: NDArray[np.uint8], meter: PushMeter) -> None:
        """Measure the pushes in a window, and add it.

        Args:
            key: The window.
            window: Its pixels, uint8 [H, W, 3] RGB.
            meter: Measures the pushes.
        """
        push = meter.measure(window, self.label)
        self.keys.append(key)
        self.pixels.append(window)
        self.pushes.append(push.values)
        self.outputs.append(push.output)


def choose(store: PartStore, count_max: int, threshold: float) -> Chosen:
    """Choose the windows that are examined, at most `count_max` of each group, evenly spread.

    Args:
        store: The store with all parts.
        count_max: Maximum number of windows of each group.
        threshold: The decision is "person" if P(person) is at least this.
    """
    stored = {_key(row) for row in _rows(store, ["source", "frame", "region"])}
    found: dict[Group, list[StoredWindow]] = {(kind, wrong): [] for kind in KINDS for wrong in (True, False)}
    search = 0
    for table in store.tables("regions"):
        for row in table.to_pylist():
            if row["label"] is None:
                continue
            if row["missed"] and row["probability"] >= threshold:
                search += 1
            elif (key := _key(row)) in stored:
                found[MISSED if row["label"] else FALSE_ALARM, bool(row["wrong"])].append(key)
    skipped = {kind: max(0, len(found[kind, True]) - count_max) for kind in KINDS}
    return Chosen({one: spread(keys, count_max) for one, keys in found.items()}, skipped, search)


def measure(
    store: PartStore, chosen: Chosen, meter: PushMeter, progress: ProgressReporter
) -> dict[Group, MeasuredWindows]:
    """Measure the pushes in the chosen windows.

    Args:
        store: The store with all parts.
        chosen: The windows.
        meter: Measures the pushes.
        progress: Is notified of each window.
    """
    measured = {(kind, wrong): MeasuredWindows(kind == MISSED) for kind, wrong in chosen.groups}
    group_of = {key: one for one, keys in chosen.groups.items() for key in keys}
    for row in _rows(store, ["source", "frame", "region", "png"]):
        if (key := _key(row)) in group_of:
            measured[group_of[key]].add(key, window_of(row), meter)
            progress.advance(1, 0)
    return measured


def _key(row: Row) -> StoredWindow:
    return StoredWindow(row["source"], row["frame"], row["region"])


def _rows(store: PartStore, columns: list[str]) -> Iterator[Row]:
    """Yield the stored windows of all parts."""
    for part in store.parts():
        yield from store.read(*part, "windows", columns).to_pylist()
