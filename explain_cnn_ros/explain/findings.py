"""The results of all stages of an explanation, before they are described in the frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from explain_cnn_ros.explain.explanation import Silencing
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.proof import Proofs
from explain_cnn_ros.explain.ranking import Key, RankedWindow


@dataclass(frozen=True)
class Findings:
    """The results of all stages for one window.

    Attributes:
        probability: P(person) of the window.
        ranked: The ranked window.
        patches: Patches by metric and neuron, in pixels of the window.
        proofs: Proofs of the influence.
        half_widths: Half of the width of the confidence interval of each selected neuron, by metric and layer; empty
            without intervals.
        silencing: Results of silencing by metric.
    """

    probability: float
    ranked: RankedWindow
    patches: Mapping[tuple[str, Neuron], Patch]
    proofs: Proofs
    half_widths: Mapping[Key, list[float]] = field(default_factory=dict)
    silencing: tuple[Silencing, ...] = ()


class Finder(Protocol):
    """Computes all stages at once."""

    def explain(self, pixels: Tensor, threshold: float) -> Findings:
        """Explain a window.

        Args:
            pixels: The window, [1, 3, H, W], values in [0, 255].
            threshold: The decision is "person" if P(person) of the window is at least this.
        """
