"""The whole explanation of a window on the device: from pixels to one packed tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.metrics.registry import Reads, metric
from explain_cnn_ros.explain.perturbation import Perturbations
from explain_cnn_ros.explain.proof import PROVED_METRICS, proof_precision, proved
from explain_cnn_ros.explain.ranking import Key
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.vgg.batched.layout import FlatLayout
from explain_cnn_ros.explain.vgg.batched.passes import OutputOfLogits, run
from explain_cnn_ros.explain.vgg.batched.proving import Silencer
from explain_cnn_ros.explain.vgg.batched.reconstructing import Reconstructor
from explain_cnn_ros.explain.vgg.batched.scoring import BatchScores, Scorer
from explain_cnn_ros.explain.vgg.batched.selecting import BatchSelection, Selector
from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.output import probability
from explain_cnn_ros.model.precision import COARSE_PRECISIONS
from explain_cnn_ros.model.precision import precision as in_precision


@dataclass(frozen=True)
class Parts:
    """The results of one explanation.

    Attributes:
        window: P(person), output of the window, and, with perturbations, mean and variance of the output, [2 or 4].
        scores: Scores, [M, T].
        strongest: Largest activation of each neuron, [T].
        top: Channels of the top N for each row of preferences, [rows, L, N].
        valid: Whether these exist, [rows, L, N].
        starts: Channel, row and column of each start, [3, L, M * N].
        boxes: Boxes of the reconstructions in their crops, [2, 2, L * M * N]; see `Reconstructor.boxes`.
        origins: First rows and columns of the crops, [2, L * M * N].
        silenced: Logits of the proof, [passes, classes]; empty without a proof. See `Silencer.logits`.
    """

    window: Tensor
    scores: Tensor
    strongest: Tensor
    top: Tensor
    valid: Tensor
    starts: Tensor
    boxes: Tensor
    origins: Tensor
    silenced: Tensor


class Program:
    """Computes explanations of windows of one size, with the same settings.

    Args:
        classifier: The classifier; it has no batch norm.
        settings: Settings of the explanation; see `unsupported`.
        weight_scores: Scores of the metrics that are the same for all images; see `evidence.weight_scores`.
        target: Index of the class that the output is about.
        pixels: A window [1, 3, H, W], whose size, data type and device all windows have.

    Attributes:
        layout: The layout of the explained layers.
        perturbations: Number of perturbations, n.
        rows: Rows of the preferences of each metric; see `Scorer`.
        widest: Size of the widest crop; see `Reconstructor.boxes`.
    """

    def __init__(
        self,
        classifier: WindowClassifier,
        settings: ExplainSettings,
        weight_scores: Mapping[Key, Tensor],
        target: int,
        pixels: Tensor,
    ) -> None:
        self._classifier, self._settings, self._target = classifier, settings, target
        features, size = classifier.network.features, (pixels.shape[3], pixels.shape[2])
        copies = Perturbations(
            pixels[0], settings.sigma, settings.noise, settings.noise_length, settings.seed, classifier.info.mean
        )
        perturbed = any(metric(name).perturbed(settings) for name in settings.metrics)
        self.perturbations = copies.whole(settings.perturbations) if perturbed else 0
        # The noise depends on the seed only, so it is drawn once for all explanations.
        self._copies = copies
        self._noise: Tensor | None = None
        if self.perturbations:
            self._noise = copies.noise_of(self.perturbations).contiguous(memory_format=torch.channels_last)
        self.layout = FlatLayout(features, settings.layers, size, settings.top_n, pixels)
        classes = [module.out_features for module in classifier.network.classifier if isinstance(module, nn.Linear)]
        self._output = OutputOfLogits(settings.output, target, classes[-1], pixels)
        scorer = Scorer(settings, self.layout, self.perturbations, copies.block, weight_scores, pixels)
        self.rows, self._scorer = scorer.rows, scorer
        self._selector = Selector(self.layout, settings.top_n, self.rows)
        count = len(settings.metrics) * settings.top_n
        self._reconstructor = Reconstructor(features, self.layout, settings.patch_share, count)
        self.widest = self._reconstructor.widest
        names = proved(settings)
        self._silencer: Silencer | None = None
        if names:
            chosen = torch.tensor([settings.metrics.index(name) for name in names], device=pixels.device)
            self._silencer = Silencer(features, self.layout, chosen, settings.proof == "each")
        self._search_row = self._searched().to(pixels.device)
        self._shapes: list[torch.Size] = []

    def _searched(self) -> Tensor:
        """Return which row of `BatchScores.positions` each metric starts from, as an offset, int64 [M, 1, 1]."""
        settings = self._settings
        of_influence = {name: 1 + PROVED_METRICS.index(name) for name in PROVED_METRICS}
        by_contribution = settings.deconvnet_start == "contribution"
        rows = [of_influence.get(name, 0) if by_contribution else 0 for name in settings.metrics]
        return torch.tensor(rows)[:, None, None] * self.layout.neurons

    def compute(self, pixels: Tensor, threshold: Tensor) -> Tensor:
        """Compute an explanation without waiting for the device.

        Args:
            pixels: The window, [1, 3, H, W], values in [0, 255].
            threshold: The decision is "person" if P(person) of the window is at least this, float64 [].

        Returns:
            The packed results, [values]; see `unpack`.
        """
        parts = self._compute(pixels, threshold)
        tensors = [getattr(parts, part.name) for part in fields(parts)]
        self._shapes = [tensor.shape for tensor in tensors]
        # Integers are smaller than 2^24, so float32 holds them exactly.
        return torch.cat([tensor.reshape(-1) for tensor in tensors])

    def unpack(self, packed: Tensor) -> Parts:
        """Return the parts of packed results. All of them have the data type of the packed tensor."""
        sizes = [shape.numel() for shape in self._shapes]
        return Parts(*(part.view(shape) for part, shape in zip(packed.split(sizes), self._shapes, strict=True)))

    def _compute(self, pixels: Tensor, threshold: Tensor) -> Parts:
        classifier, settings = self._classifier, self._settings
        reads = {metric(name).reads for name in settings.metrics}
        batch = pixels
        if self._noise is not None:
            batch = torch.cat([pixels, self._copies.apply(pixels[0], self._noise)])
        with in_precision(settings.compute_precision, classifier.device):
            normalised = classifier.normalise(batch)
            passed = run(
                classifier.prepared(settings.compute_precision),
                normalised,
                self.layout,
                pre_relu=settings.activation == "pre_relu",
                differences=Reads.PERTURBATIONS in reads,
                output=self._output if Reads.GRADIENTS in reads else None,
            )
        output = self._output(passed.logits)
        logits_of_window, output_of_window = passed.logits[:1], output[:1]
        if settings.compute_precision in COARSE_PRECISIONS:
            # In half precision, the decision could be another one than that of the classifier.
            with in_precision("float32", classifier.device):
                logits_of_window = classifier.prepared("float32")(normalised[:1])
            output_of_window = self._output(logits_of_window)
        p = probability(logits_of_window, self._target)
        scores = self._scorer.score(passed, output, p[0].double() >= threshold)
        selection = self._selector.select(scores.preferences)
        starts = self._starts(scores, selection)
        boxes, origins = self._reconstructor.boxes(starts, passed.switches)
        silenced = scores.output[:0]
        if self._silencer is not None:
            exact = proof_precision(settings)
            with in_precision(exact, classifier.device):
                silenced = self._silencer.logits(classifier.prepared(exact), normalised[:1], selection)
        moments = scores.output
        if self.perturbations and not len(moments):
            of_copies = output[1:]
            moments = torch.stack([of_copies.mean(), of_copies.var(correction=0)])
        return Parts(
            window=torch.cat([p, output_of_window, moments]),
            scores=scores.scores,
            strongest=scores.strongest,
            top=selection.top,
            valid=selection.valid,
            starts=starts,
            boxes=boxes,
            origins=torch.cat(origins).view(2, -1),
            silenced=silenced,
        )

    def _starts(self, scores: BatchScores, selection: BatchSelection) -> Tensor:
        """Return channel, row and column of each start, int64 [3, L, M * N]."""
        layout, channels = self.layout, selection.channels
        neurons = channels + layout.first_neurons
        places = scores.positions.reshape(-1)[neurons + self._search_row]
        rows = torch.div(places, layout.widths, rounding_mode="floor")
        starts = torch.stack([channels, rows, places % layout.widths])
        return starts.transpose(1, 2).flatten(2)
