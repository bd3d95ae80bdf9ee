"""The noise: copies of an image whose pixel values are multiplied by 1 + noise (section 3 of the paper)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Shapes of the noise; each entry of a noise field has unit variance before it is scaled.
#: white: each pixel value by itself (the paper). smooth: the same over `length` pixels and all three colours.
#: ramp: white, with a deviation that grows from copy to copy: sigma for the first, 2 sigma for the second ...
#: (the authors' code). orthogonal: smooth noise in blocks, in each of which the knots between which it is interpolated
#: are uncorrelated and of mean 0 exactly, not just on average: what is linear in the noise correlates exactly as it
#: would over endless copies. A block has one copy more than there are knots.
NOISES = ("white", "smooth", "ramp", "orthogonal")


#: Copies that a block of `orthogonal` noise may have: beyond, they are more than anyone waits for.
BLOCK_MAX = 1000


class Perturbations:
    """An endless, seeded sequence of perturbed copies of one image.

    The i-th copy does not depend on how many are taken at a time.

    Args:
        pixels: [3, H, W], raw pixel values of [0, 255].
        sigma: standard deviation of the noise, as a share of the pixel value.
        noise: one of NOISES.
        length: pixels over which `smooth` and `orthogonal` noise stays the same: the distance of the knots.
        seed: of the sequence; the same seed on the same device gives the same copies.

    Raises:
        ValueError: there is no such noise, or `orthogonal` noise of this length has blocks of more than BLOCK_MAX.

    Attributes:
        taken: copies so far.
        block: copies that belong together; 1 except for `orthogonal` noise.
    """

    def __init__(self, pixels: Tensor, sigma: float, noise: str = "white", length: float = 16.0, seed: int = 0):
        if noise not in NOISES:
            raise ValueError(f"unknown noise {noise!r}: use one of {', '.join(NOISES)}")
        self.pixels, self.sigma, self.noise, self.length = pixels, sigma, noise, length
        self.taken = 0
        height, width = pixels.shape[-2:]
        self._knots = tuple(math.ceil((side - 1) / length) + 1 for side in (height, width))
        self.block = self._knots[0] * self._knots[1] + 1 if noise == "orthogonal" else 1
        if self.block > BLOCK_MAX:
            raise ValueError(
                f"orthogonal noise of length {length:g} has blocks of {self.block} copies in a window of {width} x "
                f"{height} pixels, at most {BLOCK_MAX} are sensible: make noise_length larger"
            )
        self._waiting: list[Tensor] = []  # copies of a block that were not taken yet
        self._generator = torch.Generator(pixels.device).manual_seed(seed)

    def take(self, count: int) -> Tensor:
        """The next `count` copies, [count, 3, H, W], not clipped to [0, 255]."""
        fields = torch.stack([self._field() for _ in range(count)])
        sigma: float | Tensor = self.sigma
        if self.noise == "ramp":
            index = torch.arange(self.taken + 1, self.taken + count + 1, device=fields.device, dtype=fields.dtype)
            sigma = self.sigma * index.view(-1, 1, 1, 1)
        self.taken += count
        return self.pixels * (1.0 + sigma * fields)

    def _field(self) -> Tensor:
        """One draw of unit variance, broadcastable to [3, H, W]; a draw a copy, so that chunks do not matter."""
        if self.noise == "smooth":
            height, width = self.pixels.shape[-2:]
            return self._interpolated(
                self._normal(torch.Size([1, int(height / self.length) + 2, int(width / self.length) + 2]))
            )
        if self.noise == "orthogonal":
            if not self._waiting:
                self._waiting = list(self._interpolated(self._design()))
            return self._waiting.pop(0)[None]
        return self._normal(self.pixels.shape)

    def _design(self) -> Tensor:
        """Knots of a block of copies, [block, rows, columns], each of mean 0 and variance 1, and uncorrelated."""
        draw = self._normal(torch.Size([self.block, self.block - 1]))
        basis = torch.linalg.qr((draw - draw.mean(0)).double().cpu()).Q.to(draw)
        return (basis * math.sqrt(self.block)).view(self.block, *self._knots)

    def _interpolated(self, knots: Tensor) -> Tensor:
        """Knots [N, rows, columns] -> fields [N, H, W]."""
        height, width = self.pixels.shape[-2:]
        y = torch.arange(height, device=knots.device, dtype=knots.dtype) / self.length
        x = torch.arange(width, device=knots.device, dtype=knots.dtype) / self.length
        rows, columns = _interpolation(y, knots.shape[-2]), _interpolation(x, knots.shape[-1])
        return rows @ knots @ columns.T

    def _normal(self, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self.pixels.device, dtype=self.pixels.dtype)


def _interpolation(position: Tensor, knots: int) -> Tensor:
    """Linear interpolation as a matrix [positions, knots], rows of unit length: the variance stays 1."""
    knot = torch.arange(knots, device=position.device, dtype=position.dtype)
    weights = (1 - (position[:, None] - knot).abs()).clamp_min(0)
    return torch.nn.functional.normalize(weights, dim=1)
