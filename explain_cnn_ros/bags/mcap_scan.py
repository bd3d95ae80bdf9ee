"""Reader of an MCAP file without index or footer: record by record, until the file ends.

A recorder that was killed, or a disk that ran full, leaves a file that ends in the middle of a record and has
no index. Everything before that place is intact. The format: https://mcap.dev/spec
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from lz4.frame import LZ4FrameDecompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
#: A record that ends behind the end of the file is no chunk if more bytes than this are left.
LONGEST_CHUNK = 2**28
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
WANTED = (SCHEMA, CHANNEL, MESSAGE, CHUNK)


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


def scan(
    path: Path, report: Callable[[str], None], known: Mapping[int, Channel] | None = None
) -> Iterator[tuple[Channel, int, bytes]]:
    """Yield channel, log time (in ns) and payload of each message, chunk by chunk, by time within a chunk.

    Args:
        path: The file.
        report: Called with a sentence for each part that cannot be read and is left out.
        known: Channels by their number, known from elsewhere: the file may declare them in a damaged place. None for
            none.

    Raises:
        ValueError: The file does not begin as an MCAP file does.
    """
    names: dict[int, str] = {}
    channels = dict(known or {})
    with path.open("rb") as file:
        size = path.stat().st_size
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin as an MCAP file does")
        whole = True
        while (offset := file.tell()) < size:
            head = file.read(9)
            opcode, length = struct.unpack("<BQ", head) if len(head) == 9 else (0, 0)
            if opcode == DATA_END:
                return
            if opcode == 0:  # a crash leaves part of a record's head, or zeros
                report(f"{path.name}: cut off at byte {offset}: no record begins there")
                return
            left = size - file.tell()
            whole = length <= left
            if not whole:
                report(f"{path.name}: cut off after {size} bytes, within a record that begins at {offset}")
            if opcode not in WANTED or LONGEST_CHUNK < left < length:
                file.seek(min(length, left), 1)
                continue
            content = file.read(length)
            try:
                if opcode == CHUNK:
                    records = _records(_unpack_chunk(content, whole))
                else:
                    records = iter([(opcode, content)] if whole else [])
                yield from sorted(_messages(records, names, channels, report), key=lambda message: message[1])
            except Exception as error:  # damaged bytes raise all kinds
                report(f"{path.name}: left out the damaged record at byte {offset} ({length} bytes): {error}")
        if whole:
            report(f"{path.name}: ends without a footer: the recording was not closed")


def _messages(
    records: Iterator[tuple[int, bytes]],
    names: dict[int, str],
    channels: dict[int, Channel],
    report: Callable[[str], None],
) -> Iterator[tuple[Channel, int, bytes]]:
    """Yield the messages among the records, and add their schemas and channels to `names` and `channels`."""
    for opcode, content in records:
        if opcode == SCHEMA:
            fields = _Fields(content)
            (schema,) = fields.numbers("<H")
            names[schema] = fields.text()
        elif opcode == CHANNEL:
            fields = _Fields(content)
            number, schema = fields.numbers("<HH")
            topic, encoding, metadata = fields.text(), fields.text(), _Fields(fields.block())
            qos = ""
            while metadata.left():
                key, value = metadata.text(), metadata.text()
                qos = value if key == "offered_qos_profiles" else qos
            channels[number] = Channel(topic, names.get(schema, ""), encoding, qos)
        elif opcode == MESSAGE:
            number, _, stamp, _ = struct.unpack_from("<HIQQ", content)
            if number in channels:
                yield channels[number], stamp, content[22:]
            else:
                report(f"the messages of channel {number} were left out: the record that names its topic is damaged")


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield opcode and content of each complete record in a chunk."""
    at = 0
    while at + 9 <= len(content):
        opcode, length = struct.unpack_from("<BQ", content, at)
        if at + 9 + length > len(content):
            return
        yield opcode, content[at + 9 : at + 9 + length]
        at += 9 + length


def _unpack_chunk(content: bytes, whole: bool) -> bytes:
    """Return the records of a chunk, verified if it is complete; of a chunk that was cut off, those that are left."""
    fields = _Fields(content)
    _, _, size, checksum = fields.numbers("<QQQI")
    compression = fields.text()
    fields.numbers("<Q")
    packed = fields.rest()
    if compression == "zstd":
        records = zstd.ZstdDecompressor().decompress(packed)
    elif compression == "lz4":
        records = bytes(LZ4FrameDecompressor().decompress(packed))
    elif compression == "":
        records = packed
    else:
        raise ValueError(f"unknown compression {compression!r}")
    if whole and len(records) != size:
        raise ValueError(f"{len(records)} bytes instead of {size}")
    if whole and checksum and crc32(records) != checksum:
        raise ValueError("its checksum does not fit")
    return records


class _Fields:
    """The fields of a record, read one after another.

    Raises:
        ValueError: The record ends within a field.
        struct.error: The record ends within a number.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def numbers(self, code: str) -> tuple[int, ...]:
        values = struct.unpack_from(code, self._content, self._at)
        self._at += struct.calcsize(code)
        return values

    def block(self) -> bytes:
        """Read bytes that are preceded by their number."""
        (length,) = self.numbers("<I")
        block = self._content[self._at : self._at + length]
        if len(block) != length:
            raise ValueError("a field is longer than its record")
        self._at += length
        return block

    def text(self) -> str:
        return self.block().decode()

    def rest(self) -> bytes:
        return self._content[self._at :]

    def left(self) -> bool:
        return self._at < len(self._content)
