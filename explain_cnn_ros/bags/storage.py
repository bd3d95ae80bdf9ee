"""One file of a recording, MCAP or sqlite3, intact or damaged: its topics, times and messages."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from rosbags.interfaces import Connection, ConnectionExtRosbag2, Qos
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.metadata import parse_qos

from explain_cnn_ros.bags.mcap_scan import Channel, scan

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: First bytes of a compressed message. A CDR message begins with a zero byte.
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


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
        topics: The topics.
        start: Log time of the first message, in ns.
        end: Log time of the last message, in ns.
    """

    topics: list[Topic]
    start: int
    end: int

    def messages(self, topics: Collection[str], start: int, stop: int) -> Iterator[Message]:
        """Yield the messages of some topics, logged at or after `start` and before `stop` (in ns)."""

    def close(self) -> None:
        """Close the file."""


def open_storage(path: Path, report: Report) -> StorageFile:
    """Open a .mcap or .db3 file by its index. An MCAP file without an index is read from front to back.

    Args:
        path: The file.
        report: Called with a sentence for each damage that leaves something to read.

    Raises:
        Exception: Nothing in the file can be read. The type of the exception depends on the damage.
    """
    try:
        return IndexedFile(path, report)
    except Exception as error:
        if path.suffix != ".mcap":
            raise
        file = ScannedFile(path, report)
        found = sum(topic.count for topic in file.topics)
        reason = str(error).rstrip(".")
        report(f"{path.name}: read from front to back because its index is missing ({reason}): {found} messages")
        return file


class IndexedFile:
    """A file with an index, read with the rosbags library."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._report = report
        self._reader = Reader(path)
        self._reader.open()
        self._connections = [c for c in self._reader.connections if _is_cdr(_channel(c), path, report)]
        self.topics = [Topic(c.topic, c.msgtype, c.msgcount, _qos(c)) for c in self._connections]
        self.start = self._reader.start_time
        self.end = self._reader.end_time - 1

    def messages(self, topics: Collection[str], start: int, stop: int) -> Iterator[Message]:
        wanted = [c for c in self._connections if c.topic in topics]
        if not wanted:
            return
        given = 0
        try:
            for connection, stamp, data in self._reader.messages(wanted, start, stop):
                given += 1
                message = _unpacked(Message(connection.topic, stamp, connection.msgtype, data), self._report)
                if message:
                    yield message
        except Exception as error:  # damaged bytes raise all kinds
            self._report(f"{self._path.name}: damaged: {error}")
            if self._path.suffix == ".mcap":
                known = {c.id: _channel(c) for c in self._connections}
                yield from islice(_scanned(self._path, topics, start, stop, self._report, known), given, None)

    def close(self) -> None:
        self._reader.close()


class ScannedFile:
    """An MCAP file without an index. It is read once for its topics, and again for its messages."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._report = report
        counts: Counter[Channel] = Counter()
        self.start, self.end = 2**63 - 1, 0
        for channel, stamp, _ in scan(path, report):
            counts[channel] += 1
            self.start, self.end = min(self.start, stamp), max(self.end, stamp)
        self.topics = [
            Topic(channel.topic, channel.type, count, _parsed_qos(channel.qos))
            for channel, count in counts.items()
            if _is_cdr(channel, path, report)
        ]

    def messages(self, topics: Collection[str], start: int, stop: int) -> Iterator[Message]:
        return _scanned(self._path, topics, start, stop, self._report, {})

    def close(self) -> None:
        """Do nothing: no file is open between two calls."""


def _scanned(
    path: Path, topics: Collection[str], start: int, stop: int, report: Report, known: dict[int, Channel]
) -> Iterator[Message]:
    for channel, stamp, data in scan(path, report, known):
        if channel.topic in topics and channel.encoding == "cdr" and start <= stamp < stop:
            message = _unpacked(Message(channel.topic, stamp, channel.type, data), report)
            if message:
                yield message


def _unpacked(message: Message, report: Report) -> Message | None:
    """Return the message, decompressed if it is compressed by itself; None if it cannot be decompressed."""
    if message.data[:4] != ZSTD_MAGIC:
        return message
    try:
        return message._replace(data=zstd.decompress(message.data))
    except zstd.ZstdError as error:
        report(f"{message.topic}: left out the message of {message.stamp} ns: it cannot be decompressed: {error}")
        return None


def _is_cdr(channel: Channel, path: Path, report: Report) -> bool:
    if channel.encoding != "cdr":
        report(f"{path.name}: left out {channel.topic}: its messages are {channel.encoding!r}, not 'cdr'")
    return channel.encoding == "cdr"


def _channel(connection: Connection) -> Channel:
    ext = connection.ext
    encoding = ext.serialization_format if isinstance(ext, ConnectionExtRosbag2) else "ros1"
    return Channel(connection.topic, connection.msgtype, encoding, qos="")


def _qos(connection: Connection) -> tuple[Qos, ...]:
    ext = connection.ext
    return tuple(ext.offered_qos_profiles) if isinstance(ext, ConnectionExtRosbag2) else ()


def _parsed_qos(text: str) -> tuple[Qos, ...]:
    """Parse the QoS in a file, which is YAML; return nothing if it is malformed."""
    with suppress(Exception):
        return tuple(parse_qos(text))
    return ()
