"""Reads an MCAP file from its first record on, without index or footer, as far as it is whole.

A recorder that was killed, or a disk that ran full, leaves a file that ends in the middle of a record and has
no index. Everything before that place is as good as ever. The format: https://mcap.dev/spec
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
#: A record that claims to go on beyond the end of the file, with more bytes than this left, is no chunk.
LONGEST_CHUNK = 2**28
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
WANTED = (SCHEMA, CHANNEL, MESSAGE, CHUNK)


class Channel(NamedTuple):
    """Where a message was published."""

    topic: str
    type: str
    encoding: str
    """How its messages are serialized: `cdr` in everything that ROS 2 records."""
    qos: str
    """The publishers' QoS as YAML, empty if it was not recorded."""


def scan(
    path: Path, report: Callable[[str], None], known: Mapping[int, Channel] | None = None
) -> Iterator[tuple[Channel, int, bytes]]:
    """Yield channel, log time (ns) and payload of each message, chunk by chunk, by time within a chunk.

    What cannot be read is left out and named to `report`. `known` are channels by their number, known from
    elsewhere: the file may declare them in a place that is damaged.

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
            if opcode == 0:  # the tail that a crash leaves: part of a record's head, or zeros
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
            except Exception as error:  # whatever a parser or a decompressor meets in damaged bytes
                report(f"{path.name}: left out the damaged record at byte {offset} ({length} bytes): {error}")
        if whole:
            report(f"{path.name}: ends without a footer: the recording was not closed")


def _messages(
    records: Iterator[tuple[int, bytes]],
    names: dict[int, str],
    channels: dict[int, Channel],
    report: Callable[[str], None],
) -> Iterator[tuple[Channel, int, bytes]]:
    """The messages among the records. Schemas and channels met on the way go into `names` and `channels`."""
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
                report(f"the messages of channel {number} were left out: what names its topic is damaged")


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and content of each whole record in a chunk."""
    at = 0
    while at + 9 <= len(content):
        opcode, length = struct.unpack_from("<BQ", content, at)
        if at + 9 + length > len(content):
            return
        yield opcode, content[at + 9 : at + 9 + length]
        at += 9 + length


def _unpack_chunk(content: bytes, whole: bool) -> bytes:
    """The records of a chunk: all of them, verified, or what a chunk that was cut off still gives."""
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
    """The fields of a record, taken one after another.

    Raises:
        ValueError, struct.error: The record ends within a field.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def numbers(self, code: str) -> tuple[int, ...]:
        values = struct.unpack_from(code, self._content, self._at)
        self._at += struct.calcsize(code)
        return values

    def block(self) -> bytes:
        """Bytes that are preceded by their number."""
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
