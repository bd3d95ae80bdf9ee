"""Reader of an MCAP file, with or without indexes, whole or damaged."""

from __future__ import annotations

import heapq
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from explain_cnn_ros.bags.limits import MIB, LimitError, Limits
from explain_cnn_ros.bags.mcap_layout import Block, Layout
from explain_cnn_ros.bags.mcap_records import (
    HEAD,
    MESSAGE,
    MESSAGE_HEAD,
    Channel,
    records_of,
    unpack_chunk,
)
from explain_cnn_ros.bags.mcap_walk import read_layout
from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.bags.qos import PROFILES_MAX, parse_qos
from explain_cnn_ros.bags.storage import (
    TIME_MAX,
    Message,
    Report,
    Topic,
    is_cdr,
    message_type,
    report_missing,
    unpacked,
)

#: Maximum number of bytes of chunks that overlap in time, which are unpacked at the same time.
OVERLAP_MAX = 512 * MIB

#: Log time, position in the file, position in the block, number of the channel, data.
_Found = tuple[int, int, int, int, memoryview]


class McapFile:
    """An MCAP file. The messages are found by the index where there is one, else by walking through the file.

    Args:
        path: The file.
        report: Called with a sentence for each damage that leaves something to read.
        limits: Maximum sizes of what is unpacked.

    Attributes:
        name: Name of the file.
        topics: The topics.
        start: Log time of the first message, in ns; 0 if there is none.
        end: Log time of the last message, in ns; 0 if there is none.

    Raises:
        ValueError: It is no MCAP file.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path, report: Report, limits: Limits) -> None:
        self._path, self._report, self._limits = path, report, limits
        self.name = printable(path.name)
        self._file = path.open("rb")
        try:
            layout = read_layout(self._file, path, report)
            self._blocks, self._declarations = layout.blocks, layout.declarations
            if layout.end > TIME_MAX:
                self._report_times()
            self.start, self.end = min(layout.start, TIME_MAX), min(layout.end, TIME_MAX)
            counts = layout.counts if layout.complete and layout.counts is not None else self._read_through(layout)
        except BaseException:
            self._file.close()
            raise
        self._counts = counts
        self._channels = {
            number: channel._replace(type=message_type(channel.type))
            for number, channel in self._declarations.channels.items()
            if is_cdr(channel.encoding, channel.topic, path, report)
        }
        self.topics = _topics(self._channels, counts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages(self, topics: Collection[str], start: int, stop: int) -> Iterator[Message]:
        """Yield the messages of some topics, logged at or after `start` and before `stop` (in ns), by log time."""
        wanted = {number: channel for number, channel in self._channels.items() if channel.topic in topics}
        given: Counter[int] = Counter()
        for stamp, _, _, number, data in self._merged(wanted, start, stop):
            given[number] += 1
            channel = wanted[number]
            message = Message(channel.topic, stamp, channel.type, bytes(data))
            plain = unpacked(message, self._limits.unpacked_bytes, self._report)
            if plain:
                yield plain
        if start <= self.start and stop > self.end:
            found: Counter[tuple[str, str]] = Counter()
            for number, channel in wanted.items():
                found[channel.topic, channel.type] += given[number]
            for topic in self.topics:
                if topic.name in topics:
                    report_missing(self._path, topic.name, found[topic.name, topic.type], topic.count, self._report)

    def _merged(self, wanted: Collection[int], start: int, stop: int) -> Iterator[_Found]:
        """Yield the messages of some channels by log time. Chunks that overlap in time are read together."""
        blocks = [
            block
            for block in self._blocks
            if block.start < stop
            and block.end >= start
            and (block.channels is None or not block.channels.isdisjoint(wanted))
        ]
        waiting: list[tuple[_Found, int, Iterator[_Found]]] = []
        held = 0
        for block in sorted(blocks):
            # The messages before this block come first; if too many blocks overlap, all messages do.
            while waiting and (waiting[0][0][:2] < block[:2] or held > OVERLAP_MAX):
                if waiting[0][0][:2] >= block[:2]:
                    self._report(f"{self._path.name}: too many chunks overlap in time: not all messages are in order")
                yield waiting[0][0]
                held -= _advance(waiting)
            records = self._records(block)
            found = [
                message
                for message in self._messages(records, block)
                if message[3] in wanted and start <= message[0] < stop
            ]
            ordered = iter(sorted(found, key=lambda message: message[:3]))
            if (first := next(ordered, None)) is not None:
                heapq.heappush(waiting, (first, len(records), ordered))
                held += len(records)
        while len(waiting) > 1:
            yield waiting[0][0]
            _advance(waiting)
        for first, _, ordered in waiting:
            yield first
            yield from ordered

    def _messages(self, records: bytes, block: Block) -> Iterator[_Found]:
        """Yield the messages among the records of a block."""
        for position, (opcode, content) in enumerate(records_of(records)):
            if opcode == MESSAGE and len(content) >= MESSAGE_HEAD:
                number, _, stamp = struct.unpack_from("<HIQ", content)
                if stamp > TIME_MAX:
                    self._report_times()
                elif number in self._declarations.channels:
                    yield stamp, block.offset, position, number, content[MESSAGE_HEAD:]
                else:
                    self._report(
                        f"{self._path.name}: the messages of channel {number} were left out: the record that names its "
                        "topic is missing or damaged"
                    )

    def _report_times(self) -> None:
        self._report(f"{self._path.name}: messages with log times after the year 2262 were left out")

    def _records(self, block: Block) -> bytes:
        """Return the records of a block; none if it is damaged or too large, which is reported."""
        limit = self._limits.unpacked_bytes
        try:
            if block.length > limit:
                raise LimitError(
                    f"it has {block.length / MIB:,.0f} MiB, the limit is {limit / MIB:,.0f} MiB (--unpacked-mib-max)"
                )
            self._file.seek(block.offset)
            content = self._file.read(block.length)
            if not block.chunk:
                return content
            return unpack_chunk(content[HEAD:], block.whole, limit)
        except OSError:
            raise
        except Exception as error:  # damaged bytes raise all kinds
            self._report(
                f"{self._path.name}: left out the damaged part at byte {block.offset} ({block.length} bytes): {error}"
            )
            return b""

    def _read_through(self, layout: Layout) -> dict[int, int]:
        """Read all blocks: count their messages, and find the channels and times that the file does not announce."""
        counts: Counter[int] = Counter()
        blocks = []
        for block in layout.blocks:
            records = self._records(block)
            try:
                for opcode, content in records_of(records):
                    if opcode != MESSAGE:
                        self._declarations.add(opcode, content)
            except (ValueError, struct.error) as error:
                self._report(f"{self._path.name}: a damaged record in the chunk at byte {block.offset}: {error}")
            found = [(stamp, number) for stamp, _, _, number, _ in self._messages(records, block)]
            counts.update(number for _, number in found)
            if found:
                channels = frozenset(number for _, number in found)
                blocks.append(block._replace(start=min(found)[0], end=max(found)[0], channels=channels))
        self._blocks = blocks
        self.start = min((block.start for block in blocks), default=0)
        self.end = max((block.end for block in blocks), default=0)
        for number, announced in (layout.counts or {}).items():
            if channel := self._declarations.channels.get(number):
                report_missing(self._path, channel.topic, counts[number], announced, self._report)
        return counts


def _advance(waiting: list[tuple[_Found, int, Iterator[_Found]]]) -> int:
    """Replace the first message of a heap by the next one of its block; return the bytes that are free then."""
    _, size, rest = waiting[0]
    following = next(rest, None)
    if following is None:
        heapq.heappop(waiting)
        return size
    heapq.heapreplace(waiting, (following, size, rest))
    return 0


def _topics(channels: dict[int, Channel], counts: dict[int, int]) -> list[Topic]:
    """Return the topics of channels; several channels of one topic and type are one topic."""
    found: dict[tuple[str, str], Topic] = {}
    for number, channel in channels.items():
        key = channel.topic, channel.type
        before = found.get(key, Topic(*key, 0))
        known = len(before.qos) >= PROFILES_MAX
        qos = before.qos if known else (before.qos + parse_qos(channel.qos))[:PROFILES_MAX]
        found[key] = Topic(*key, before.count + counts.get(number, 0), qos)
    return list(found.values())
