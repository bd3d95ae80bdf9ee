"""The result: a plain, frozen record of numbers from which messages, overlays, reports and tables are made."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.patches import Patch
from explain_cnn_ros.regions import Region
from explain_cnn_ros.settings import ExplainSettings


@dataclass(frozen=True)
class RankedNeuron:
    """A selected neuron.

    layer, channel: layers count from 1, channels from 0.
    patch: in the frame, or None.
    interval: 95 % confidence interval of the score over the perturbations, (low, high); None where the score does not
        depend on them, or where there are too few groups of them (ExplainSettings.perturbation_groups).
    """

    layer: int
    channel: int
    score: float
    patch: Patch | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class LayerRanking:
    """The top N neurons of one layer by one metric, best first.

    layer_name: "conv3_1".
    stability: Jaccard index of the top N of one half of the perturbations with that of the other half; None
        for metrics that do not depend on perturbations.
    unstable: the stability is below the target: the ranking is little more than noise.
    scores: of every neuron of the layer, float64 [C], NaN for those without a value.
    """

    metric: str
    layer: int
    layer_name: str
    neurons: tuple[RankedNeuron, ...]
    stability: float | None
    unstable: bool
    scores: NDArray[np.float64] = dataclasses.field(repr=False, compare=False)


@dataclass(frozen=True)
class Silencing:
    """What the decision becomes without the neurons that a metric selects, and without as many random ones.

    neurons: how many were silenced, over all layers.
    probability, output: P(person), and logit of person minus that of background, without the selected neurons.
    random_probabilities, random_outputs: the same without random neurons of the same layers, a value a draw.
    """

    metric: str
    neurons: int
    probability: float
    output: float
    random_probabilities: tuple[float, ...]
    random_outputs: tuple[float, ...]

    @property
    def random_probability_mean(self) -> float:
        """Mean of P(person) without random neurons."""
        return float(np.mean(self.random_probabilities))

    @property
    def random_probability_stddev(self) -> float:
        """Standard deviation of P(person) without random neurons, over the draws."""
        return float(np.std(self.random_probabilities))


@dataclass(frozen=True)
class Explanation:
    """Why the classifier decided as it did about one region of one frame.

    region: the explained window in frame pixels, and its P(person).
    image_size: (width, height) of the frame, pixels.
    threshold: P(person) from which on the classifier says person.
    perturbations: how many copies were looked at: more than settings.perturbations if sampling went on, 0 when no
        metric that was asked for needs them.
    output, output_mean, output_stddev: the unperturbed output, and its moments over the perturbations (NaN when no
        metric that was asked for needs perturbations).
    rankings: by metric and layer, in the settings' order.
    set_similarity: Jaccard index of what correlation and precision select over all layers; NaN when either
        was not asked for.
    set_similarity_by_layer: the same by layer; empty when either was not asked for.
    silencing: what the decision becomes without the selected neurons, by metric; empty unless it was asked for
        (ExplainSettings.silencing_draws).
    timings: seconds by step, in order.
    model_hash, device: which weights, and where they ran.
    """

    region: Region
    image_size: tuple[int, int]
    threshold: float
    settings: ExplainSettings
    perturbations: int
    output: float
    output_mean: float
    output_stddev: float
    rankings: tuple[LayerRanking, ...]
    set_similarity: float
    set_similarity_by_layer: dict[int, float]
    timings: dict[str, float]
    model_hash: str
    device: str
    silencing: tuple[Silencing, ...] = ()

    @property
    def person(self) -> bool:
        """The decision about the region."""
        return self.region.probability >= self.threshold

    @property
    def seconds(self) -> float:
        """How long the explanation took."""
        return sum(self.timings.values())

    def layer_ranking(self, metric: str, layer: int) -> LayerRanking:
        """The ranking of one layer by one metric; KeyError for what was not asked for."""
        for ranking in self.rankings:
            if ranking.metric == metric and ranking.layer == layer:
                return ranking
        raise KeyError(
            f"no ranking of layer {layer} by {metric}: this explanation has layers {list(self.settings.layers)} "
            f"and metrics {list(self.settings.metrics)}"
        )

    def ranking(self, metric: str, layer: int) -> tuple[RankedNeuron, ...]:
        """The selected neurons of one layer by one metric, best first."""
        return self.layer_ranking(metric, layer).neurons

    def to_dict(self) -> dict[str, Any]:
        """For JSON: everything but the scores of the neurons that were not selected; NaN becomes null."""
        record = dataclasses.asdict(self)
        for ranking in record["rankings"]:
            del ranking["scores"]
        finite: dict[str, Any] = _finite(record)
        return finite


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
