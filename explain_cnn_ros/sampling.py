"""Passes of a window and of its perturbed copies through the network, in bounded memory.

What is kept is what an explanation needs: a trace of the window itself, and the moments of the explained layers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import torch
from torch import Tensor

from explain_cnn_ros.arithmetic import arithmetic
from explain_cnn_ros.classifier import BACKGROUND, PERSON, PersonClassifier
from explain_cnn_ros.moments import Moments
from explain_cnn_ros.perturbation import Perturbations
from explain_cnn_ros.settings import ExplainSettings
from explain_cnn_ros.tracing import Trace, trace

#: Pixels that go through the network at a time, at most: 13 windows of 64 x 128 on a CPU. More are no faster; on a CPU,
#: they leave the caches, and maps of more than 32 MB are handed out by the system page by page.
CHUNK_PIXELS = {"cpu": 110_000, "cuda": 1_000_000}

#: Share of the free memory that a chunk may take.
MEMORY_SHARE = 0.25


class Sampler:
    """Samples a window's perturbations as far as it is asked to.

    Attributes:
        clean: the trace of the unperturbed window, activations [1, C, R, C'].
        moments: of each explained layer, over the perturbations so far.
        taken: perturbations so far.
        chunk: windows that go through the network at a time; halved when the device runs out of memory.
    """

    def __init__(
        self,
        classifier: PersonClassifier,
        settings: ExplainSettings,
        pixels: Tensor,
        before_pass: Callable[[], None] = lambda: None,
    ) -> None:
        """`pixels`: the window, [1, 3, H, W], values of [0, 255]. What `before_pass` raises ends a run."""
        self._before_pass = before_pass
        self._classifier, self._settings, self._pixels = classifier, settings, pixels
        self._network = classifier.prepared(settings.arithmetic)
        self._copies = Perturbations(pixels[0], settings.sigma, settings.noise, settings.noise_length, settings.seed)
        self.chunk = chunk_size(pixels)
        self.taken = 0
        self.clean: Trace
        self.moments: dict[int, Moments]

    def run(self, perturbations: int) -> None:
        """Go on until there are at least this many; the first call takes the unperturbed window along.

        Noise that comes in blocks is balanced over whole ones only, and each half of the perturbations needs some: the
        number is rounded up to pairs of blocks.
        """
        if self._copies.block > 1:
            pair = 2 * self._copies.block
            perturbations = math.ceil(perturbations / pair) * pair
        if not hasattr(self, "clean"):
            count = min(self.chunk - 1, perturbations)
            batch = torch.cat([self._pixels, self._copies.take(count)]) if count else self._pixels
            self._begin(batch)
        while self.taken < perturbations:
            self._add(self._copies.take(min(self.chunk, perturbations - self.taken)))

    def output(self, logits: Tensor) -> Tensor:
        """The output o_i of logits [N, 2]: [N]."""
        if self._settings.output == "probability":
            return logits.softmax(1)[:, PERSON]
        return logits[:, PERSON] - logits[:, BACKGROUND]

    def _begin(self, batch: Tensor) -> None:
        """The unperturbed window, and the first copies behind it."""
        while True:
            try:
                passed = self._pass(batch[: self.chunk], first=True)
                break
            except RuntimeError as error:
                self._halve(error)
        activations = {layer: a[:1].clone() for layer, a in passed.activations.items()}
        self.clean = Trace(passed.logits[:1], activations, passed.switches, passed.rectified)
        shift = self.output(self.clean.logits)[0]
        groups, block = self._settings.perturbation_groups, self._copies.block
        self.moments = {layer: Moments.zeros(a[0], shift, groups, block) for layer, a in activations.items()}
        self._update(passed.logits[1:], {layer: a[1:] for layer, a in passed.activations.items()})
        rest = batch[self.chunk :]
        if len(rest):
            self._add(rest)

    def _add(self, batch: Tensor) -> None:
        """Copies, in as many pieces as it takes."""
        start = 0
        while start < len(batch):
            try:
                passed = self._pass(batch[start : start + self.chunk])
            except RuntimeError as error:
                self._halve(error)
                continue
            self._update(passed.logits, passed.activations)
            start += len(passed.logits)

    def _pass(self, batch: Tensor, first: bool = False) -> Trace:
        self._before_pass()
        settings, classifier = self._settings, self._classifier
        with arithmetic(settings.arithmetic, classifier.device):
            passed = trace(
                self._network,
                classifier.normalise(batch),
                settings.layers,
                switches=first,
                rectified=first and settings.deconvnet == "guided",
                pre_relu=settings.activation == "pre_relu",
            )
        # Moments are of at least float32, whatever the pass was of.
        wide = torch.promote_types(passed.logits.dtype, torch.float32)
        passed.logits = passed.logits.to(wide)
        if first:
            passed.rectified = {index: a.to(wide) for index, a in passed.rectified.items()}
        passed.activations = {layer: a.to(wide) for layer, a in passed.activations.items()}
        return passed

    def _update(self, logits: Tensor, activations: dict[int, Tensor]) -> None:
        outputs = self.output(logits)
        for layer in list(activations):
            self.moments[layer].update(activations.pop(layer), outputs, self.taken)
        self.taken += len(outputs)

    def _halve(self, error: RuntimeError) -> None:
        """Smaller chunks from now on if the device ran out of memory; anything else, or no smaller chunk, raises."""
        out_of_memory = isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)
        if not out_of_memory or self.chunk == 1:
            raise error
        self.chunk //= 2
        if self._pixels.is_cuda:
            torch.cuda.empty_cache()


def chunk_size(pixels: Tensor) -> int:
    """Windows like `pixels` [1, 3, H, W] that go through a VGG at a time, by the memory at hand."""
    if pixels.is_cuda:
        free, _ = torch.cuda.mem_get_info(pixels.device)
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    size = pixels.shape[-2] * pixels.shape[-1]
    # Two maps of the first block are alive at a time, beside the maps that are kept of the later ones.
    window = 6 * 64 * size * pixels.element_size()
    at_most = CHUNK_PIXELS.get(pixels.device.type, CHUNK_PIXELS["cpu"]) // size
    return max(1, min(at_most, int(MEMORY_SHARE * free / window)))
