"""Weighted means of the weights of two networks.

A network that is trained on a few new windows forgets some of what it knew. A mean of the weights before and after the
training often keeps most of both, because the two networks are near each other: "Robust fine-tuning of zero-shot
models" (Wortsman et al., CVPR 2022), section 3.
"""

from __future__ import annotations

import copy
import dataclasses

import torch

from explain_cnn_ros.scan.classifier import PersonClassifier


def blended(before: PersonClassifier, trained: PersonClassifier, share: float) -> PersonClassifier:
    """Return a network whose weights are the weighted mean of those before and after a training.

    Args:
        before: The network before the training.
        trained: The network after the training.
        share: Share of the trained weights, 0 to 1. If it is 1, the trained network itself is returned.

    Returns:
        The network with the metadata of the trained network. If the share is below 1, the accuracy is removed from the
        metadata, because it was measured with other weights.

    Raises:
        ValueError: The networks have different classes or different parameters.
    """
    if share == 1:
        return trained
    classes = [(one.info.classes, one.info.person) for one in (before, trained)]
    if classes[0] != classes[1]:
        raise ValueError("only networks of the same classes can be blended: their outputs mean something else")
    old, new = before.network.state_dict(), trained.network.state_dict()
    if {name: value.shape for name, value in old.items()} != {name: value.shape for name, value in new.items()}:
        raise ValueError("only networks of the same architecture can be blended: their parameters differ")
    network = copy.deepcopy(trained.network)
    network.load_state_dict(
        # Integers, for instance the number of batches that batch norm has seen, are taken from the trained network.
        {
            name: torch.lerp(old[name].to(value), value, share) if value.is_floating_point() else value
            for name, value in new.items()
        }
    )
    info = dataclasses.replace(trained.info, accuracy={})
    return PersonClassifier(network, info, trained.device, proposer=trained.proposer)
