"""The noise: copies of an image whose pixel values are multiplied by 1 + noise (section 3 of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor

#: Shapes of the noise; each entry of a noise field has unit variance before it is scaled.
#: white: each pixel value by itself (the paper). smooth: the same over `length` pixels and all three colours.
#: ramp: white, with a deviation that grows from copy to copy: sigma for the first, 2 sigma for the second ...
#: (the authors' code).
NOISES = ("white", "smooth", "ramp")


class Perturbations:
    """An endless, seeded sequence of perturbed copies of one image.

    The i-th copy does not depend on how many are taken at a time.

    Args:
        pixels: [3, H, W], raw pixel values of [0, 255].
        sigma: standard deviation of the noise, as a share of the pixel value.
        noise: one of NOISES.
        length: pixels over which `smooth` noise stays the same.
        seed: of the sequence; the same seed on the same device gives the same copies.
    """

    def __init__(self, pixels: Tensor, sigma: float, noise: str = "white", length: float = 16.0, seed: int = 0):
        if noise not in NOISES:
            raise ValueError(f"unknown noise {noise!r}: use one of {', '.join(NOISES)}")
        self.pixels, self.sigma, self.noise, self.length = pixels, sigma, noise, length
        self.taken = 0
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
            return self._smooth_field()
        return self._normal(self.pixels.shape)

    def _smooth_field(self) -> Tensor:
        height, width = self.pixels.shape[-2:]
        coarse = self._normal(torch.Size([1, 1, int(height / self.length) + 2, int(width / self.length) + 2]))
        y = torch.arange(height, device=coarse.device, dtype=coarse.dtype) / self.length
        x = torch.arange(width, device=coarse.device, dtype=coarse.dtype) / self.length
        rows, columns = _interpolation(y, coarse.shape[-2]), _interpolation(x, coarse.shape[-1])
        return (rows @ coarse @ columns.T)[0]

    def _normal(self, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self.pixels.device, dtype=self.pixels.dtype)


def _interpolation(position: Tensor, knots: int) -> Tensor:
    """Linear interpolation as a matrix [positions, knots], rows of unit length: the variance stays 1."""
    knot = torch.arange(knots, device=position.device, dtype=position.dtype)
    weights = (1 - (position[:, None] - knot).abs()).clamp_min(0)
    return torch.nn.functional.normalize(weights, dim=1)
