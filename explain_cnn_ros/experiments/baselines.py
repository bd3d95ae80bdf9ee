"""Baselines of the causal check: neurons that are as active as the selected ones, and mean activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.network_adapter import Channels

#: Number of windows in one pass.
BATCH = 16


def draw_matched(
    activations: Mapping[int, Tensor], selected: Channels, rng: np.random.Generator, nearest: int = 10
) -> dict[int, list[int]]:
    """Draw a live neuron of the same activity for each selected neuron.

    The activity of a neuron is its mean activation over positions. The neuron is drawn from those whose rank by
    activity is nearest, and which are neither selected nor drawn already.

    Args:
        activations: Activations of the window by layer, [C, R, C'].
        selected: The selected channels by layer.
        rng: Source of randomness.
        nearest: Number of neurons that one is drawn from.

    Returns:
        The channels by layer; fewer than the selected ones if a layer has too few live neurons.
    """
    found: dict[int, list[int]] = {}
    for layer, channels in selected.items():
        activity = activations[layer].flatten(1).mean(1).double().cpu().numpy()
        alive = (activations[layer] > 0).flatten(1).any(1).cpu().numpy()
        rank = np.empty(len(activity), np.intp)
        rank[np.argsort(activity, kind="stable")] = np.arange(len(activity))
        free = np.setdiff1d(np.flatnonzero(alive), list(channels))
        found[layer] = []
        for channel in channels:
            close = free[np.argsort(np.abs(rank[free] - rank[channel]), kind="stable")[:nearest]]
            if len(close):
                drawn = int(close[rng.integers(len(close))])
                free = free[free != drawn]
                found[layer].append(drawn)
    return found


@torch.inference_mode()
def mean_activations(explainer: Explainer, examples: Sequence[Example]) -> dict[int, Tensor]:
    """Return the mean activation of each neuron over positions and windows, [C], by explained layer.

    Args:
        explainer: The explainer, whose precision is used.
        examples: The windows of reference.
    """
    sums: dict[int, Tensor] = {}
    for start in range(0, len(examples), BATCH):
        windows = np.stack([e.image for e in examples[start : start + BATCH]])
        settings = explainer.settings
        traced = explainer.adapter.trace(
            explainer.classifier.to_pixels(windows), settings.layers, precision=settings.compute_precision
        )
        for layer, activation in traced.activations.items():
            part = activation.mean((2, 3)).double().sum(0)
            sums[layer] = sums[layer] + part if layer in sums else part
    return {layer: total / len(examples) for layer, total in sums.items()}
