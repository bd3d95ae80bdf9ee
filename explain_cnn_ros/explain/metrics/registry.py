"""The registry of metrics: one entry declares everything that is known about a metric.

The choices of the settings, the captions of pictures, the colours of figures, tables and documentation follow from it.
"""

from __future__ import annotations

import enum
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from explain_cnn_ros.explain.influences import Influences
from explain_cnn_ros.explain.moments import Moments

if TYPE_CHECKING:
    from explain_cnn_ros.explain.settings import ExplainSettings

#: Group of the entry points by which other packages add metrics. Each names a function without arguments that calls
#: `register`, or a module that does so when it is imported.
ENTRY_POINTS = "explain_cnn_ros.metrics"

#: The metrics of the paper, in its order.
PAPER_METRICS = (
    "activation_output_correlation",
    "activation_precision",
    "activation_sum",
    "activation_variance",
    "weight_sum",
    "weight_variance",
)

#: The metrics that select the neurons that support, and that oppose, the shown decision.
SUPPORTING, OPPOSING = "influence", "counter_influence"

#: The metrics that an explanation computes by default.
DEFAULT_METRICS = (SUPPORTING, OPPOSING, *PAPER_METRICS)

#: The two metrics whose selections `Explanation.set_similarity` compares, as the paper does.
SIMILARITY_METRICS = ("activation_output_correlation", "activation_precision")


class Reads(enum.Enum):
    """The data that a metric is computed from. All kinds include WEIGHTS, and all others include IMAGE."""

    WEIGHTS = "weights"
    IMAGE = "image"
    PERTURBATIONS = "perturbations"
    GRADIENTS = "gradients"

    @property
    def meaning(self) -> str:
        """A phrase for documentation."""
        return {
            Reads.WEIGHTS: "the network's weights",
            Reads.IMAGE: "the activations for the image",
            Reads.PERTURBATIONS: "the activations and outputs over the perturbations",
            Reads.GRADIENTS: "activations times gradients of the output over the perturbations, or for the image alone",
        }[self]


class Selects(enum.Enum):
    """The neurons that a metric selects.

    HIGHEST: Those with the highest scores. SUPPORTING and OPPOSING are for scores that are positive for neurons that
    argue for the person and negative for neurons that argue against it. They are the neurons that argue most for the
    shown decision, and most against it.
    """

    HIGHEST = "highest"
    SUPPORTING = "supporting"
    OPPOSING = "opposing"


