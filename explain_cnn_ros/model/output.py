"""The output that an explanation is about: how strongly the logits speak for a target class."""

from __future__ import annotations

import torch
from torch import Tensor

#: Positions of the two classes among the logits.
BACKGROUND_CLASS, PERSON_CLASS = 0, 1


def margin(logits: Tensor, target: int = PERSON_CLASS) -> Tensor:
    """Compute the logit of the target class minus the log-sum-exp of the others.

    With two classes this is the difference of the logits, person minus background.

    Args:
        logits: [..., classes].
        target: Index of the target class.

    Returns:
        The margin, [...]. P(target) is its logistic function.
    """
    classes = logits.shape[-1]
    if classes == 2:
        return logits[..., target] - logits[..., 1 - target]
    others = logits[..., [index for index in range(classes) if index != target]]
    return logits[..., target] - torch.logsumexp(others, -1)


def probability(logits: Tensor, target: int = PERSON_CLASS) -> Tensor:
    """Compute P(target), the softmax of the logits [..., classes] at the target class: [...]."""
    return logits.softmax(-1)[..., target]
