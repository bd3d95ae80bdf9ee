"""Streaming, mergeable moments of activations and of the output over the perturbations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

#: Activations that a CPU sums at a time: what it works on stays in its caches.
BLOCK = 131_072

#: What merges by addition.
SUMS = ("count", "output_sum", "output_square", "sum", "square", "product")

#: What is computed from the sums once, until they change.
DERIVED = (
    "_mean_shift",
    "_mean_square",
    "mean",
    "variance",
    "varies",
    "covariance",
    "output_mean",
    "output_varies",
    "output_variance",
    "halves",
)


@dataclass
class Moments:
    """Sums over perturbations from which mean, variance and covariance follow, for one layer.

    Everything is shifted by the unperturbed image's values, which keeps float32 accurate: activations differ from
    them by per cents only. Sums merge by addition, whatever the chunks were.

    Perturbation i belongs to group (i // block) modulo `groups`; each group has sums of its own. `pooled` merges them.

    Attributes:
        shift: unperturbed activation, [C, R, C'].
        output_shift: unperturbed output, [].
        block: perturbations that follow each other and stay in one group.
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
    block: int = 1

    @classmethod
    def zeros(cls, shift: Tensor, output_shift: Tensor, groups: int = 2, block: int = 1) -> Moments:
        """No perturbations yet."""
        count, output_sum, output_square = (shift.new_zeros(groups) for _ in range(3))
        # Sums lie in memory as the activations do: to rearrange these would cost more than to sum them.
        rows = shift.new_zeros(3, groups, shift.numel())
        sum_, square, product = (_maps(part, shift[None]) for part in rows)
        return cls(shift, output_shift, count, output_sum, output_square, sum_, square, product, block)

    @property
    def groups(self) -> int:
        return self.count.shape[0]

    def update(self, activations: Tensor, outputs: Tensor, first: int) -> None:
        """Add a chunk: activations [N, C, R, C'] and outputs [N] of perturbations `first`, `first` + 1, ..."""
        if not len(outputs):
            return
        for name in DERIVED:
            self.__dict__.pop(name, None)
        o = (outputs - self.output_shift).to(self.shift.dtype)
        groups = [i // self.block % self.groups for i in range(first, first + len(o))]
        low, high = min(groups), max(groups) + 1
        index = torch.arange(first, first + len(o), device=o.device) // self.block % self.groups
        members = (index == torch.arange(self.groups, device=o.device)[:, None]).to(o.dtype)
        # Matrix products sum over the chunk for its groups at once; rows are weights of the perturbations.
        member = members[low:high]
        weighted = member * o
        sum_, square, product = (_rows(sums[low:high]) for sums in (self.sum, self.square, self.product))
        rows, shift = _rows(activations, self.sum), _rows(self.shift[None], self.sum)
        step = BLOCK if rows.device.type == "cpu" else rows.shape[1]
        for start in range(0, rows.shape[1], step):
            part = slice(start, start + step)
            d = rows[:, part] - shift[:, part]
            sum_[:, part].addmm_(member, d)
            product[:, part].addmm_(weighted, d)
            square[:, part].addmm_(member, d.square_())
        self.count += members.sum(1)
        self.output_sum += members @ o
        self.output_square += members @ (o * o)

    def __add__(self, other: Moments) -> Moments:
        """Merge with the moments of other perturbations of the same image."""
        if not torch.equal(self.shift, other.shift) or not torch.equal(self.output_shift, other.output_shift):
            raise ValueError("moments of different images do not merge: their unperturbed activations differ")
        if self.groups != other.groups:
            raise ValueError(f"moments of {self.groups} and of {other.groups} groups do not merge")
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in SUMS})

    def select(self, groups: Sequence[int] | slice) -> Moments:
        """The moments of some groups by themselves; of a slice, they are views."""
        chosen = groups if isinstance(groups, slice) else list(groups)
        return replace(self, **{name: getattr(self, name)[chosen] for name in SUMS})

    @functools.cached_property
    def halves(self) -> tuple[Moments, Moments]:
        """The groups of even and of odd numbers by themselves, until the next update."""
        return self.select(slice(0, None, 2)), self.select(slice(1, None, 2))

    def of_channels(self, channels: Sequence[int]) -> Moments:
        """The moments of some neurons by themselves."""
        chosen = list(channels)
        sums = {name: getattr(self, name)[:, chosen] for name in ("sum", "square", "product")}
        return replace(self, shift=self.shift[chosen], **sums)

    def pooled(self) -> Moments:
        """The moments of all groups together, as one group."""
        return replace(self, **{name: getattr(self, name).sum(0, keepdim=True) for name in SUMS})

    # What follows is of all groups together, with the population's factor 1/n.

    def _total(self, sums: Tensor) -> Tensor:
        return (sums[0] if len(sums) == 1 else sums.sum(0)) / self.count.sum()

    @functools.cached_property
    def _mean_shift(self) -> Tensor:
        return self._total(self.sum)

    @functools.cached_property
    def _mean_square(self) -> Tensor:
        return self._total(self.square)

    @functools.cached_property
    def mean(self) -> Tensor:
        """Mean activation, [C, R, C']."""
        return self.shift + self._mean_shift

    @functools.cached_property
    def variance(self) -> Tensor:
        """Variance of the activation, [C, R, C']."""
        return torch.addcmul(self._mean_square, self._mean_shift, self._mean_shift, value=-1).clamp_min_(0)

    @functools.cached_property
    def varies(self) -> Tensor:
        """Where the activation varies by more than rounding can, bool [C, R, C']."""
        eps = torch.finfo(self.shift.dtype).eps
        # Of the sums: an activation that is the same in all perturbations, but not the unperturbed one, leaves a rest.
        rest = self._mean_square * (eps * self.count.sum())
        return self.variance > rest.addcmul_(self.mean, self.mean, value=eps**2)

    @functools.cached_property
    def covariance(self) -> Tensor:
        """Covariance of activation and output, [C, R, C']."""
        return self._total(self.product).sub_(self._mean_shift * self._total(self.output_sum))

    @functools.cached_property
    def output_mean(self) -> Tensor:
        """Mean output, []."""
        return self.output_shift + self._total(self.output_sum)

    @functools.cached_property
    def output_varies(self) -> bool:
        """Whether the output varies by more than rounding can."""
        eps = torch.finfo(self.shift.dtype).eps
        rest = eps * self.count.sum() * self._total(self.output_square)
        return bool(self.output_variance > rest + (eps * self.output_mean).square())

    @functools.cached_property
    def output_variance(self) -> Tensor:
        """Variance of the output, []."""
        return (self._total(self.output_square) - self._total(self.output_sum).square()).clamp_min(0)


def _memory_order(like: Tensor) -> list[int]:
    """Dimensions 1, 2 ... of a tensor, the outermost in memory first."""
    return sorted(range(1, like.dim()), key=like.stride, reverse=True)


def _rows(maps: Tensor, like: Tensor | None = None) -> Tensor:
    """[N, C, R, C'] -> [N, C R C'], in the order in which `like` lies in memory; without it, the same memory."""
    if like is None:
        return maps.permute(0, *_memory_order(maps)).view(len(maps), maps[0].numel())
    return maps.permute(0, *_memory_order(like)).reshape(len(maps), like[0].numel())


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_rows`."""
    order = _memory_order(like)
    maps = rows.view(len(rows), *(like.shape[dimension] for dimension in order))
    return maps.permute(0, *(1 + order.index(dimension) for dimension in range(1, like.dim())))
