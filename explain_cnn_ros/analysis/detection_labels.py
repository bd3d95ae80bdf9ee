"""Labels from a detector: the boxes that it recorded beside the images say where the persons are.

The list of a detector counts as complete: where it has no box, nobody is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.labels import Box, FrameLabels
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.bags.detection_types import ROI
from explain_cnn_ros.bags.detections import DetectionMessage
from explain_cnn_ros.bags.sources import Frame
from explain_cnn_ros.bags.storage import Topic
from explain_cnn_ros.scan.detections import DetectedBox, boxes_from

#: Maximum number of persons in one message.
BOXES_MAX = 1000

#: The boxes (x, y, width, height) of a message, float64 [N, 4].
Boxes = NDArray[np.float64]

_NOBODY: Boxes = np.empty((0, 4))


class FrameKey(NamedTuple):
    """The properties of a frame by which detections are found.

    Attributes:
        number: Number of the frame in the recording.
        stamp: Stamp of the image, in ns since 1970.
        frame_id: `frame_id` of the image.
    """

    number: int
    stamp: int
    frame_id: str


def is_person(box: DetectedBox, settings: AnalysisSettings) -> bool:
    """Return whether a box counts as a person, by its class and its score."""
    classes, least = settings.person_classes, settings.label_score_min
    return (not classes or box.label in classes) and (not least or box.score >= least)


def persons_of(boxes: Iterable[DetectedBox], settings: AnalysisSettings) -> Boxes:
    """Return the boxes of persons.

    Args:
        boxes: The boxes of a message.
        settings: Settings of the analysis.

    Raises:
        ValueError: A box of a person has no area or is not finite, or there are too many persons.
    """
    persons = [(box.x, box.y, box.width, box.height) for box in boxes if is_person(box, settings)]
    for x, y, width, height in persons:
        if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
            raise ValueError(f"a box has the edges {x:g}, {y:g} and the size {width:g} x {height:g}")
    if len(persons) > BOXES_MAX:
        raise ValueError(f"it has {len(persons)} persons, the limit is {BOXES_MAX}")
    return np.array(persons, np.float64) if persons else _NOBODY


class DetectionLabels:
    """The labels of the frames of one recording, from the messages of a detector.

    Messages and frames are matched by the stamp of the image; a stamp of 0 matches nothing. If several image topics are
    analysed, the `frame_id` must agree as well, unless that of the message is empty. A RegionOfInterest has no stamp,
    and belongs to the image that was recorded last before it. Of several messages for one image, the first counts.

    Args:
        topic: The topic of the detector.
        messages: Its messages. They are read at once, and only the boxes of persons stay in memory.
        settings: Settings of the analysis.
    """

    def __init__(self, topic: Topic, messages: Iterable[DetectionMessage], settings: AnalysisSettings) -> None:
        self._topic = topic
        self._by_frame_id = len(settings.topics) > 1
        self._persons: dict[tuple[int, str], Boxes] = {}
        self._total = self._unreadable = 0
        self._first_error = ""
        self._first_stamp: int | None = None
        for message in messages:
            self._add(message, settings)

    def _add(self, message: DetectionMessage, settings: AnalysisSettings) -> None:
        self._total += 1
        error = message.error
        if not error:
            try:
                persons = persons_of(boxes_from(message.message), settings)
            except ValueError as refused:
                error = str(refused)
        if error:
            self._unreadable += 1
            self._first_error = self._first_error or error
            return
        if message.frame is not None:
            if message.frame >= 0:
                self._persons.setdefault((message.frame, ""), persons)
            return
        if self._first_stamp is None:
            self._first_stamp = message.stamp
        if message.stamp:
            self._persons.setdefault((message.stamp, message.frame_id if self._by_frame_id else ""), persons)

    def of(self, frame: Frame) -> FrameLabels | None:
        """Return the labels of a frame; None if the detector published nothing for its image."""
        key = self._find(FrameKey(frame.index, frame.stamp, frame.frame_id))
        if key is None:
            return None
        persons: list[Box] = [(x, y, width, height) for x, y, width, height in self._persons[key].tolist()]
        return FrameLabels(False, tuple(persons))

    def _find(self, frame: FrameKey) -> tuple[int, str] | None:
        number = frame.number if self._topic.type == ROI else frame.stamp
        keys = (number, frame.frame_id), (number, "")
        return next((key for key in keys if key in self._persons), None)

    def problems(self, frames: Iterable[FrameKey] = ()) -> list[str]:
        """Return the faults of the messages, and a sentence if most of them belong to no frame.

        Args:
            frames: All frames of the recording that were analysed.
        """
        found = []
        if self._unreadable:
            found.append(
                f"{self._topic.name}: {self._unreadable} of {self._total} messages cannot be used, and their images "
                f"have no labels from them; the first one: {self._first_error}"
            )
        mismatch = self._mismatch(frames)
        return [*found, mismatch] if mismatch else found

    def _mismatch(self, frames: Iterable[FrameKey]) -> str:
        """Return a sentence if more than half of the messages, and of the frames, have no counterpart."""
        count, first, found = 0, 0, list[tuple[int, str]]()
        for frame in frames:
            first = first if count else frame.stamp
            count += 1
            if (key := self._find(frame)) is not None:
                found.append(key)
        readable = self._total - self._unreadable
        # One of both may have gaps: a detector skips images, and a recorder images that the detector has searched.
        if 2 * len(found) >= min(readable, count):
            return ""
        begin = f"{self._topic.name}: {readable - len(set(found))} of {readable} messages belong to no image"
        if self._topic.type == ROI:
            return (
                f"{begin}: they come before the first image, or after another message for the same image. Record the "
                "images from the beginning, or let the detector publish messages with a stamp"
            )
        end = f"{len(found)} of {count} images have labels from them"
        if not self._first_stamp and not found:
            return f"{begin}, since their stamps are 0; {end}. Let the detector copy the header of the image"
        also = " and frame_id" if self._by_frame_id else ""
        return (
            f"{begin} with the same stamp{also}; {end}. The first message has the stamp "
            f"{_seconds(self._first_stamp or 0)}, the first image {_seconds(first)}: select the images that the "
            "detector has searched by --topics, and let the detector copy their headers"
        )


def _seconds(stamp: int) -> str:
    return f"{stamp // 10**9}.{stamp % 10**9:09d}"
