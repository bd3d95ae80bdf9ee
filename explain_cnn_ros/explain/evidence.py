"""Scores of all metrics and layers, their stability, and their confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from explain_cnn_ros.explain.influences import Influences
from explain_cnn_ros.explain.metrics.registry import LayerEvidence, Metric, Reads, metric
from explain_cnn_ros.explain.moments import Moments
from explain_cnn_ros.explain.network_adapter import NetworkAdapter
from explain_cnn_ros.explain.selection import jaccard, top_channels
from explain_cnn_ros.explain.settings import ExplainSettings

#: Minimum number of groups for confidence intervals. Fewer groups say too little about the spread.
GROUPS_FOR_INTERVALS = 4

#: Student's t, 97.5 % quantile, for 3, 5, ... 99 degrees of freedom: one less than the number of groups, which is even.
STUDENT_T_975 = (
    *(3.18245, 2.57058, 2.36462, 2.26216, 2.20099, 2.16037, 2.13145, 2.10982, 2.09302, 2.07961, 2.06866, 2.05954),
    *(2.05183, 2.04523, 2.03951, 2.03452, 2.03011, 2.02619, 2.02269, 2.01954, 2.01669, 2.01410, 2.01174, 2.00958),
    *(2.00758, 2.00575, 2.00404, 2.00247, 2.00100, 1.99962, 1.99834, 1.99714, 1.99601, 1.99495, 1.99394, 1.99300),
    *(1.99210, 1.99125, 1.99045, 1.98969, 1.98896, 1.98827, 1.98761, 1.98698, 1.98638, 1.98580, 1.98525, 1.98472),
    1.98422,
)


@dataclass(frozen=True)
class Evidence:
    """The data that the scores of one image are computed from.

    Attributes:
        settings: Settings of the explanation.
        adapter: Adapter of the network.
        activations: Activations for the unperturbed window by layer, [C, R, C'].
        moments: Moments over the perturbations by layer.
        influences: Influences by layer; empty if no requested metric reads gradients.
        person: Whether the shown decision is "person".
    """

    settings: ExplainSettings
    adapter: NetworkAdapter
    activations: Mapping[int, Tensor]
    moments: Mapping[int, Moments]
    influences: Mapping[int, Influences]
    person: bool

    def score(self, name: str, layer: int) -> Tensor:
        """Compute the scores [C] of a layer's neurons by a metric. NaN is for neurons without a value."""
        return metric(name).function(self._of_layer(metric(name), layer))

    def select(self, name: str, scores: Tensor) -> list[int]:
        """Return the channels of the top N by a metric, best first.

        Args:
            name: Name of the metric.
            scores: Scores [C] of a layer's neurons by the metric.
        """
        return top_channels(metric(name).preferences(scores, self.person), self.settings.top_n)

    def _of_layer(self, entry: Metric, layer: int) -> LayerEvidence:
        evidence = layer_weights(self.adapter, self.settings, layer)
        if entry.reads is Reads.WEIGHTS:
            return evidence
        evidence = replace(evidence, activation_or_none=self.activations[layer])
        if entry.reads is Reads.PERTURBATIONS:
            return replace(evidence, moments_or_none=self.moments[layer])
        if entry.reads is Reads.GRADIENTS:
            return replace(evidence, influences_or_none=self.influences[layer])
        return evidence

    def stability(self, name: str, layer: int) -> float:
        """Compute the Jaccard index of the top N from one half of the perturbations and the top N from the other."""
        entry, evidence = metric(name), self._of_layer(metric(name), layer)
        halves: tuple[LayerEvidence, ...]
        if entry.reads is Reads.GRADIENTS:
            halves = tuple(replace(evidence, influences_or_none=half) for half in evidence.influences.halves)
        else:
            halves = tuple(replace(evidence, moments_or_none=half) for half in evidence.moments.halves)
        one, other = (set(self.select(name, entry.function(half))) for half in halves)
        return jaccard(one, other)

    def interval_half_widths(self, name: str, layer: int, channels: Sequence[int]) -> Tensor:
        """Compute half of the width of the 95 % confidence interval of each score.

        It uses the jackknife over groups of perturbations: how much the score changes if one group is left out.

        Returns:
            [len(channels)]; NaN if there is no interval, because the metric does not read perturbations or because
            there are too few groups.
        """
        entry, groups = metric(name), self.settings.perturbation_groups
        if not entry.perturbed(self.settings) or groups < GROUPS_FOR_INTERVALS:
            return torch.full((len(channels),), float("nan"))
        evidence, chosen = self._of_layer(entry, layer), list(channels)
        few = replace(
            evidence, weights=evidence.weights[chosen], activation_or_none=evidence.activation[chosen], discard=False
        )
        sums = evidence.influences if entry.reads is Reads.GRADIENTS else evidence.moments
        if bool((sums.count < 1).any()):
            return torch.full((len(channels),), float("nan"))
        of_channels, scores = sums.of_channels(chosen), []
        for left_out in range(groups):
            rest = of_channels.select([g for g in range(groups) if g != left_out])
            scores.append(
                entry.function(
                    replace(few, influences_or_none=rest)
                    if isinstance(rest, Influences)
                    else replace(few, moments_or_none=rest)
                )
            )
        without = torch.stack(scores)
        spread = (without - without.mean(0)).square().sum(0) * (groups - 1) / groups
        return STUDENT_T_975[groups // 2 - 2] * spread.sqrt()


def layer_weights(adapter: NetworkAdapter, settings: ExplainSettings, layer: int) -> LayerEvidence:
    """Return the evidence that is the same for all images."""
    return LayerEvidence(settings, adapter.weights(layer, settings.weights))


def weight_scores(adapter: NetworkAdapter, settings: ExplainSettings) -> dict[tuple[str, int], Tensor]:
    """Compute the scores [C], by metric and layer, of the requested metrics that are the same for all images."""
    return {
        (name, layer): metric(name).function(layer_weights(adapter, settings, layer))
        for name in settings.metrics
        if metric(name).reads is Reads.WEIGHTS
        for layer in settings.layers
    }
