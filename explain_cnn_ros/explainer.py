"""The explanation, step by step: the only place that knows the order of the steps."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain_cnn_ros import importance
from explain_cnn_ros.arithmetic import resolve
from explain_cnn_ros.classifier import BACKGROUND, PERSON, PersonClassifier, check_image
from explain_cnn_ros.deconvnet import Neuron, Reconstructions, deconvolve
from explain_cnn_ros.deconvnet_crops import deconvolve_crops
from explain_cnn_ros.explanation import Explanation, LayerRanking, RankedNeuron, Silencing
from explain_cnn_ros.importance import PERTURBATION_METRICS
from explain_cnn_ros.network import convolution_layers
from explain_cnn_ros.patches import Patch, bounding_boxes, to_frame
from explain_cnn_ros.ranking import Evidence, weight_scores
from explain_cnn_ros.regions import Region, crop
from explain_cnn_ros.sampling import Sampler
from explain_cnn_ros.settings import ExplainSettings
from explain_cnn_ros.silencing import draw_channels, in_batches
from explain_cnn_ros.tracing import Trace

__all__ = ["ExplainSettings", "Explainer", "Explanation", "ExplanationCancelledError"]

#: Factor by which the perturbations grow from one look at the stability to the next.
GROWTH = 1.5


class ExplanationCancelledError(Exception):
    """An explanation was given up, because its caller said so."""


class Explainer:
    """Explains a classifier's decisions; keeps no state between explanations, and leaves none in the network.

    Any VGG is explained, 11 to 19; batch norm is folded into the convolutions first. Weights are those of the moment
    when the explainer is made.

    Attributes:
        asked: the settings as they were given.
        settings: the same, with the arithmetic that "auto" stands for.

    Raises:
        ValueError: the settings ask for layers that the network does not have.
    """

    def __init__(self, classifier: PersonClassifier, settings: ExplainSettings | None = None) -> None:
        self.classifier = classifier.without_batch_norm()
        self.layers = {layer.number: layer for layer in convolution_layers(self.classifier.network.features)}
        self.asked = settings or ExplainSettings()
        unknown = [layer for layer in self.asked.layers if layer not in self.layers]
        if unknown:
            raise ValueError(
                f"layers {unknown} do not exist: {classifier.info.architecture} has convolutions 1 to "
                f"{len(self.layers)}"
            )
        device = self.classifier.device
        self.settings = replace(self.asked, arithmetic=resolve(self.asked.arithmetic, device, self.asked.sigma))
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        # What takes time once, now: explanations begin at once.
        self.classifier.prepared(self.settings.arithmetic)
        with torch.inference_mode():
            self._weight_scores = weight_scores(self.classifier.network, self.settings)

    @torch.inference_mode()
    def explain(
        self,
        frame: NDArray[np.uint8],
        region: Region | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Explanation:
        """Explain what the classifier says of a frame, uint8 [H, W, 3] RGB.

        On a GPU, it runs on a stream of its own.

        Args:
            region: the window to explain, in frame pixels; its probability is not used. None: the whole frame.
            cancelled: asked between passes, several times a second; once it says True, the explanation is given up.

        Raises:
            ValueError: the frame is no image, or the region lies outside of it.
            ExplanationCancelledError: `cancelled` said so.
        """
        check_image(frame)

        def check() -> None:
            if cancelled():
                raise ExplanationCancelledError("the explanation was cancelled")

        with own_stream(self._stream):
            return self._explain(frame, region, check)

    def _explain(self, frame: NDArray[np.uint8], region: Region | None, check: Callable[[], None]) -> Explanation:
        timings: dict[str, float] = {}
        settings, size = self.settings, self.classifier.info.input_size
        with _timed(timings, "window", self.classifier.device):
            if region is None:
                region = Region(0, 0, frame.shape[1], frame.shape[0], float("nan"))
                window = self.classifier.resize(frame)
            else:
                _check_region(region, frame)
                window = crop(frame, region.x, region.y, region.width, region.height, size)
            pixels = self.classifier.to_pixels(window[None])
        with _timed(timings, "network", self.classifier.device):
            sampler = self.sampler(pixels, check)
            sampler.run(settings.perturbations if self._perturbed else 0)
        with _timed(timings, "metrics", self.classifier.device):
            evidence = self._evidence(sampler)
            stability = self._stability(evidence)
        if settings.perturbations_max and self._perturbed:
            with _timed(timings, "further sampling", self.classifier.device):
                stability = self._sample_on(sampler, evidence, stability)
        with _timed(timings, "ranking", self.classifier.device):
            scores = {
                key: self._weight_scores[key] if key in self._weight_scores else evidence.score(*key)
                for key in itertools.product(settings.metrics, settings.layers)
            }
            selected = {key: importance.rank(value, settings.top_n).tolist() for key, value in scores.items()}
            half_widths = {
                key: evidence.interval_half_widths(*key, channels).tolist() for key, channels in selected.items()
            }
        with _timed(timings, "deconvnet", self.classifier.device):
            check()
            chosen = {Neuron(layer, channel) for (_, layer), channels in selected.items() for channel in channels}
            patches = self._patches(sampler.clean, chosen)
        silencing: tuple[Silencing, ...] = ()
        if settings.silencing_draws:
            with _timed(timings, "silencing", self.classifier.device):
                silencing = self._silence(pixels, evidence, selected, check)
        probability = float(sampler.clean.logits.softmax(1)[0, PERSON])
        region = Region(region.x, region.y, region.width, region.height, probability)
        image_size = (frame.shape[1], frame.shape[0])

        def neuron(layer: int, channel: int, score: float, half_width: float) -> RankedNeuron:
            patch = patches.get(Neuron(layer, channel))
            in_frame = patch and to_frame(patch, size, region, image_size)
            interval = None if math.isnan(half_width) else (score - half_width, score + half_width)
            return RankedNeuron(layer, channel, score, in_frame, interval)

        rankings = []
        for (metric, layer), channels in selected.items():
            values = scores[metric, layer].double().cpu().numpy()
            stable = stability.get((metric, layer))
            rankings.append(
                LayerRanking(
                    metric,
                    layer,
                    self.layers[layer].name,
                    tuple(
                        neuron(layer, channel, float(values[channel]), half_width)
                        for channel, half_width in zip(channels, half_widths[metric, layer], strict=True)
                    ),
                    stable,
                    stable is not None and not stable >= settings.stability_target,
                    values,
                )
            )
        similarity, by_layer = self._set_similarity(selected)
        first = sampler.moments[settings.layers[0]]
        return Explanation(
            region=region,
            image_size=image_size,
            threshold=self.classifier.threshold,
            settings=settings,
            perturbations=sampler.taken,
            output=float(first.output_shift),
            output_mean=float(first.output_mean) if sampler.taken else float("nan"),
            output_stddev=float(first.output_variance.sqrt()) if sampler.taken else float("nan"),
            rankings=tuple(rankings),
            set_similarity=similarity,
            set_similarity_by_layer=by_layer,
            timings=timings,
            model_hash=self.classifier.model_hash,
            device=str(self.classifier.device),
            silencing=silencing,
        )

    @torch.inference_mode()
    def patches(self, window: NDArray[np.uint8], neurons: Collection[Neuron]) -> dict[Neuron, Patch]:
        """The patches of any neurons of the explained layers in a window; those that are dead have none.

        Args:
            window: uint8 [128, 64, 3] RGB, of the classifier's size.
        """
        sampler = self.sampler(self.classifier.to_pixels(window[None]))
        sampler.run(0)
        return self._patches(sampler.clean, set(neurons))

    def sampler(self, pixels: Tensor, before_pass: Callable[[], None] = lambda: None) -> Sampler:
        """Of the perturbed copies of one window, [1, 3, H, W], values of [0, 255], as the settings ask for them."""
        return Sampler(self.classifier, self.settings, pixels, before_pass)

    @property
    def _perturbed(self) -> bool:
        """Whether any metric that was asked for needs perturbations."""
        return any(metric in PERTURBATION_METRICS for metric in self.settings.metrics)

    def _evidence(self, sampler: Sampler) -> Evidence:
        activations = {layer: activation[0] for layer, activation in sampler.clean.activations.items()}
        return Evidence(self.settings, activations, sampler.moments)

    def _stability(self, evidence: Evidence) -> dict[tuple[str, int], float]:
        """By metric and layer, of the rankings that come from perturbations."""
        return {
            (metric, layer): evidence.stability(metric, layer)
            for metric in self.settings.metrics
            if metric in PERTURBATION_METRICS
            for layer in self.settings.layers
        }

    def _sample_on(
        self, sampler: Sampler, evidence: Evidence, stability: dict[tuple[str, int], float]
    ) -> dict[tuple[str, int], float]:
        """More perturbations until all rankings are stable, or the budget is spent; the stability then."""
        settings, start = self.settings, time.perf_counter()
        while sampler.taken < settings.perturbations_max:
            # NaN: nothing varies, and more of it will not.
            if not any(value < settings.stability_target for value in stability.values()):
                break
            if settings.seconds_max and time.perf_counter() - start >= settings.seconds_max:
                break
            sampler.run(min(math.ceil(sampler.taken * GROWTH), settings.perturbations_max))
            stability = self._stability(evidence)
        return stability

    def _patches(self, clean: Trace, chosen: Collection[Neuron]) -> dict[Neuron, Patch]:
        """The patch in the window of each neuron that has one."""
        neurons = sorted(chosen)
        if not neurons:
            return {}
        settings, features = self.settings, self.classifier.network.features
        activations = {layer: activation[0].relu() for layer, activation in clean.activations.items()}
        if settings.deconvnet == "deconvnet" and settings.deconvnet_start == "strongest":
            parts = deconvolve_crops(features, activations, clean.switches, neurons)
        else:
            whole_maps = settings.deconvnet_start == "map"
            rectified = clean.rectified if settings.deconvnet == "guided" else None
            pixels = deconvolve(
                features, activations, clean.switches, neurons, whole_maps=whole_maps, rectified=rectified
            )
            parts = [Reconstructions.whole(neurons, pixels)]
        patches: dict[Neuron, Patch] = {}
        for part in parts:
            boxes = bounding_boxes(part.pixels, settings.patch_share)
            for neuron, box, top, left in zip(
                part.neurons, boxes, part.tops.tolist(), part.lefts.tolist(), strict=True
            ):
                if box is not None:
                    patches[neuron] = Patch(box.x + left, box.y + top, box.width, box.height)
        return patches

    def _silence(
        self,
        pixels: Tensor,
        evidence: Evidence,
        selected: dict[tuple[str, int], list[int]],
        check: Callable[[], None],
    ) -> tuple[Silencing, ...]:
        """What the decision becomes without each metric's neurons, and without random ones."""
        settings, results = self.settings, []
        window = self.classifier.normalise(pixels)
        for metric in settings.metrics:
            check()
            chosen = {layer: selected[metric, layer] for layer in settings.layers}
            # The same draws for all metrics that select as many.
            sets = [chosen]
            for draw in range(settings.silencing_draws):
                sets.append(draw_channels(evidence.activations, chosen, np.random.default_rng((settings.seed, draw))))
            logits = in_batches(self.classifier.network, window, sets)
            outputs = (logits[:, PERSON] - logits[:, BACKGROUND]).tolist()
            probabilities = logits.softmax(1)[:, PERSON].tolist()
            results.append(
                Silencing(
                    metric,
                    sum(len(channels) for channels in chosen.values()),
                    probabilities[0],
                    outputs[0],
                    tuple(probabilities[1:]),
                    tuple(outputs[1:]),
                )
            )
        return tuple(results)

    def _set_similarity(self, selected: dict[tuple[str, int], list[int]]) -> tuple[float, dict[int, float]]:
        """Jaccard index of what the two perturbation metrics select: over all layers, and by layer."""
        layers = self.settings.layers
        if not all(metric in self.settings.metrics for metric in PERTURBATION_METRICS):
            return float("nan"), {}
        sets = [
            {(layer, channel) for layer in layers for channel in selected[metric, layer]}
            for metric in PERTURBATION_METRICS
        ]
        by_layer = {
            layer: importance.jaccard(*({n for n in chosen if n[0] == layer} for chosen in sets)) for layer in layers
        }
        return importance.jaccard(*sets), by_layer


def _check_region(region: Region, frame: NDArray[np.uint8]) -> None:
    height, width = frame.shape[:2]
    if region.width <= 0 or region.height <= 0:
        raise ValueError(f"the region is {region.width} x {region.height} pixels: both must be above 0")
    if region.x >= width or region.y >= height or region.x + region.width <= 0 or region.y + region.height <= 0:
        raise ValueError(
            f"the region at ({region.x}, {region.y}), {region.width} x {region.height} pixels, lies outside of the "
            f"frame of {width} x {height} pixels"
        )


@contextmanager
def _timed(timings: dict[str, float], step: str, device: torch.device) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    timings[step] = time.perf_counter() - start


@contextmanager
def own_stream(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Run the body on a stream, after what is queued on the current one; None is for CPUs.

    What is queued afterwards does not wait: what leaves the body must have left the GPU.
    """
    if stream is None:
        yield
        return
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        yield
