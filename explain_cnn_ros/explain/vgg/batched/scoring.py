"""The scores of all neurons of all layers by all metrics at once.

Each quantity that a metric averages over positions is one row of positions. One reduction for each layer turns all rows
into rows of neurons, and the scores are computed from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from explain_cnn_ros.explain.metrics.registry import DEFAULT_METRICS, Reads, Selects, metric
from explain_cnn_ros.explain.ranking import Key
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.vgg.batched.layout import FlatLayout
from explain_cnn_ros.explain.vgg.batched.passes import BatchPass

#: The parts of the perturbations whose scores are computed: the even groups, the odd groups, and all of them.
HALVES_AND_ALL = 3


@dataclass
class BatchScores:
    """Scores of all neurons.

    Attributes:
        scores: Scores over all perturbations, [M, T] for M metrics; NaN for neurons without a value.
        preferences: Values by which neurons are selected, [rows, T]; see `Scorer.rows`.
        strongest: Largest activation of each neuron in the unperturbed window, [T].
        positions: Flat position of the largest activation, and, if gradients were computed, of the largest contribution
            for and against the shown decision, int64 [1 or 3, T].
        output: Mean and variance of the output over the perturbations, [2]; empty without perturbations.
    """

    scores: Tensor
    preferences: Tensor
    strongest: Tensor
    positions: Tensor
    output: Tensor


class Scorer:
    """Computes the scores of the metrics of this package; all constants are built in advance.

    Args:
        settings: Settings of the explanation, with metrics of this package only.
        layout: The layout of the explained layers.
        count: Number of perturbations, n; 0 if no requested metric reads them.
        block: Number of consecutive perturbations that belong to one group.
        weight_scores: Scores of the metrics that are the same for all images; see `evidence.weight_scores`.
        like: Tensor whose data type and device the constants get.

    Attributes:
        rows: Rows of the preferences of each metric: for the even groups, the odd groups and all perturbations, or a
            single row for metrics that do not read perturbations.
    """

    def __init__(
        self,
        settings: ExplainSettings,
        layout: FlatLayout,
        count: int,
        block: int,
        weight_scores: Mapping[Key, Tensor],
        like: Tensor,
    ) -> None:
        self._settings, self._layout = settings, layout
        reads = {metric(name).reads for name in settings.metrics}
        self._moments, self._gradients = Reads.PERTURBATIONS in reads, Reads.GRADIENTS in reads
        self._of_weights = {
            name: torch.cat([weight_scores[name, layer] for layer in layout.numbers])[None]
            for name in settings.metrics
            if metric(name).reads is Reads.WEIGHTS
        }
        group = torch.arange(count) // block % 2
        members = torch.stack([group == 0, group == 1, group >= 0]).double()
        counts = members.sum(1, keepdim=True)
        members = members / counts
        # The unperturbed window has no part in means over the perturbations.
        products = torch.cat([torch.zeros(HALVES_AND_ALL, 1), members], 1) if count else torch.ones(1, 1)
        self._members, self._products, self._counts = (part.to(like) for part in (members, products, counts))
        self._zero, self._nan, self._one = (like.new_tensor(value) for value in (0.0, float("nan"), 1.0))
        self._live_min = (settings.live_share_min * layout.positions_of.double()).to(like)
        self._averaging = layout.averaging * settings.precision_lambda
        self.rows: dict[str, list[int]] = {}
        first = 0
        for name in settings.metrics:
            rows = HALVES_AND_ALL if count and metric(name).perturbed(settings) else 1
            self.rows[name] = list(range(first, first + rows))
            first += rows
        self._part = _parts(self._moments, self._gradients, len(products))

    def score(self, passed: BatchPass, output: Tensor, person: Tensor) -> BatchScores:
        """Compute all scores.

        Args:
            passed: The pass; it is overwritten.
            output: Outputs [N], that of the unperturbed window first.
            person: Whether the shown decision is "person", bool [].
        """
        settings, part = self._settings, self._part
        rows = output.new_empty(part["end"].stop, self._layout.positions)
        torch.cat(passed.activations, out=rows[0])
        torch.ne(rows[0], 0, out=rows[part["nonzero"]][0])
        sign = torch.where(person, self._one, -self._one)
        if passed.products is not None:
            torch.mul(passed.products[0], sign, out=rows[1])
            torch.neg(rows[1], out=rows[2])
            torch.mm(self._products, passed.products, out=rows[part["influence"]])
        moments, output_varies = output[:0], None
        if passed.differences is not None:
            moments, output_varies = self._fill_moments(rows, passed.differences, output)
        sums, variance, strongest, positions = self._reduce(rows)

        alive = sums[part["nonzero"]] > 0
        found: dict[str, Tensor] = dict(self._of_weights)
        if "activation_sum" in settings.metrics:
            found["activation_sum"] = torch.where(alive, sums[:1], self._nan)
        if "activation_variance" in settings.metrics:
            found["activation_variance"] = torch.where(alive, variance, self._nan)
        if output_varies is not None:
            found["activation_output_correlation"] = self._correlation(sums, output_varies)
            found["activation_precision"] = self._precision(sums)
        preferred = dict(found)
        if self._gradients:
            influence = sums[part["influence"]]
            toward = influence * sign
            for name in settings.metrics:
                if metric(name).reads is Reads.GRADIENTS:
                    found[name] = influence
                    value = toward if metric(name).selects is Selects.SUPPORTING else -toward
                    preferred[name] = torch.where(value > 0, value, self._nan)
            contributes = torch.where(strongest[1:] > 0, positions[1:], positions[:1])
            positions = torch.cat([positions[:1], contributes])
        return BatchScores(
            scores=torch.cat([found[name][-1:] for name in settings.metrics]),
            preferences=torch.cat([preferred[name] for name in settings.metrics]),
            strongest=strongest[0],
            positions=positions,
            output=moments,
        )

    def _fill_moments(self, rows: Tensor, differences: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the rows that depend on moments over the perturbations. See `Moments` for the formulas.

        Returns:
            Mean and variance of the output over all perturbations, [2]; and whether the output varies in the even
            groups, the odd groups and all of them, bool [3, 1].
        """
        part, counts, eps = self._part, self._counts, torch.finfo(rows.dtype).eps
        o = output[1:] - output[0]
        sums = torch.cat([self._members, self._members * o]) @ differences
        shift, product = sums[:HALVES_AND_ALL], sums[HALVES_AND_ALL:]
        o_shift, o_square = (self._members @ torch.stack([o, o * o], 1)).split(1, 1)
        square = self._members @ differences.square_()
        mean = torch.add(rows[0], shift, out=rows[part["mean"]])
        variance = torch.addcmul(square, shift, shift, value=-1).clamp_min_(0)
        live = variance > square.mul_(eps * counts).addcmul_(mean, mean, value=eps**2)
        rows[part["live"]].copy_(live)
        o_variance = torch.addcmul(o_square, o_shift, o_shift, value=-1).clamp_min_(0)
        o_mean = o_shift + output[0]
        o_rest = (o_square * (eps * counts)).addcmul_(o_mean, o_mean, value=eps**2)
        covariance = product.addcmul_(shift, o_shift, value=-1)
        strength = covariance.div_(variance.sqrt().mul_(o_variance.sqrt())).abs_().clamp_max_(1)
        torch.where(live, strength, self._zero, out=rows[part["strength"]])
        spread = variance.reciprocal() if self._settings.precision_mean_of_inverse else variance
        torch.where(live, spread, self._zero, out=rows[part["spread"]])
        return torch.cat([o_mean[-1], o_variance[-1]]), o_variance > o_rest

    def _reduce(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reduce rows of positions to rows of neurons.

        Returns:
            Sums of all rows; variances of the activation; and the largest values of the rows of which the positions of
            the maxima are needed, with these positions.
        """
        layout, searched = self._layout, 3 if self._gradients else 1
        sums, variance = rows.new_empty(len(rows), layout.neurons), rows.new_empty(1, layout.neurons)
        largest = rows.new_empty(searched, layout.neurons)
        positions = torch.empty(largest.shape, dtype=torch.int64, device=rows.device)
        for span in layout.spans:
            maps, own = rows[:, span.positions].view(len(rows), -1, span.channels), span.neurons
            torch.sum(maps, 1, out=sums[:, own])
            torch.max(maps[:searched], 1, out=(largest[:, own], positions[:, own]))
            if "activation_variance" in self._settings.metrics:
                torch.var(maps[:1], 1, correction=0, out=variance[:, own])
        return sums, variance, largest, positions

    def _correlation(self, sums: Tensor, output_varies: Tensor) -> Tensor:
        count = sums[self._part["live"]]
        # Without varying positions, the quotient is NaN.
        enough = (count >= self._live_min) & output_varies
        return torch.where(enough, sums[self._part["strength"]] / count, self._nan)

    def _precision(self, sums: Tensor) -> Tensor:
        settings, layout, spread = self._settings, self._layout, sums[self._part["spread"]]
        mean = sums[self._part["mean"]] / layout.positions_of
        if settings.precision_mean_of_inverse:
            precision = spread / sums[self._part["live"]]
        else:
            precision = layout.positions_of / spread
        limit: Tensor | float = settings.precision_lambda
        if not settings.precision_lambda_absolute:
            limit = (mean @ self._averaging)[:, layout.layer_of]
        kept = (mean >= limit) & (mean > 0) & (precision < float("inf"))
        return torch.where(kept, precision, self._nan)


def supports(settings: ExplainSettings) -> bool:
    """Return whether all requested metrics are those of this package."""
    return set(settings.metrics) <= set(DEFAULT_METRICS)


def _parts(moments: bool, gradients: bool, influences: int) -> dict[str, slice]:
    """Return which rows of positions hold which quantity; "end" is the row after the last one.

    The first rows are the activation and, with gradients, the contributions for and against the shown decision.
    """
    lengths = {"start": 3 if gradients else 1, "nonzero": 1, "influence": influences if gradients else 0}
    lengths |= dict.fromkeys(("mean", "live", "spread", "strength"), HALVES_AND_ALL if moments else 0)
    parts, first = {}, 0
    for name, length in (lengths | {"end": 0}).items():
        parts[name] = slice(first, first + length)
        first += length
    return parts
