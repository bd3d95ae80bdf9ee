"""Scores of all metrics and layers as the settings ask for them, their stability, and their confidence intervals."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explain_cnn_ros import importance
from explain_cnn_ros.importance import PERTURBATION_METRICS
from explain_cnn_ros.moments import Moments
from explain_cnn_ros.network import VGGClassifier
from explain_cnn_ros.settings import ExplainSettings

#: Groups of perturbations from which on there are confidence intervals: fewer say too little of their spread.
GROUPS_FOR_INTERVALS = 4


@dataclass(frozen=True)
class Evidence:
    """What scores are computed from.

    activations: of the unperturbed window, by layer, [C, R, C'].
    moments: over the perturbations, by layer.
    """

    settings: ExplainSettings
    activations: Mapping[int, Tensor]
    moments: Mapping[int, Moments]

    def score(self, metric: str, layer: int) -> Tensor:
        """Scores [C] of a layer's neurons by a metric of this image, NaN for those without a value."""
        if metric in PERTURBATION_METRICS:
            return self._perturbation_score(metric, self.moments[layer])
        return _BY_ACTIVATION[metric](self.activations[layer])

    def _perturbation_score(self, metric: str, moments: Moments, discard: bool = True) -> Tensor:
        settings = self.settings
        if metric == "activation_output_correlation":
            return importance.activation_output_correlation(moments, settings.live_share_min if discard else 0.0)
        return importance.activation_precision(
            moments,
            settings.precision_lambda if discard else float("-inf"),
            settings.precision_lambda_absolute or not discard,
            settings.precision_mean_of_inverse,
        )

    def stability(self, metric: str, layer: int) -> float:
        """Jaccard index of the top N from one half of the perturbations with that from the other."""
        one, other = (
            set(importance.rank(self._perturbation_score(metric, half), self.settings.top_n).tolist())
            for half in self.moments[layer].halves
        )
        return importance.jaccard(one, other)

    def interval_half_widths(self, metric: str, layer: int, channels: list[int]) -> Tensor:
        """Half of the width of each score's 95 % confidence interval, [len(channels)]; NaN where there is none.

        By the jackknife over groups of perturbations: how much the score changes when each of them is left out.
        """
        moments = self.moments[layer]
        groups = moments.groups
        if metric not in PERTURBATION_METRICS or groups < GROUPS_FOR_INTERVALS or bool((moments.count < 1).any()):
            return torch.full((len(channels),), float("nan"))
        few = moments.of_channels(channels)
        without = torch.stack(
            [
                self._perturbation_score(metric, few.select([g for g in range(groups) if g != left]), discard=False)
                for left in range(groups)
            ]
        )
        spread = (without - without.mean(0)).square().sum(0) * (groups - 1) / groups
        return student_t_quantile(0.975, groups - 1) * spread.sqrt()


def weight_scores(network: VGGClassifier, settings: ExplainSettings) -> dict[tuple[str, int], Tensor]:
    """Scores [C] by metric and layer, of the metrics that are asked for and are the same for all images."""
    weights = importance.outgoing_weights if settings.weights == "outgoing" else importance.incoming_weights
    return {
        (metric, layer): _BY_WEIGHTS[metric](weights(network, layer))
        for metric in settings.metrics
        if metric in _BY_WEIGHTS
        for layer in settings.layers
    }


_BY_ACTIVATION = {
    "activation_sum": importance.activation_sum,
    "activation_variance": importance.activation_variance,
}
_BY_WEIGHTS = {"weight_sum": importance.weight_sum, "weight_variance": importance.weight_variance}


@functools.lru_cache
def student_t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution, for probabilities of 0.5 to 0.999, by integrating its density."""
    t = np.linspace(0, 350, 1_000_001)
    density = (1 + t * t / degrees) ** (-(degrees + 1) / 2)
    above = np.cumsum((density[1:] + density[:-1]) / 2)
    return float(np.interp(probability, 0.5 + 0.5 * above / above[-1], t[1:]))
