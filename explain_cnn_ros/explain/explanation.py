"""The result of an explanation: frozen dataclasses of numbers, from which messages, pictures and tables are built."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.files import finite
from explain_cnn_ros.model.windows import Region


@dataclass(frozen=True)
class RankedNeuron:
    """A selected neuron.

    Attributes:
        layer: Number of the layer, counted from 1.
        channel: Channel of the layer, counted from 0.
        score: Score by the metric that selected the neuron.
        patch: Patch in pixels of the frame; None if the neuron is dead or the patch lies outside of the frame.
        interval: 95 % confidence interval (low, high) of the score over the perturbations. It is None if the metric
            does not read perturbations, or if there are too few groups (ExplainSettings.perturbation_groups).
        silenced: Measured fall of the output if only this neuron is silenced, which influence predicts. It is None if
            the metric is not influence, or unless `ExplainSettings.proof` is "each".
    """

    layer: int
    channel: int
    score: float
    patch: Patch | None
    interval: tuple[float, float] | None = None
    silenced: float | None = None


@dataclass(frozen=True)
class LayerRanking:
    """The top N neurons of one layer by one metric.

    Attributes:
        metric: Name of the metric.
        layer: Number of the layer, counted from 1.
        layer_name: Name of the layer, for instance "conv3_1".
        neurons: The selected neurons, best first.
        stability: Jaccard index of the top N from one half of the perturbations and the top N from the other half; NaN
            if both are empty, None for metrics that do not read perturbations.
        unstable: Whether the stability is below the target or NaN. The ranking is then little more than noise.
        scores: Scores of all neurons of the layer, float64 [C]; NaN for neurons without a value.
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
    """The network's answers with the neurons of one metric silenced, and with as many random neurons silenced.

    Attributes:
        metric: Name of the metric.
        neurons: Number of silenced neurons over all layers.
        probability: P(person) with the selected neurons silenced.
        output: Margin (logit of person minus logit of background) with the selected neurons silenced.
        random_probabilities: P(person) with random neurons of the same layers silenced, for each draw.
        random_outputs: Margin with random neurons of the same layers silenced, for each draw.
    """

    metric: str
    neurons: int
    probability: float
    output: float
    random_probabilities: tuple[float, ...]
    random_outputs: tuple[float, ...]

    @property
    def random_probability_mean(self) -> float:
        """Mean over the draws of P(person) with random neurons silenced."""
        return float(np.mean(self.random_probabilities))

    @property
    def random_probability_stddev(self) -> float:
        """Standard deviation over the draws of P(person) with random neurons silenced."""
        return float(np.std(self.random_probabilities))


#: A proof disagrees with its prediction if the sum of the absolute errors is larger than this share of the sum of the
#: absolute measured changes.
PROOF_ERROR_MAX = 0.5


@dataclass(frozen=True)
class Proof:
    """The changes of the output that influence predicts, and those that silencing the selected neurons causes.

    All changes are falls of the output: the output of the window, minus the output with neurons silenced.

    Attributes:
        metric: Name of the metric that selected the neurons.
        neurons: Number of selected neurons over all layers.
        predicted: Sum of the predicted changes, one neuron at a time: the sum of the scores.
        measured: Sum of the measured changes, one neuron at a time; NaN unless `ExplainSettings.proof` is "each".
        error: Sum of the absolute differences of the two for each neuron, divided by the sum of the absolute measured
            changes; NaN unless `ExplainSettings.proof` is "each".
        agreeing: Number of neurons whose measured change has the predicted sign; 0 unless `ExplainSettings.proof` is
            "each".
        together: Measured change with all of them silenced at once.
        share: The same as a share of the output of the window, or of P(person) - 1 if the output is the probability and
            the decision is "no person"; NaN if the margin is 0 or argues for the other decision than the threshold's.
        probability: P(person) with all of them silenced at once.
        disagrees: Whether the error exceeds PROOF_ERROR_MAX. The scores are then not what the decision rests on.
    """

    metric: str
    neurons: int
    predicted: float
    measured: float
    error: float
    agreeing: int
    together: float
    share: float
    probability: float
    disagrees: bool


@dataclass(frozen=True)
class Explanation:
    """The explanation of the decision about one region of one frame.

    Attributes:
        region: The explained region, in pixels of the frame, with its P(person), or P of another target.
        image_size: Size (width, height) of the frame, in pixels.
        threshold: The decision is "person" if P(person) is at least this; of another target, 0.5.
        settings: Settings of the explanation.
        perturbations: Number of perturbations. It exceeds `settings.perturbations` if perturbations were added, and is
            0 if no requested metric reads them.
        output: Output o of the unperturbed window.
        output_mean: Mean of the output over the perturbations; NaN without perturbations.
        output_stddev: Standard deviation of the output over the perturbations; NaN without perturbations.
        rankings: Rankings by metric and layer, in the order of the settings.
        set_similarity: Jaccard index of the selections of correlation and precision over all layers; NaN if one of the
            two metrics was not requested.
        set_similarity_by_layer: The same by layer; empty if one of the two metrics was not requested.
        timings: Seconds of each step, in order.
        model_hash: Hash of the weights file; see `WindowClassifier`.
        device: Device of the network.
        silencing: Results of silencing by metric; empty unless `settings.silencing_draws` requests them.
        proofs: Proofs of the metrics of influence; empty if `settings.proof` is "none".
        target: Names of the classes that the explanation is about, separated by commas; "person" for those that count
            as a person.
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
    proofs: tuple[Proof, ...] = ()
    target: str = "person"

    @property
    def person(self) -> bool:
        """Whether the decision about the region is "person", or the other target."""
        return self.region.probability >= self.threshold

    @property
    def decision(self) -> str:
        """The decision about the region in words: "person" or "no person", or the same of another target."""
        target = self.target.replace(",", " or ")
        return target if self.person else f"no {target}"

    @property
    def seconds(self) -> float:
        """Duration of the explanation, in seconds."""
        return sum(self.timings.values())

    def layer_ranking(self, metric: str, layer: int) -> LayerRanking:
        """Return the ranking of one layer by one metric.

        Raises:
            KeyError: The settings did not request the layer or the metric.
        """
        for ranking in self.rankings:
            if ranking.metric == metric and ranking.layer == layer:
                return ranking
        raise KeyError(
            f"no ranking of layer {layer} by {metric}: this explanation has layers {list(self.settings.layers)} "
            f"and metrics {list(self.settings.metrics)}"
        )

    def ranking(self, metric: str, layer: int) -> tuple[RankedNeuron, ...]:
        """Return the selected neurons of one layer by one metric, best first.

        Raises:
            KeyError: The settings did not request the layer or the metric.
        """
        return self.layer_ranking(metric, layer).neurons

    def proof(self, metric: str) -> Proof | None:
        """Return the proof of a metric; None if there is none."""
        return next((proof for proof in self.proofs if proof.metric == metric), None)

    def to_dict(self) -> dict[str, Any]:
        """Convert to values for JSON, without the scores of neurons that are not selected. NaN becomes null."""
        record = dataclasses.asdict(self)
        for ranking in record["rankings"]:
            del ranking["scores"]
        plain: dict[str, Any] = finite(record)
        return plain
