"""The explainer: the stages rank, locate and silence, and their composition into an explanation."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from explain_cnn_ros.explain.adapters import adapt, batch, not_batched
from explain_cnn_ros.explain.evidence import weight_scores
from explain_cnn_ros.explain.explanation import Explanation, LayerRanking, RankedNeuron, Silencing
from explain_cnn_ros.explain.findings import Finder, Findings
from explain_cnn_ros.explain.locating import locate, starts
from explain_cnn_ros.explain.network_adapter import PERSON, Channels, Neuron
from explain_cnn_ros.explain.patches import Patch, to_frame
from explain_cnn_ros.explain.proof import Proofs, prove
from explain_cnn_ros.explain.ranking import RankedWindow, Ranker, TracedWindow
from explain_cnn_ros.explain.settings import DEFAULT_LAYERS, ExplainSettings
from explain_cnn_ros.explain.silencing import SilencedOutputs, draw_unselected, silence
from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.precision import resolve
from explain_cnn_ros.model.windows import Region, check_image, crop

Window = NDArray[np.uint8]


class ExplanationCancelledError(Exception):
    """The caller cancelled an explanation."""


class Explainer:
    """Explains the decisions of a classifier.

    It keeps no results between explanations and leaves no state in the network. The weights are those at the time when
    the explainer is created; create another one after they have changed. Each stage can be used alone: `rank` a window,
    `locate` neurons in it, `silence` neurons of it. `explain` composes them for a region of a frame.

    Args:
        classifier: The classifier.
        settings: Settings of the explanations; None for the defaults.
        batched: Whether `explain` computes everything in few large operations, with one wait for the device. It is for
            GPUs, and was not tried on one yet. The results are the same, except for rounding.

    Attributes:
        adapter: Adapter of the network.
        classifier: The classifier that is explained; batch norm is folded into its convolutions.
        requested: The settings as they were given.
        settings: The settings in force, with the precision that "auto" stands for, and the numbers of the layers.
        target: Names of the classes that the explanations are about, separated by commas; "person" for those that count
            as a person.
        stream: CUDA stream of the explanations; None on a CPU. The stages run on the current stream.

    Raises:
        ValueError: The settings name layers or classes that the network does not have, or `batched` is True and they
            do not allow it.
        TypeError: The method does not suit this kind of network.
    """

    def __init__(
        self, classifier: WindowClassifier, settings: ExplainSettings | None = None, batched: bool = False
    ) -> None:
        self.adapter = adapt(classifier)
        self.classifier = self.adapter.classifier
        self.requested = settings or ExplainSettings()
        device, requested = self.classifier.device, self.requested
        precision = resolve(requested.compute_precision, device, requested.sigma, self.classifier.precisions)
        self.target = self.adapter.aim(requested.target)
        self.settings = replace(requested, compute_precision=precision, layers=self._layers(requested), layer_names="")
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        # This takes time once; the explanations then start without delay.
        self.adapter.prepare(precision)
        with torch.inference_mode():
            self._weight_scores = weight_scores(self.adapter, self.settings)
        reason = not_batched(self.adapter, self.settings)
        if batched and reason:
            raise ValueError(f"explanations in few large operations do not support {reason}: set batched to False")
        self._batches = batched
        self._batched: Finder | None = None

    def threshold_of(self, threshold: float | None) -> float:
        """Return the threshold of the shown decision: that of P(person), or 0.5 for other classes."""
        if self.target != PERSON:
            return 0.5
        return self.classifier.threshold if threshold is None else threshold

    def check(self, settings: ExplainSettings) -> None:
        """Check that the network has the layers and classes that other settings name.

        Raises:
            ValueError: It does not. The message names the setting, and what the network has.
        """
        self._layers(settings)
        self.adapter.targets(settings.target)

    def _layers(self, settings: ExplainSettings) -> tuple[int, ...]:
        """Return the numbers of the layers that settings name."""
        adapter = self.adapter
        if settings.layer_names:
            return adapter.layers_named(settings.layer_names)
        if settings.layers == DEFAULT_LAYERS:
            return adapter.default_layers
        unknown = [layer for layer in settings.layers if layer not in adapter.layers]
        if unknown:
            raise ValueError(
                f"layers {unknown} do not exist: {self.classifier.info.architecture} has convolutions 1 to "
                f"{len(adapter.layers)}"
            )
        return settings.layers

    # The stages.

    def window(self, frame: NDArray[np.uint8], region: Region) -> Window:
        """Return the window of a region: uint8 [128, 64, 3] RGB, of the classifier's size.

        Args:
            frame: uint8 [H, W, 3] RGB.
            region: The region, in pixels of the frame. A region that is the whole frame is resized.

        Raises:
            ValueError: The region lies outside of the frame.
        """
        if region.covers((frame.shape[1], frame.shape[0])):
            return self.classifier.resize(frame)
        _check_region(region, frame)
        window: Window = crop(frame, region.x, region.y, region.width, region.height, self.classifier.info.input_size)
        return window

    @torch.inference_mode()
    def trace(self, window: Window) -> TracedWindow:
        """Pass a window through the network once, for `locate` and `silence` without a ranking.

        Args:
            window: uint8 [128, 64, 3] RGB, of the classifier's size.
        """
        pixels = self.classifier.to_pixels(window[None])
        settings = self.settings
        clean = self.adapter.trace(
            pixels,
            settings.layers,
            precision=settings.compute_precision,
            pre_relu=settings.activation == "pre_relu",
            record=settings.deconvnet,
        )
        return TracedWindow(pixels, clean)

    @torch.inference_mode()
    def rank(self, window: Window, threshold: float | None = None) -> RankedWindow:
        """Rank the neurons of a window: the first stage.

        Args:
            window: uint8 [128, 64, 3] RGB, of the classifier's size.
            threshold: Threshold of the decision; None for that of the weights.
        """
        ranker = self._ranker(window, threshold)
        ranker.sample()
        return ranker.rank()

    def rank_at(self, window: Window, counts: Sequence[int], threshold: float | None = None) -> list[RankedWindow]:
        """Rank the neurons of a window after each of several growing numbers of perturbations.

        Args:
            window: uint8 [128, 64, 3] RGB, of the classifier's size.
            counts: Numbers of perturbations, ascending.
            threshold: Threshold of the decision; None for that of the weights.
        """
        with torch.inference_mode():
            return list(self._ranker(window, threshold).rank_at(counts))

    @torch.inference_mode()
    def locate(self, window: TracedWindow, neurons: Collection[Neuron]) -> dict[Neuron, Patch]:
        """Compute the patches of any neurons in a traced or ranked window, from their strongest activations.

        Args:
            window: The window.
            neurons: Neurons of the explained layers.

        Returns:
            The patch of each neuron, in pixels of the window. Dead neurons have none.
        """
        wanted = starts(self.settings, window.clean, list(neurons))
        patches = locate(self.adapter, self.settings, window.clean, wanted.values())
        return {neuron: patches[start] for neuron, start in wanted.items() if start in patches}

    @torch.inference_mode()
    def locate_selected(self, ranked: RankedWindow) -> dict[tuple[str, Neuron], Patch]:
        """Compute the patches of the neurons that each metric selected: the second stage.

        Neurons that influence selected begin at the position that contributes most, unless the settings say otherwise.

        Args:
            ranked: The ranked window.

        Returns:
            The patch of each metric's neurons, in pixels of the window. Dead neurons have none.
        """
        wanted = {
            (name, neuron): start
            for name in self.settings.metrics
            for neuron, start in starts(
                self.settings, ranked.clean, ranked.neurons_of(name), name, ranked.evidence.person
            ).items()
        }
        patches = locate(self.adapter, self.settings, ranked.clean, wanted.values())
        return {key: patches[start] for key, start in wanted.items() if start in patches}

    @torch.inference_mode()
    def silence(
        self, window: TracedWindow, silenced: Sequence[Channels], values: Mapping[int, torch.Tensor] | None = None
    ) -> SilencedOutputs:
        """Compute the network's answers for a window with neurons silenced: the third stage.

        Args:
            window: A traced or ranked window.
            silenced: Sets of neurons, as channels by layer. Each set is silenced in a pass of its own.
            values: Values by layer, [C], to which activations are set, for instance their means; None for zero.
        """
        return silence(self.adapter, window.pixels, silenced, self.settings.compute_precision, values)

    @torch.inference_mode()
    def prove(self, ranked: RankedWindow) -> Proofs:
        """Silence the neurons that influence selected, each by itself and all at once.

        Args:
            ranked: The ranked window.
        """
        return prove(self.adapter, self.settings, ranked)

    # Their composition.

    @torch.inference_mode()
    def explain(
        self,
        frame: NDArray[np.uint8],
        region: Region | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        threshold: float | None = None,
    ) -> Explanation:
        """Explain the decision about a region of a frame. On a GPU, the work is done on a stream of its own.

        Args:
            frame: uint8 [H, W, 3] RGB.
            region: The window that is explained, in pixels of the frame; its probability is not used. None, or a
                region that is the whole frame: the frame is resized to a window.
            cancelled: Called between passes, several times a second; the explanation ends if it returns True.
            threshold: Threshold of the decision; None for that of the weights. It is not used for other classes than
                those that count as a person, whose threshold is 0.5.

        Raises:
            ValueError: The frame is no image, or the region lies outside of it.
            ExplanationCancelledError: `cancelled` returned True.
        """
        check_image(frame)

        def check() -> None:
            if cancelled():
                raise ExplanationCancelledError("the explanation was cancelled")

        # Autocast around the call would round the perturbations and the moments.
        with own_stream(self.stream), torch.autocast(self.classifier.device.type, enabled=False):
            return self._explain(frame, region, check, self.threshold_of(threshold))

    def _explain(
        self, frame: NDArray[np.uint8], region: Region | None, check: Callable[[], None], threshold: float
    ) -> Explanation:
        timings: dict[str, float] = {}
        image_size = (frame.shape[1], frame.shape[0])
        with _timed(timings, "window"):
            region = region or Region(0, 0, *image_size, float("nan"))
            window = self.window(frame, region)
        found = self._find_batched(window, threshold, check, timings)
        if found is None:
            found = self._find(window, threshold, check, timings)
        return self.describe(found, region, image_size, threshold, timings)

    def describe(
        self,
        found: Findings,
        region: Region,
        image_size: tuple[int, int],
        threshold: float,
        timings: Mapping[str, float],
    ) -> Explanation:
        """Return the explanation that the results of the stages make: the last step of `explain`.

        Args:
            found: The results of all stages.
            region: The explained region; its probability is not used.
            image_size: Size (width, height) of the frame, in pixels.
            threshold: Threshold of the decision.
            timings: Seconds of each step, in order.
        """
        ranked = found.ranked
        region = replace(region, probability=found.probability)
        similarity, by_layer = ranked.set_similarity()
        return Explanation(
            region=region,
            image_size=image_size,
            threshold=threshold,
            settings=self.settings,
            perturbations=ranked.perturbations,
            output=ranked.output,
            output_mean=ranked.output_mean,
            output_stddev=ranked.output_stddev,
            rankings=self._rankings(found, region, image_size),
            set_similarity=similarity,
            set_similarity_by_layer=by_layer,
            timings=dict(timings),
            model_hash=self.classifier.model_hash,
            device=str(self.classifier.device),
            target=self.target,
            silencing=found.silencing,
            proofs=found.proofs.by_metric,
        )

    def _find(self, window: Window, threshold: float, check: Callable[[], None], timings: dict[str, float]) -> Findings:
        """Compute all stages one after the other."""
        settings, device = self.settings, self.classifier.device
        with _timed(timings, "network", device):
            ranker = self._ranker(window, threshold, check)
            ranker.sample()
        with _timed(timings, "metrics", device):
            stability = ranker.stability()
        if settings.perturbations_max and stability:
            with _timed(timings, "further sampling", device):
                stability = ranker.sample_until_stable(stability)
        with _timed(timings, "ranking", device):
            ranked = ranker.rank(stability)
            half_widths = {
                key: ranked.evidence.interval_half_widths(*key, top).tolist() for key, top in ranked.channels.items()
            }
        with _timed(timings, "deconvnet", device):
            check()
            patches = self.locate_selected(ranked)
        with _timed(timings, "proof", device):
            proofs = prove(self.adapter, settings, ranked, check)
        silencing: tuple[Silencing, ...] = ()
        if settings.silencing_draws:
            with _timed(timings, "silencing", device):
                silencing = self._silencing(ranked, check)
        return Findings(ranked.probability, ranked, patches, proofs, half_widths, silencing)

    def _find_batched(
        self, window: Window, threshold: float, check: Callable[[], None], timings: dict[str, float]
    ) -> Findings | None:
        """Compute all stages in few large operations; None if the device or the settings do not allow it."""
        if not self._batches:
            return None
        check()
        try:
            with _timed(timings, "explanation"):
                pixels = self.classifier.to_pixels(window[None])
                if self._batched is None:
                    self._batched = batch(self.adapter, self.settings, self._weight_scores, pixels)
                return self._batched.explain(pixels, threshold)
        except (MemoryError, torch.OutOfMemoryError) as error:
            logging.getLogger(__name__).warning("explanations are computed in parts, which is slower: %s", error)
            self._batches, self._batched = False, None
            return None

    def _ranker(
        self, window: Window, threshold: float | None, before_pass: Callable[[], None] = lambda: None
    ) -> Ranker:
        pixels = self.classifier.to_pixels(window[None])
        of_target = self.threshold_of(threshold)
        return Ranker(self.adapter, self.settings, self._weight_scores, pixels, of_target, before_pass)

    def _rankings(self, found: Findings, region: Region, image_size: tuple[int, int]) -> tuple[LayerRanking, ...]:
        """Describe what was selected, with the patches in pixels of the frame."""
        size, ranked = self.classifier.info.input_size, found.ranked

        def describe(name: str, neuron: Neuron, score: float, half_width: float) -> RankedNeuron:
            patch = found.patches.get((name, neuron))
            in_frame = patch and to_frame(patch, size, region, image_size)
            interval = None if math.isnan(half_width) else (score - half_width, score + half_width)
            silenced = found.proofs.silenced.get((name, neuron))
            return RankedNeuron(neuron.layer, neuron.channel, score, in_frame, interval, silenced)

        rankings = []
        for (name, layer), channels in ranked.channels.items():
            values = ranked.scores[name, layer].double().cpu().numpy()
            stability = ranked.stability.get((name, layer))
            half_widths = found.half_widths.get((name, layer), [math.nan] * len(channels))
            neurons = tuple(
                describe(name, Neuron(layer, channel), float(values[channel]), half_width)
                for channel, half_width in zip(channels, half_widths, strict=True)
            )
            unstable = stability is not None and not stability >= self.settings.stability_target
            layer_name = self.adapter.layers[layer].name
            rankings.append(LayerRanking(name, layer, layer_name, neurons, stability, unstable, values))
        return tuple(rankings)

    def _silencing(self, ranked: RankedWindow, check: Callable[[], None]) -> tuple[Silencing, ...]:
        """Silence each metric's neurons, and random ones for comparison."""
        settings, results = self.settings, []
        for name in settings.metrics:
            check()
            selected = ranked.of_metric(name)
            # The draws are the same for all metrics that select the same number of neurons.
            draws = [
                draw_unselected(ranked.evidence.activations, selected, np.random.default_rng((settings.seed, draw)))
                for draw in range(settings.silencing_draws)
            ]
            answers = self.silence(ranked, [selected, *draws])
            results.append(
                Silencing(
                    name,
                    sum(len(channels) for channels in selected.values()),
                    answers.probabilities[0],
                    answers.outputs[0],
                    tuple(answers.probabilities[1:]),
                    tuple(answers.outputs[1:]),
                )
            )
        return tuple(results)


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
def _timed(timings: dict[str, float], step: str, device: torch.device | None = None) -> Iterator[None]:
    """Measure the duration of the body, and of the work that it started on a CUDA device, if one is given."""
    start = time.perf_counter()
    yield
    if device is not None and device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    timings[step] = time.perf_counter() - start


@contextmanager
def own_stream(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Run the body on a CUDA stream, after the work that is queued on the current one.

    Work that is queued afterwards does not wait, so results must have left the GPU when the body ends.

    Args:
        stream: The stream; None on a CPU, where the body simply runs.
    """
    if stream is None:
        yield
        return
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        yield
