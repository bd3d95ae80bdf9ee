"""Suppression and fusion of windows on the device, in operations whose shapes do not depend on the windows.

They compute the same as `candidates.suppress_boxes` and `fusion.fuse`, without a wait for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from explain_cnn_ros.model.windows import PERSON_ASPECT, PERSON_SHARE
from explain_cnn_ros.scan.fusion import SHIFTS, WIDTHS

#: Rounds of the suppression. Each chain of windows, each of which would suppress the next one, is resolved from its
#: begin by one window in each round. On street frames, the longest chains have 8 windows. The number is even, so that
#: a longer chain keeps too many windows rather than too few.
ROUNDS = 8


def keep_best(places: Tensor, valid: Tensor, overlap_max: float) -> Tensor:
    """Apply non-maximum suppression, as `candidates.suppress` does.

    A window is dropped if its person shares more than `overlap_max` of the smaller person's area with the person of a
    better window that is kept.

    Args:
        places: Centre x, centre y and logarithm of the height of the windows, best first, [N, 3].
        valid: Whether each window takes part, bool [N].
        overlap_max: Maximum shared area of two persons, as a share of the smaller one.

    Returns:
        Whether each window is kept, bool [N].
    """
    half = torch.exp(places[:, 2]) * (PERSON_SHARE / 2)
    halves = torch.stack([half * PERSON_ASPECT, half], 1)
    lower, upper = places[:, :2] - halves, places[:, :2] + halves
    # The shared area exceeds neither area, not even by rounding.
    area = (upper - lower).prod(1)
    shared, down = (
        (torch.minimum(upper[:, None, i], upper[:, i]) - torch.maximum(lower[:, None, i], lower[:, i])).clamp_(min=0)
        for i in (0, 1)
    )
    covered = shared.mul_(down) > torch.minimum(area[:, None], area).mul_(overlap_max)
    # Line i, column j: window i suppresses window j.
    suppresses = covered.triu_(1).to(places.dtype)
    takes_part = valid.to(places.dtype)
    kept = takes_part
    for _ in range(ROUNDS):
        kept = (kept @ suppresses == 0) * takes_part
    return kept > 0


def first_of(kept: Tensor, count: int) -> Tensor:
    """Return the indices of the first `count` windows that are kept, and then of others, int64 [count]."""
    return kept.to(torch.int8).argsort(descending=True, stable=True)[:count]


def fuse(places: Tensor, weights: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Shift windows to the weighted mean of the windows around them, repeatedly; see `fusion.fuse`.

    Args:
        places: Centre x, centre y and logarithm of the height of the windows, [M, 3].
        weights: Weight of each window, [M].
        starts: The windows that are shifted, in the same form, [S, 3].

    Returns:
        The modes that the shifts end at, [S, 3], and the support of each mode, [S].
    """
    modes = starts
    for _ in range(SHIFTS):
        near = _kernel(places, weights, modes)
        total = near.sum(1, keepdim=True)
        modes = torch.where(total > 0, near @ places / total, modes)
    return modes, _kernel(places, weights, modes).sum(1)


def _kernel(places: Tensor, weights: Tensor, modes: Tensor) -> Tensor:
    """Weight of each window for each mode, [S, M]."""
    height = torch.exp(modes[:, 2:])
    widths = torch.cat([height * WIDTHS[0], height * WIDTHS[1], torch.full_like(height, WIDTHS[2])], 1)
    distance = (places - modes[:, None]).div_(widths[:, None])
    return distance.square_().sum(2).mul_(-0.5).exp_().mul_(weights)
