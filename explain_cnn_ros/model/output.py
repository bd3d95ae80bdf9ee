"""The output that an explanation is about: how strongly the logits speak for the target classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Positions of the two classes among the logits of the networks that this package trains.
BACKGROUND_CLASS, PERSON_CLASS = 0, 1


def margin(logits: Tensor, target: int | Sequence[int] = PERSON_CLASS) -> Tensor:
    """Compute the log-sum-exp of the logits of the target classes minus that of the others.

    With two classes this is the difference of the logits, person minus background.

    Args:
        logits: [..., classes].
        target: Index of the target class, or indices of several classes that count as one.

    Returns:
        The margin, [...]. P(target) is its logistic function.

    Raises:
        ValueError: There are no target classes, or no others.
    """
    classes, targets = logits.shape[-1], _targets(target)
    others = [index for index in range(classes) if index not in targets]
    if not targets or not others:
        raise ValueError(f"the target classes are {targets} of {classes}: at least one class must be, and one must not")
    return _log_sum_exp(logits, targets) - _log_sum_exp(logits, others)


def probability(logits: Tensor, target: int | Sequence[int] = PERSON_CLASS) -> Tensor:
    """Compute P(target), the sum of the softmax of the logits [..., classes] at the target classes: [...].

    Its gradient is exact even where P(target) is rounded to 1.
    """
    shares, targets = logits.softmax(-1), _targets(target)
    p = shares[..., targets[0]] if len(targets) == 1 else shares[..., targets].sum(-1)
    if not (torch.is_grad_enabled() and logits.requires_grad):
        return p
    # The gradient of softmax has the factor 1 - P, which would be 0. P is 1 minus the logistic function of the negative
    # margin, whose gradient has no such difference. The value stays that of softmax.
    of_logits = margin(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets)
    same = torch.where(of_logits > 0, -(-of_logits).sigmoid(), of_logits.sigmoid())
    return p.detach() + (same - same.detach()).to(p.dtype)


def _targets(target: int | Sequence[int]) -> list[int]:
    return [target] if isinstance(target, int) else list(target)


def _log_sum_exp(logits: Tensor, classes: list[int]) -> Tensor:
    """Compute the log-sum-exp of some classes. That of a single class is its logit, without rounding."""
    return logits[..., classes[0]] if len(classes) == 1 else torch.logsumexp(logits[..., classes], -1)
