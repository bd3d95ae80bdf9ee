"""The measurement of what silencing the neurons that pushed the wrong way does over all analysed frames.

When all recordings have been read, the windows that were decided are decided again with these neurons silenced. The
windows are stored in the parts, so that no recording is read twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.intervals import share_interval
from explain_cnn_ros.analysis.job import ProgressReporter
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.rows import Row, window_of
from explain_cnn_ros.analysis.tables import table_of
from explain_cnn_ros.analysis.wrong_way import FALSE_ALARM, KINDS, MISSED, WrongWay, own_labels, wrong_ways
from explain_cnn_ros.files import json_text

#: Numbers of neurons that are silenced together, up to `AnalysisSettings.silence_neurons`.
SIZES = (1, 3, 5, 10, 20, 50, 100)

#: The kinds of wrong decisions in words.
KIND_TEXTS = {MISSED: "towards missed persons", FALSE_ALARM: "towards false alarms"}

#: Path of the recording, and number of the frame.
Key = tuple[str, int]


@dataclass(frozen=True)
class SilencedSet:
    """Neurons that are silenced together.

    Attributes:
        kind: The wrong decisions that the neurons argued for; see `wrong_way.KINDS`.
        neurons: Layer and channel of each neuron.
        random: Whether they are random neurons of the same layers, for comparison.
    """

    kind: str
    neurons: tuple[tuple[int, int], ...]
    random: bool = False

    @property
    def channels(self) -> dict[int, list[int]]:
        """The channels by layer."""
        by_layer: dict[int, list[int]] = defaultdict(list)
        for layer, channel in self.neurons:
            by_layer[layer].append(channel)
        return dict(by_layer)


@dataclass(frozen=True)
class Effect:
    """The effect of silencing one set of neurons.

    Attributes:
        kind: As in `SilencedSet`.
        neurons: Number of silenced neurons.
        random: As in `SilencedSet`.
        wrong: Number of wrong decisions of the kind among the frames that were decided again.
        turned_right: Number of those that become right.
        turned_right_interval: 95 % confidence interval of their share.
        right: Number of right decisions, with any label.
        turned_wrong: Number of those that become wrong.
        turned_wrong_interval: 95 % confidence interval of their share.
        unlabelled: Number of frames without a label.
        changed: Number of those whose decision changes.
    """

    kind: str
    neurons: int
    random: bool
    wrong: int
    turned_right: int
    turned_right_interval: tuple[float, float]
    right: int
    turned_wrong: int
    turned_wrong_interval: tuple[float, float]
    unlabelled: int
    changed: int


def silenced_sets(
    ranked: Mapping[str, Sequence[WrongWay]], count_max: int, channels: Mapping[int, int], seed: int
) -> list[SilencedSet]:
    """Return the sets of neurons that are silenced.

    Args:
        ranked: The neurons that pushed the wrong way, most first, by kind of wrong decisions.
        count_max: Maximum number of neurons of a set.
        channels: Number of channels by layer.
        seed: Seed of the random sets.

    Returns:
        For each kind, the first neurons in several numbers, and random neurons in the largest number.
    """
    sets = []
    for kind in KINDS:
        neurons = [(neuron.layer, neuron.channel) for neuron in ranked.get(kind, ())][:count_max]
        if not neurons:
            continue
        sizes = [size for size in SIZES if size < len(neurons)] + [len(neurons)]
        sets += [SilencedSet(kind, tuple(neurons[:size])) for size in sizes]
        rng = np.random.default_rng((seed, KINDS.index(kind)))
        drawn: list[tuple[int, int]] = []
        for layer, chosen in sets[-1].channels.items():
            others = np.setdiff1d(np.arange(channels[layer]), chosen)
            drawn += [(layer, int(c)) for c in rng.permutation(others)[: len(chosen)]]
        sets.append(SilencedSet(kind, tuple(drawn), random=True))
    return sets


def silence_wrong_way(analyzer: Analyzer, store: PartStore, progress: ProgressReporter) -> None:
    """Decide the stored windows again with the neurons silenced that pushed the wrong way.

    Results are stored part by part. Those of an earlier call that ended early are used if they are of the same sets.

    Args:
        analyzer: The analyzer, with the settings of the analysis.
        store: The store with all parts.
        progress: Is notified of the progress.

    Raises:
        OSError: The results of a part cannot be stored.
    """
    settings = analyzer.settings
    if not analyzer.silences:
        return
    found = wrong_ways(store)
    ranked = {kind: found.neurons(kind, settings.silence_neurons) for kind in KINDS}
    channels = {number: layer.channels for number, layer in analyzer.layers.items()}
    sets = silenced_sets(ranked, settings.silence_neurons, channels, settings.explain.seed)
    if not sets:
        return
    chosen = _chosen(store, settings.silence_frames)
    store.begin_silencing(json_text([asdict(one) for one in sets]))
    parts = {part: [key for key in _keys(store, part) if key in chosen] for part in store.parts()}
    progress.say(f"deciding {len(chosen)} frames again with the neurons silenced that pushed the wrong way")
    progress.begin(len(chosen), sum(len(keys) for part, keys in parts.items() if store.has_silencing(*part)))
    try:
        for part, keys in parts.items():
            if keys and not store.has_silencing(*part):
                rows = _silenced(analyzer, store, part, set(keys), sets)
                store.write_silencing(*part, table_of("silencing", rows))
                progress.advance(len(keys), 0)
    finally:
        progress.end()


def _keys(store: PartStore, part: tuple[int, int]) -> list[Key]:
    """Return the frames of a part of whose best regions the windows are stored."""
    windows = store.read(*part, "windows", ["source", "frame", "region"]).to_pylist()
    return [(row["source"], row["frame"]) for row in windows if row["region"] == 0]


def _chosen(store: PartStore, count_max: int) -> set[Key]:
    """Return the frames that are decided again.

    Of each recording, these are at most `count_max` frames that were decided wrongly, as many that were decided rightly
    and as many without a label, each evenly spread.
    """
    groups: dict[tuple[str, bool | None], list[Key]] = defaultdict(list)
    for part in store.parts():
        with_window = set(_keys(store, part))
        frames = store.read(*part, "frames", ["source", "frame", "wrong"])
        for source, frame, wrong in zip(*(frames[name].to_pylist() for name in frames.column_names), strict=True):
            if (source, frame) in with_window:
                groups[source, wrong].append((source, frame))
    return {key for keys in groups.values() for key in spread(keys, count_max)}


def spread(items: Sequence[Any], count_max: int) -> list[Any]:
    """Return at most `count_max` of the items, evenly spread."""
    if len(items) <= count_max:
        return list(items)
    if count_max <= 0:
        return []
    return [items[i] for i in np.linspace(0, len(items) - 1, count_max).round().astype(int)]


def _silenced(
    analyzer: Analyzer, store: PartStore, part: tuple[int, int], keys: set[Key], sets: Sequence[SilencedSet]
) -> list[Row]:
    """Decide the windows of a part again. The first row of each frame is that of the window as it is."""
    labels = own_labels(store.read(*part, "regions", ["source", "frame", "region", "label"]))
    rows: list[Row] = []
    for row in store.read(*part, "windows").to_pylist():
        key = (row["source"], row["frame"])
        if key not in keys or row["region"] != 0:
            continue
        probabilities = analyzer.silence(window_of(row), [{}, *(one.channels for one in sets)])
        described: list[Row] = [{"kind": None, "neurons": 0, "random": False}]
        described += [{"kind": one.kind, "neurons": len(one.neurons), "random": one.random} for one in sets]
        rows += [
            {"source": key[0], "frame": key[1], "label": labels[key]}
            | description
            | {"probability": p, "person": p >= analyzer.threshold}
            for description, p in zip(described, probabilities, strict=True)
        ]
    return rows


def effects(tables: Iterable[pa.Table]) -> list[Effect]:
    """Count the decisions that silencing changes.

    Args:
        tables: Tables "silencing", with all rows of a frame one after the other.

    Returns:
        The effect of each set, in the order of the rows.
    """
    counts: dict[tuple[str, int, bool], dict[str, Counter[str]]] = {}
    before: Row = {}
    for table in tables:
        for row in table.to_pylist():
            if row["kind"] is None:
                before = row
                continue
            of_set = counts.setdefault((row["kind"], row["neurons"], row["random"]), defaultdict(Counter))
            _count(of_set[row["source"]], before["person"], row)
    return [_effect(key, by_source) for key, by_source in counts.items()]


def _count(counts: Counter[str], person: bool, row: Row) -> None:
    """Count one frame: its decision before, and its row with neurons silenced."""
    changed = row["person"] != person
    if row["label"] is None:
        counts["unlabelled"] += 1
        counts["changed"] += changed
    elif person == row["label"]:
        counts["right"] += 1
        counts["turned_wrong"] += changed
    elif row["label"] == (row["kind"] == MISSED):
        counts["wrong"] += 1
        counts["turned_right"] += changed


def _effect(key: tuple[str, int, bool], by_source: Mapping[str, Counter[str]]) -> Effect:
    total = sum(by_source.values(), Counter[str]())

    def interval(part: str, whole: str) -> tuple[float, float]:
        return share_interval([(counts[part], counts[whole]) for counts in by_source.values()])

    return Effect(
        *key,
        wrong=total["wrong"],
        turned_right=total["turned_right"],
        turned_right_interval=interval("turned_right", "wrong"),
        right=total["right"],
        turned_wrong=total["turned_wrong"],
        turned_wrong_interval=interval("turned_wrong", "right"),
        unlabelled=total["unlabelled"],
        changed=total["changed"],
    )


def wrong_way_summary(store: PartStore, count_max: int) -> dict[str, Any]:
    """Return the neurons that pushed the wrong way, and the effects of silencing them, as plain values for JSON.

    Args:
        store: The store with the parts of the analysis.
        count_max: Maximum number of neurons of each kind of wrong decisions.

    Returns:
        Under "explained", the number of explained wrong and right frames by kind; under "windows", the number of wrong
        windows by kind, of which a frame may have several; under "neurons", the neurons by kind; under "effects", the
        effect of each set; under "frames", the number of frames that were decided again.
    """
    found = wrong_ways(store)
    measured = [asdict(effect) for effect in effects(store.tables("silencing"))]
    base = sum(table["kind"].null_count for table in store.tables("silencing"))
    return {
        "explained": {kind: {"wrong": found.frames[kind, True], "right": found.frames[kind, False]} for kind in KINDS},
        "windows": _wrong_windows(store),
        "neurons": {kind: [asdict(neuron) for neuron in found.neurons(kind, count_max)] for kind in KINDS},
        "effects": measured,
        "frames": base,
    }


def _wrong_windows(store: PartStore) -> dict[str, int]:
    """Return the number of wrong windows of each kind, in all frames."""
    counts = dict.fromkeys(KINDS, 0)
    for table in store.tables("regions"):
        for label, wrong in zip(table["label"].to_pylist(), table["wrong"].to_pylist(), strict=True):
            if wrong:
                counts[MISSED if label else FALSE_ALARM] += 1
    return counts


def effect_lines(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence about the largest set of each kind.

    Args:
        found: The effects, as plain values.
    """
    largest = {effect["kind"]: effect for effect in found if not effect["random"]}
    return [
        f"silencing the {effect['neurons']} neurons that pushed most {KIND_TEXTS[kind]} turns "
        f"{effect['turned_right']} of {effect['wrong']} of them right, and {effect['turned_wrong']} of "
        f"{effect['right']} right decisions wrong"
        for kind, effect in largest.items()
    ]
