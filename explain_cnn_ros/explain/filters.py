"""Changes of single filters of a network."""

from __future__ import annotations

import torch
from torch import nn


def scale_channel(module: nn.Conv2d | nn.BatchNorm2d, channel: int, factor: float) -> None:
    """Multiply an output channel of a convolution, or of a batch norm, by a factor: its weights and its bias.

    Args:
        module: The module, which is changed in place.
        channel: The channel, counted from 0.
        factor: The factor.
    """
    with torch.no_grad():
        for parameter in (module.weight, module.bias):
            if parameter is not None:
                parameter[channel] *= factor
