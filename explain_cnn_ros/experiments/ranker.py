"""Rankings without patches: what experiments that ask for hundreds of them need."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain_cnn_ros import importance
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.importance import PERTURBATION_METRICS
from explain_cnn_ros.ranking import Evidence, weight_scores


@dataclass(frozen=True)
class Ranked:
    """What is selected after a number of perturbations.

    perturbations: how many there were.
    activations: of the unperturbed window, by layer, [C, R, C'].
    channels: the top N by metric and layer, best first.
    stability: between both halves of the perturbations, by metric and layer, of those that depend on them.
    """

    perturbations: int
    activations: Mapping[int, Tensor]
    channels: Mapping[tuple[str, int], list[int]]
    stability: Mapping[tuple[str, int], float]


class Ranker:
    """Ranks the neurons of windows as an explainer does."""

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = explainer
        with torch.inference_mode():
            self._weight_scores = weight_scores(explainer.classifier.network, explainer.settings)

    @torch.inference_mode()
    def rank(self, window: NDArray[np.uint8], counts: Sequence[int] = ()) -> list[Ranked]:
        """Of a window uint8 [128, 64, 3], after each of so many perturbations, growing; as many as set by default."""
        settings, classifier = self.explainer.settings, self.explainer.classifier
        sampler = self.explainer.sampler(classifier.to_pixels(window[None]))
        found = []
        for count in counts or (settings.perturbations,):
            sampler.run(count)
            activations = {layer: activation[0] for layer, activation in sampler.clean.activations.items()}
            evidence = Evidence(settings, activations, sampler.moments)
            channels, stability = {}, {}
            for key in itertools.product(settings.metrics, settings.layers):
                scores = self._weight_scores[key] if key in self._weight_scores else evidence.score(*key)
                channels[key] = importance.rank(scores, settings.top_n).tolist()
                if key[0] in PERTURBATION_METRICS:
                    stability[key] = evidence.stability(*key)
            found.append(Ranked(sampler.taken, activations, channels, stability))
        return found
