"""The six metrics: pure functions of moments, activations or weights, one number a neuron.

Higher is more important. NaN means that a neuron has no value by this metric: it is discarded, dead, or constant.
Such neurons are never selected.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

import torch
from torch import Tensor, nn

from explain_cnn_ros.moments import Moments
from explain_cnn_ros.network import VGGClassifier, convolution_layers

#: From perturbations: they have a stability.
PERTURBATION_METRICS = ("activation_output_correlation", "activation_precision")

#: Dimensions of [C, R, C'] that are positions. They are never flattened: that would copy maps whose channels come last.
POSITIONS = (1, 2)

METRICS = (*PERTURBATION_METRICS, "activation_sum", "activation_variance", "weight_sum", "weight_variance")


def activation_output_correlation(moments: Moments, live_share_min: float = 0.1) -> Tensor:
    """Mean absolute Pearson correlation of a neuron's activation with the output, [C] (eq. 2 of the paper).

    The mean runs over the positions whose activation varies. A neuron that is alive at less than
    `live_share_min` of its positions has no value: the mean of a few correlations is large by chance.
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
    """Inverse of a neuron's variance over the perturbations, averaged over positions, [C] (eq. 3 of the paper).

    Args:
        lambda_: neurons whose mean activation is below this share of the layer's mean activation are discarded.
        lambda_absolute: `lambda_` is an activation, not a share.
        mean_of_inverse: average 1/variance over the positions that vary, instead of the inverse of the average
            variance (which is what the authors' code does).
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
    """Sum of the unperturbed activation [C, R, C'] over positions, [C]; a dead neuron has no value."""
    return torch.where(_alive(activation), activation.sum(POSITIONS), torch.nan)


def activation_variance(activation: Tensor) -> Tensor:
    """Variance of the unperturbed activation [C, R, C'] over positions, [C]; a dead neuron has no value."""
    return torch.where(_alive(activation), activation.var(POSITIONS, correction=0), torch.nan)


def _alive(activation: Tensor) -> Tensor:
    return (activation != 0).any(2).any(1)


def weight_sum(weights: Tensor) -> Tensor:
    """Sum of each neuron's weights, [C], from weights [C, ...]."""
    return weights.flatten(1).sum(1)


def weight_variance(weights: Tensor) -> Tensor:
    """Variance of each neuron's weights, [C], from weights [C, ...]."""
    return weights.flatten(1).var(1, correction=0)


def incoming_weights(network: VGGClassifier, layer: int) -> Tensor:
    """Weights that lead to each neuron of a layer, [C, ...]."""
    convolution = network.features[convolution_layers(network.features)[layer - 1].convolution]
    assert isinstance(convolution, nn.Conv2d)
    return convolution.weight


def outgoing_weights(network: VGGClassifier, layer: int) -> Tensor:
    """Weights that lead from each neuron of a layer to the next layer, [C, ...]; dense after the last convolution."""
    layers = convolution_layers(network.features)
    if layer < len(layers):
        following = network.features[layers[layer].convolution]
        assert isinstance(following, nn.Conv2d)
        return following.weight.transpose(0, 1)
    dense = next(module for module in network.classifier if isinstance(module, nn.Linear))
    return dense.weight.view(dense.out_features, layers[-1].channels, -1).transpose(0, 1)


def rank(scores: Tensor, top_n: int) -> Tensor:
    """Channels of the highest scores [C], best first; ties by channel; int64 [at most top_n].

    Neurons without a value (NaN) are left out: there may be fewer than `top_n`.
    """
    # A stable sort of the negated scores keeps the lower channel first and puts NaN last.
    order = torch.argsort(-scores, stable=True)
    return order[~torch.isnan(scores[order])][:top_n]


def jaccard(one: AbstractSet[Any], other: AbstractSet[Any]) -> float:
    """Size of the intersection over size of the union; NaN when both are empty."""
    union = one | other
    return len(one & other) / len(union) if union else float("nan")
