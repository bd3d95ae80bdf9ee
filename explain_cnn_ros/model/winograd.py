"""Winograd convolutions F(4 x 4, 3 x 3), which need a quarter of the multiplications (Lavin & Gray 2016).

PyTorch's CPU convolutions are direct. With the number of channels of a VGG, they take 1.4 to 3 times as long as
transforming tiles, multiplying matrices, and transforming back. The results differ by rounding only. With the points
below, the rounding error is about eight times that of a direct convolution (Barabasz et al. 2020 discuss the choice).
"""

from __future__ import annotations

import copy
import math
from typing import TypeGuard

import torch
from torch import Tensor, nn

from explain_cnn_ros.model.network import VGGClassifier

#: Side of a tile: of its outputs, and of its inputs.
OUT = 4
IN = OUT + 2

#: Points at which the polynomials are evaluated, in addition to infinity. Of the sets that were tried, this is one of
#: those with the smallest rounding error. The set is closed under inversion, which `flipped` needs.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))

#: Minimum of input channels times output channels for which the transformation is faster than a direct convolution.
CHANNELS_MIN = 64 * 128

#: Minimum number of tiles in a batch for which the transformation is faster: it reads four times as many filters.
TILES_MIN = 16

#: Maximum number of bytes of transformed tiles that are processed at a time. More would not fit the CPU's caches.
BLOCK_BYTES = 8_000_000


