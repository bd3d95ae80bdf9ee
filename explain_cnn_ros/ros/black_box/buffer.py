"""The newest messages in memory, bounded in bytes and in seconds; without ROS."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from rosbags.interfaces import Qos

#: Bytes that a message takes in addition to its data.
OVERHEAD = 300

#: Type of the latched messages of which all are needed, since each publisher has its own part of the tree.
TRANSFORMS = "tf2_msgs/msg/TFMessage"

#: Maximum number and maximum bytes of the latched messages, which are stored at any age.
LATCHED_MAX, LATCHED_BYTES = 200, 16 * 2**20


@dataclass(frozen=True)
class RecordedChannel:
    """A topic with its type.

    Attributes:
        topic: Full name of the topic.
        type: Type of its messages, for instance "sensor_msgs/msg/Image".
        qos: QoS that its publishers offer.
        latched: Whether its publishers store messages for late subscribers.
    """

    topic: str
    type: str
    qos: tuple[Qos, ...] = field(default=(), compare=False)
    latched: bool = False


class StoredMessage(NamedTuple):
    """A message in memory.

    Attributes:
        time: Time of its arrival, in seconds of a clock that does not jump.
        stamp: Log time, in nanoseconds since 1970.
        channel: The topic.
        data: The serialized message.
    """

    time: float
    stamp: int
    channel: RecordedChannel
    data: bytes

    @property
    def size(self) -> int:
        """Number of bytes in memory."""
        return len(self.data) + OVERHEAD


class MessageBuffer:
    """Stores the newest messages for one thread that adds them, and one that reads them.

    The bytes are bounded strictly: if there is no room, the oldest messages go, also those that are still to be read.
    Messages that are older than the given seconds go if nobody is to read them.

    Args:
        bytes_max: Maximum number of bytes of all messages together, with OVERHEAD for each.
        seconds: Maximum age of a message compared with the newest one.

    Attributes:
        lost: Number of messages that went although they were still to be read, or that were too large.
        gone: Time of the newest message that went; minus infinity before.
    """

    def __init__(self, bytes_max: int, seconds: float) -> None:
        self._bytes_max, self._seconds = bytes_max, seconds
        self._entries: deque[StoredMessage] = deque()
        self._first = 0  # number of the oldest entry
        self._needed: int | None = None
        self._bytes = 0
        self._cut = -math.inf  # last time at which the bytes left less than `seconds`
        self._latched: OrderedDict[tuple[RecordedChannel, bytes], StoredMessage] = OrderedDict()
        self._latched_bytes = 0
        self._lock = threading.Lock()
        self.lost = 0
        self.gone = -math.inf

    @property
    def bytes(self) -> int:
        """Number of bytes of all messages."""
        return self._bytes + self._latched_bytes

    @property
    def seconds(self) -> float:
        """Time between the oldest and the newest message."""
        with self._lock:
            return self._entries[-1].time - self._entries[0].time if self._entries else 0.0

    @property
    def short(self) -> bool:
        """Whether messages went early in the last time, because of their bytes."""
        with self._lock:
            return bool(self._entries) and self._entries[-1].time - self._cut < self._seconds

    def resize(self, bytes_max: int, seconds: float) -> None:
        """Change the bounds."""
        with self._lock:
            self._bytes_max, self._seconds = bytes_max, seconds
            self._cut = -math.inf
            self._evict()

    def add(self, entry: StoredMessage) -> None:
        """Add a message. Its time is not before that of the message added before."""
        with self._lock:
            if entry.channel.latched:
                self._add_latched(entry)
            if entry.size > self._bytes_max:
                self.lost += 1
                return
            self._entries.append(entry)
            self._bytes += entry.size
            self._evict()

    def _add_latched(self, entry: StoredMessage) -> None:
        key = entry.channel, entry.data if entry.channel.type == TRANSFORMS else b""
        if (former := self._latched.pop(key, None)) is not None:
            self._latched_bytes -= former.size
        self._latched[key] = entry
        self._latched_bytes += entry.size
        while len(self._latched) > LATCHED_MAX or self._latched_bytes > min(LATCHED_BYTES, self._bytes_max):
            self._latched_bytes -= self._latched.popitem(last=False)[1].size

    def _evict(self) -> None:
        while self._bytes + self._latched_bytes > self._bytes_max and self._entries:
            if self._needed is not None and self._first >= self._needed:
                self.lost += 1
            if self._entries[-1].time - self._entries[0].time < self._seconds:
                self._cut = self._entries[-1].time
            self._remove_oldest()
        while (
            self._entries
            and self._entries[0].time < self._entries[-1].time - self._seconds
            and (self._needed is None or self._first < self._needed)
        ):
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        oldest = self._entries.popleft()
        self._bytes -= oldest.size
        self._first += 1
        self.gone = oldest.time

    # The reader. Entries have numbers, which count all entries that were ever added.

    def first_since(self, time: float) -> int:
        """Return the number of the first entry at or after a time."""
        with self._lock:
            return self._first + sum(1 for _ in itertools.takewhile(lambda entry: entry.time < time, self._entries))

    def need(self, number: int | None) -> None:
        """Keep the entries with this number and above until they are read; None: no entry is to be read."""
        with self._lock:
            self._needed = number
            self._evict()

    def take(self, number: int, until: float, bytes_max: int) -> tuple[list[StoredMessage], int]:
        """Return the next entries and the number after them. The entries stay in the buffer.

        Args:
            number: Number of the first entry.
            until: Only entries at or before this time.
            bytes_max: Maximum number of bytes, unless the first entry alone has more.
        """
        taken: list[StoredMessage] = []
        with self._lock:
            number = max(number, self._first)
            size = 0
            for entry in itertools.islice(self._entries, number - self._first, None):
                size += entry.size
                if entry.time > until or (taken and size > bytes_max):
                    break
                taken.append(entry)
        return taken, number + len(taken)

    def fitting(self, number: int, before: float, bytes_max: int) -> tuple[int, bool]:
        """Return the number of the first entry such that the entries before a time have a number of bytes at most.

        Args:
            number: The result is at least this.
            before: The time.
            bytes_max: The number of bytes.

        Returns:
            The number, and whether entries in the memory are left out because of their bytes.
        """
        with self._lock:
            number = max(number, self._first)
            found = [e.size for e in itertools.islice(self._entries, number - self._first, None) if e.time < before]
        total, left_out = sum(found), False
        for size in found:
            if total <= bytes_max:
                break
            total -= size
            number += 1
            left_out = True
        return number, left_out

    def latched_before(self, number: int) -> list[StoredMessage]:
        """Return the latched messages that are older than the entry with a number, the oldest first."""
        with self._lock:
            later = itertools.islice(self._entries, max(number - self._first, 0), None)
            newer = {(e.channel, e.data) for e in later if e.channel.latched}
            return [entry for entry in self._latched.values() if (entry.channel, entry.data) not in newer]
