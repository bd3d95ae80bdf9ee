"""The selection of neurons by their scores, and the comparison of selections."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

import torch
from torch import Tensor


def top_channels(scores: Tensor, top_n: int) -> list[int]:
    """Return the channels of the highest scores, best first; of equal scores, the lower channel comes first.

    Args:
        scores: [C]. Neurons without a value (NaN) are left out.
        top_n: Maximum number of channels.

    Returns:
        At most `top_n` channels.
    """
    # A stable sort of the negated scores keeps the lower channel first and moves NaN to the end.
    order = torch.argsort(-scores, stable=True)
    channels: list[int] = order[~torch.isnan(scores[order])][:top_n].tolist()
    return channels


def jaccard(one: AbstractSet[Any], other: AbstractSet[Any]) -> float:
    """Compute the Jaccard index: the size of the intersection over the size of the union. NaN if both are empty."""
    union = one | other
    return len(one & other) / len(union) if union else float("nan")
