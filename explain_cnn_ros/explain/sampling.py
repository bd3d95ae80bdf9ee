"""Passes of a window and of its perturbed copies through the network, in bounded memory.

Only what an explanation needs is kept: a trace of the window itself, and the moments of the explained layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from explain_cnn_ros.explain.influences import Influences
from explain_cnn_ros.explain.metrics.registry import Reads, metric
from explain_cnn_ros.explain.moments import Moments
from explain_cnn_ros.explain.network_adapter import NetworkAdapter, Trace
from explain_cnn_ros.explain.perturbation import Perturbations
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.device import free_memory

#: Maximum number of pixels in one pass: 13 windows of 64 x 128 on a CPU. More are no faster. On a CPU they exceed the
#: caches, and the system hands out maps of more than 32 MB page by page.
CHUNK_PIXELS = {"cpu": 110_000, "cuda": 1_000_000}

#: Share of the free memory that a chunk may take.
MEMORY_SHARE = 0.25


class Sampler:
    """Samples the perturbations of one window, as many as are requested.

    Args:
        adapter: Adapter of the network.
        settings: Settings of the explanation.
        pixels: The window, [1, 3, H, W], values in [0, 255].
        before_pass: Called before each pass; an exception that it raises ends the run.

    Attributes:
        clean: Trace of the unperturbed window, with activations [1, C, R, C'].
        moments: Moments of each explained layer over the perturbations until now. They cover no neurons if no requested
            metric reads them.
        influences: Influences of each explained layer; empty if no requested metric reads gradients.
        taken: Number of perturbations until now.
        chunk: Number of windows in one pass. It is halved if the device runs out of memory.
    """

    def __init__(
        self,
        adapter: NetworkAdapter,
        settings: ExplainSettings,
        pixels: Tensor,
        before_pass: Callable[[], None] = lambda: None,
    ) -> None:
        self._before_pass = before_pass
        self._adapter, self._settings, self._pixels = adapter, settings, pixels
        self._copies = Perturbations(
            pixels[0],
            settings.sigma,
            settings.noise,
            settings.noise_length,
            settings.seed,
            adapter.classifier.info.mean,
        )
        reads = {metric(name).reads for name in settings.metrics}
        self._gradients = settings.output if Reads.GRADIENTS in reads else ""
        self._of_activations = Reads.PERTURBATIONS in reads
        self.chunk = chunk_size(pixels, bool(self._gradients))
        self.taken = 0
        self.clean: Trace
        self.moments: dict[int, Moments]
        self.influences: dict[int, Influences]

    def run(self, perturbations: int) -> None:
        """Continue until there are at least `perturbations`. The first call also passes the unperturbed window.

        Noise in blocks is balanced over whole blocks only, and each half of the perturbations needs whole blocks, so
        the number is rounded up to pairs of blocks.
        """
        perturbations = self._copies.whole(perturbations)
        if not hasattr(self, "clean"):
            count = min(self.chunk - 1, perturbations)
            batch = torch.cat([self._pixels, self._copies.take(count)]) if count else self._pixels
            self._begin(batch)
        while self.taken < perturbations:
            self._add(self._copies.take(min(self.chunk, perturbations - self.taken)))

    def _output(self, logits: Tensor) -> Tensor:
        return self._adapter.output(logits, self._settings.output)

    def _begin(self, batch: Tensor) -> None:
        """Pass the unperturbed window and the first perturbations behind it."""
        while True:
            try:
                passed = self._pass(batch[: self.chunk], record=self._settings.deconvnet)
                break
            except RuntimeError as error:
                self._halve(error)
        activations = {layer: a[:1].clone() for layer, a in passed.activations.items()}
        influences = {layer: i[:1] for layer, i in passed.influences.items()}
        self.clean = dataclasses.replace(
            passed, logits=passed.logits[:1], activations=activations, influences=influences
        )
        shift = self._output(self.clean.logits)[0]
        groups, block = self._settings.perturbation_groups, self._copies.block
        self.moments = {
            layer: Moments.zeros(self._moments_of(a)[0], shift, groups, block) for layer, a in activations.items()
        }
        self.influences = {layer: Influences.zeros(i[0], groups, block) for layer, i in influences.items()}
        self._update(passed, first=1)
        rest = batch[self.chunk :]
        if len(rest):
            self._add(rest)

    def _add(self, batch: Tensor) -> None:
        """Pass perturbations, in as many chunks as they need."""
        start = 0
        while start < len(batch):
            try:
                passed = self._pass(batch[start : start + self.chunk])
            except RuntimeError as error:
                self._halve(error)
                continue
            self._update(passed)
            start += len(passed.logits)

    def _pass(self, batch: Tensor, record: str = "") -> Trace:
        self._before_pass()
        settings = self._settings
        return self._adapter.trace(
            batch,
            settings.layers,
            precision=settings.compute_precision,
            pre_relu=settings.activation == "pre_relu",
            record=record,
            gradients=self._gradients,
        )

    def _moments_of(self, activations: Tensor) -> Tensor:
        """Return the activations whose moments are computed: all, or those of no neuron."""
        return activations if self._of_activations else activations[:, :0]

    def _update(self, passed: Trace, first: int = 0) -> None:
        """Add the windows of a pass to the sums, from the window `first`."""
        outputs = self._output(passed.logits[first:])
        for layer in list(passed.activations):
            activations = passed.activations.pop(layer)[first:]
            self.moments[layer].update(self._moments_of(activations), outputs, self.taken)
        for layer, influences in passed.influences.items():
            self.influences[layer].update(influences[first:], self.taken)
        self.taken += len(outputs)

    def _halve(self, error: RuntimeError) -> None:
        """Use smaller chunks from now on if the device ran out of memory; raise any other error again."""
        out_of_memory = isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)
        if not out_of_memory or self.chunk == 1:
            raise error
        self.chunk //= 2
        if self._pixels.is_cuda:
            torch.cuda.empty_cache()


def chunk_size(pixels: Tensor, gradients: bool = False) -> int:
    """Return how many windows go through a network together, given the free memory.

    Args:
        pixels: A window, [1, 3, H, W].
        gradients: The pass also computes gradients, for which it stores activations.
    """
    size = pixels.shape[-2] * pixels.shape[-1]
    # Two maps of the first block are alive at a time, besides the maps of the later blocks that are kept.
    window = (9 if gradients else 6) * 64 * size * pixels.element_size()
    maximum = CHUNK_PIXELS.get(pixels.device.type, CHUNK_PIXELS["cpu"]) // size
    return max(1, min(maximum, int(MEMORY_SHARE * free_memory(pixels.device) / window)))
