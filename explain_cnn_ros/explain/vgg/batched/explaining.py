"""Explanations by the program: which settings it supports, and its results in the form of the other path."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from explain_cnn_ros.explain.evidence import GROUPS_FOR_INTERVALS, Evidence
from explain_cnn_ros.explain.findings import Findings
from explain_cnn_ros.explain.network_adapter import NetworkAdapter, Neuron, Trace
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.proof import Proofs, conclude, proved
from explain_cnn_ros.explain.ranking import Key, RankedWindow
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.silencing import SilencedOutputs
from explain_cnn_ros.explain.vgg.batched.graph import Runner
from explain_cnn_ros.explain.vgg.batched.program import Parts, Program
from explain_cnn_ros.explain.vgg.batched.scoring import supports
from explain_cnn_ros.model.device import free_memory
from explain_cnn_ros.model.output import probability

#: Share of the free memory that one explanation may take.
MEMORY_SHARE = 0.5


def unsupported(settings: ExplainSettings) -> str:
    """Return why settings are not supported; "" if they are."""
    reasons = {
        "metrics of other packages": not supports(settings),
        "perturbations_max": settings.perturbations_max > 0,
        f"perturbation_groups of at least {GROUPS_FOR_INTERVALS}": settings.perturbation_groups > 2,
        "silencing_draws": settings.silencing_draws > 0,
        "deconvnet: guided": settings.deconvnet != "deconvnet",
        "deconvnet_start: map": settings.deconvnet_start == "map",
    }
    return ", ".join(reason for reason, applies in reasons.items() if applies)


class BatchedExplainer:
    """Explains windows by the program.

    Args:
        adapter: Adapter of a VGG.
        settings: Settings of the explanation, with a precision other than "auto".
        weight_scores: Scores of the metrics that are the same for all images; see `evidence.weight_scores`.
        pixels: A window [1, 3, H, W], whose size, data type and device all windows have.

    Attributes:
        program: The operations.

    Raises:
        ValueError: The settings are not supported.
        MemoryError: The device has too little free memory for all perturbations at once.
    """

    def __init__(
        self, adapter: NetworkAdapter, settings: ExplainSettings, weight_scores: Mapping[Key, Tensor], pixels: Tensor
    ) -> None:
        reason = unsupported(settings)
        if reason:
            raise ValueError(f"explanations in few large operations do not support {reason}")
        self._adapter, self._settings = adapter, settings
        needed, free = _bytes_needed(settings, pixels), free_memory(pixels.device)
        if needed > MEMORY_SHARE * free:
            raise MemoryError(
                f"all perturbations at once need about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
            )
        assert isinstance(adapter.target, int)
        self.program = Program(adapter.classifier, settings, weight_scores, adapter.target, pixels)
        self._runner = Runner(self.program, pixels, capture=pixels.is_cuda)

    def explain(self, pixels: Tensor, threshold: float) -> Findings:
        """Explain a window.

        Args:
            pixels: The window, [1, 3, H, W], values in [0, 255].
            threshold: The decision is "person" if P(person) of the window is at least this.
        """
        parts = self._runner.run(pixels, threshold)
        ranked = self._ranked(parts, pixels, threshold)
        return Findings(ranked.probability, ranked, self._patches(parts, ranked), self._proofs(parts, ranked))

    def _ranked(self, parts: Parts, pixels: Tensor, threshold: float) -> RankedWindow:
        settings, program = self._settings, self.program
        top = parts.top.long().tolist()
        valid = parts.valid.bool().tolist()

        def select(row: int, layer: int) -> list[int]:
            return [channel for channel, exists in zip(top[row][layer], valid[row][layer], strict=True) if exists]

        scores, channels, stability = {}, {}, {}
        for (m, name), (i, span) in itertools.product(enumerate(settings.metrics), enumerate(program.layout.spans)):
            key, rows = (name, span.number), program.rows[name]
            scores[key] = parts.scores[m, span.neurons]
            channels[key] = select(rows[-1], i)
            if len(rows) > 1:
                stability[key] = jaccard(set(select(rows[0], i)), set(select(rows[1], i)))
        p, output, *moments = parts.window.tolist()
        mean, variance = moments or (math.nan, math.nan)
        return RankedWindow(
            pixels=pixels,
            clean=Trace(torch.empty(0)),
            evidence=Evidence(settings, self._adapter, {}, {}, {}, p >= threshold),
            perturbations=program.perturbations,
            scores=scores,
            channels=channels,
            stability=stability,
            probability=p,
            output=output,
            output_mean=mean,
            output_stddev=math.sqrt(variance) if moments else math.nan,
        )

    def _patches(self, parts: Parts, ranked: RankedWindow) -> dict[tuple[str, Neuron], Patch]:
        settings, layout = self._settings, self.program.layout
        begins, ends = parts.boxes.long()
        (tops, lefts), (heights, widths) = (
            (parts.origins.long() + self.program.widest - begins).tolist(),
            (begins + ends - self.program.widest).tolist(),
        )
        patches = {}
        for (m, name), (i, span) in itertools.product(enumerate(settings.metrics), enumerate(layout.spans)):
            strongest = parts.strongest[span.neurons].tolist()
            for rank, channel in enumerate(ranked.channels[name, span.number]):
                place = (i * len(settings.metrics) + m) * settings.top_n + rank
                if strongest[channel] > 0 and heights[place] > 0:
                    patch = Patch(lefts[place], tops[place], widths[place], heights[place])
                    patches[name, Neuron(span.number, channel)] = patch
        return patches

    def _proofs(self, parts: Parts, ranked: RankedWindow) -> Proofs:
        settings, names = self._settings, proved(self._settings)
        if not names:
            return Proofs((), {})
        # Without selected neurons, nothing is silenced.
        rows = [0, *(1 + q if ranked.neurons_of(name) else 0 for q, name in enumerate(names))]
        if settings.proof == "each":
            for q, name in enumerate(names):
                for i, layer in enumerate(settings.layers):
                    first = 1 + len(names) + (i * len(names) + q) * settings.top_n
                    rows += range(first, first + len(ranked.channels[name, layer]))
        logits = parts.silenced[rows]
        answers = SilencedOutputs(
            logits, self._adapter.output(logits).tolist(), probability(logits, self._adapter.target).tolist()
        )
        return conclude(self._adapter, settings, ranked, answers)


def _bytes_needed(settings: ExplainSettings, pixels: Tensor) -> int:
    """Estimate the memory of one explanation, in maps of the first block: of all windows, crops and silenced copies."""
    windows = 15 * (1 + settings.perturbations)
    crops = 9 * settings.top_n * len(settings.metrics)
    copies = 2 * settings.top_n * len(settings.layers) * len(proved(settings))
    size = pixels.shape[-2] * pixels.shape[-1]
    return (windows + crops + copies) * 64 * size * pixels.element_size()
