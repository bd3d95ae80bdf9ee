"""A walk through an MCAP file, with or without indexes, whole or damaged.

Every byte of the data section is accounted for. Chunks that the summary lists are skipped by their lengths there;
everything else is walked record by record. A file without any index is walked completely.
"""

from __future__ import annotations

import bisect
import mmap
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from explain_cnn_ros.bags.mcap_layout import DECLARATION_MAX, Block, Layout, read_summary
from explain_cnn_ros.bags.mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_HEAD,
    DATA_END,
    FOOTER,
    HEAD,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    SCHEMA,
    ChunkHead,
    chunk_head,
)

#: Consecutive messages outside of chunks form blocks of about this number of bytes.
LOOSE_BYTES = 4 * 1024**2

#: Maximum number of channels of a block. A set of them is copied for each new one.
LOOSE_CHANNELS = 256

#: An uncompressed chunk of more bytes than this is read message by message.
LONG_CHUNK = 64 * 1024**2

#: Possible beginnings of a message or a chunk, whose lengths are below 2^40. Matches may overlap. An expression with a
#: lookahead would find all of them in one pass, but it would take several times as long.
_BEGINNING = re.compile(rb"[\x05\x06].{5}\x00\x00\x00", re.DOTALL)

Report = Callable[[str], None]


