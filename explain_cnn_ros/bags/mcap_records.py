"""The records of an MCAP file. The format: https://mcap.dev/spec."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from explain_cnn_ros.bags.compression import unpack_lz4, unpack_zstd
from explain_cnn_ros.bags.limits import MIB, LimitError, plausible_bytes

MAGIC = b"\x89MCAP0\r\n"
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX = 0x02, 0x03, 0x04, 0x05, 0x06, 0x08
STATISTICS, DATA_END = 0x0B, 0x0F
#: Bytes of a record before its content: opcode and length.
HEAD = 9
#: Bytes of a message's content before its data: channel, sequence, log time and publish time.
MESSAGE_HEAD = 22
#: Bytes of a chunk's content before its records, without the name of the compression.
CHUNK_HEAD = 40


class Channel(NamedTuple):
    """A channel of an MCAP file: a topic with one type of messages.

    Attributes:
        topic: Name of the topic.
        type: Type of its messages.
        encoding: Serialization of its messages: "cdr" in all recordings of ROS 2.
        qos: QoS of the publishers as YAML; "" if it was not recorded.
    """

    topic: str
    type: str
    encoding: str
    qos: str


class ChunkHead(NamedTuple):
    """The fields of a chunk before its records.

    Attributes:
        start: Smallest log time, in ns.
        end: Largest log time, in ns.
        size: Number of bytes of the unpacked records.
        checksum: CRC-32 of the unpacked records; 0 for none.
        compression: "zstd", "lz4" or "".
        packed: Number of bytes of the packed records.
        at: Position of the packed records in the content of the chunk.
    """

    start: int
    end: int
    size: int
    checksum: int
    compression: str
    packed: int
    at: int


class Declarations:
    """Channels and schemas that have been read.

    Attributes:
        channels: Channels by number. A channel whose schema is unknown has the type "".
    """

    def __init__(self) -> None:
        self.channels: dict[int, Channel] = {}
        self._schemas: dict[int, str] = {}
        self._schema_of: dict[int, int] = {}
        self._without_schema: dict[int, list[int]] = {}  # channels that came before their schema

    def add(self, opcode: int, content: bytes | memoryview) -> None:
        """Add a schema or a channel; other records are ignored.

        Raises:
            ValueError: The record is damaged.
            struct.error: The record ends within a number.
        """
        fields = Fields(content)
        if opcode == SCHEMA:
            (number,) = fields.numbers("<H")
            self._schemas[number] = fields.text()
            for channel in self._without_schema.pop(number, ()):
                if self._schema_of[channel] == number:
                    self.channels[channel] = self.channels[channel]._replace(type=self._schemas[number])
        elif opcode == CHANNEL:
            number, schema = fields.numbers("<HH")
            topic, encoding, metadata = fields.text(), fields.text(), Fields(fields.block())
            qos = ""
            while metadata.left():
                key, value = metadata.text(), metadata.text()
                qos = value if key == "offered_qos_profiles" else qos
            self.channels[number] = Channel(topic, self._schemas.get(schema, ""), encoding, qos)
            self._schema_of[number] = schema
            if schema not in self._schemas:
                self._without_schema.setdefault(schema, []).append(number)

    @property
    def complete(self) -> bool:
        """Whether the schemas of all channels are known."""
        return all(schema == 0 or schema in self._schemas for schema in self._schema_of.values())


def chunk_head(content: bytes) -> ChunkHead:
    """Return the head of a chunk.

    Args:
        content: The content of the record, or its beginning.

    Raises:
        ValueError: The content is damaged.
        struct.error: The content ends within the head.
    """
    fields = Fields(content)
    start, end, size, checksum = fields.numbers("<QQQI")
    compression = fields.text()
    (packed,) = fields.numbers("<Q")
    return ChunkHead(start, end, size, checksum, compression, packed, fields.at)


def unpack_chunk(content: bytes, whole: bool, limit: int) -> bytes:
    """Return the records of a chunk, verified if it is complete; of a chunk that was cut off, those that are left.

    Args:
        content: The content of the record.
        whole: Whether the record is complete.
        limit: Maximum number of bytes of the unpacked records.

    Raises:
        LimitError: The records are larger than the limit.
        ValueError: The chunk is damaged.
    """
    head = chunk_head(content)
    limit = plausible_bytes(len(content), limit)
    if head.size > limit:
        raise LimitError(
            f"it declares {head.size / MIB:,.0f} MiB, the limit is {limit / MIB:,.0f} MiB (--unpacked-mib-max)"
        )
    packed = content[head.at :]
    if whole and len(packed) != head.packed:
        raise ValueError(f"{len(packed)} packed bytes instead of {head.packed}")
    if head.compression == "zstd":
        records = unpack_zstd(packed, head.size)
    elif head.compression == "lz4":
        records = unpack_lz4(packed, head.size)
    elif head.compression == "":
        records = packed
    else:
        raise ValueError(f"unknown compression {head.compression!r}")
    if len(records) > head.size:
        raise ValueError(f"it unpacks to more than the {head.size} bytes that it declares")
    if whole and len(records) != head.size:
        raise ValueError(f"{len(records)} bytes instead of {head.size}")
    if whole and head.checksum and crc32(records) != head.checksum:
        raise ValueError("its checksum does not fit")
    return records


def records_of(content: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield opcode and content of each complete record. No record has the opcode 0, so there are none behind it."""
    view, at, size, head = memoryview(content), 0, len(content), struct.Struct("<BQ")
    while at + HEAD <= size:
        opcode, length = head.unpack_from(view, at)
        end = at + HEAD + length
        if opcode == 0 or end > size:
            return
        yield opcode, view[at + HEAD : end]
        at = end


class Fields:
    """The fields of a record, read one after another.

    Args:
        content: The content of the record.

    Raises:
        ValueError: The record ends within a field.
        struct.error: The record ends within a number.
    """

    def __init__(self, content: bytes | memoryview) -> None:
        self._content = content
        self.at = 0

    def numbers(self, code: str) -> tuple[int, ...]:
        """Read numbers in the notation of `struct`."""
        values = struct.unpack_from(code, self._content, self.at)
        self.at += struct.calcsize(code)
        return values

    def block(self) -> bytes:
        """Read bytes that are preceded by their number."""
        (length,) = self.numbers("<I")
        block = bytes(self._content[self.at : self.at + length])
        if len(block) != length:
            raise ValueError("a field is longer than its record")
        self.at += length
        return block

    def text(self) -> str:
        """Read a text that is preceded by its number of bytes."""
        return self.block().decode("utf-8", "backslashreplace")

    def left(self) -> bool:
        """Whether there are more fields."""
        return self.at < len(self._content)
