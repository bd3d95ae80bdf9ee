"""The causes of the wrong decisions of an analysis.

When all recordings have been read, wrongly decided windows are grouped by the neurons that pushed the decision. The
windows are stored in the parts, so that no recording is read twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.causes.cause import Cause, Causes, SharedNeuron, Silenced
from explain_cnn_ros.analysis.causes.grouping import ALONE, central, group
from explain_cnn_ros.analysis.causes.pushes import MAP_SIZE, PushMeter
from explain_cnn_ros.analysis.causes.windows import Group, MeasuredWindows, choose, measure
from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.intervals import wilson
from explain_cnn_ros.analysis.job import ProgressReporter
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.wrong_way import KINDS
from explain_cnn_ros.explain.network_adapter import Neuron

#: Number of neurons that describe a cause, and of its typical windows.
NEURONS, TYPICAL = 10, 8

#: Minimum share of the push in a ninth of the window that is named as its place.
PLACE_MIN = 0.25

#: Names of the thirds of a window, by row and by column.
_ROWS, _COLUMNS = ("at the top", "in the middle", "at the bottom"), ("left", "centre", "right")

#: Measures the effect of silencing neurons on the windows of a cause, which have the given label.
Silence = Callable[[Sequence[Neuron], Sequence[NDArray[np.uint8]], bool], Silenced]


def find_causes(analyzer: Analyzer, store: PartStore, progress: ProgressReporter) -> Causes:
    """Group the wrongly decided windows of an analysis by their causes.

    The mean push of rightly decided windows with the same label is subtracted, so that the groups differ by what is
    special about wrong decisions.

    Args:
        analyzer: The analyzer, with the settings of the analysis.
        store: The store with all parts.
        progress: Is notified of the progress.
    """
    settings = analyzer.settings
    if not analyzer.silences or not settings.causes_windows:
        return Causes()
    chosen = choose(store, settings.causes_windows, analyzer.threshold)
    if not any(chosen.groups[kind, True] for kind in KINDS):
        return Causes(search=chosen.search)
    meter = PushMeter(analyzer.classifier, settings.explain)
    total = sum(map(len, chosen.groups.values()))
    progress.say(f"grouping the wrong decisions by their causes: {total} windows")
    progress.begin(total, 0)
    try:
        measured = measure(store, chosen, meter, progress)
    finally:
        progress.end()
    silence = _silencer(analyzer, measured)
    causes: list[Cause] = []
    alone: dict[str, int] = {}
    for kind in KINDS:
        found, alone[kind] = causes_of(kind, measured[kind, True], measured[kind, False], meter, silence)
        causes += found
    causes.sort(key=lambda cause: -len(cause.windows))
    return Causes(tuple(causes), alone, chosen.skipped, chosen.search)


def causes_of(
    kind: str, wrong: MeasuredWindows, right: MeasuredWindows, meter: PushMeter, silence: Silence
) -> tuple[list[Cause], int]:
    """Return the causes of the wrong decisions of one kind, and the number of windows without a common cause.

    Args:
        kind: The kind, one of `wrong_way.KINDS`.
        wrong: The wrongly decided windows.
        right: The rightly decided windows with the same label.
        meter: Measures where neurons push.
        silence: Measures the effect of silencing neurons.
    """
    if not len(wrong):
        return [], 0
    baseline = np.mean(right.pushes, axis=0) if len(right) else np.zeros_like(wrong.pushes[0])
    special = np.stack(wrong.pushes) - baseline
    numbers = group(special)
    causes = []
    for number in range(numbers.max() + 1):
        members = central(special, np.flatnonzero(numbers == number))
        neurons = _shared(wrong, right, special, members, meter)
        chosen = [Neuron(neuron.layer, neuron.channel) for neuron in neurons]
        windows = [wrong.pixels[i] for i in members]
        shares = _map(meter, windows, right, chosen)
        causes.append(
            Cause(
                kind=kind,
                name="",
                windows=tuple(wrong.keys[i] for i in members),
                frames=len({(wrong.keys[i].source, wrong.keys[i].frame) for i in members}),
                neurons=neurons,
                carried=_carried(wrong, members, [meter.neurons.index(neuron) for neuron in chosen]),
                place=place(shares),
                map=tuple(tuple(float(value) for value in row) for row in shares),
                silenced=silence(chosen, windows, wrong.label),
            )
        )
    return causes, int((numbers == ALONE).sum())


def _shared(
    wrong: MeasuredWindows,
    right: MeasuredWindows,
    special: NDArray[np.float32],
    members: NDArray[np.int64],
    meter: PushMeter,
) -> tuple[SharedNeuron, ...]:
    """Return the neurons that push most in the members of a group, compared with rightly decided windows."""
    pushes = np.stack([wrong.pushes[i] for i in members])
    means = pushes.mean(axis=0)
    elsewhere = np.mean(right.pushes, axis=0) if len(right) else None
    order = np.argsort(-special[members].mean(axis=0), kind="stable")
    return tuple(
        SharedNeuron(
            layer=meter.neurons[i].layer,
            layer_name=meter.layer_name(meter.neurons[i].layer),
            channel=meter.neurons[i].channel,
            push=float(means[i]),
            elsewhere=None if elsewhere is None else float(elsewhere[i]),
            windows=int((pushes[:, i] > 0).sum()),
        )
        for i in order[means[order] > 0][:NEURONS]
    )


def _carried(wrong: MeasuredWindows, members: NDArray[np.int64], neurons: Sequence[int]) -> float:
    """Return the share of the margin that neurons carry together in the members of a group, by the sums of both."""
    margin = sum(abs(wrong.outputs[i]) for i in members)
    return float(sum(wrong.pushes[i][neurons].sum() for i in members) / margin) if margin else 0.0


def _map(
    meter: PushMeter, wrong: Sequence[NDArray[np.uint8]], right: MeasuredWindows, neurons: Sequence[Neuron]
) -> NDArray[np.float64]:
    """Return where neurons push more than in rightly decided windows, as shares of the sum, [32, 16]."""

    def mean(windows: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        maps = [meter.map(window, right.label, neurons) for window in windows[:TYPICAL]]
        return np.mean(maps, axis=0) if maps else np.zeros(MAP_SIZE[::-1])

    more = np.maximum(mean(wrong) - mean(right.pixels), 0)
    return more / max(float(more.sum()), 1e-12)


def place(shares: NDArray[np.float64]) -> str:
    """Return in words where the largest part of a map lies.

    Args:
        shares: The map, [32, 16], which sums up to 1.

    Returns:
        One of nine places, for instance "at the top left"; "all over the window" if none of them has PLACE_MIN.
    """
    thirds = np.array(
        [[cell.sum() for cell in np.array_split(row, 3, axis=1)] for row in np.array_split(shares, 3, axis=0)]
    )
    row, column = divmod(int(thirds.argmax()), 3)
    if thirds[row, column] < PLACE_MIN:
        return "all over the window"
    return "in the middle" if (row, column) == (1, 1) else f"{_ROWS[row]} {_COLUMNS[column]}"


def _silencer(analyzer: Analyzer, measured: dict[Group, MeasuredWindows]) -> Silence:
    """Return a function that measures the effect of silencing neurons, on all rightly decided windows as well."""
    right = [(window, measured[kind, False].label) for kind in KINDS for window in measured[kind, False].pixels]

    def silence(neurons: Sequence[Neuron], windows: Sequence[NDArray[np.uint8]], label: bool) -> Silenced:
        channels: dict[int, list[int]] = defaultdict(list)
        for neuron in neurons:
            channels[neuron.layer].append(neuron.channel)

        def is_right(window: NDArray[np.uint8], shown: bool) -> bool:
            (probability,) = analyzer.silence(window, [dict(channels)])
            return (probability >= analyzer.threshold) == shown

        turned_right = sum(is_right(window, label) for window in windows)
        turned_wrong = sum(not is_right(window, shown) for window, shown in right)
        return Silenced(
            wrong=len(windows),
            turned_right=turned_right,
            turned_right_interval=wilson(turned_right, len(windows)),
            right=len(right),
            turned_wrong=turned_wrong,
            turned_wrong_interval=wilson(turned_wrong, len(right)),
        )

    return silence
