"""The analysis of frames: decisions and explanations as rows of tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from explain_cnn_ros.analysis.detection_labels import DetectionLabels
from explain_cnn_ros.analysis.labels import FrameLabels
from explain_cnn_ros.analysis.parts import Part
from explain_cnn_ros.analysis.recording_labels import LabelsBySource, RecordingLabels
from explain_cnn_ros.analysis.region_labels import LabelledRegions, label_regions
from explain_cnn_ros.analysis.rows import (
    Row,
    decision_row,
    frame_row,
    known,
    neuron_rows,
    patch_rows,
    picture_row,
    proof_rows,
    region_row,
    window_row,
)
from explain_cnn_ros.analysis.settings import CHOSEN, LOW_CONFIDENCE, PERIODIC, WRONG, AnalysisSettings
from explain_cnn_ros.analysis.tables import OF_PART, table_of
from explain_cnn_ros.bags.sources import Frame
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import SUPPORTING
from explain_cnn_ros.explain.network_adapter import PERSON, Channels, Layer
from explain_cnn_ros.explain.silencing import silence
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import SCAN, WHOLE, Decider, Decision
from explain_cnn_ros.scan.dense import pass_of
from explain_cnn_ros.scan.detections import DetectedBox, person_windows

#: Maximum number of frames that are decided together, and of bytes of their images before the last one is added.
BATCH, BATCH_BYTES = 32, 128 * 1024**2


def batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Yield the frames in groups that are decided together. A group is emptied when the next one is requested."""
    group: list[Frame] = []
    size = 0
    for frame in frames:
        group.append(frame)
        size += 0 if frame.image is None else frame.image.nbytes
        if len(group) == BATCH or size >= BATCH_BYTES:
            # A reference to a frame would keep it in memory while the next group is read.
            del frame
            yield group
            group.clear()
            size = 0
    if group:
        yield group


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
        labels: Its labels, times at which there was a person, or none.
        chosen: Numbers of frames that are explained in any case.
        stride: The windows of every `stride`-th frame and of wrong ones are stored, if silencing needs them.
        detected: Labels from a detector; None without them.
    """

    name: str
    labels: RecordingLabels
    chosen: frozenset[int] = frozenset()
    stride: int = 1
    detected: DetectionLabels | None = None


class Analyzer:
    """Analyses frames of any recording. It keeps no state between frames, so parts may come in any order.

    Args:
        classifier: The classifier.
        settings: Settings of the analysis.
        labels: Times at which there was a person, or none, of all recordings; None without any.
        encoder: Encoder of the results as ROS messages; None for no messages.

    Attributes:
        classifier: The classifier.
        settings: Settings of the analysis.
        labels: The labels of all recordings.
        layers: The layers of the network, by number.

    Raises:
        ValueError: The classifier cannot search frames with these settings, or the explanations do not suit it.
    """

    def __init__(
        self,
        classifier: PersonClassifier,
        settings: AnalysisSettings,
        labels: LabelsBySource | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        if settings.regions == SCAN:
            # If the classifier cannot search, this fails now, and not once for each frame.
            pass_of(classifier, settings.scan.proposer)
        self.classifier, self.settings, self._encoder = classifier, settings, encoder
        self.labels = labels or LabelsBySource()
        self._decider = Decider(classifier, settings)
        self._explainer = Explainer(classifier, settings.explain)
        self.layers: Mapping[int, Layer] = self._explainer.adapter.layers

    @property
    def threshold(self) -> float:
        """The decision is "person" if P(person) is at least this."""
        return self._decider.threshold

    @property
    def target(self) -> str:
        """Names of the classes that the explanations are about; see `Explainer.target`."""
        return self._explainer.target

    @property
    def encodes(self) -> bool:
        """Whether results are encoded as ROS messages."""
        return self._encoder is not None

    @property
    def silences(self) -> bool:
        """Whether windows are decided again with neurons silenced, if there are wrong decisions."""
        # Explanations of another class do not say what pushed the decision about the person.
        of_decision = self.target == PERSON and SUPPORTING in self.settings.explain.metrics
        return bool(self.labels or self.settings.label_topic) and self.settings.silence_neurons > 0 and of_decision

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
        for batch in batches(frames):
            for frame, decision in zip(batch, self._decide(batch), strict=True):
                self._add(rows, recording, frame, decision)
        return {name: table_of(name, rows[name]) for name in OF_PART}

    def _decide(self, frames: Sequence[Frame]) -> list[Decision | str]:
        """Decide frames together. A frame without a decision has the reason in its place."""
        images = [frame.image for frame in frames if frame.image is not None]
        try:
            decisions: list[Decision | str] = list(self._decider.decide_all(images))
        except Exception as error:  # one frame must not end a long analysis
            if len(frames) > 1:
                return [self._decide([frame])[0] for frame in frames]
            decisions = [f"the decision failed: {type(error).__name__}: {error}"]
        following = iter(decisions)
        return [frame.error if frame.image is None else next(following) for frame in frames]

    def _add(self, rows: dict[str, list[Row]], recording: Recording, frame: Frame, decision: Decision | str) -> None:
        """Add the rows of one frame. Instead of a decision, there may be the reason why there is none."""
        key = {"source": recording.name, "frame": frame.index}
        labels = self._labels_of(recording, frame)
        row = key | frame_row(frame, True if labels.persons else labels.person)
        rows["frames"].append(row)
        if frame.image is None or isinstance(decision, str):
            row["error"] = decision or None
            return
        labelled = label_regions(decision, labels, self.settings.regions == WHOLE)
        wrong = None if labelled.frame is None else decision.person != labelled.frame
        row |= decision_row(frame.image, decision, wrong) | {"label": labelled.frame}
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
        regions = self._regions(frame.image, decision, labelled, row)
        rows["regions"] += [key | {"stamp": frame.stamp} | region for _, region in regions]
        for region, described in regions:
            sampled = described["region"] == 0 and (wrong or frame.index % recording.stride == 0)
            if self.silences and (sampled or described["wrong"]):
                window = self._explainer.window(frame.image, region)
                rows["windows"].append(key | window_row(described["region"], window))
        rows["messages"] += self._encode(frame, decision, explanation, row)

    def _labels_of(self, recording: Recording, frame: Frame) -> FrameLabels:
        """Return the labels of a frame. Those of a person count more than those of a detector."""
        labels = recording.labels.at(frame.log_time)
        if labels == FrameLabels() and recording.detected is not None:
            return recording.detected.of(frame) or labels
        return labels

    def _regions(
        self, image: NDArray[np.uint8], decision: Decision, labelled: LabelledRegions, row: Row
    ) -> list[tuple[Region, Row]]:
        """Return the regions of a decision and the labelled persons that were not found, with their rows.

        If the persons that were not found cannot be judged, they are left out, and the reason is written into the
        frame's row.
        """
        found = [
            (region, region_row(number, region, region.probability >= decision.threshold, label))
            for number, (region, label) in enumerate(zip(decision.regions, labelled.regions, strict=True))
        ]
        try:
            missed = self._missed(image, labelled, row)
        except Exception as error:  # one frame must not end a long analysis
            row["error"] = row["error"] or f"its missed persons cannot be judged: {type(error).__name__}: {error}"
            missed = ()
        return found + [
            (region, region_row(number, region, False, True, missed=True))
            for number, region in enumerate(missed, len(found))
        ]

    def _missed(self, image: NDArray[np.uint8], labelled: LabelledRegions, row: Row) -> tuple[Region, ...]:
        """Judge windows around the labelled persons that were not found. If there are none, the row says why."""
        boxes = [DetectedBox(*box) for box in labelled.missed]
        size = (image.shape[1], image.shape[0])
        windows = person_windows(boxes, self.classifier.info, size, count_max=len(boxes))
        if windows.refused:
            count = f"{len(windows.refused)} of its {len(boxes)} missed persons cannot be judged"
            row["error"] = row["error"] or f"{count}: {windows.refused[0]}"
        return self._decider.judge(image, windows.regions).regions if windows.regions else ()

    def _explain(self, image: NDArray[np.uint8], decision: Decision, row: Row) -> Explanation | None:
        """Explain a decision. A failure is written into the frame's row."""
        try:
            return self._explainer.explain(image, decision.region, threshold=decision.threshold)
        except Exception as error:  # one frame must not end a long analysis
            row["error"] = f"explanation failed: {type(error).__name__}: {error}"
            return None

    def _encode(self, frame: Frame, decision: Decision, explanation: Explanation | None, row: Row) -> list[Row]:
        """Return the messages of a frame. A failure is written into the frame's row."""
        if self._encoder is None:
            return []
        try:
            encoded = self._encoder.encode(frame, decision, explanation, row.get("trigger") or "")
        except Exception as error:  # for instance a stamp that ROS's messages cannot hold
            row["error"] = row["error"] or f"its messages cannot be encoded: {type(error).__name__}: {error}"
            return []
        return [{"topic": t, "type": kind, "log_time": frame.log_time, "data": data} for t, kind, data in encoded]

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
