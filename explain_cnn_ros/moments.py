"""Streaming, mergeable moments of activations and of the output over the perturbations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Moments:
    """Sums over perturbations from which mean, variance and covariance follow, for one layer.

    Everything is shifted by the unperturbed image's values, which keeps float32 accurate: activations differ from
    them by per cents only. Sums merge by addition, whatever the chunks were.

    Perturbation i belongs to group i modulo `groups`; each group has sums of its own. `pooled` merges them.

    Attributes:
        shift: unperturbed activation, [C, R, C'].
        output_shift: unperturbed output, [].
        count: perturbations so far, [G].
        output_sum, output_square: sums of the shifted output and of its square, [G].
        sum, square, product: sums of the shifted activation, of its square, and of its product with the shifted
            output, [G, C, R, C'].
    """

    shift: Tensor
    output_shift: Tensor
    count: Tensor
    output_sum: Tensor
    output_square: Tensor
    sum: Tensor
    square: Tensor
    product: Tensor

    @classmethod
    def zeros(cls, shift: Tensor, output_shift: Tensor, groups: int = 2) -> Moments:
        """No perturbations yet."""
        flat = [shift.new_zeros(groups) for _ in range(3)]
        full = [shift.new_zeros(groups, *shift.shape) for _ in range(3)]
        return cls(shift, output_shift, *flat, *full)

    @property
    def groups(self) -> int:
        return self.count.shape[0]

    def update(self, activations: Tensor, outputs: Tensor, first: int) -> None:
        """Add a chunk: activations [N, C, R, C'] and outputs [N] of perturbations `first`, `first` + 1, ..."""
        o = (outputs - self.output_shift).to(self.shift.dtype)
        index = torch.arange(first, first + len(o), device=o.device)
        member = (index % self.groups == torch.arange(self.groups, device=o.device)[:, None]).to(o.dtype)
        d = (activations - self.shift).flatten(1)
        # One matrix product sums over the chunk for all groups at once: rows are weights of the perturbations.
        first_order = torch.cat([member, member * o]) @ d
        shape = (self.groups, *self.shift.shape)
        self.sum += first_order[: self.groups].view(shape)
        self.product += first_order[self.groups :].view(shape)
        self.square += (member @ d.square_()).view(shape)
        self.count += member.sum(1)
        self.output_sum += member @ o
        self.output_square += member @ (o * o)

    def __add__(self, other: Moments) -> Moments:
        """Merge with the moments of other perturbations of the same image."""
        if not torch.equal(self.shift, other.shift) or not torch.equal(self.output_shift, other.output_shift):
            raise ValueError("moments of different images do not merge: their unperturbed activations differ")
        if self.groups != other.groups:
            raise ValueError(f"moments of {self.groups} and of {other.groups} groups do not merge")
        return Moments(
            self.shift,
            self.output_shift,
            self.count + other.count,
            self.output_sum + other.output_sum,
            self.output_square + other.output_square,
            self.sum + other.sum,
            self.square + other.square,
            self.product + other.product,
        )

    def select(self, groups: Sequence[int]) -> Moments:
        """The moments of some groups by themselves."""
        chosen = list(groups)
        return Moments(self.shift, self.output_shift, *(s[chosen] for s in self._sums()))

    def of_channels(self, channels: Sequence[int]) -> Moments:
        """The moments of some neurons by themselves."""
        chosen = list(channels)
        of_all = self.count, self.output_sum, self.output_square
        of_each = (s[:, chosen] for s in (self.sum, self.square, self.product))
        return Moments(self.shift[chosen], self.output_shift, *of_all, *of_each)

    def pooled(self) -> Moments:
        """The moments of all groups together, as one group."""
        return Moments(self.shift, self.output_shift, *(s.sum(0, keepdim=True) for s in self._sums()))

    def _sums(self) -> tuple[Tensor, ...]:
        return self.count, self.output_sum, self.output_square, self.sum, self.square, self.product

    # What follows is of all groups together, with the population's factor 1/n.

    def _total(self, sums: Tensor) -> Tensor:
        return sums.sum(0) / self.count.sum()

    @property
    def mean(self) -> Tensor:
        """Mean activation, [C, R, C']."""
        return self.shift + self._total(self.sum)

    @property
    def variance(self) -> Tensor:
        """Variance of the activation, [C, R, C']."""
        return (self._total(self.square) - self._total(self.sum).square()).clamp_min(0)

    @property
    def varies(self) -> Tensor:
        """Where the activation varies by more than rounding can, bool [C, R, C']."""
        eps = torch.finfo(self.shift.dtype).eps
        # Of the sums: an activation that is the same in all perturbations, but not the unperturbed one, leaves a rest.
        rest = eps * self.count.sum() * self._total(self.square)
        return self.variance > rest + (eps * self.mean).square()

    @property
    def covariance(self) -> Tensor:
        """Covariance of activation and output, [C, R, C']."""
        return self._total(self.product) - self._total(self.sum) * self._total(self.output_sum)

    @property
    def output_mean(self) -> Tensor:
        """Mean output, []."""
        return self.output_shift + self._total(self.output_sum)

    @property
    def output_varies(self) -> bool:
        """Whether the output varies by more than rounding can."""
        eps = torch.finfo(self.shift.dtype).eps
        rest = eps * self.count.sum() * self._total(self.output_square)
        return bool(self.output_variance > rest + (eps * self.output_mean).square())

    @property
    def output_variance(self) -> Tensor:
        """Variance of the output, []."""
        return (self._total(self.output_square) - self._total(self.output_sum).square()).clamp_min(0)
