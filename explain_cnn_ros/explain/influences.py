"""Activation times gradient of the output, summed over positions, for the image and over the perturbations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass
class Influences:
    """The influences of one layer's neurons.

    The influence of a neuron is the sum over positions of z do/dz: to first order, how much the output o falls if the
    neuron is silenced. Perturbation i belongs to group (i // block) modulo G, as in `Moments`.

    Attributes:
        image: Influences for the unperturbed image, [C].
        count: Number of perturbations in each group, [G].
        sum: Sums of the influences over the perturbations of each group, [G, C].
        block: Number of consecutive perturbations that belong to one group.
    """

    image: Tensor
    count: Tensor
    sum: Tensor
    block: int = 1

    @classmethod
    def zeros(cls, image: Tensor, groups: int = 2, block: int = 1) -> Influences:
        """Return the influences of an image without perturbations.

        Args:
            image: Influences for the unperturbed image, [C].
            groups: Number of groups, G.
            block: Number of consecutive perturbations that belong to one group.
        """
        return cls(image, image.new_zeros(groups), image.new_zeros(groups, len(image)), block)

    @property
    def groups(self) -> int:
        """Number of groups, G."""
        return len(self.count)

    def update(self, influences: Tensor, first: int) -> None:
        """Add a chunk of perturbations.

        Args:
            influences: Influences of the chunk, [N, C].
            first: Index of the chunk's first perturbation, counted from 0.
        """
        index = torch.arange(first, first + len(influences), device=influences.device) // self.block % self.groups
        self.sum.index_add_(0, index, influences.to(self.sum.dtype))
        self.count.index_add_(0, index, torch.ones_like(index, dtype=self.count.dtype))

    @property
    def mean(self) -> Tensor:
        """Mean over the perturbations, [C]; the influences for the image if there are no perturbations."""
        total = self.count.sum()
        return self.sum.sum(0) / total if total else self.image

    def select(self, groups: Sequence[int] | slice) -> Influences:
        """Return the influences over some groups only."""
        chosen = groups if isinstance(groups, slice) else list(groups)
        return replace(self, count=self.count[chosen], sum=self.sum[chosen])

    @property
    def halves(self) -> tuple[Influences, Influences]:
        """The influences over the even groups and over the odd groups."""
        return self.select(slice(0, None, 2)), self.select(slice(1, None, 2))

    def of_channels(self, channels: Sequence[int]) -> Influences:
        """Return the influences of some neurons only."""
        chosen = list(channels)
        return replace(self, image=self.image[chosen], sum=self.sum[:, chosen])
