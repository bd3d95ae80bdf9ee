"""A recording whose frames have labels from a detector, and the settings that do not fit the detector's messages."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

from explain_cnn_ros.analysis.detection_labels import DetectionLabels, is_person
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.bags.detection_types import ROI
from explain_cnn_ros.bags.detections import DetectionMessage
from explain_cnn_ros.bags.sources import BagSource, Entry, FolderSource, Frame, Place, Source, SourceError
from explain_cnn_ros.bags.storage import Topic
from explain_cnn_ros.scan.detections import VISIBLE_MIN, DetectedBox, boxes_from, visible_share

#: Number of messages that are read before the analysis begins, to name settings that do not fit them.
SAMPLE = 100

#: Maximum share of boxes that do not fit the images. If there are more, a note names them.
UNFIT_MAX = 0.1

#: Maximum number of classes that a sentence names.
NAMED = 5


class LabelledSource:
    """A recording, with labels from the detector whose topic the settings name.

    Args:
        source: The source.
        settings: Settings of the analysis, with `label_topic`.

    Attributes:
        path: Path of the source, as it was given.
        name: The path as text that can be written as UTF-8.
        start: Log time of the first message, in ns.
        end: Log time of the last message, in ns; 0 if it is not known.
        total: Number of frames, or an estimate of it; 0 if it is not known.

    Raises:
        SourceError: The source has no labels from the detector; the message names the cause and the cure.
        OSError: The recording cannot be read.
    """

    def __init__(self, source: Source, settings: AnalysisSettings) -> None:
        if not isinstance(source, BagSource):
            kind = "a folder of images" if isinstance(source, FolderSource) else "a video"
            raise SourceError(
                f"{source.name} is {kind}, which has no topics: --label-topic is for recordings, use --labels instead"
            )
        self._source, self._settings = source, settings
        self._topic = source.detection_topic(settings.label_topic)
        _check_type(source, self._topic, settings)
        self.path, self.name = source.path, source.name
        self.start, self.end, self.total = source.start, source.end, source.total
        self._notes = _sample_notes(source, self._topic, settings)
        self._labels: DetectionLabels | None = None

    @property
    def problems(self) -> list[str]:
        """Faults of the recording; see `Source`. Those of the labels are `DetectionLabels.problems`."""
        return self._source.problems

    @property
    def notes(self) -> list[str]:
        """Sentences about unusual properties, and about settings that may not fit the boxes of the detector."""
        return [*self._source.notes, *self._notes]

    @property
    def labels(self) -> DetectionLabels:
        """The labels. They are read when they are needed first, and stay in memory until `release`.

        Raises:
            OSError: The recording cannot be read any more.
        """
        if self._labels is None:
            messages = self._source.detections(self._topic)
            self._labels = DetectionLabels(self._topic, messages, self._settings)
        return self._labels

    def release(self) -> None:
        """Free the memory of the labels."""
        self._labels = None

    def entries(self, first: int = 0, near: Place | None = None) -> Iterator[Entry]:
        """Yield the frames in order; see `Source`."""
        return self._source.entries(first, near)

    def close(self) -> None:
        """Close the files."""
        self.release()
        self._source.close()


def _check_type(source: Source, topic: Topic, settings: AnalysisSettings) -> None:
    """Refuse settings that the boxes of a type cannot fulfil.

    Raises:
        SourceError: The boxes have no classes or no scores.
    """
    if topic.type != ROI:
        return
    for option, given in (
        ("--label-classes", settings.person_classes),
        ("--label-score-min", settings.label_score_min),
    ):
        if given:
            lacks = "class" if option == "--label-classes" else "score"
            raise SourceError(
                f"{source.name}: {topic.name} has the type {ROI}, which has no {lacks}: leave out {option}"
            )


def _sample_notes(source: BagSource, topic: Topic, settings: AnalysisSettings) -> list[str]:
    """Return sentences about settings that do not fit the first messages.

    Raises:
        SourceError: None of the first messages can be read.
    """
    messages = list(itertools.islice(source.detections(topic), SAMPLE))
    readable = [message for message in messages if not message.error]
    if messages and not readable:
        raise SourceError(
            f"{source.name}: none of the first {len(messages)} messages on {topic.name} can be read: "
            f"{messages[0].error}"
        )
    boxes = [box for message in readable for box in boxes_from(message.message)]
    found = [_unfit(boxes, topic, settings)]
    if len(settings.topics) < 2:
        first = next((entry.load() for entry in source.entries()), None)
        if first is not None:
            persons = [box for box in boxes if is_person(box, settings)]
            found += [_other_frame_id(first, readable, topic), _other_pixels(first, persons, topic)]
    return [note for note in found if note]


def _unfit(boxes: Sequence[DetectedBox], topic: Topic, settings: AnalysisSettings) -> str:
    classes = Counter(box.label for box in boxes)
    shown = ", ".join(f"{label or 'none'} ({count})" for label, count in classes.most_common(NAMED))
    shown += ", ..." if len(classes) > NAMED else ""
    where = f"among the first messages on {topic.name}"
    if not settings.person_classes and len(classes) > 1:
        return f"the boxes {where} are of the classes {shown}, and all count as persons: --label-classes selects some"
    if any(is_person(box, settings) for box in boxes) or not boxes:
        return ""
    persons = [box for box in boxes if not settings.person_classes or box.label in settings.person_classes]
    if not persons:
        return (
            f"no box {where} is of the classes in --label-classes ({settings.label_classes}), and nobody counts as a "
            f"person there: the classes are {shown}"
        )
    highest = max(box.score for box in persons)
    return (
        f"no box {where} has a score of at least {settings.label_score_min:g} (--label-score-min), and nobody counts "
        f"as a person there: the highest score is {highest:g}"
    )


def _other_frame_id(first: Frame, messages: Sequence[DetectionMessage], topic: Topic) -> str:
    """Return a sentence if the detector seems to have searched the images of another camera.

    Args:
        first: The first image.
        messages: Messages of the detector.
        topic: Its topic.
    """
    own = next((message.frame_id for message in messages if message.frame_id), "")
    if not own or not first.frame_id or own == first.frame_id:
        return ""
    return (
        f"the frame_id on {topic.name} is {own!r}, that of the images {first.frame_id!r}: if the detector has searched "
        "the images of another camera, its boxes do not fit these images"
    )


def _other_pixels(first: Frame, persons: Sequence[DetectedBox], topic: Topic) -> str:
    """Return a sentence if many boxes do not lie in the images, for instance because they are shares of the image.

    Args:
        first: The first image.
        persons: Boxes of persons.
        topic: Topic of the detector.
    """
    if first.image is None:
        return ""
    height, width = first.image.shape[:2]
    boxes = [(box.x, box.y, box.width, box.height) for box in persons]
    sound = [box for box in boxes if all(map(math.isfinite, box)) and min(box[2:]) > 0]
    unfit = [box for box in sound if max(box[2:]) < 1 or visible_share(box, (width, height)) < VISIBLE_MIN]
    if len(unfit) <= UNFIT_MAX * len(sound):
        return ""
    x, y, across, down = unfit[0]
    return (
        f"{len(unfit)} of {len(sound)} boxes among the first messages on {topic.name} do not fit the images of {width} "
        f"x {height} pixels, for instance one of {across:g} x {down:g} pixels at ({x:g}, {y:g}): boxes must be in "
        "pixels of these images, not of larger or smaller ones, and not in shares of the image"
    )