@dataclass(frozen=True)
class LayerEvidence:
    """The data about one layer that a metric may read.

    Attributes:
        settings: Settings of the explanation.
        weights: Weights of each neuron, in the direction of `settings.weights`, [C, ...].
        activation: Activation for the unperturbed image, [C, R, C']. Only metrics that read the image may use it.
        moments: Moments over the perturbations. Only metrics that read perturbations may use them.
        influences: Activation times gradient of the output, summed over positions. Only metrics that read gradients may
            use them.
        discard: Whether neurons may be discarded in comparison with others. It is False while confidence intervals
            are computed: the evidence then holds a few neurons only, and each needs a score of its own.
    """

    settings: ExplainSettings
    weights: Tensor
    activation_or_none: Tensor | None = None
    moments_or_none: Moments | None = None
    influences_or_none: Influences | None = None
    discard: bool = True

    @property
    def activation(self) -> Tensor:
        """Activation for the unperturbed image, [C, R, C']."""
        if self.activation_or_none is None:
            raise TypeError("the metric reads activations, but is declared as reading weights only: see Metric.reads")
        return self.activation_or_none

    @property
    def moments(self) -> Moments:
        """Moments over the perturbations."""
        if self.moments_or_none is None:
            raise TypeError("the metric reads moments, but is not declared as reading perturbations: see Metric.reads")
        return self.moments_or_none

    @property
    def influences(self) -> Influences:
        """Activation times gradient of the output, summed over positions."""
        if self.influences_or_none is None:
            raise TypeError("the metric reads gradients, but is not declared as reading gradients: see Metric.reads")
        return self.influences_or_none


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: Identifier, as in settings, messages and tables: lower case, digits and underscores.
        title: Name for people, for pictures and figures.
        reads: The data that the metric is computed from.
        function: Computes the scores [C] of a layer's neurons from its evidence. Higher is more important; NaN is for
            neurons that have no value, which are never selected. Each score must depend on its own neuron only if
            `evidence.discard` is False.
        meaning: One line that says what a high score means. "{weights}" stands for the direction of the weights.
        source: Where the metric is defined, for instance an equation of the paper.
        colour: Colour in figures, "#rrggbb".
        signed: Whether the sign of a score has a meaning.
        selects: The neurons that are selected.

    Raises:
        ValueError: The name or the colour has another form.
    """

    name: str
    title: str
    reads: Reads
    function: Callable[[LayerEvidence], Tensor]
    meaning: str
    source: str
    colour: str
    signed: bool = False
    selects: Selects = Selects.HIGHEST

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"the metric's name is {self.name!r}: use lower-case letters, digits and underscores")
        if not re.fullmatch(r"#[0-9A-Fa-f]{6}", self.colour):
            raise ValueError(f"the colour of {self.name} is {self.colour!r}: write it as #rrggbb")

    def perturbed(self, settings: ExplainSettings) -> bool:
        """Return whether the metric reads perturbations: rankings then have a stability and confidence intervals."""
        return self.reads in (Reads.PERTURBATIONS, Reads.GRADIENTS) and settings.perturbations > 0

    def preferences(self, scores: Tensor, person: bool) -> Tensor:
        """Return the values by which neurons are selected, the highest first.

        Args:
            scores: Scores [C]; NaN for neurons without a value.
            person: Whether the shown decision is "person".

        Returns:
            [C]; NaN for neurons that are never selected: those without a value, and those that argue for the other
            side.
        """
        if self.selects is Selects.HIGHEST:
            return scores
        toward = scores if person == (self.selects is Selects.SUPPORTING) else -scores
        return torch.where(toward > 0, toward, torch.nan)

    def caption(self, settings: ExplainSettings) -> str:
        """Return the meaning of a high score, in words that fit the settings."""
        return self.meaning.format(weights=settings.weights)


_METRICS: dict[str, Metric] = {}

#: Groups of entry points that have not been loaded yet.
_PENDING = [ENTRY_POINTS]


def register(entry: Metric) -> Metric:
    """Add a metric to the registry.

    Raises:
        ValueError: Another metric has the same name.
    """
    if _METRICS.get(entry.name, entry) != entry:
        raise ValueError(f"there is a metric {entry.name!r} already: choose another name")
    _METRICS[entry.name] = entry
    return entry


def unregister(name: str) -> None:
    """Remove a metric from the registry.

    Raises:
        KeyError: There is no such metric.
    """
    del _METRICS[name]


def _load_entry_points() -> None:
    """Let other packages register their metrics, once. A package that fails is reported and left out."""
    # The group is removed first, because a package may ask for the metrics while it is being loaded.
    for point in entry_points(group=_PENDING.pop()) if _PENDING else ():
        try:
            loaded = point.load()
            if callable(loaded):
                loaded()
        except Exception as error:
            logging.getLogger(__name__).error("the metrics of %s are not available: %s", point.value, error)


def metric_names() -> tuple[str, ...]:
    """Names of all registered metrics: influence, those of the paper, and those of other packages."""
    _load_entry_points()
    return tuple(_METRICS)


def metric(name: str) -> Metric:
    """Return a registered metric.

    Raises:
        KeyError: There is no such metric.
    """
    _load_entry_points()
    if name not in _METRICS:
        raise KeyError(f"there is no metric {name!r}: use one of {', '.join(_METRICS)}")
    return _METRICS[name]
