"""The selection of the top N neurons of all layers by all metrics at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explain_cnn_ros.explain.vgg.batched.layout import FlatLayout


@dataclass
class BatchSelection:
    """The top N.

    Attributes:
        top: Channels of the top N, best first, int64 [rows, L, N], for each row of preferences.
        valid: Whether there is such a neuron, bool [rows, L, N]: fewer than N neurons may have a value.
        channels: Channels that each metric selects over all perturbations, int64 [M, L, N]. They exist in their layer
            even where they are not valid.
        selected: Whether `channels` are valid, bool [M, L, N].
    """

    top: Tensor
    valid: Tensor
    channels: Tensor
    selected: Tensor


class Selector:
    """Selects neurons.

    Args:
        layout: The layout of the explained layers.
        top_n: Number of neurons that are selected in each layer, N.
        rows: Rows of the preferences of each metric; the last one is over all perturbations.
    """

    def __init__(self, layout: FlatLayout, top_n: int, rows: Mapping[str, Sequence[int]]) -> None:
        self._layout, self._top_n = layout, top_n
        self._final = torch.tensor([of_metric[-1] for of_metric in rows.values()]).to(layout.padded.device)

    def select(self, preferences: Tensor) -> BatchSelection:
        """Select the top N by preferences [rows, T]; of equal ones, the lower channel comes first."""
        layout = self._layout
        padded = preferences[:, layout.padded].masked_fill_(layout.missing, float("nan"))
        # A stable sort of the negated values keeps the lower channel first and moves NaN to the end.
        values, order = torch.sort(padded.neg_().view(len(padded), len(layout.spans), -1), dim=-1, stable=True)
        top, values = order[..., : self._top_n], values[..., : self._top_n]
        valid = values == values
        channels = torch.minimum(top[self._final], layout.last_channels)
        return BatchSelection(top, valid, channels, valid[self._final])
