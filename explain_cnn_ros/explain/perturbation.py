"""The noise: copies of an image whose pixel values are multiplied by 1 + noise (section 4.1 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: Shapes of the noise. Each entry of a noise field has unit variance before it is scaled.
#: white: independent for each pixel value (the paper).
#: smooth: interpolated between knots that are `length` pixels apart, the same for all three colours.
#: ramp: white, with a standard deviation that grows from copy to copy: sigma for the first, 2 sigma for the second, and
#: so on.
#: authors: as in the authors' published code (make_perturbations): white, with a standard deviation of 0 for the first
#: copy, which is therefore the image itself, sigma for the second, 2 sigma for the third, and so on. The noise
#: multiplies pixel values from which the mean of their channel was subtracted.
#: orthogonal: smooth noise in blocks of copies. Within a block, the knots are uncorrelated and have mean 0 exactly, not
#: only on average. Quantities that are linear in the noise therefore have the same correlation over one block as over
#: infinitely many copies. A block has one copy more than there are knots.
NOISES = ("white", "smooth", "ramp", "authors", "orthogonal")

#: Maximum number of copies in a block of orthogonal noise. Larger blocks would take too long.
BLOCK_MAX = 1000


class Perturbations:
    """An endless, seeded sequence of perturbed copies of one image.

    The i-th copy does not depend on how many copies are taken at a time.

    Args:
        pixels: The image [3, H, W], pixel values in [0, 255].
        sigma: Standard deviation of the noise, as a share of the pixel value.
        noise: One of NOISES.
        length: Distance of the knots of smooth and orthogonal noise, in pixels.
        seed: Seed of the sequence. The same seed on the same device gives the same copies.
        means: Means of R, G and B that the authors' noise subtracts from pixel values; other noise ignores them.

    Attributes:
        taken: Number of copies that were taken.
        block: Number of copies in a block; 1 except for orthogonal noise.

    Raises:
        ValueError: There is no such noise, or a block of orthogonal noise has more than BLOCK_MAX copies.
    """

    def __init__(
        self,
        pixels: Tensor,
        sigma: float,
        noise: str = "white",
        length: float = 16.0,
        seed: int = 0,
        means: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        if noise not in NOISES:
            raise ValueError(f"unknown noise {noise!r}: use one of {', '.join(NOISES)}")
        self.pixels, self.sigma, self.noise, self.length = pixels, sigma, noise, length
        self._means = pixels.new_tensor(means).view(3, 1, 1)
        self.taken = 0
        height, width = pixels.shape[-2:]
        self._knots = tuple(math.ceil((side - 1) / length) + 1 for side in (height, width))
        self.block = self._knots[0] * self._knots[1] + 1 if noise == "orthogonal" else 1
        if self.block > BLOCK_MAX:
            raise ValueError(
                f"orthogonal noise of length {length:g} has blocks of {self.block} copies in a window of {width} x "
                f"{height} pixels, but at most {BLOCK_MAX} are allowed: make noise_length larger"
            )
        self._waiting: list[Tensor] = []  # fields of the current block that were not taken yet
        self._generator = torch.Generator(pixels.device).manual_seed(seed)

    def whole(self, count: int) -> int:
        """Round a number of copies up, so that each half of the copies has whole blocks, which alone are balanced."""
        pair = 2 * self.block
        return count if self.block == 1 else math.ceil(count / pair) * pair

    def take(self, count: int) -> Tensor:
        """Return the next `count` copies, [count, 3, H, W], not clipped to [0, 255]."""
        return self.apply(self.pixels, self.noise_of(count))

    def noise_of(self, count: int) -> Tensor:
        """Draw the noise of the next `count` copies, scaled by sigma, broadcastable to [count, 3, H, W].

        It does not depend on the image, so the copies of other images of the same size can be computed by `apply`.
        """
        fields = torch.stack([self._field() for _ in range(count)])
        sigma: float | Tensor = self.sigma
        if self.noise in ("ramp", "authors"):
            index = torch.arange(self.taken, self.taken + count, device=fields.device, dtype=fields.dtype)
            index = index + 1 if self.noise == "ramp" else index
            sigma = self.sigma * index.view(-1, 1, 1, 1)
        self.taken += count
        return sigma * fields

    def apply(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Return the copies of an image, [count, 3, H, W], that noise from `noise_of` gives.

        Args:
            pixels: The image, [3, H, W].
            noise: The noise, broadcastable to [count, 3, H, W].
        """
        if self.noise == "authors":
            # The same as (pixels - means) * (1 + noise) + means, but exact where sigma is 0.
            return pixels + (pixels - self._means) * noise
        return pixels * (1.0 + noise)

    def _field(self) -> Tensor:
        """Draw the noise field of one copy, with unit variance, broadcastable to [3, H, W].

        The fields are drawn one by one, so that the sequence does not depend on the chunks.
        """
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
        """Draw the knots of a block, [block, rows, columns], uncorrelated, with mean 0 and variance 1."""
        draw = self._normal(torch.Size([self.block, self.block - 1]))
        basis = torch.linalg.qr((draw - draw.mean(0)).double().cpu()).Q.to(draw)
        return (basis * math.sqrt(self.block)).view(self.block, *self._knots)

    def _interpolated(self, knots: Tensor) -> Tensor:
        """Interpolate knots [N, rows, columns] to fields [N, H, W]."""
        height, width = self.pixels.shape[-2:]
        y = torch.arange(height, device=knots.device, dtype=knots.dtype) / self.length
        x = torch.arange(width, device=knots.device, dtype=knots.dtype) / self.length
        rows, columns = _interpolation(y, knots.shape[-2]), _interpolation(x, knots.shape[-1])
        return rows @ knots @ columns.T

    def _normal(self, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self.pixels.device, dtype=self.pixels.dtype)


def _interpolation(position: Tensor, knots: int) -> Tensor:
    """Return linear interpolation as a matrix [positions, knots]. Its rows have unit norm, so the variance stays 1."""
    knot = torch.arange(knots, device=position.device, dtype=position.dtype)
    weights = (1 - (position[:, None] - knot).abs()).clamp_min(0)
    return torch.nn.functional.normalize(weights, dim=1)
