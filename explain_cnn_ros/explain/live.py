"""Live explanations: influence of the image alone, frame after frame, averaged over the frames of one person."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from explain_cnn_ros.explain.explainer import Explainer, own_stream
from explain_cnn_ros.explain.explanation import Explanation, RankedNeuron
from explain_cnn_ros.explain.findings import Findings
from explain_cnn_ros.explain.locating import locate, starts
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.explain.network_adapter import Neuron, Start
from explain_cnn_ros.explain.ranking import RankedWindow
from explain_cnn_ros.explain.settings import PRESETS, ExplainSettings
from explain_cnn_ros.explain.steadying import RunningMean, Selected, select, show, stay_at
from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.windows import Region, check_image

#: Default time constant of the average over the frames, in seconds.
SMOOTHING = 1.0

#: The average begins again after a longer gap between two stamps, in seconds.
GAP = 2.0

#: Maximum numbers of neurons that each of the two metrics selects over all layers, and whose patches are shown.
SELECTED, SHOWN = 12, 6


@dataclass(frozen=True)
class LiveExplanation:
    """The live explanation of one frame.

    Attributes:
        explanation: The explanation. Scores are averages over frames; everything else is of this frame. The neurons are
            the strongest over all layers, at most SELECTED of each of the two metrics of influence.
        shown: The neurons whose patches are shown, by metric: the strongest at each place, at most SHOWN by each.
        output_mean: Output of the window, averaged in the same way as the scores.
        frames: Number of frames in the averages.
        smoothing: Time constant of the averages, in seconds; 0: the scores are those of this frame.
        track: Number of the person in the frames.
    """

    explanation: Explanation
    shown: dict[str, tuple[Neuron, ...]]
    output_mean: float
    frames: int
    smoothing: float
    track: int

    @property
    def drawn(self) -> Explanation:
        """The explanation with only the neurons whose patches are shown."""
        rankings = tuple(
            replace(ranking, neurons=tuple(n for n in ranking.neurons if self.shows(ranking.metric, n)))
            for ranking in self.explanation.rankings
        )
        return replace(self.explanation, rankings=rankings)

    def shows(self, metric: str, neuron: RankedNeuron) -> bool:
        """Return whether the patch of a neuron that a metric selected is shown."""
        return Neuron(neuron.layer, neuron.channel) in self.shown[metric]

    def strongest(self, metric: str) -> list[RankedNeuron]:
        """Return the neurons that a metric selected, the strongest first."""
        found = [n for ranking in self.explanation.rankings if ranking.metric == metric for n in ranking.neurons]
        return sorted(found, key=lambda neuron: -abs(neuron.score))

    def share(self, neuron: RankedNeuron) -> float:
        """Return the part of the margin that rests on a neuron: its score over the output, both averaged.

        It is negative for neurons that oppose the decision, and NaN if the averaged output argues for the other
        decision.
        """
        output = self.output_mean
        if self.explanation.settings.output == "probability":
            output -= 0.0 if self.explanation.person else 1.0
        if output == 0 or (output > 0) != self.explanation.person:
            return math.nan
        return neuron.score / output


class LiveExplainer:
    """Explains one frame after the other of one person.

    The influences are averaged over the frames, with weights that fall exponentially with the age; neurons are selected
    from the averages, and their patches are located in the current frame. The average begins again with another
    person, after a gap between the stamps and if the stamps jump back.

    Args:
        classifier: The classifier.
        settings: Settings of the explanations, in which the preset `live` replaces what it names; None for the preset
            alone.
        smoothing: Time constant of the averages, in seconds; 0: each frame is explained by itself.

    Attributes:
        requested: The settings as they were given.
        smoothing: Time constant of the averages, in seconds.

    Raises:
        ValueError: The settings name layers that the network does not have.
        TypeError: There is no adapter for this kind of network.
    """

    def __init__(
        self, classifier: WindowClassifier, settings: ExplainSettings | None = None, smoothing: float = SMOOTHING
    ) -> None:
        self.requested, self.smoothing = settings or ExplainSettings(), smoothing
        changes = PRESETS["live"] | {"perturbations_max": 0, "silencing_draws": 0}
        self._explainer = Explainer(classifier, replace(self.requested, **changes))
        self._memory: _Memory | None = None

    def reset(self) -> None:
        """Begin the average again with the next frame."""
        self._memory = None

    @torch.inference_mode()
    def explain(
        self, frame: NDArray[np.uint8], region: Region, stamp: int, track: int = 0, threshold: float | None = None
    ) -> LiveExplanation:
        """Explain the decision about a region of the next frame.

        Args:
            frame: uint8 [H, W, 3] RGB.
            region: The window that is explained, in pixels of the frame; its probability is not used.
            stamp: Stamp of the frame, in nanoseconds.
            track: Number of the person in the window, which stays the same from frame to frame.
            threshold: Threshold of the decision; None for that of the weights.

        Raises:
            ValueError: The frame is no image, or the region lies outside of it.
        """
        check_image(frame)
        explainer, start = self._explainer, time.perf_counter()
        threshold = explainer.threshold_of(threshold)
        memory = self._continued(track, stamp)
        with own_stream(explainer.stream):
            ranked = explainer.rank(explainer.window(frame, region), threshold)
            ranked, output_mean = self._average(ranked, memory)
            wanted = self._starts(ranked, memory)
            patches = locate(explainer.adapter, explainer.settings, ranked.clean, wanted.values())
            found = Findings(
                ranked.probability,
                ranked,
                {key: patches[start] for key, start in wanted.items() if start in patches},
                explainer.prove(ranked),
            )
            explanation = explainer.describe(found, region, (frame.shape[1], frame.shape[0]), threshold, {})
        memory.starts = wanted
        memory.shown = {name: _shown(name, found, memory) for name in (SUPPORTING, OPPOSING)}
        self._memory = memory
        explanation = replace(explanation, timings={"live": time.perf_counter() - start})
        return LiveExplanation(explanation, memory.shown, output_mean, memory.mean.count, self.smoothing, track)

    def _continued(self, track: int, stamp: int) -> _Memory:
        """Return the memory of the last frame if this one continues it, or else an empty one."""
        last = self._memory
        # If this frame fails, nothing of it is remembered.
        self._memory = None
        if not self.smoothing or last is None or last.track != track or not 0 <= stamp - last.stamp <= GAP * 1e9:
            return _Memory(track, stamp, RunningMean(self.smoothing))
        last.stamp = stamp
        return last

    def _average(self, ranked: RankedWindow, memory: _Memory) -> tuple[RankedWindow, float]:
        """Replace scores by their averages, and the selection by one from these. Also return the average output."""
        layers = self._explainer.settings.layers
        parts = [ranked.evidence.influences[layer].image.double() for layer in layers]
        # In one vector, so that the host waits for the device once.
        values = torch.cat([*parts, parts[0].new_tensor([ranked.output])]).cpu()
        *means, output = memory.mean.add(values, memory.stamp).split([*map(len, parts), 1])
        by_layer = dict(zip(layers, means, strict=True))
        scores = {(name, layer): by_layer[layer] for name, layer in ranked.scores}
        channels = select(ranked.evidence, scores, memory.starts, SELECTED)
        return replace(ranked, scores=scores, channels=channels), float(output)

    def _starts(self, ranked: RankedWindow, memory: _Memory) -> dict[Selected, Start]:
        """Return where the reconstructions of the selected neurons begin, near their last positions if possible."""
        settings, clean, person = self._explainer.settings, ranked.clean, ranked.evidence.person
        wanted: dict[Selected, Start] = {}
        for name in (SUPPORTING, OPPOSING):
            wanted |= {(name, n): s for n, s in starts(settings, clean, ranked.neurons_of(name), name, person).items()}
            if settings.deconvnet_start != "contribution":
                continue
            for layer, channels in ranked.of_metric(name).items():
                # The host waits for the device once for each layer.
                maps = clean.contributions[layer][channels].cpu() if channels else ()
                for channel, contributions in zip(channels, maps, strict=True):
                    key = name, Neuron(layer, channel)
                    last = memory.starts.get(key)
                    if last is None or last.position is None:
                        continue
                    toward = contributions if person == (name == SUPPORTING) else -contributions
                    if (position := stay_at(toward, last.position)) is not None:
                        wanted[key] = Start(key[1], position)
        return wanted


@dataclass
class _Memory:
    """The state that is carried from one frame to the next.

    Attributes:
        track: Number of the person.
        stamp: Stamp of the last frame, in nanoseconds.
        mean: Averages of the influences of all layers, and of the output.
        starts: Where the reconstructions of the selected neurons began.
        shown: The neurons whose patches were shown, by metric.
    """

    track: int
    stamp: int
    mean: RunningMean
    starts: dict[Selected, Start] = field(default_factory=dict)
    shown: dict[str, tuple[Neuron, ...]] = field(default_factory=dict)


def _shown(name: str, found: Findings, memory: _Memory) -> tuple[Neuron, ...]:
    """Choose the neurons of a metric whose patches are shown."""
    ranked = found.ranked
    strengths = {n: abs(float(ranked.scores[name, n.layer][n.channel])) for n in ranked.neurons_of(name)}
    patches = {n: found.patches[name, n] for n in strengths if (name, n) in found.patches}
    return show(strengths, patches, memory.shown.get(name, ()), SHOWN)
