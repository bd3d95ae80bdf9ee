"""One file of a recording, MCAP or sqlite3, intact or damaged: its topics, times and messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from rosbags.interfaces import Qos

from explain_cnn_ros.bags.compression import unpack_zstd, zstd
from explain_cnn_ros.bags.limits import MIB, plausible_bytes

#: First bytes of a compressed message. A CDR message begins with a zero byte.
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

#: Log times are in this range, in ns.
TIME_MIN, TIME_MAX = -(2**63), 2**63 - 1

#: End of a sentence about messages of ROS 1. Converters to MCAP leave them as they are.
ROS1_CURE = ": convert the .bag with `rosbags-convert --src <it> --dst <new directory>`"


@dataclass(frozen=True)
class Topic:
    """A topic of a recording. A topic with messages of two types is listed twice.

    Attributes:
        name: Name of the topic.
        type: Type of its messages, for instance "sensor_msgs/msg/Image".
        count: Number of messages that can be read.
        qos: QoS that its publishers offered, one entry for each; empty if it was not recorded.
    """

    name: str
    type: str
    count: int
    qos: tuple[Qos, ...] = ()


class Message(NamedTuple):
    """A message as it was recorded.

    Attributes:
        topic: Topic of the message.
        stamp: Log time, in ns since 1970: the time at which the recorder received the message. The stamp of its header
            is inside of `data`.
        type: Type of the message, for instance "sensor_msgs/msg/Image".
        data: The serialized message, CDR.
    """

    topic: str
    stamp: int
    type: str
    data: bytes


Report = Callable[[str], None]


class StorageFile(Protocol):
    """A storage file of either kind.

    Attributes:
        name: Name of the file.
        topics: The topics.
        start: Log time of the first message, in ns; 0 if there is none.
        end: Log time of the last message, in ns; 0 if there is none.
    """

    name: str
    topics: list[Topic]
    start: int
    end: int

    def messages(self, topics: Collection[str], start: int, stop: int) -> Iterator[Message]:
        """Yield the messages of some topics, logged at or after `start` and before `stop` (in ns)."""

    def close(self) -> None:
        """Close the file."""


def message_type(name: str) -> str:
    """Return the name of a message type as ROS 2 spells it, of the spelling of ROS 1, C++ or DDS.

    For instance, `sensor_msgs/Image` and `sensor_msgs::msg::dds_::Image_` become `sensor_msgs/msg/Image`.
    """
    parts = re.split(r"/|::|\.", name.strip())
    if len(parts) == 4 and parts[2] == "dds_":
        parts = [*parts[:2], parts[3].removesuffix("_")]
    if len(parts) == 2:
        parts.insert(1, "msg")
    return "/".join(parts) if len(parts) == 3 and all(parts) else name


def unpacked(message: Message, limit: int, report: Report) -> Message | None:
    """Return a message, decompressed if it is compressed by itself; None if it cannot be decompressed.

    Args:
        message: The message.
        limit: Maximum number of bytes of the decompressed message.
        report: Called with a sentence if the message cannot be decompressed.
    """
    if message.data[:4] != ZSTD_MAGIC:
        return message
    limit = plausible_bytes(len(message.data), limit)
    left_out = f"{message.topic}: left out the message of {message.stamp} ns"
    try:
        declared = zstd.get_frame_info(message.data).decompressed_size
        data = b"" if declared is not None and declared > limit else unpack_zstd(message.data, limit)
    except zstd.ZstdError as error:
        report(f"{left_out}: it cannot be decompressed: {error}")
        return None
    if not data or len(data) > limit:
        report(f"{left_out}: it unpacks to more than {limit / MIB:,.0f} MiB, its limit (--unpacked-mib-max)")
        return None
    return message._replace(data=data)


def is_cdr(encoding: str, topic: str, path: Path, report: Report) -> bool:
    """Whether messages are serialized as ROS 2 does. If they are not, this is reported.

    Args:
        encoding: Serialization of the messages.
        topic: Their topic.
        path: The file.
        report: Called with a sentence.
    """
    if encoding != "cdr":
        cure = ROS1_CURE if encoding == "ros1" else ""
        report(f"{path.name}: left out {topic}: its messages are {encoding!r}, not 'cdr' as those of ROS 2{cure}")
    return encoding == "cdr"


def report_missing(path: Path, topic: str, given: int, announced: int, report: Report) -> None:
    """Report messages that a file announces and that cannot be read.

    Args:
        path: The file.
        topic: Topic of the messages.
        given: Number of the messages that can be read.
        announced: Number of messages that the file announces.
        report: Called with a sentence.
    """
    if given < announced:
        report(f"{path.name}: {given} of the {announced} messages on {topic} that the file announces can be read")
