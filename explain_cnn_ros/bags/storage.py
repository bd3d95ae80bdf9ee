"""One file of a recording, MCAP or sqlite3, whole or damaged: its topics, its times, its messages."""

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

#: With what a compressed message begins. A CDR message begins with a zero byte.
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Topic:
    """A topic of a recording. A topic that carried two types is listed once for each of them.

    type: as ROS 2 writes it, `sensor_msgs/msg/Image`.
    count: messages that were recorded and can be read.
    qos: what its publishers offered, one entry a publisher; empty if that was not recorded.
    """

    name: str
    type: str
    count: int
    qos: tuple[Qos, ...] = ()


class Message(NamedTuple):
    """A message as it was recorded.

    stamp: when the recorder received it, ns since 1970. What its header says is inside `data`.
    data: the serialized message, CDR.
    """

    topic: str
    stamp: int
    type: str
    data: bytes


Report = Callable[[str], None]


class StorageFile(Protocol):
    """What a file of either kind gives. `start` and `end`: log times of its first and last message, ns."""

    topics: list[Topic]
    start: int
    end: int

    def messages(self, topics: Collection[str], start: int, stop: int) -> Iterator[Message]:
        """Messages of these topics, logged at or after `start` and before `stop` (ns)."""

    def close(self) -> None:
        """Free the file."""


def open_storage(path: Path, report: Report) -> StorageFile:
    """Open a .mcap or .db3 file by its index, or an MCAP file without one by reading it from front to back.

    Damage that leaves something to read is named to `report`.

    Raises:
        Exception: Nothing in the file can be read. What it is depends on the damage.
    """
    try:
        return IndexedFile(path, report)
    except Exception as error:
        if path.suffix != ".mcap":
            raise
        file = ScannedFile(path, report)
        found = sum(topic.count for topic in file.topics)
        reason = str(error).rstrip(".")
        report(f"{path.name}: read from front to back, for lack of its index ({reason}): {found} messages")
        return file


class IndexedFile:
    """A whole file, read with the rosbags library."""

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
        except Exception as error:  # whatever rosbags meets in damaged bytes
            self._report(f"{self._path.name}: damaged: {error}")
            if self._path.suffix == ".mcap":
                known = {c.id: _channel(c) for c in self._connections}
                yield from islice(_scanned(self._path, topics, start, stop, self._report, known), given, None)

    def close(self) -> None:
        self._reader.close()


class ScannedFile:
    """An MCAP file that lacks its index: gone through once for its topics, and again for its messages."""

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
        """Nothing is held open between two calls."""


def _scanned(
    path: Path, topics: Collection[str], start: int, stop: int, report: Report, known: dict[int, Channel]
) -> Iterator[Message]:
    for channel, stamp, data in scan(path, report, known):
        if channel.topic in topics and channel.encoding == "cdr" and start <= stamp < stop:
            message = _unpacked(Message(channel.topic, stamp, channel.type, data), report)
            if message:
                yield message


def _unpacked(message: Message, report: Report) -> Message | None:
    """The message, decompressed if it was compressed by itself; None if it cannot be."""
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
    """QoS from the YAML in a file; nothing if it is not what it should be."""
    with suppress(Exception):
        return tuple(parse_qos(text))
    return ()
