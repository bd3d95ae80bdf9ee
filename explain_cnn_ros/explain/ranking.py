"""The first stage of an explanation: which neurons each metric selects in a window."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from explain_cnn_ros.explain.evidence import Evidence
from explain_cnn_ros.explain.metrics.registry import SIMILARITY_METRICS, metric
from explain_cnn_ros.explain.network_adapter import NetworkAdapter, Neuron, Trace
from explain_cnn_ros.explain.sampling import Sampler
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.output import probability
from explain_cnn_ros.model.precision import COARSE_PRECISIONS

#: Factor by which the number of perturbations grows from one check of the stability to the next.
GROWTH = 1.5

#: A metric and a layer.
Key = tuple[str, int]


@dataclass(frozen=True)
class TracedWindow:
    """A window after one pass through the network.

    Attributes:
        pixels: The window, [1, 3, H, W], values in [0, 255].
        clean: Trace of the unperturbed window.
    """

    pixels: Tensor
    clean: Trace


@dataclass(frozen=True)
class RankedWindow(TracedWindow):
    """A window with its ranked neurons.

    Attributes:
        evidence: The data that the scores were computed from.
        perturbations: Number of perturbations.
        scores: Scores [C] of all neurons by metric and layer; NaN for neurons without a value.
        channels: Channels of the top N by metric and layer, best first.
        stability: Stability by metric and layer, of the metrics that read perturbations.
        probability: P(person), or P of another target class, of the unperturbed window. It gives the shown decision.
            If the other passes are in half precision, it is taken from a pass in float32, as the output is.
        output: Output o of the unperturbed window.
        output_mean: Mean of the output over the perturbations; NaN without perturbations.
        output_stddev: Standard deviation of the output over the perturbations; NaN without perturbations.
    """

    evidence: Evidence
    perturbations: int
    scores: Mapping[Key, Tensor]
    channels: Mapping[Key, list[int]]
    stability: Mapping[Key, float]
    probability: float
    output: float
    output_mean: float
    output_stddev: float

    def neurons_of(self, name: str) -> list[Neuron]:
        """Neurons of the top N of one metric over all layers, best first within each layer."""
        return [Neuron(layer, channel) for layer, top in self.of_metric(name).items() for channel in top]

    def of_metric(self, name: str) -> dict[int, list[int]]:
        """Channels of the top N of one metric by layer."""
        return {layer: top for (entry, layer), top in self.channels.items() if entry == name}

    def set_similarity(self) -> tuple[float, dict[int, float]]:
        """Compute the Jaccard index of the selections of correlation and precision.

        Returns:
            The index over all layers, NaN if one of the two metrics is missing; and the index by layer, empty then.
        """
        sets = [
            {(layer, channel) for layer, top in self.of_metric(name).items() for channel in top}
            for name in SIMILARITY_METRICS
        ]
        settings = self.evidence.settings
        if not all(name in settings.metrics for name in SIMILARITY_METRICS):
            return float("nan"), {}
        by_layer = {
            layer: jaccard(*({neuron for neuron in chosen if neuron[0] == layer} for chosen in sets))
            for layer in settings.layers
        }
        return jaccard(*sets), by_layer


class Ranker:
    """Ranks the neurons of a window, with growing numbers of perturbations if that is requested.

    Args:
        adapter: Adapter of the network.
        settings: Settings of the explanation.
        weight_scores: Scores of the metrics that are the same for all images; see `evidence.weight_scores`.
        pixels: The window, [1, 3, H, W], values in [0, 255].
        threshold: The decision is "person" if P(person) of the window is at least this.
        before_pass: Called before each pass; an exception that it raises ends the ranking.
    """

    def __init__(
        self,
        adapter: NetworkAdapter,
        settings: ExplainSettings,
        weight_scores: Mapping[Key, Tensor],
        pixels: Tensor,
        threshold: float,
        before_pass: Callable[[], None] = lambda: None,
    ) -> None:
        self._adapter, self._settings, self._weight_scores = adapter, settings, weight_scores
        self._pixels, self._threshold = pixels, threshold
        self._before_pass = before_pass
        self._sampler = Sampler(adapter, settings, pixels, before_pass)
        self._exact: Tensor | None = None
        self._perturbed = [name for name in settings.metrics if metric(name).perturbed(settings)]

    def sample(self, perturbations: int | None = None) -> None:
        """Pass the window, and at least this many perturbations, through the network.

        Args:
            perturbations: The number of perturbations; None for that of the settings, or none at all if no requested
                metric reads them.
        """
        wanted = self._settings.perturbations if self._perturbed else 0
        self._sampler.run(wanted if perturbations is None else perturbations)

    def evidence(self) -> Evidence:
        """Return the data that the scores are computed from, as of now."""
        sampler = self._sampler
        activations = {layer: activation[0] for layer, activation in sampler.clean.activations.items()}
        person = self._probability() >= self._threshold
        return Evidence(self._settings, self._adapter, activations, sampler.moments, sampler.influences, person)

    def _probability(self) -> float:
        return float(probability(self._logits(), self._adapter.target)[0])

    def _logits(self) -> Tensor:
        """Return the logits of the window, [1, classes], that the decision and the output follow from.

        In half precision, the decision could be another one than that of the classifier. If the passes are in half
        precision, the window therefore goes through the network in float32 as well.
        """
        if self._settings.compute_precision not in COARSE_PRECISIONS:
            return self._sampler.clean.logits
        if self._exact is None:
            self._before_pass()
            self._exact = self._adapter.trace(self._pixels, (), precision="float32").logits
        return self._exact

    def stability(self) -> dict[Key, float]:
        """Compute the stability by metric and layer, of the rankings that depend on perturbations."""
        evidence = self.evidence()
        return {
            (name, layer): evidence.stability(name, layer)
            for name in self._perturbed
            for layer in self._settings.layers
        }

    def sample_until_stable(self, stability: dict[Key, float]) -> dict[Key, float]:
        """Add perturbations until all rankings are stable or the limits of the settings are reached.

        Args:
            stability: The current stability.

        Returns:
            The stability in the end.
        """
        settings, start = self._settings, time.perf_counter()
        while self._perturbed and self._sampler.taken < settings.perturbations_max:
            # NaN means that nothing varies; more perturbations would not change that.
            if not any(value < settings.stability_target for value in stability.values()):
                break
            if settings.seconds_max and time.perf_counter() - start >= settings.seconds_max:
                break
            self._sampler.run(min(math.ceil(self._sampler.taken * GROWTH), settings.perturbations_max))
            stability = self.stability()
        return stability

    def rank(self, stability: Mapping[Key, float] | None = None) -> RankedWindow:
        """Compute the scores and select the top N.

        Args:
            stability: The stability, if it is known already.
        """
        settings, sampler, evidence = self._settings, self._sampler, self.evidence()
        scores = {
            key: self._weight_scores[key] if key in self._weight_scores else evidence.score(*key)
            for key in itertools.product(settings.metrics, settings.layers)
        }
        first = sampler.moments[settings.layers[0]]
        return RankedWindow(
            pixels=self._pixels,
            clean=sampler.clean,
            evidence=evidence,
            perturbations=sampler.taken,
            scores=scores,
            channels={key: evidence.select(key[0], value) for key, value in scores.items()},
            stability=self.stability() if stability is None else stability,
            probability=self._probability(),
            output=float(self._adapter.output(self._logits(), settings.output)[0]),
            output_mean=float(first.output_mean) if sampler.taken else float("nan"),
            output_stddev=float(first.output_variance.sqrt()) if sampler.taken else float("nan"),
        )

    def rank_at(self, counts: Sequence[int]) -> Iterator[RankedWindow]:
        """Yield the ranking after each of several growing numbers of perturbations."""
        for count in counts:
            self.sample(count)
            yield self.rank()
