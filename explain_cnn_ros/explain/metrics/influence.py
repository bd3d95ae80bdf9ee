"""Influence: how much of the output rests on a neuron (Leino et al. 2018; Molchanov et al. 2017).

The influence of a neuron is the mean over the perturbations of the sum over positions of z do/dz, where z is the
activation after the ReLU and o the output. It is, to first order, how much the output falls if the neuron is silenced.
Positive values argue for the person, negative ones against it. Without perturbations, it is computed from the image
alone.

The two metrics have the same scores and select from opposite ends: the neurons that argue most for the shown decision,
and those that argue most against it. Neurons that argue for the other side are never selected.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from explain_cnn_ros.explain.metrics.registry import (
    OPPOSING,
    SUPPORTING,
    LayerEvidence,
    Metric,
    Reads,
    Selects,
    register,
)


def influence(evidence: LayerEvidence) -> Tensor:
    """Return the influence of each neuron: [C]."""
    return evidence.influences.mean


SUPPORT = register(
    Metric(
        name=SUPPORTING,
        title="influence, supporting",
        reads=Reads.GRADIENTS,
        function=influence,
        meaning="supports the decision",
        source="Leino et al. 2018; Molchanov et al. 2017",
        colour="#000000",
        signed=True,
        selects=Selects.SUPPORTING,
    )
)
register(
    replace(
        SUPPORT,
        name=OPPOSING,
        title="influence, opposing",
        meaning="opposes the decision",
        colour="#7F7F7F",
        selects=Selects.OPPOSING,
    )
)
