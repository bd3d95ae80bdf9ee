"""The tables of the causal check, for all windows, for persons alone and for backgrounds alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.experiments import bootstrap
from explain_cnn_ros.experiments.bootstrap import NOT_MEASURED, Estimate
from explain_cnn_ros.experiments.causal import (
    MAIN_SELECTORS,
    SEEDED_SELECTORS,
    SELECTORS,
    SINGLE_SELECTORS,
    CausalSettings,
)
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.networks import across, mean_matrix
from explain_cnn_ros.experiments.selectors import INFLUENCE, INFLUENCE_ALONE, NOISY_METRICS, RANDOM, parts
from explain_cnn_ros.explain.metrics import Selects, metric
from explain_cnn_ros.explain.selection import jaccard

#: Kinds of windows that the tables tell apart.
ALL, PERSONS, BACKGROUNDS = "all windows", "persons", "backgrounds"

KINDS: Mapping[str, Callable[[Example], bool]] = {
    ALL: lambda example: True,
    PERSONS: lambda example: example.person,
    BACKGROUNDS: lambda example: not example.person,
}

#: Minimum change of the output by the top 5 of influence, as a multiple of that by random neurons.
TIMES_RANDOM_MIN = {PERSONS: 5.0, BACKGROUNDS: 7.0}

#: Minimum share of the changes that have the predicted direction, and minimum share of the top 5 that another seed
#: selects as well.
DIRECTION_MIN, OTHER_SEED_MIN = 0.95, 0.9


@dataclass(frozen=True)
class CausalRow:
    """The effect of silencing the top N of a metric; means over windows with confidence intervals over photos.

    The output is the margin: the logit of person minus the logit of background.

    Attributes:
        selector: Name of the selection.
        kind: Kind of the windows, one of KINDS.
        top_n: Number of neurons of each layer.
        influence: Absolute change of the output.
        times_random: The same, divided by that of random neurons.
        direction: Share of the windows whose output moves in the predicted direction: against the shown decision, and
            toward it for neurons that oppose the decision.
        direction_random: The same for random neurons.
        against: Change of the output against the content of the window: its fall for persons, its rise for backgrounds.
        against_random: The same for random neurons.
        flips: Share of the windows whose decision at the threshold changes.
        flips_random: The same for random neurons.
        other_seed: Jaccard index of the top N with another seed of the noise, mean over layers; 1 for selections
            without noise, NaN if it was not measured.
    """

    selector: str
    kind: str
    top_n: int
    influence: Estimate
    times_random: Estimate
    direction: Estimate
    direction_random: Estimate
    against: Estimate
    against_random: Estimate
    flips: Estimate
    flips_random: Estimate
    other_seed: Estimate


@dataclass(frozen=True)
class ControlRow:
    """The effect of the top N of a metric beside further baselines.

    Attributes:
        selector: Name of the selection.
        kind: Kind of the windows.
        times_random: Absolute change of the output, divided by that of random neurons; zero ablation.
        times_matched: The same, divided by that of neurons that are as active as the selected ones.
        mean_change: Absolute change of the output when activations are set to their means (mean ablation).
        mean_times_random: The same, divided by that of random neurons.
        mean_flips: Share of the windows whose decision at the threshold changes; mean ablation.
    """

    selector: str
    kind: str
    times_random: Estimate
    times_matched: Estimate
    mean_change: Estimate
    mean_times_random: Estimate
    mean_flips: Estimate


@dataclass(frozen=True)
class LayerRow:
    """The effect of silencing the top N of one layer.

    Attributes:
        selector: Name of the selection.
        kind: Kind of the windows.
        layer: Number of the layer.
        name: Name of the layer.
        change: Absolute change of the output.
        times_random: The same, divided by that of random neurons of the layer.
    """

    selector: str
    kind: str
    layer: int
    name: str
    change: Estimate
    times_random: Estimate


@dataclass(frozen=True)
class SingleRow:
    """The effect of silencing the top N of each layer one by one.

    Attributes:
        selector: Name of the selection.
        kind: Kind of the windows.
        direction: Share of the neurons whose silencing moves the output in the predicted direction: against the shown
            decision, and toward it for neurons that oppose the decision. Mean over windows.
        change: Absolute change of the output by one neuron.
    """

    selector: str
    kind: str
    direction: Estimate
    change: Estimate


@dataclass(frozen=True)
class PairedRow:
    """A paired comparison of influence with another selection.

    Attributes:
        selector: Name of the other selection.
        kind: Kind of the windows.
        difference: Absolute change of the output by influence's neurons minus that by the other selection's.
        larger: Share of the windows in which the change by influence's neurons is larger.
        p: Two-sided p-value of a permutation test over photos; see `bootstrap.paired_p`. Over several networks, the
            largest one.
    """

    selector: str
    kind: str
    difference: Estimate
    larger: Estimate
    p: float = field(metadata={"across": max})


@dataclass(frozen=True)
class Claim:
    """A claim about influence, and whether it holds.

    Attributes:
        selector: Name of the selection.
        claim: The claim.
        minimum: The value that is required.
        measured: The measured value.
        holds: Whether the measured value reaches the minimum.
    """

    selector: str
    claim: str
    minimum: float
    measured: Estimate
    holds: bool


@dataclass(frozen=True)
class CausalTables:
    """All tables of one network.

    Attributes:
        rows: The effect of each selection.
        controls: Further baselines.
        layers: Layer by layer.
        singles: Neuron by neuron.
        paired: Influence against each other selection.
        claims: The claims about influence.
        agreement: Agreement of each two of SELECTORS, by kind.
    """

    rows: list[CausalRow]
    controls: list[ControlRow]
    layers: list[LayerRow]
    singles: list[SingleRow]
    paired: list[PairedRow]
    claims: list[Claim]
    agreement: dict[str, list[list[float]]]


class _Windows:
    """The results of the windows of one kind, as arrays."""

    def __init__(self, records: Mapping[str, Any], examples: Sequence[Example], threshold: float) -> None:
        self.records = [records[e.name] for e in examples]
        self.photos = [e.photo for e in examples]
        self.before = self.of("output")
        self.content = np.array([1.0 if e.person else -1.0 for e in examples])
        self.shown = np.where(self.of("person"), 1.0, -1.0)
        self._limit = math.log(threshold / (1 - threshold))

    def of(self, *keys: str) -> NDArray[np.float64]:
        """Return an entry of all records, [windows, ...]."""
        values = self.records
        for key in keys:
            values = [value[key] for value in values]
        return np.array(values, np.float64)

    def mean(self, values: NDArray[Any]) -> Estimate:
        return bootstrap.mean(values, self.photos)

    def ratio(self, above: NDArray[np.float64], below: NDArray[np.float64]) -> Estimate:
        return bootstrap.ratio(above, below, self.photos)

    def falls(self, after: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the fall of the output, [windows, ...], from outputs [windows, ...]."""
        return self._broadcast(self.before, after) - after

    def toward(self, signs: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the fall of the output times a sign for each window, [windows, ...]."""
        return self._broadcast(signs, after) * self.falls(after)

    def predicted(self, name: str) -> NDArray[np.float64]:
        """Return the predicted sign of the fall of the output, [windows]."""
        metric_name = parts(name)[0]
        opposes = metric_name != RANDOM and metric(metric_name).selects is Selects.OPPOSING
        return -self.shown if opposes else self.shown

    def flips(self, after: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether the decision changes, bool [windows, ...]."""
        return (after >= self._limit) != (self._broadcast(self.before, after) >= self._limit)

    @staticmethod
    def _broadcast(values: NDArray[np.float64], like: NDArray[np.float64]) -> NDArray[np.float64]:
        return values.reshape(-1, *[1] * (like.ndim - 1))


def tables(
    records: Mapping[str, Any],
    examples: Sequence[Example],
    settings: CausalSettings,
    threshold: float,
    layers: Mapping[int, str],
) -> CausalTables:
    """Compute the tables of one network.

    Args:
        records: Results of `causal.measure`.
        examples: The windows.
        settings: Settings of the experiment.
        threshold: A window is decided to show a person if P(person) is at least this.
        layers: Names of the layers whose neurons were silenced, by number; see `layers.explained_layers`.
    """
    found = CausalTables([], [], [], [], [], [], {})
    for kind, belongs in KINDS.items():
        chosen = [e for e in examples if belongs(e)]
        if not chosen:
            continue
        windows = _Windows(records, chosen, threshold)
        found.rows.extend(_rows(windows, kind, settings))
        found.controls.extend(_controls(windows, kind, settings))
        found.layers.extend(_layers(windows, kind, layers))
        found.singles.extend(_singles(windows, kind))
        found.paired.extend(_paired(windows, kind, settings))
        found.agreement[kind] = agreement(records, chosen, settings.compared_n)
    found.claims.extend(claims(found.rows, found.singles, settings))
    return found


def across_networks(of_networks: Sequence[CausalTables]) -> CausalTables:
    """Return the tables over several networks; see `networks.across`."""
    return CausalTables(
        across([t.rows for t in of_networks]),
        across([t.controls for t in of_networks]),
        across([t.layers for t in of_networks]),
        across([t.singles for t in of_networks]),
        across([t.paired for t in of_networks]),
        across([t.claims for t in of_networks]),
        {kind: mean_matrix([t.agreement[kind] for t in of_networks]) for kind in of_networks[0].agreement},
    )


def _rows(windows: _Windows, kind: str, settings: CausalSettings) -> list[CausalRow]:
    found, drawn = [], windows.of("random")  # [windows, draws, N]
    for name, (i, n) in itertools.product(SELECTORS, enumerate(settings.top_ns)):
        after, random = windows.of("selected", name)[:, i], drawn[:, :, i]
        predicted = windows.predicted(name)
        found.append(
            CausalRow(
                name,
                kind,
                n,
                windows.mean(np.abs(windows.falls(after))),
                windows.ratio(np.abs(windows.falls(after)), np.abs(windows.falls(random)).mean(1)),
                windows.mean(windows.toward(predicted, after) > 0),
                windows.mean((windows.toward(predicted, random) > 0).mean(1)),
                windows.mean(windows.toward(windows.content, after)),
                windows.mean(windows.toward(windows.content, random).mean(1)),
                windows.mean(windows.flips(after)),
                windows.mean(windows.flips(random).mean(1)),
                _other_seed(windows, name, n),
            )
        )
    return found


def _other_seed(windows: _Windows, name: str, n: int) -> Estimate:
    if name in SEEDED_SELECTORS:
        return windows.mean(np.array([_shared(r["channels"][name], r["other_seed"][name], n) for r in windows.records]))
    metric_name, preset = parts(name)
    without_noise = metric_name not in NOISY_METRICS or preset == parts(INFLUENCE_ALONE)[1]
    return Estimate(1.0, 1.0, 1.0) if without_noise else NOT_MEASURED


def _shared(one: Mapping[str, list[int]], other: Mapping[str, list[int]], n: int) -> float:
    """Return the Jaccard index of two top N, mean over layers; 1 for layers in which both select no neuron."""
    return float(np.mean([jaccard(set(one[k][:n]), set(other[k][:n])) if one[k] or other[k] else 1.0 for k in one]))


def _controls(windows: _Windows, kind: str, settings: CausalSettings) -> list[ControlRow]:
    i, found = settings.top_ns.index(settings.compared_n), []
    random = np.abs(windows.falls(windows.of("random")[:, :, i])).mean(1)
    mean_random = np.abs(windows.falls(windows.of("mean_random"))).mean(1)
    for name in MAIN_SELECTORS:
        change = np.abs(windows.falls(windows.of("selected", name)[:, i]))
        mean_after = windows.of("mean_selected", name)
        mean_change = np.abs(windows.falls(mean_after))
        found.append(
            ControlRow(
                name,
                kind,
                windows.ratio(change, random),
                windows.ratio(change, np.abs(windows.falls(windows.of("matched", name))).mean(1)),
                windows.mean(mean_change),
                windows.ratio(mean_change, mean_random),
                windows.mean(windows.flips(mean_after)),
            )
        )
    return found


def _layers(windows: _Windows, kind: str, layers: Mapping[int, str]) -> list[LayerRow]:
    random = np.abs(windows.falls(windows.of("layers_random"))).mean(1)  # [windows, layers]
    found = []
    for name in MAIN_SELECTORS:
        change = np.abs(windows.falls(windows.of("layers_selected", name)))
        for i, (layer, layer_name) in enumerate(layers.items()):
            ratio = windows.ratio(change[:, i], random[:, i])
            found.append(LayerRow(name, kind, layer, layer_name, windows.mean(change[:, i]), ratio))
    return found


def _singles(windows: _Windows, kind: str) -> list[SingleRow]:
    found = []
    for name in SINGLE_SELECTORS:
        falls = [
            before - np.array(r["single"][name]) for r, before in zip(windows.records, windows.before, strict=True)
        ]
        signs = windows.predicted(name)
        counts = np.array([len(each) for each in falls], np.float64)
        agreeing = np.array([(sign * each > 0).sum() for sign, each in zip(signs, falls, strict=True)], np.float64)
        changes = np.array([np.abs(each).sum() for each in falls])
        found.append(SingleRow(name, kind, windows.ratio(agreeing, counts), windows.ratio(changes, counts)))
    return found


def _paired(windows: _Windows, kind: str, settings: CausalSettings) -> list[PairedRow]:
    i, found = settings.top_ns.index(settings.compared_n), []
    own = np.abs(windows.falls(windows.of("selected", INFLUENCE)[:, i]))
    for name in SELECTORS:
        if name != INFLUENCE:
            difference = own - np.abs(windows.falls(windows.of("selected", name)[:, i]))
            p = bootstrap.paired_p(difference, windows.photos)
            found.append(PairedRow(name, kind, windows.mean(difference), windows.mean(difference > 0), p))
    return found


def claims(rows: Sequence[CausalRow], singles: Sequence[SingleRow], settings: CausalSettings) -> list[Claim]:
    """Check the claims about influence.

    Args:
        rows: Rows of one network.
        singles: The effect of single neurons.
        settings: Settings of the experiment.
    """
    found, n = [], settings.compared_n
    for name in (INFLUENCE, INFLUENCE_ALONE):
        by_kind = {row.kind: row for row in rows if (row.selector, row.top_n) == (name, n)}
        wanted = [
            (f"{kind}: change of the output, times random neurons'", minimum, by_kind[kind].times_random)
            for kind, minimum in TIMES_RANDOM_MIN.items()
            if kind in by_kind
        ]
        single = next(row.direction for row in singles if (row.selector, row.kind) == (name, ALL))
        wanted += [
            ("share of the changes in the predicted direction", DIRECTION_MIN, by_kind[ALL].direction),
            ("the same, each neuron silenced by itself", DIRECTION_MIN, single),
            (f"top {n} shared with another seed", OTHER_SEED_MIN, by_kind[ALL].other_seed),
        ]
        found += [Claim(name, text, low, estimate, estimate.value >= low) for text, low, estimate in wanted]
    return found


def agreement(records: Mapping[str, Any], examples: Sequence[Example], top_n: int) -> list[list[float]]:
    """Compute the agreement of each two of SELECTORS.

    Args:
        records: Results of `causal.measure`.
        examples: The windows.
        top_n: Number of neurons of each layer.

    Returns:
        A symmetric matrix: the Jaccard index of the selections of all layers, mean over windows.
    """
    total = np.zeros((len(SELECTORS), len(SELECTORS)))
    for example in examples:
        channels = records[example.name]["channels"]
        sets = [{(layer, c) for layer, top in channels[s].items() for c in top[:top_n]} for s in SELECTORS]
        total += [[jaccard(one, other) if one or other else 1.0 for other in sets] for one in sets]
    return (total / len(examples)).tolist()
