"""Frames -> decisions and explanations, as rows of tables."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from explain_cnn_ros.analysis.labels import Label, label_of
from explain_cnn_ros.analysis.parts import Part
from explain_cnn_ros.analysis.rows import known, neuron_rows, patch_rows, picture_row
from explain_cnn_ros.analysis.settings import CHOSEN, LOW_CONFIDENCE, PERIODIC, WRONG, AnalysisSettings
from explain_cnn_ros.analysis.sources import Frame
from explain_cnn_ros.analysis.tables import ALL, table_of
from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.explanation import Explanation
from explain_cnn_ros.regions import Region

#: Frames that go through the network at a time.
BATCH = 32


@dataclass(frozen=True)
class Decision:
    """What the network says of a frame, and what is known of it.

    regions: best first, at least one.
    """

    regions: list[Region]
    threshold: float
    doubtful: bool
    label: bool | None

    @property
    def probability(self) -> float:
        """P(person): the best region's."""
        return self.regions[0].probability

    @property
    def person(self) -> bool:
        """Whether it reaches the threshold."""
        return self.probability >= self.threshold

    @property
    def wrong(self) -> bool | None:
        """Whether it differs from the label; None without one."""
        return None if self.label is None else self.person != self.label


class Encoder(Protocol):
    """Makes ROS messages of results: (topic, type, CDR)."""

    def encode(
        self, frame: Frame, decision: Decision, explanation: Explanation | None, trigger: str
    ) -> list[tuple[str, str, bytes]]: ...


class Analyzer:
    """Analyses frames of any recording; keeps no state between them, so that parts may come in any order."""

    def __init__(
        self,
        classifier: PersonClassifier,
        settings: AnalysisSettings,
        labels: Sequence[Label] = (),
        encoder: Encoder | None = None,
    ) -> None:
        self.classifier, self.settings, self._labels, self._encoder = classifier, settings, labels, encoder
        self._threshold = settings.threshold or classifier.threshold
        self._explainer = Explainer(classifier, settings.explain)

    def analyze(self, source: str, start: int, frames: Iterable[Frame], chosen: frozenset[int] = frozenset()) -> Part:
        """The results of some frames of a recording.

        Args:
            source, start: the recording's name, and the log time of its beginning.
            chosen: numbers of frames that are explained whatever they are.
        """
        rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        stream = iter(frames)
        while batch := list(itertools.islice(stream, BATCH)):
            for frame, regions in zip(batch, self._regions(batch), strict=True):
                self._add(rows, source, start, frame, regions, chosen)
        return {name: table_of(name, rows[name]) for name in ALL}

    def _regions(self, frames: Sequence[Frame]) -> list[list[Region] | None]:
        """What is found in each frame; None for those that could not be decoded."""
        images = [frame.image for frame in frames if frame.image is not None]
        found: list[list[Region]]
        if self.settings.regions == "scan":
            found = [self.classifier.scan(image, self.settings.scan) for image in images]
        else:
            found = []
            if images:
                windows = np.stack([self.classifier.resize(image) for image in images])
                for image, p in zip(images, self.classifier.probability(windows).tolist(), strict=True):
                    found.append([Region(0, 0, image.shape[1], image.shape[0], p)])
        rest = iter(found)
        return [None if frame.image is None else next(rest) for frame in frames]

    def _add(
        self,
        rows: dict[str, list[dict[str, Any]]],
        source: str,
        start: int,
        frame: Frame,
        regions: list[Region] | None,
        chosen: frozenset[int],
    ) -> None:
        key = {"source": source, "frame": frame.index}
        row: dict[str, Any] = key | {
            "stamp": frame.stamp,
            "log_time": frame.log_time,
            "topic": frame.topic,
            "frame_id": frame.frame_id,
            "label": label_of(self._labels, source, frame.log_time, start),
            "error": frame.error or None,
        }
        rows["frames"].append(row)
        if frame.image is None or regions is None:
            return
        p = regions[0].probability
        doubtful = max(p, 1 - p) < self.settings.confidence_threshold
        decision = Decision(regions, self._threshold, doubtful, row["label"])
        region = regions[0]
        row |= {
            "height": frame.image.shape[0],
            "width": frame.image.shape[1],
            "probability": p,
            "person": decision.person,
            "doubtful": doubtful,
            "wrong": decision.wrong,
            "region_x": region.x,
            "region_y": region.y,
            "region_width": region.width,
            "region_height": region.height,
        }
        explanation, trigger = None, self._trigger(frame, decision, chosen)
        if trigger:
            try:
                whole = (region.x, region.y, region.width, region.height) == (0, 0, *frame.image.shape[1::-1])
                explanation = self._explainer.explain(frame.image, None if whole else region)
            except Exception as error:  # one frame never takes a long analysis down
                row["error"] = f"explanation failed: {type(error).__name__}: {error}"
        if explanation is not None:
            row |= {"trigger": trigger, "set_similarity": known(explanation.set_similarity)}
            rows["neurons"] += [key | {"stamp": frame.stamp} | neuron for neuron in neuron_rows(explanation)]
            rows["patches"] += [key | {"stamp": frame.stamp} | patch for patch in patch_rows(explanation)]
            rows["pictures"].append(key | picture_row(frame.image))
        if self._encoder is not None:
            for topic, kind, data in self._encoder.encode(frame, decision, explanation, trigger):
                rows["messages"].append({"topic": topic, "type": kind, "log_time": frame.log_time, "data": data})

    def _trigger(self, frame: Frame, decision: Decision, chosen: frozenset[int]) -> str:
        """Why a frame is explained; "" if it is not."""
        settings = self.settings
        if settings.explain_wrong and decision.wrong:
            return WRONG
        if decision.doubtful:
            return LOW_CONFIDENCE
        if settings.explain_all or frame.index in chosen:
            return CHOSEN
        if settings.explain_every and frame.index % settings.explain_every == 0:
            return PERIODIC
        return ""
