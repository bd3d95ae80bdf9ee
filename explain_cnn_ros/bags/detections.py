"""The messages of a detector in a recording, with the stamps of the images that the detector has searched."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from explain_cnn_ros.bags.cdr import deserialize
from explain_cnn_ros.bags.detection_types import DEFINITIONS, DETECTION_TYPES, ROI, VISION
from explain_cnn_ros.bags.limits import MIB
from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.bags.reader import IMAGE_TYPES, BagError, BagReader, Topic

#: Maximum size of a message with detections, in bytes. A thousand boxes of vision_msgs take half of a MiB.
BYTES_MAX = 2 * MIB

#: Maximum number of other topics that an error names.
NAMED = 5


class DetectionMessage(NamedTuple):
    """A message with the boxes that a detector has found in one image.

    Attributes:
        stamp: Stamp of the image, in ns since 1970; 0 if the message has no stamp.
        frame_id: `frame_id` of the image; "" if the message has none.
        frame: Number of the image among those that are read, for a RegionOfInterest, which has no stamp; -1 if it comes
            before the first of them. None for other types.
        message: The message; None if it cannot be read.
        error: The reason why it cannot be read; "" if it can.
    """

    stamp: int
    frame_id: str
    frame: int | None
    message: Any
    error: str = ""


def detection_topic(bag: BagReader, name: str) -> Topic:
    """Return a topic with detections.

    Args:
        bag: The recording.
        name: Name of the topic.

    Raises:
        BagError: The recording has no such topic, or one of another type, or no messages on it.
    """
    own = [topic for topic in bag.topics if topic.name == name]
    fitting = [topic for topic in own if topic.type in DETECTION_TYPES]
    best = max(fitting, key=lambda topic: topic.count, default=None)
    if best is not None and best.count:
        return best
    path = printable(bag.path)
    if best is not None:
        raise BagError(
            f"{path}: {name} has no messages: the detector published nothing during the recording, or with a QoS that "
            f"the recorder did not match{_others(bag)}"
        )
    if own:
        kinds = ", ".join(topic.type for topic in own)
        raise BagError(f"{path}: {name} has the type {kinds}, not {_or(DETECTION_TYPES)}{_others(bag)}")
    raise BagError(f"{path}: no topic {name}{_others(bag)}")


def read_detections(
    bag: BagReader, topic: Topic, images: Sequence[str] = (), start: int | None = None, stop: int | None = None
) -> Iterator[DetectionMessage]:
    """Yield the messages with detections of a topic, one for each recorded message, also if it cannot be read.

    A RegionOfInterest has no stamp. It belongs to the image that was recorded last before it. To find this image, the
    messages of the image topics are read as well, but not decoded.

    Args:
        bag: The recording.
        topic: The topic; see `detection_topic`.
        images: Names of the image topics.
        start: For a RegionOfInterest, only messages logged at or after this time, in ns; None for all.
        stop: For a RegionOfInterest, only messages logged before this time, in ns; None for all.

    Raises:
        OSError: The recording cannot be read any more.
    """
    if topic.type != ROI:
        # Detections are logged later than their images, so that the interval does not hold for them.
        for message in bag.messages([topic.name]):
            if message.type == topic.type:
                yield _read(message.data, topic.type, None)
        return
    frame = -1
    for message in bag.messages({topic.name, *images}, start, stop):
        if message.topic == topic.name:
            if message.type == topic.type:
                yield _read(message.data, topic.type, frame)
        elif message.type in IMAGE_TYPES:
            frame += 1


@functools.cache
def _types() -> Typestore:
    types = get_typestore(Stores.ROS2_JAZZY)
    found: dict[str, Any] = {}
    for name, definition in DEFINITIONS.items():
        found.update(get_types_from_msg(definition, name))
    types.register(found)
    return types


def _read(data: bytes, kind: str, frame: int | None) -> DetectionMessage:
    if len(data) > BYTES_MAX:
        error = f"it has {len(data) / MIB:,.1f} MiB, the limit is {BYTES_MAX / MIB:g} MiB"
        return DetectionMessage(0, "", frame, None, error)
    try:
        message = deserialize(_types(), data, kind)
        if frame is not None:
            return DetectionMessage(0, "", frame, message)
        stamp = int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)
        return DetectionMessage(stamp, str(message.header.frame_id), None, message)
    except Exception as error:  # damaged bytes raise all kinds
        expected = ", with the fields of version 4 (ROS 2 Humble and later)" if kind == VISION else ""
        text = f"it is no {kind}{expected}: {type(error).__name__}: {error}".rstrip(": ")
        return DetectionMessage(0, "", frame, None, text)


def _others(bag: BagReader) -> str:
    """Return the end of a sentence, which names the topics with detections."""
    found = [topic for topic in bag.topics if topic.type in DETECTION_TYPES and topic.count]
    if not found:
        return f". No topic has detections ({_or(DETECTION_TYPES)}): record the detector's topic as well"
    more = f" and {len(found) - NAMED} others" if len(found) > NAMED else ""
    named = ", ".join(f"{topic.name} ({topic.type}, {topic.count} messages)" for topic in found[:NAMED])
    return f". Topics with detections: {named}{more}"


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
