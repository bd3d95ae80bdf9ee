"""The explanation, step by step: the only place that knows the order of the steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain_cnn_ros import importance
from explain_cnn_ros.classifier import BACKGROUND, PERSON, PersonClassifier, check_image
from explain_cnn_ros.deconvnet import Neuron
from explain_cnn_ros.deconvnet_crops import deconvolve_crops
from explain_cnn_ros.explanation import Explanation, LayerRanking, RankedNeuron
from explain_cnn_ros.importance import PERTURBATION_METRICS
from explain_cnn_ros.moments import Moments
from explain_cnn_ros.network import convolution_layers
from explain_cnn_ros.patches import Patch, bounding_boxes, to_frame
from explain_cnn_ros.perturbation import Perturbations
from explain_cnn_ros.scanning import Region, crop
from explain_cnn_ros.settings import ExplainSettings
from explain_cnn_ros.tracing import Trace, trace

__all__ = ["ExplainSettings", "Explainer", "Explanation"]

#: Perturbations that go through the network at a time; bounds the memory.
CHUNK = 16


class Explainer:
    """Explains a classifier's decisions; keeps no state between explanations, and leaves none in the network.

    Raises:
        ValueError: the settings ask for layers that the network does not have.
    """

    def __init__(self, classifier: PersonClassifier, settings: ExplainSettings | None = None) -> None:
        self.classifier = classifier
        self.settings = settings or ExplainSettings()
        self.layers = {layer.number: layer for layer in convolution_layers(classifier.network.features)}
        unknown = [layer for layer in self.settings.layers if layer not in self.layers]
        if unknown:
            raise ValueError(
                f"layers {unknown} do not exist: {classifier.info.architecture} has convolutions 1 to "
                f"{len(self.layers)}"
            )

    @torch.inference_mode()
    def explain(self, frame: NDArray[np.uint8], region: Region | None = None) -> Explanation:
        """Explain what the classifier says of a frame, uint8 [H, W, 3] RGB.

        Args:
            region: the window to explain, in frame pixels; its probability is not used. None: the whole frame.
        """
        check_image(frame)
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
            clean = self._trace(pixels, switches=True)
            moments = self._moments(pixels[0], clean)
        with _timed(timings, "metrics", self.classifier.device):
            scores, stability = self._scores(clean, moments)
            selected = {key: importance.rank(value, settings.top_n).tolist() for key, value in scores.items()}
        with _timed(timings, "deconvnet", self.classifier.device):
            patches = self._patches(clean, selected)
        probability = float(clean.logits.float().softmax(1)[0, PERSON])
        region = Region(region.x, region.y, region.width, region.height, probability)
        image_size = (frame.shape[1], frame.shape[0])

        def neuron(layer: int, channel: int, score: float) -> RankedNeuron:
            patch = patches.get(Neuron(layer, channel))
            return RankedNeuron(layer, channel, score, patch and to_frame(patch, size, region, image_size))

        rankings = []
        for (metric, layer), channels in selected.items():
            values = scores[metric, layer].double().cpu().numpy()
            stable = stability.get((metric, layer))
            rankings.append(
                LayerRanking(
                    metric,
                    layer,
                    self.layers[layer].name,
                    tuple(neuron(layer, channel, float(values[channel])) for channel in channels),
                    stable,
                    stable is not None and not stable >= settings.stability_target,
                    values,
                )
            )
        similarity, by_layer = self._set_similarity(selected)
        first = moments[settings.layers[0]]
        perturbed = bool(first.count.sum() > 0)
        return Explanation(
            region=region,
            image_size=image_size,
            threshold=self.classifier.threshold,
            settings=settings,
            output=float(first.output_shift),
            output_mean=float(first.output_mean) if perturbed else float("nan"),
            output_stddev=float(first.output_variance.sqrt()) if perturbed else float("nan"),
            rankings=tuple(rankings),
            set_similarity=similarity,
            set_similarity_by_layer=by_layer,
            timings=timings,
            model_hash=self.classifier.model_hash,
            device=str(self.classifier.device),
        )

    def _trace(self, pixels: Tensor, switches: bool = False) -> Trace:
        batch = self.classifier.normalise(pixels)
        return trace(self.classifier.network, batch, self.settings.layers, switches)

    def _output(self, logits: Tensor) -> Tensor:
        """The output o_i, [N]."""
        if self.settings.output == "probability":
            return logits.softmax(1)[:, PERSON]
        return logits[:, PERSON] - logits[:, BACKGROUND]

    def _moments(self, pixels: Tensor, clean: Trace) -> dict[int, Moments]:
        """Moments of every explained layer over the perturbations, in two halves; none where no metric needs them."""
        settings = self.settings
        output = self._output(clean.logits)[0]
        moments = {layer: Moments.zeros(clean.activations[layer][0], output) for layer in settings.layers}
        if not any(metric in PERTURBATION_METRICS for metric in settings.metrics):
            return moments
        copies = Perturbations(pixels, settings.sigma, settings.noise, settings.noise_length, settings.seed)
        for first in range(0, settings.perturbations, CHUNK):
            chunk = self._trace(copies.take(min(CHUNK, settings.perturbations - first)))
            outputs = self._output(chunk.logits)
            for layer in settings.layers:
                moments[layer].update(chunk.activations.pop(layer), outputs, first)
        return moments

    def _scores(
        self, clean: Trace, moments: dict[int, Moments]
    ) -> tuple[dict[tuple[str, int], Tensor], dict[tuple[str, int], float]]:
        """Scores [C] by (metric, layer), and the stability of those that come from perturbations."""
        scores: dict[tuple[str, int], Tensor] = {}
        stability: dict[tuple[str, int], float] = {}
        for metric in self.settings.metrics:
            for layer in self.settings.layers:
                scores[metric, layer] = self._score(metric, layer, clean, moments[layer])
                if metric in PERTURBATION_METRICS:
                    halves = [
                        set(importance.rank(self._score(metric, layer, clean, half), self.settings.top_n).tolist())
                        for half in (moments[layer].group(0), moments[layer].group(1))
                    ]
                    stability[metric, layer] = importance.jaccard(halves[0], halves[1])
        return scores, stability

    def _score(self, metric: str, layer: int, clean: Trace, moments: Moments) -> Tensor:
        settings = self.settings
        if metric == "activation_output_correlation":
            return importance.activation_output_correlation(moments, settings.live_share_min)
        if metric == "activation_precision":
            return importance.activation_precision(moments, settings.precision_lambda)
        if metric in ("activation_sum", "activation_variance"):
            return _BY_ACTIVATION[metric](clean.activations[layer][0])
        return _BY_WEIGHTS[metric](importance.outgoing_weights(self.classifier.network, layer))

    def _patches(self, clean: Trace, selected: dict[tuple[str, int], list[int]]) -> dict[Neuron, Patch]:
        """The patch in the window of each selected neuron that has one; each neuron once."""
        neurons = sorted({Neuron(layer, channel) for (_, layer), channels in selected.items() for channel in channels})
        patches: dict[Neuron, Patch] = {}
        for part in deconvolve_crops(
            self.classifier.network.features,
            {layer: activation[0] for layer, activation in clean.activations.items()},
            {index: (indices[0], size) for index, (indices, size) in clean.switches.items()},
            neurons,
        ):
            boxes = bounding_boxes(part.pixels, self.settings.patch_share)
            for neuron, box, top, left in zip(
                part.neurons, boxes, part.tops.tolist(), part.lefts.tolist(), strict=True
            ):
                if box is not None:
                    patches[neuron] = Patch(box.x + left, box.y + top, box.width, box.height)
        return patches

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


_BY_ACTIVATION = {
    "activation_sum": importance.activation_sum,
    "activation_variance": importance.activation_variance,
}
_BY_WEIGHTS = {"weight_sum": importance.weight_sum, "weight_variance": importance.weight_variance}


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
        torch.cuda.synchronize(device)
    timings[step] = time.perf_counter() - start
