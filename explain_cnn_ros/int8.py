"""Convolutions in integers of 8 bits: on CPUs that multiply these (VNNI), four to five times as fast as float32.

For searching only, where what is found is looked at again in float32: activations are rounded to 255 steps. This is
quantization after training as Jacob et al. 2018 describe it, with weights symmetric and scaled by channel, activations
scaled by layer.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from explain_cnn_ros.network import VGGClassifier, fold_batch_norm

#: Steps of weights to either side of 0, and of activations.
WEIGHT_STEPS, STEPS = 127, 255

#: A layer's range is what a picture of coarse colours and fine grain, of this side, excites at most, times the margin.
#: Of photos, no layer goes beyond by more than a tenth; what does, is cut off.
PICTURE, MARGIN = 256, 1.5


class Int8Conv2d(nn.Module):
    """A convolution and its ReLU, from uint8 to uint8.

    Args:
        scale, zero: what a step of the input is worth, and the input that stands for 0.
        out_scale: what a step of the output is worth; its 0 is 0.
    """

    def __init__(self, convolution: nn.Conv2d, scale: float, zero: int, out_scale: float) -> None:
        super().__init__()
        self.scale, self.zero, self.out_scale = scale, zero, out_scale
        self.geometry = (list(convolution.stride), list(convolution.padding), list(convolution.dilation))
        weight = convolution.weight.detach().float()
        self.weight_scale = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / WEIGHT_STEPS
        steps = (weight / self.weight_scale.view(-1, 1, 1, 1)).round().to(torch.int8)
        self.weight_zero = torch.zeros(len(weight), dtype=torch.int64)
        self.packed = torch.ops.onednn.qconv_prepack(steps, self.weight_scale, scale, zero, *self.geometry, 1)
        self.bias = None if convolution.bias is None else convolution.bias.detach().float()

    def forward(self, input: Tensor) -> Tensor:
        """Uint8 [N, C, H, W] -> uint8 [N, C', H, W], channels last."""
        of_input, of_weight = (input, self.scale, self.zero), (self.packed, self.weight_scale, self.weight_zero)
        output = (self.out_scale, 0, torch.uint8, "relu", [None], "")
        convolved: Tensor = torch.ops.onednn.qconv2d_pointwise(
            *of_input, *of_weight, self.bias, *self.geometry, 1, *output
        )
        return convolved


class Int8Features(nn.Module):
    """A VGG's `features` without batch norm, with everything between input and output in uint8.

    Args:
        low, high: range of the input; what lies beyond is cut off.
        ranges: of the activations after each ReLU, from 0.
    """

    def __init__(self, features: nn.Sequential, low: float, high: float, ranges: list[float]) -> None:
        super().__init__()
        self.scale = (high - low) / STEPS
        self.zero = round(-low / self.scale)
        scale, zero = self.scale, self.zero
        layers: list[nn.Module] = []
        remaining = iter(ranges)
        for module in features:
            if isinstance(module, nn.Conv2d):
                out_scale = max(next(remaining), 1e-12) / STEPS
                layers.append(Int8Conv2d(module, scale, zero, out_scale))
                scale, zero = out_scale, 0
            elif isinstance(module, nn.MaxPool2d):
                layers.append(_HalvedByMaximum())
        self.layers = nn.Sequential(*layers)
        self.out_scale = scale

    def forward(self, batch: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, C, H / 32, W / 32], both float32."""
        steps = (batch / self.scale + self.zero).round_().clamp_(0, STEPS).to(torch.uint8)
        return self.layers(steps.contiguous(memory_format=torch.channels_last)).float() * self.out_scale


class _HalvedByMaximum(nn.Module):
    """Max pooling of 2 x 2: PyTorch's own does not take large maps of uint8."""

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = input.shape[2] // 2 * 2, input.shape[3] // 2 * 2
        lower = torch.maximum(input[:, :, 0:rows:2], input[:, :, 1:rows:2])
        return torch.maximum(lower[..., 0:columns:2], lower[..., 1:columns:2])


@functools.cache
def available() -> bool:
    """Whether the CPU multiplies integers of 8 bits exactly and fast, and this PyTorch can have it do so."""
    features: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)  # newer than some PyTorch 2
    if not any(features().get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")):
        return False
    try:
        # The largest numbers that there are: some CPUs cannot add these up in 16 bits.
        convolution = nn.Conv2d(8, 2, 3, padding=1, bias=False)
        with torch.no_grad():
            convolution.weight.fill_(1.0)
        full = torch.full((1, 8, 4, 4), STEPS, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
        sums = Int8Conv2d(convolution, 1.0, 0, 8 * 9)(full)
        return bool((sums[:, :, 1:3, 1:3] == STEPS).all())
    except (AttributeError, RuntimeError, TypeError):  # operators that this PyTorch lacks, or calls otherwise
        return False


@torch.inference_mode()
def with_int8(network: VGGClassifier, low: float, high: float) -> VGGClassifier:
    """The same network with convolutions in 8 bits; the dense layers are shared, and left alone.

    Args:
        low, high: range of the normalised pixels.
    """
    network = fold_batch_norm(network)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, PICTURE // 8, PICTURE // 8, generator=generator).repeat_interleave(8, 2)
    grain = torch.rand(1, 3, PICTURE, PICTURE, generator=generator)
    picture = low + (high - low) * (0.08 + 0.84 * (0.8 * coarse.repeat_interleave(8, 3) + 0.2 * grain))
    x, ranges = picture.to(next(network.parameters())).contiguous(memory_format=torch.channels_last), []
    for module in network.features:
        x = module(x)
        if isinstance(module, nn.ReLU):
            ranges.append(MARGIN * float(x.max()))
    twin = copy.copy(network)
    twin._modules = dict(network._modules) | {"features": Int8Features(network.features, low, high, ranges)}
    return twin
