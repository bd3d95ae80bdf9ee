"""The analysis of frames: decisions and explanations as rows of tables."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from explain_cnn_ros.analysis.labels import Label, label_of
from explain_cnn_ros.analysis.parts import Part
from explain_cnn_ros.analysis.rows import (
    Row,
    decision_row,
    frame_row,
    known,
    neuron_rows,
    patch_rows,
    picture_row,
    proof_rows,
    window_row,
)
from explain_cnn_ros.analysis.settings import CHOSEN, LOW_CONFIDENCE, PERIODIC, WRONG, AnalysisSettings
from explain_cnn_ros.analysis.tables import OF_PART, table_of
from explain_cnn_ros.bags.sources import Frame
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import SUPPORTING
from explain_cnn_ros.explain.network_adapter import Channels, Layer
from explain_cnn_ros.explain.silencing import silence
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decider, Decision

#: Number of frames that are decided together.
BATCH = 32


class Encoder(Protocol):
    """Encoder of results as ROS messages."""

    def encode(
        self, frame: Frame, decision: Decision, explanation: Explanation | None, trigger: str
    ) -> list[tuple[str, str, bytes]]:
        """Encode the results of a frame.

        Args:
            frame: The frame, with its image.
            decision: The decision about the frame.
            explanation: The explanation of the decision; None if it was not explained.
            trigger: Reason for the explanation; "" if the frame was not explained.

        Returns:
            Topic, type and serialized data (CDR) of each message.
        """
        ...


@dataclass(frozen=True)
class Recording:
    """The recording that frames belong to.

    Attributes:
        name: Name of the recording in the tables.
        start: Log time of its first message, in ns.
        chosen: Numbers of frames that are explained in any case.
        stride: The windows of every `stride`-th frame and of wrong ones are stored, if silencing needs them.
    """

    name: str
    start: int
    chosen: frozenset[int] = frozenset()
    stride: int = 1


class Analyzer:
    """Analyses frames of any recording. It keeps no state between frames, so parts may come in any order.

    Args:
        classifier: The classifier.
        settings: Settings of the analysis.
        labels: Times at which there was a person, or none.
        encoder: Encoder of the results as ROS messages; None for no messages.

    Attributes:
        classifier: The classifier.
        settings: Settings of the analysis.
        layers: The layers of the network, by number.
    """

    def __init__(
        self,
        classifier: PersonClassifier,
        settings: AnalysisSettings,
        labels: Sequence[Label] = (),
        encoder: Encoder | None = None,
    ) -> None:
        self.classifier, self.settings, self._labels, self._encoder = classifier, settings, labels, encoder
        self._decider = Decider(classifier, settings)
        self._explainer = Explainer(classifier, settings.explain)
        self.layers: Mapping[int, Layer] = self._explainer.adapter.layers

    @property
    def threshold(self) -> float:
        """The decision is "person" if P(person) is at least this."""
        return self._decider.threshold

    @property
    def silences(self) -> bool:
        """Whether windows are decided again with neurons silenced, if there are wrong decisions."""
        return bool(self._labels) and self.settings.silence_neurons > 0 and SUPPORTING in self.settings.explain.metrics

    @torch.inference_mode()
    def silence(self, window: NDArray[np.uint8], sets: Sequence[Channels]) -> list[float]:
        """Decide a window with neurons silenced.

        Args:
            window: uint8 [H, W, 3] RGB, of the classifier's size.
            sets: Sets of neurons, as channels by layer. Each set is silenced in a pass of its own.

        Returns:
            P(person) for each set.
        """
        explainer = self._explainer
        pixels = explainer.classifier.to_pixels(window[None])
        return silence(explainer.adapter, pixels, sets, explainer.settings.compute_precision).probabilities

    def analyze(self, recording: Recording, frames: Iterable[Frame]) -> Part:
        """Analyse frames of a recording.

        Args:
            recording: The recording.
            frames: Its frames, or some of them.

        Returns:
            The tables of these frames, by name.
        """
        rows: dict[str, list[Row]] = defaultdict(list)
        stream = iter(frames)
        while batch := list(itertools.islice(stream, BATCH)):
            for frame, decision in zip(batch, self._decide(batch), strict=True):
                self._add(rows, recording, frame, decision)
        return {name: table_of(name, rows[name]) for name in OF_PART}

    def _decide(self, frames: Sequence[Frame]) -> list[Decision | None]:
        """Decide frames together. Frames that cannot be decoded have no decision."""
        decisions = iter(self._decider.decide_all([frame.image for frame in frames if frame.image is not None]))
        return [None if frame.image is None else next(decisions) for frame in frames]

    def _add(self, rows: dict[str, list[Row]], recording: Recording, frame: Frame, decision: Decision | None) -> None:
        """Add the rows of one frame."""
        key = {"source": recording.name, "frame": frame.index}
        label = label_of(self._labels, recording.name, frame.log_time, recording.start)
        row = key | frame_row(frame, label)
        rows["frames"].append(row)
        if frame.image is None or decision is None:
            return
        wrong = None if label is None else decision.person != label
        row |= decision_row(frame.image, decision, wrong)
        trigger = self._trigger(frame.index, decision, wrong, recording.chosen)
        explanation = self._explain(frame.image, decision, row) if trigger else None
        if explanation is not None:
            row |= {"trigger": trigger, "set_similarity": known(explanation.set_similarity)}
            row["output"] = known(explanation.output)
            stamped = key | {"stamp": frame.stamp}
            rows["neurons"] += [stamped | neuron for neuron in neuron_rows(explanation)]
            rows["patches"] += [stamped | patch for patch in patch_rows(explanation)]
            rows["proofs"] += [stamped | proof for proof in proof_rows(explanation)]
            rows["pictures"].append(key | picture_row(frame.image))
        if self.silences and (wrong or frame.index % recording.stride == 0):
            rows["windows"].append(key | window_row(self._explainer.window(frame.image, decision.region)))
        if self._encoder is not None:
            for topic, kind, data in self._encoder.encode(frame, decision, explanation, trigger):
                rows["messages"].append({"topic": topic, "type": kind, "log_time": frame.log_time, "data": data})

    def _explain(self, image: NDArray[np.uint8], decision: Decision, row: Row) -> Explanation | None:
        """Explain a decision. A failure is written into the frame's row."""
        try:
            return self._explainer.explain(image, decision.region, threshold=decision.threshold)
        except Exception as error:  # one frame must not end a long analysis
            row["error"] = f"explanation failed: {type(error).__name__}: {error}"
            return None

    def _trigger(self, index: int, decision: Decision, wrong: bool | None, chosen: frozenset[int]) -> str:
        """Return the reason for explaining a frame; "" if it is not explained."""
        settings = self.settings
        if settings.explain_wrong and wrong:
            return WRONG
        if decision.low_confidence:
            return LOW_CONFIDENCE
        if settings.explain_all or index in chosen:
            return CHOSEN
        if settings.explain_every and index % settings.explain_every == 0:
            return PERIODIC
        return ""
