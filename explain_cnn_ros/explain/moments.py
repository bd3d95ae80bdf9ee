"""Streaming moments of activations and of the output over the perturbations, which can be merged."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

#: Number of activations that a CPU sums at a time, so that they stay in its caches.
BLOCK = 131_072

#: Fields that are merged by addition.
SUMS = ("count", "output_sum", "output_square", "sum", "square", "product")

#: Properties that are computed from the sums and cached until the sums change.
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
    """Sums over perturbations from which mean, variance and covariance of one layer are computed.

    All values are shifted by those of the unperturbed image, from which they differ by a few per cent only. This keeps
    float32 accurate. Sums are merged by addition and do not depend on the chunks, except for rounding.

    Perturbation i belongs to group (i // block) modulo `groups`, and each group has its own sums. `pooled` merges them.
    Means, variances and covariances are over all groups together, with the population's factor 1/n.

    Attributes:
        shift: Unperturbed activation, [C, R, C'].
        output_shift: Unperturbed output, [].
        count: Number of perturbations in each group, [G].
        output_sum: Sums of the shifted output, [G].
        output_square: Sums of the square of the shifted output, [G].
        sum: Sums of the shifted activation, [G, C, R, C'].
        square: Sums of the square of the shifted activation, [G, C, R, C'].
        product: Sums of the product of shifted activation and shifted output, [G, C, R, C'].
        block: Number of consecutive perturbations that belong to one group.
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
        """Return moments of no perturbations.

        Args:
            shift: Unperturbed activation, [C, R, C'].
            output_shift: Unperturbed output, [].
            groups: Number of groups, G.
            block: Number of consecutive perturbations that belong to one group.
        """
        count, output_sum, output_square = (shift.new_zeros(groups) for _ in range(3))
        # The sums have the memory format of the activations, because converting them would cost more than summing.
        rows = shift.new_zeros(3, groups, shift.numel())
        sum_, square, product = (_maps(part, shift[None]) for part in rows)
        return cls(shift, output_shift, count, output_sum, output_square, sum_, square, product, block)

    @property
    def groups(self) -> int:
        """Number of groups, G."""
        return self.count.shape[0]

    def update(self, activations: Tensor, outputs: Tensor, first: int) -> None:
        """Add a chunk of perturbations.

        Args:
            activations: Activations, [N, C, R, C'].
            outputs: Outputs, [N].
            first: Index of the chunk's first perturbation, counted from 0.
        """
        if not len(outputs):
            return
        for name in DERIVED:
            self.__dict__.pop(name, None)
        o = (outputs - self.output_shift).to(self.shift.dtype)
        groups = [i // self.block % self.groups for i in range(first, first + len(o))]
        low, high = min(groups), max(groups) + 1
        index = torch.arange(first, first + len(o), device=o.device) // self.block % self.groups
        members = (index == torch.arange(self.groups, device=o.device)[:, None]).to(o.dtype)
        # One matrix product sums over the chunk for all of its groups. Each row holds the weights of the perturbations.
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
        """Merge with the moments of other perturbations of the same image.

        Raises:
            ValueError: The images or the numbers of groups differ.
        """
        if not torch.equal(self.shift, other.shift) or not torch.equal(self.output_shift, other.output_shift):
            raise ValueError(
                "moments of different images cannot be merged, and these differ in their unperturbed values: merge "
                "moments of one image"
            )
        if self.groups != other.groups:
            raise ValueError(
                f"moments of {self.groups} and of {other.groups} groups cannot be merged: use the same number of "
                "groups, or merge the results of `pooled`"
            )
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in SUMS})

    def select(self, groups: Sequence[int] | slice) -> Moments:
        """Return the moments of some groups only. For a slice, they are views."""
        chosen = groups if isinstance(groups, slice) else list(groups)
        return replace(self, **{name: getattr(self, name)[chosen] for name in SUMS})

    @functools.cached_property
    def halves(self) -> tuple[Moments, Moments]:
        """The moments of the even groups and of the odd groups, as of the last update."""
        return self.select(slice(0, None, 2)), self.select(slice(1, None, 2))

    def of_channels(self, channels: Sequence[int]) -> Moments:
        """Return the moments of some neurons only."""
        chosen = list(channels)
        sums = {name: getattr(self, name)[:, chosen] for name in ("sum", "square", "product")}
        return replace(self, shift=self.shift[chosen], **sums)

    def pooled(self) -> Moments:
        """Return the moments of all groups merged into one group."""
        return replace(self, **{name: getattr(self, name).sum(0, keepdim=True) for name in SUMS})

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
        """Whether the activation varies by more than the rounding error, bool [C, R, C']."""
        eps = torch.finfo(self.shift.dtype).eps
        # If an activation is the same in all perturbations, but differs from the unperturbed one, rounding of the sums
        # leaves a small variance.
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
        """Whether the output varies by more than the rounding error."""
        eps = torch.finfo(self.shift.dtype).eps
        rest = eps * self.count.sum() * self._total(self.output_square)
        return bool(self.output_variance > rest + (eps * self.output_mean).square())

    @functools.cached_property
    def output_variance(self) -> Tensor:
        """Variance of the output, []."""
        return (self._total(self.output_square) - self._total(self.output_sum).square()).clamp_min(0)


def _memory_order(like: Tensor) -> list[int]:
    """Return the dimensions 1, 2 ... of a tensor, the outermost in memory first."""
    return sorted(range(1, like.dim()), key=like.stride, reverse=True)


def _rows(maps: Tensor, like: Tensor | None = None) -> Tensor:
    """Flatten maps [N, C, R, C'] to rows [N, C R C'].

    Args:
        maps: The maps.
        like: Tensor [M, C, R, C'] whose order in memory the rows get; None for a view in the order of `maps`.
    """
    if like is None:
        return maps.permute(0, *_memory_order(maps)).view(len(maps), maps[0].numel())
    return maps.permute(0, *_memory_order(like)).reshape(len(maps), like[0].numel())


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """Return a view of rows [N, C R C'] as maps [N, C, R, C'], in the order in memory of `like`: undo `_rows`."""
    order = _memory_order(like)
    maps = rows.view(len(rows), *(like.shape[dimension] for dimension in order))
    return maps.permute(0, *(1 + order.index(dimension) for dimension in range(1, like.dim())))
