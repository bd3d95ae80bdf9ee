"""The choice among the image topics of a recording: colour is preferred over grey, and grey over depth."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from explain_cnn_ros.bags.storage import Message, Topic

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")

_DEPTH_NAME = re.compile(
    r"depth|disparity|disparities|point_?cloud|confidence|segmentation|(^|[/_])(mask|labels?)([/_]|$)"
)
#: Pictures that the node of this package has drawn. They show the camera's images as well.
_OVERLAY_NAME = re.compile(r"/overlay(/compressed)?$")
_GREY_NAME = re.compile(r"infra|thermal|lwir|(^|[/_])(ir|mono|gr[ae]y)\d*([/_]|$)")


class Look(IntEnum):
    """The kind of images on a topic; the first one is preferred."""

    COLOUR = 0
    GREY = 1
    DEPTH = 2


class ImageTopic(NamedTuple):
    """An image topic and the kind of its images.

    Attributes:
        topic: The topic.
        look: Kind of its images.
        encoding: `encoding` or `format` of its first message; "" if it cannot be read.
    """

    topic: Topic
    look: Look
    encoding: str


def classify(topic: Topic, first: Message | None) -> ImageTopic:
    """Return the kind of images on a topic, by its name and its first message.

    Args:
        topic: The topic.
        first: Its first message; None if there is none that can be read.
    """
    encoding = _encoding(first) if first is not None else ""
    return ImageTopic(topic, max(_look_of_name(topic.name), _look_of_encoding(encoding)), encoding)


def preferred(topics: Sequence[ImageTopic]) -> ImageTopic:
    """Return the topic to analyse: one with colour images; among several, the one with the most messages.

    Overlays of the node of this package come after the images of cameras of the same kind.
    """
    return min(
        topics,
        key=lambda found: (
            found.look,
            # "/depth_camera/image_raw" is the colour of a camera that measures depth as well.
            _look_of_encoding(found.encoding),
            _OVERLAY_NAME.search(found.topic.name) is not None,
            -found.topic.count,
        ),
    )


def _look_of_name(name: str) -> Look:
    # "aligned_depth_to_color" is depth, so its words are not searched for colour.
    lower = name.lower()
    if _DEPTH_NAME.search(lower):
        return Look.DEPTH
    return Look.GREY if _GREY_NAME.search(lower) else Look.COLOUR


def _look_of_encoding(encoding: str) -> Look:
    if "compressedDepth" in encoding or re.match(r"(16UC1|16SC1|32FC1|32SC1|64FC1)\b", encoding):
        return Look.DEPTH
    return Look.GREY if re.match(r"(mono|8UC1)", encoding) else Look.COLOUR


def _encoding(message: Message) -> str:
    """Return `encoding` of an Image, or `format` of a CompressedImage, from the serialized message."""
    data = message.data
    order = "<" if data[1:2] == b"\x01" else ">"
    try:
        # CDR aligns numbers by their position after the header of 4 bytes.
        at = 4 + 8  # stamp
        at = _behind_text(data, at, order)
        if message.type == IMAGE_TYPES[0]:
            at = _aligned(at) + 8  # height and width
        return _text(data, _aligned(at), order)
    except struct.error:
        return ""


def _aligned(at: int) -> int:
    return at + -at % 4


def _behind_text(data: bytes, at: int, order: str) -> int:
    (length,) = struct.unpack_from(f"{order}I", data, at)
    return int(at + 4 + length)


def _text(data: bytes, at: int, order: str) -> str:
    (length,) = struct.unpack_from(f"{order}I", data, at)
    return data[at + 4 : at + 4 + min(length, 256)].split(b"\0")[0].decode("utf-8", "replace")
