"""The frames of a rosbag2 recording."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.bags.cdr import deserialize
from explain_cnn_ros.bags.detections import DetectionMessage, detection_topic, read_detections
from explain_cnn_ros.bags.frame_estimate import estimated_frames
from explain_cnn_ros.bags.frame_source import Entry, Frame, Place, SourceError, SourceSettings
from explain_cnn_ros.bags.image_messages import ImageError, to_rgb
from explain_cnn_ros.bags.names import listed, printable
from explain_cnn_ros.bags.reader import IMAGE_TYPES, BagError, BagReader, Topic
from explain_cnn_ros.bags.storage import TIME_MIN, Message


class BagSource:
    """The image topics of a rosbag2 recording.

    Args:
        path: A rosbag2 directory, or a .mcap or .db3 file.
        settings: The part of the recording that is read.

    Raises:
        SourceError: There is no recording, or it has no such topics.
        OSError: The recording cannot be read.
    """

    def __init__(self, path: Path, settings: SourceSettings) -> None:
        self.path, self.name = path, printable(path)
        self._settings = settings
        self._types = get_typestore(Stores.ROS2_JAZZY)
        try:
            self._bag = BagReader(path, settings.limits)
        except BagError as error:
            raise SourceError(str(error)) from error
        try:
            topics = [self._bag.image_topic(name) for name in settings.topics] or [self._bag.image_topic()]
        except BagError as error:
            self._bag.close()
            raise SourceError(str(error)) from error
        if not settings.topics and (choice := self._bag.choice()):
            self._bag.notes.append(choice)
        self._topics = [topic.name for topic in topics]
        self._note_other_types()
        self.start, self.end = self._bag.start, self._bag.end
        count = sum(topic.count for topic in self._bag.image_topics if topic.name in self._topics)
        self.total = estimated_frames(count, self.end - self.start, settings)
        # Messages that were recorded before the clock was set come before the start, and are read as well.
        self._from = self.start + round(settings.start * 1e9) if settings.start else TIME_MIN
        self._to = self.start + round(settings.end * 1e9) if settings.end else None

    @property
    def problems(self) -> list[str]:
        """Faults of the recording that have been found until now, a sentence each."""
        return self._bag.problems

    @property
    def notes(self) -> list[str]:
        """Sentences about unusual properties of the recording, and about the choice of the image topic."""
        return self._bag.notes

    def entries(self, first: int = 0, near: Place | None = None) -> Iterator[Entry]:
        """Yield the frames in order; see `Source`."""
        near = near or Place(0, self._from)
        messages = self._bag.messages(self._topics, near.log_time, self._to)
        images = (message for message in messages if message.type in IMAGE_TYPES)
        for index, message in enumerate(images, near.frame):
            if index >= first:
                yield Entry(index, message.stamp, partial(self._load, index, message))

    def detection_topic(self, name: str) -> Topic:
        """Return a topic with the boxes of a detector.

        Raises:
            SourceError: There is no such topic, or it has no detections; the message names the topics that have some.
        """
        try:
            return detection_topic(self._bag, name)
        except BagError as error:
            raise SourceError(str(error)) from error

    def detections(self, topic: Topic) -> Iterator[DetectionMessage]:
        """Yield the messages of a detector; see `read_detections`.

        Args:
            topic: The topic; see `detection_topic`.

        Raises:
            OSError: The recording cannot be read any more.
        """
        return read_detections(self._bag, topic, self._topics, self._from, self._to)

    def _note_other_types(self) -> None:
        """Add a note about the messages on the image topics that are not images."""
        for name in dict.fromkeys(self._topics):
            others = [t for t in self._bag.topics if t.name == name and t.type not in IMAGE_TYPES and t.count]
            if others:
                count = sum(topic.count for topic in others)
                types = listed([topic.type for topic in others])
                self._bag.notes.append(f"{listed([name])}: {count} messages that are no images are left out: {types}")

    def _load(self, index: int, message: Message) -> Frame:
        stamp, frame_id = message.stamp, ""
        try:
            image = deserialize(self._types, message.data, message.type)
            header = image.header
            stamp = int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
            frame_id = header.frame_id
            rgb = to_rgb(image, self._settings.megapixels_max)
            return Frame(index, stamp, message.stamp, message.topic, frame_id, rgb)
        except ImageError as error:
            reason = str(error)
        except Exception as error:  # damaged bytes raise all kinds
            reason = f"the message cannot be read: {type(error).__name__}: {error}"
        return Frame(index, stamp, message.stamp, message.topic, frame_id, None, reason)

    def close(self) -> None:
        """Close the files."""
        self._bag.close()