def read_layout(file: BinaryIO, path: Path, report: Report) -> Layout:
    """Find the messages of a file.

    Args:
        file: The file.
        path: Its path.
        report: Called with a sentence for each damaged place.

    Raises:
        ValueError: The file does not begin as an MCAP file does.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if size == 0:
        raise ValueError("it is empty")
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("it does not begin as an MCAP file does")
    layout, indexed = Layout(), dict[int, tuple[Block, int]]()
    try:
        indexed = read_summary(file, size, layout)
    except (ValueError, struct.error, OverflowError) as error:
        layout = Layout(closed=True)
        report(f"{path.name}: read from front to back, because the end of the file is damaged: {error}")
    _Walk(file, size, path.name, report, layout, indexed).walk()
    return layout


def _chunk_head(head: bytes) -> ChunkHead | None:
    """Return the fields of a chunk from the beginning of its record; None if there are none."""
    try:
        return chunk_head(head[HEAD:])
    except (ValueError, struct.error):
        return None


class _Walk:
    """A walk through the data section."""

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        name: str,
        report: Report,
        layout: Layout,
        indexed: dict[int, tuple[Block, int]],
    ) -> None:
        self._file, self._size, self._name, self._report = file, size, name, report
        self._layout, self._indexed = layout, indexed
        self._listed = sorted(indexed)
        self._last_message = 0

    def walk(self) -> None:
        at = len(MAGIC)
        while at < self._size:
            block, following = self._indexed.get(at, (None, 0))
            if block and block.length <= LONG_CHUNK:
                self._layout.blocks.append(block)
                at = following
                continue
            self._file.seek(at)
            head = self._file.read(HEAD + CHUNK_HEAD + 8)
            opcode, length = struct.unpack_from("<BQ", head) if len(head) >= HEAD else (0, 0)
            if opcode in (DATA_END, FOOTER):
                self._report_appended(at)
                break
            following = at + HEAD + length
            if opcode == 0 or following > min(self._size, self._next_listed(at)):
                at = self._damaged(at, opcode, head)
            elif opcode == CHUNK:
                at = self._add_chunk(at, length, head)
            else:
                self._add(at, opcode, length, head)
                at = following
        if not self._layout.closed:
            self._report(f"{self._name}: ends without a footer: the recording was not closed")

    def _report_appended(self, at: int) -> None:
        """Report a second MCAP file that was appended to this one, for instance by `cat`.

        Args:
            at: Position of the record that ends the data section.
        """
        opcode = DATA_END
        while opcode not in (0, FOOTER):
            self._file.seek(at)
            head = self._file.read(HEAD)
            opcode, length = struct.unpack("<BQ", head) if len(head) == HEAD else (0, 0)
            at += HEAD + length
            if at > self._size:
                return
        self._file.seek(at)
        if opcode == FOOTER and self._file.read(2 * len(MAGIC)) == 2 * MAGIC:
            begin = at + len(MAGIC)
            self._report(
                f"{self._name}: bytes {begin} to {self._size} were left out: another MCAP file is appended. "
                "`mcap merge` joins files"
            )

    def _add_chunk(self, at: int, length: int, head: bytes) -> int:
        """Add a chunk to the layout; return the position of the next record."""
        fields = _chunk_head(head)
        if fields is None or fields.at + fields.packed != length:
            return self._damaged(at, CHUNK, head)
        if not fields.compression and fields.packed > LONG_CHUNK:
            return at + HEAD + fields.at
        self._layout.blocks.append(Block(fields.start, at, fields.end, HEAD + length, True))
        return at + HEAD + length

    def _add(self, at: int, opcode: int, length: int, head: bytes) -> None:
        """Add a record outside of chunks to the layout."""
        if opcode in (SCHEMA, CHANNEL) and length <= DECLARATION_MAX:
            self._file.seek(at + HEAD)
            try:
                self._layout.declarations.add(opcode, self._file.read(length))
            except (ValueError, struct.error) as error:
                self._report(f"{self._name}: left out the damaged record at byte {at} ({length} bytes): {error}")
        elif opcode == MESSAGE and length >= MESSAGE_HEAD:
            self._add_message(at, length, head)

    def _add_message(self, at: int, length: int, head: bytes) -> None:
        self._last_message = at
        number, _, stamp = struct.unpack_from("<HIQ", head, HEAD)
        blocks, length = self._layout.blocks, HEAD + length
        last = blocks[-1] if blocks else None
        channels = last.channels or frozenset() if last else frozenset[int]()
        if number not in channels:
            channels |= {number}
        joined = last and not last.chunk and last.offset + last.length == at and last.length + length <= LOOSE_BYTES
        if last and joined and len(channels) <= LOOSE_CHANNELS:
            blocks[-1] = last._replace(
                start=min(last.start, stamp),
                end=max(last.end, stamp),
                length=last.length + length,
                channels=channels,
            )
        else:
            blocks.append(Block(stamp, at, stamp, length, False, True, frozenset({number})))

    def _damaged(self, at: int, opcode: int, head: bytes) -> int:
        """Report a damaged record; return the position where reading goes on."""
        fields = _chunk_head(head) if opcode == CHUNK else None
        listed = self._next_listed(at)
        consistent = fields is not None and (fields.at + fields.packed,) == struct.unpack_from("<Q", head, 1)
        if fields and consistent and listed == sys.maxsize and HEAD + fields.at + fields.packed > self._size - at:
            return self._cut(at, fields)
        following = self._resume_within_last_message(at) or self._resume(at)
        self._layout.complete = self._layout.complete and following in self._indexed
        if following < self._size:
            begin = min(at, following)
            self._report(f"{self._name}: bytes {begin} to {max(at, following)} are damaged and were left out")
        elif opcode == 0:
            self._report(f"{self._name}: cut off at byte {at}: no record begins there")
        else:
            self._report(f"{self._name}: cut off after {self._size} bytes, within a record that begins at {at}")
        return following

    def _cut(self, at: int, fields: ChunkHead) -> int:
        """Add the chunk in which the file ends, because its first messages may be there; return what follows."""
        self._layout.complete = False
        self._report(f"{self._name}: cut off after {self._size} bytes, within a chunk that begins at {at}")
        if not fields.compression:
            return at + HEAD + fields.at
        block = Block(fields.start, at, fields.end, self._size - at, True, whole=False)
        self._layout.blocks.append(block)
        return self._size

    def _resume_within_last_message(self, at: int) -> int:
        """Take back the message before a damaged record if its length is wrong, because a record begins within.

        Returns:
            The position of that record; 0 if there is none.
        """
        blocks = self._layout.blocks
        last = blocks[-1] if blocks else None
        if last is None or last.chunk or last.offset + last.length != at or self._last_message < last.offset:
            return 0
        following = self._resume(self._last_message)
        if following >= at:
            return 0
        blocks[-1] = last._replace(length=self._last_message - last.offset)
        return following

    def _next_listed(self, at: int) -> int:
        """Return the position of the first chunk behind a position that the index lists; a huge one without any."""
        found = bisect.bisect_right(self._listed, at)
        return self._listed[found] if found < len(self._listed) else sys.maxsize

    def _resume(self, at: int) -> int:
        """Return the position of the first record behind a damaged one; the size of the file if there is none."""
        listed = self._next_listed(at)
        if listed < sys.maxsize:
            return listed
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            while found := _BEGINNING.search(content, at + 1):
                at = found.start()
                if self._plausible(content, at):
                    return at
        return self._size

    def _plausible(self, content: mmap.mmap, at: int) -> bool:
        """Whether a message or a chunk begins at a position, and two further records, or the end, follow it."""
        opcode, length = struct.unpack_from("<BQ", content, at)
        if opcode == CHUNK:
            fields = _chunk_head(content[at : at + HEAD + CHUNK_HEAD + 8])
            return fields is not None and fields.at + fields.packed == length
        for _ in range(3):
            if at + HEAD > self._size or not 0 < opcode <= DATA_END:
                return False
            at += HEAD + length
            if at > self._size:
                return False
            if at + HEAD > self._size:
                return True
            opcode, length = struct.unpack_from("<BQ", content, at)
        return True
