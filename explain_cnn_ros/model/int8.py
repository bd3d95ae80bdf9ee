"""Convolutions of 8-bit integers, four to five times as fast as float32 on CPUs with VNNI instructions.

They are used for searching only, because activations are rounded to 255 steps. The windows that a search finds are
scored again in float32. The method is post-training quantization (Jacob et al. 2018), with symmetric weights that are
scaled by channel, and activations that are scaled by layer.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from explain_cnn_ros.model.network import VGGClassifier, fold_batch_norm

#: Number of steps of weights on each side of 0, and number of steps of activations.
WEIGHT_STEPS, STEPS = 127, 255

#: The range of a layer is its maximum activation for a calibration image, multiplied by the margin. The image has this
#: side, in pixels, with coarse colours and fine grain. For photos, no layer exceeds its range by more than a tenth.
#: Activations above the range are clipped.
PICTURE, MARGIN = 256, 1.5


class Int8Conv2d(nn.Module):
    """A convolution with its ReLU, from uint8 to uint8.

    Args:
        convolution: The convolution in floating point.
        scale: Value of one step of the input.
        zero: Input that stands for the value 0.
        out_scale: Value of one step of the output, in which 0 stands for 0.
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
        """Convolve maps uint8 [N, C, H, W] to uint8 [N, C', H, W], channels-last in memory."""
        of_input, of_weight = (input, self.scale, self.zero), (self.packed, self.weight_scale, self.weight_zero)
        output = (self.out_scale, 0, torch.uint8, "relu", [None], "")
        convolved: Tensor = torch.ops.onednn.qconv2d_pointwise(
            *of_input, *of_weight, self.bias, *self.geometry, 1, *output
        )
        return convolved


class Int8Features(nn.Module):
    """The `features` of a VGG, with all maps between input and output in uint8.

    Args:
        features: The layers of a VGG without batch norm.
        low: Minimum of the input; lower values are clipped.
        high: Maximum of the input; higher values are clipped.
        ranges: Maximum of the activations after each ReLU.
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
        """Compute the last map of normalised images float32 [N, 3, H, W]: float32 [N, C, H / 32, W / 32]."""
        steps = (batch / self.scale + self.zero).round_().clamp_(0, STEPS).to(torch.uint8)
        return self.layers(steps.contiguous(memory_format=torch.channels_last)).float() * self.out_scale


class _HalvedByMaximum(nn.Module):
    """Max pooling of 2 x 2, for large maps of uint8, which PyTorch's own does not support."""

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = input.shape[2] // 2 * 2, input.shape[3] // 2 * 2
        lower = torch.maximum(input[:, :, 0:rows:2], input[:, :, 1:rows:2])
        return torch.maximum(lower[..., 0:columns:2], lower[..., 1:columns:2])


@functools.cache
def available() -> bool:
    """Return whether CPU and PyTorch multiply 8-bit integers fast and exactly. The result is cached."""
    # Older versions of PyTorch 2 lack get_capabilities.
    features: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    if not any(features().get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")):
        return False
    try:
        # Test with the largest numbers, because the 16-bit sums of some CPUs overflow.
        convolution = nn.Conv2d(8, 2, 3, padding=1, bias=False)
        with torch.no_grad():
            convolution.weight.fill_(1.0)
        full = torch.full((1, 8, 4, 4), STEPS, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
        sums = Int8Conv2d(convolution, 1.0, 0, 8 * 9)(full)
        return bool((sums[:, :, 1:3, 1:3] == STEPS).all())
    except (AttributeError, RuntimeError, TypeError):  # this PyTorch lacks the operators, or they take other arguments
        return False


@torch.inference_mode()
def with_int8(network: VGGClassifier, low: float, high: float) -> VGGClassifier:
    """Return the network with 8-bit convolutions.

    Args:
        network: The network; it is not modified. The result shares its dense layers. Batch norm is folded first.
        low: Minimum of the normalised pixels.
        high: Maximum of the normalised pixels.
    """
    network = fold_batch_norm(network)
    generator = torch.Generator("cpu").manual_seed(0)
    coarse = torch.rand(1, 3, PICTURE // 8, PICTURE // 8, generator=generator, device="cpu").repeat_interleave(8, 2)
    grain = torch.rand(1, 3, PICTURE, PICTURE, generator=generator, device="cpu")
    picture = low + (high - low) * (0.08 + 0.84 * (0.8 * coarse.repeat_interleave(8, 3) + 0.2 * grain))
    x, ranges = picture.to(next(network.parameters())).contiguous(memory_format=torch.channels_last), []
    for module in network.features:
        x = module(x)
        if isinstance(module, nn.ReLU):
            ranges.append(MARGIN * float(x.max()))
    twin = copy.copy(network)
    twin._modules = dict(network._modules) | {"features": Int8Features(network.features, low, high, ranges)}
    return twin
