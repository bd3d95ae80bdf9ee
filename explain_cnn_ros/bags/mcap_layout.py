"""The layout of an MCAP file: its parts with messages, as the summary at the end of the file lists them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple
from zlib import crc32

from explain_cnn_ros.bags.mcap_records import (
    CHUNK_INDEX,
    FOOTER,
    HEAD,
    MAGIC,
    STATISTICS,
    Declarations,
    Fields,
    records_of,
)

#: Bytes of a footer and the magic at the end of a file.
END = HEAD + 20 + len(MAGIC)

#: Maximum number of bytes of a schema, a channel or the summary, which are read as a whole.
DECLARATION_MAX = 256 * 1024**2


class Block(NamedTuple):
    """A part of the file with messages.

    Attributes:
        start: Smallest log time, in ns.
        offset: Position of the first record.
        end: Largest log time, in ns.
        length: Number of bytes.
        chunk: Whether the block is a chunk; otherwise it is a series of records outside of chunks.
        whole: Whether the block is complete; otherwise the file ends within.
        channels: Numbers of the channels that have messages in the block; None if they are not known.
    """

    start: int
    offset: int
    end: int
    length: int
    chunk: bool
    whole: bool = True
    channels: frozenset[int] | None = None


@dataclass
class Layout:
    """The layout of a file.

    Attributes:
        declarations: The channels that are declared outside of chunks.
        blocks: The parts with messages, in the order of the file.
        counts: Number of messages by channel, as the file announces it; None if it does not.
        start: Log time of the first message as the file announces it, in ns.
        end: Log time of the last message as the file announces it, in ns.
        closed: Whether the file has a footer.
        complete: Whether the file announces all of its channels and counts.
    """

    declarations: Declarations = field(default_factory=Declarations)
    blocks: list[Block] = field(default_factory=list)
    counts: dict[int, int] | None = None
    start: int = 0
    end: int = 0
    closed: bool = False
    complete: bool = False


def read_summary(file: BinaryIO, size: int, layout: Layout) -> dict[int, tuple[Block, int]]:
    """Read the summary into a layout; return the listed chunks, and where their indexes end, by position.

    Nothing is read if the file has no footer, or a footer without a summary.

    Raises:
        ValueError: The summary is damaged.
    """
    if size < len(MAGIC) + END:
        return {}
    file.seek(size - END)
    end = file.read(END)
    opcode, length, start, _, checksum, magic = struct.unpack("<BQQQI8s", end)
    if magic != MAGIC or opcode != FOOTER or length != 20:
        return {}
    layout.closed = True
    if start == 0:
        return {}
    if not len(MAGIC) <= start <= size - END or size - END - start > DECLARATION_MAX:
        raise ValueError(f"its summary cannot begin at byte {start}")
    file.seek(start)
    summary = file.read(size - END - start)
    if checksum and crc32(end[: HEAD + 16], crc32(summary)) != checksum:
        raise ValueError("the checksum of its summary does not fit")
    indexed, total, channels, read = dict[int, tuple[Block, int]](), 0, 0, 0
    for opcode, content in records_of(summary):
        read += HEAD + len(content)
        layout.declarations.add(opcode, content)
        if opcode == CHUNK_INDEX:
            block, behind = _indexed_chunk(content)
            if not len(MAGIC) <= block.offset < behind <= start:
                raise ValueError(f"a chunk of {block.length} bytes cannot begin at byte {block.offset}")
            indexed[block.offset] = block, behind
        elif opcode == STATISTICS:
            fields = Fields(content)
            total, _, channels, _, _, _, layout.start, layout.end = fields.numbers("<QHIIIIQQ")
            counts = Fields(fields.block())
            layout.counts = {}
            while counts.left():
                number, count = counts.numbers("<HQ")
                layout.counts[number] = count
    if read != len(summary):
        raise ValueError(f"{len(summary) - read} bytes of the summary are no record")
    declared = layout.declarations
    # Writers may leave out the numbers of some channels, or of all.
    counted = layout.counts is not None and sum(layout.counts.values()) >= total
    layout.complete = counted and len(declared.channels) >= channels and declared.complete
    return indexed


def _indexed_chunk(content: memoryview) -> tuple[Block, int]:
    """Return the chunk of an index record, and where the indexes of its messages end."""
    fields = Fields(content)
    start, end, offset, length = fields.numbers("<QQQQ")
    offsets = Fields(fields.block())
    (indexes,) = fields.numbers("<Q")
    channels = set()
    while offsets.left():
        number, _ = offsets.numbers("<HQ")
        channels.add(number)
    return Block(start, offset, end, length, True, True, frozenset(channels) or None), offset + length + indexes
