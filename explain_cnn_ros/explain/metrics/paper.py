"""The six metrics of the paper: pure functions, one number for each neuron.

A higher score is more important. NaN means that the metric has no value for a neuron, because the neuron is discarded,
dead or constant. Such neurons are never selected.
"""

from __future__ import annotations

import torch
from torch import Tensor

from explain_cnn_ros.explain.metrics.registry import Metric, Reads, register
from explain_cnn_ros.explain.moments import Moments

#: Dimensions of [C, R, C'] that are positions. They are never flattened: that would copy maps whose channels come last.
POSITIONS = (1, 2)


def activation_output_correlation(moments: Moments, live_share_min: float = 0.1) -> Tensor:
    """Compute the mean absolute Pearson correlation of a neuron's activation with the output (eq. 2 of the paper).

    The mean is over the positions whose activation varies.

    Args:
        moments: Moments over the perturbations.
        live_share_min: Minimum share of the positions that must vary. A neuron with fewer has no value, because the
            mean of a few correlations is large by chance.

    Returns:
        Scores [C].
    """
    variance, live = moments.variance, moments.varies
    if not moments.output_varies:
        return variance.new_full((len(variance),), float("nan"))
    correlation = moments.covariance / (variance.sqrt() * moments.output_variance.sqrt())
    strength = correlation.abs_().clamp_max_(1).masked_fill_(~live, 0).sum(POSITIONS)
    count = live.sum(POSITIONS)
    positions = live[0].numel()
    enough = (count > 0) & (count >= live_share_min * positions)
    return torch.where(enough, strength / count, torch.nan)


def activation_precision(
    moments: Moments, lambda_: float = 0.1, lambda_absolute: bool = False, mean_of_inverse: bool = False
) -> Tensor:
    """Compute the inverse of a neuron's variance over the perturbations, averaged over positions (eq. 3 of the paper).

    Args:
        moments: Moments over the perturbations.
        lambda_: Neurons whose mean activation is below this share of the layer's mean activation are discarded.
        lambda_absolute: `lambda_` is an activation, not a share.
        mean_of_inverse: Average 1/variance over the positions that vary. By default the average variance is inverted,
            as in the authors' code.

    Returns:
        Scores [C].
    """
    live, mean = moments.varies, moments.mean.mean(POSITIONS)
    variance = moments.variance.masked_fill(~live, 0)
    limit = lambda_ if lambda_absolute else lambda_ * mean.mean()
    if mean_of_inverse:
        inverse = (1 / variance).masked_fill_(~live, 0)
        precision = inverse.sum(POSITIONS) / live.sum(POSITIONS)
    else:
        precision = 1 / variance.mean(POSITIONS)
    kept = (mean >= limit) & (mean > 0) & torch.isfinite(precision)
    return torch.where(kept, precision, torch.nan)


def activation_sum(activation: Tensor) -> Tensor:
    """Compute the sum of the unperturbed activation [C, R, C'] over positions: [C]. Dead neurons have no value."""
    return torch.where(_alive(activation), activation.sum(POSITIONS), torch.nan)


def activation_variance(activation: Tensor) -> Tensor:
    """Compute the variance of the unperturbed activation [C, R, C'] over positions: [C]. Dead neurons have no value."""
    return torch.where(_alive(activation), activation.var(POSITIONS, correction=0), torch.nan)


def _alive(activation: Tensor) -> Tensor:
    return (activation != 0).any(2).any(1)


def weight_sum(weights: Tensor) -> Tensor:
    """Compute the sum of each neuron's weights [C, ...]: [C]."""
    return weights.flatten(1).sum(1)


def weight_variance(weights: Tensor) -> Tensor:
    """Compute the variance of each neuron's weights [C, ...]: [C]."""
    return weights.flatten(1).var(1, correction=0)


register(
    Metric(
        name="activation_output_correlation",
        title="activation output correlation",
        reads=Reads.PERTURBATIONS,
        function=lambda evidence: activation_output_correlation(
            evidence.moments, evidence.settings.live_share_min if evidence.discard else 0.0
        ),
        meaning="moves with the output",
        source="eq. 2 of the paper",
        colour="#D55E00",
    )
)
register(
    Metric(
        name="activation_precision",
        title="activation precision",
        reads=Reads.PERTURBATIONS,
        function=lambda evidence: activation_precision(
            evidence.moments,
            evidence.settings.precision_lambda if evidence.discard else float("-inf"),
            evidence.settings.precision_lambda_absolute or not evidence.discard,
            evidence.settings.precision_mean_of_inverse,
        ),
        meaning="steady under noise",
        source="eq. 3 of the paper",
        colour="#0072B2",
    )
)
register(
    Metric(
        name="activation_sum",
        title="activation sum",
        reads=Reads.IMAGE,
        function=lambda evidence: activation_sum(evidence.activation),
        meaning="most active",
        source="APPLE (Konam 2017)",
        colour="#009E73",
    )
)
register(
    Metric(
        name="activation_variance",
        title="activation variance",
        reads=Reads.IMAGE,
        function=lambda evidence: activation_variance(evidence.activation),
        meaning="varies most over the window",
        source="APPLE (Konam 2017)",
        colour="#CC79A7",
    )
)
register(
    Metric(
        name="weight_sum",
        title="weight sum",
        reads=Reads.WEIGHTS,
        function=lambda evidence: weight_sum(evidence.weights),
        meaning="largest {weights} weights",
        source="APPLE (Konam 2017)",
        colour="#8A6F00",
        signed=True,
    )
)
register(
    Metric(
        name="weight_variance",
        title="weight variance",
        reads=Reads.WEIGHTS,
        function=lambda evidence: weight_variance(evidence.weights),
        meaning="most varied {weights} weights",
        source="APPLE (Konam 2017)",
        colour="#56B4E9",
    )
)