def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Compute the matrices of F(4, 3), the transposed Toom-Cook algorithm, in float64.

    The 4 correlations of a filter g [3] with inputs d [6] are y = A ((G g) * (B d)).

    Returns:
        A [4, 6], which transforms products to outputs; G [6, 3], which transforms filters; and B [6, 6], which
        transforms inputs.
    """

    def evaluation(length: int) -> Tensor:
        infinity = [0.0] * (length - 1) + [1.0]
        return torch.tensor([[p**power for power in range(length)] for p in POINTS] + [infinity], dtype=torch.float64)

    of_inputs = torch.linalg.inv(evaluation(IN)).T
    # Rows of equal norm reduce the rounding error. The filters compensate for the scale.
    size = of_inputs.norm(dim=1, keepdim=True)
    return evaluation(OUT).T, evaluation(3) * size, of_inputs / size


def flipped(of_filters: Tensor) -> tuple[list[int], Tensor]:
    """Express the transformed flipped filter by the transformed filter.

    The polynomial of a flipped filter at a point is that of the filter at the inverse of the point, times a constant.

    Args:
        of_filters: G [6, 3] of `transforms`.

    Returns:
        For each of the 6 rows of G, the row of the inverse point; and a factor [6], so that row i of G applied to the
        flipped filter is factor i times that row applied to the filter.
    """
    values = [*POINTS, math.inf]
    inverses = [math.inf if value == 0 else 1 / value for value in values]
    rows = [
        min(range(IN), key=lambda i: abs(values[i] - inverse) if values[i] != inverse else 0.0) for inverse in inverses
    ]
    of_flipped, of_inverse = of_filters.flip(1), of_filters[rows]
    return rows, (of_flipped * of_inverse).sum(1) / of_inverse.square().sum(1)


class WinogradConv2d(nn.Conv2d):
    """A Winograd convolution, 3 x 3 with a padding of 1, that shares weight and bias with another; for inference.

    The filters are transformed once, so later changes of `weight` have no effect. The transformed filters take four
    times the memory of `weight`.

    Args:
        convolution: The convolution that is computed.

    Attributes:
        filters: Transformed filters, [36, C, C'].
        to_tiles: Transformation of the inputs, [36, 36].
        from_tiles: Transformation to the outputs, [16, 36].
        gradient_to_tiles: Transformation of gradients of the outputs, [36, 36].
        gradient_from_tiles: Transformation to the gradient of the inputs, [16, 36].

    Raises:
        ValueError: The convolution has another geometry; see `suits`.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        if not suits(convolution):
            raise ValueError(
                f"{convolution} has no Winograd convolution: it must be 3 x 3 padded by 1 with zeros, without stride, "
                "dilation and groups. Use the convolution itself"
            )
        with torch.device("meta"):
            super().__init__(convolution.in_channels, convolution.out_channels, 3, padding=1)
        self.weight, self.bias = convolution.weight, convolution.bias
        weight = convolution.weight.detach()
        of_outputs, of_filters, of_inputs = (matrix.to(weight.device) for matrix in transforms())
        filters = weight.permute(2, 3, 1, 0).reshape(9, -1).double()
        filters = (torch.kron(of_filters, of_filters) @ filters).to(weight)
        self.filters = filters.view(IN * IN, self.in_channels, self.out_channels)
        self.to_tiles = torch.kron(of_inputs, of_inputs).to(weight)
        self.from_tiles = torch.kron(of_outputs, of_outputs).to(weight)
        # The gradient is the convolution with the flipped filters. Their transformation is a permutation of `filters`,
        # which is applied to the small matrices instead.
        inverse, factor = flipped(of_filters)
        of_gradients = (factor[:, None] * of_inputs)[inverse]
        to_gradient = of_outputs[:, inverse]
        self.gradient_to_tiles = torch.kron(of_gradients, of_gradients).to(weight)
        self.gradient_from_tiles = torch.kron(to_gradient, to_gradient).to(weight)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve maps [N, C, H, W] to [N, C', H, W]; the result is channels-last in memory."""
        if _tiles(input) < TILES_MIN:
            return nn.functional.conv2d(input, self.weight, self.bias, padding=1)
        return _convolve(input, self.to_tiles, self.filters, self.from_tiles, self.bias)

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """Compute the gradient of the input [N, C, H, W] from that of the output [N, C', H, W]."""
        if _tiles(gradient) < TILES_MIN:
            return nn.functional.conv_transpose2d(gradient, self.weight, None, padding=1)
        return _convolve(gradient, self.gradient_to_tiles, self.filters.transpose(1, 2), self.gradient_from_tiles, None)


def _tiles(maps: Tensor) -> int:
    """Return the number of tiles of maps [N, C, H, W]."""
    return len(maps) * math.ceil(maps.shape[2] / OUT) * math.ceil(maps.shape[3] / OUT)


def _convolve(input: Tensor, to_tiles: Tensor, filters: Tensor, from_tiles: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve maps [N, C, H, W] to [N, C', H, W]; the result is channels-last in memory.

    Args:
        input: The maps.
        to_tiles: Transformation of the inputs, [36, 36].
        filters: Transformed filters, [36, C, C'].
        from_tiles: Transformation to the outputs, [16, 36].
        bias: [C'], or None.
    """
    count, channels, height, width = input.shape
    channels_out = filters.shape[2]
    rows, columns = math.ceil(height / OUT), math.ceil(width / OUT)
    edges = (0, 0, 1, 1 + columns * OUT - width, 1, 1 + rows * OUT - height)
    result = input.new_empty(count, rows, OUT, columns, OUT, channels_out)
    bytes_a_row = columns * IN * IN * max(channels, channels_out) * input.element_size()
    rows_together = max(1, BLOCK_BYTES // bytes_a_row)
    together = max(1, rows_together // rows)
    for first in range(0, count, together):
        padded = nn.functional.pad(input[first : first + together].permute(0, 2, 3, 1), edges)
        tiles = padded.unfold(1, IN, OUT).unfold(2, IN, OUT).permute(4, 5, 0, 1, 2, 3)
        for row in range(0, rows, rows_together):
            part = tiles[:, :, :, row : row + rows_together]
            transformed = to_tiles @ part.reshape(IN * IN, -1)
            products = torch.bmm(transformed.view(IN * IN, -1, channels), filters)
            back = from_tiles @ products.view(IN * IN, -1)
            outputs = back.view(OUT, OUT, *part.shape[2:5], channels_out).permute(2, 3, 0, 4, 1, 5)
            of_part = result[first : first + together, row : row + rows_together]
            torch.add(outputs, 0 if bias is None else bias, out=of_part)
    maps = result.view(count, rows * OUT, columns * OUT, channels_out)
    return maps[:, :height, :width].permute(0, 3, 1, 2)


def suits(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return whether a module is a convolution that `WinogradConv2d` can compute."""
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (3, 3)
        and module.padding == (1, 1)
        and module.stride == (1, 1)
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
    )


def with_winograd(network: VGGClassifier) -> VGGClassifier:
    """Return the network with Winograd convolutions where they are faster.

    Args:
        network: The network; it is not modified. The result shares its weights and all other layers.
    """
    twin = copy.copy(network)
    twin._modules = dict(network._modules)
    twin.features = nn.Sequential(
        *(
            WinogradConv2d(module)
            if suits(module) and module.in_channels * module.out_channels >= CHANNELS_MIN
            else module
            for module in network.features
        )
    )
    return twin
