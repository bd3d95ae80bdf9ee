"""Reader of a damaged sqlite3 database, page by page: the rows of `topics` and `messages` on pages that are intact.

The format: https://sqlite.org/fileformat2.html. The trees are not followed, because their inner pages may be lost. Rows
are recognised by the types of their columns.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

#: Type of a page with rows of a table.
LEAF = 0x0D

#: Page size of SQLite unless something else is set.
PAGE_SIZE = 4096

#: Maximum size of the header of a row, in bytes. It holds its own size and the types of at most six columns. Each of
#: these numbers takes at most nine bytes.
HEADER_MAX = 7 * 9

#: All rows together may be larger than the file by this factor. In an intact file, rows do not share pages, so they are
#: smaller than the file.
SHARED_MAX = 4


class FoundMessage(NamedTuple):
    """A row of the table `messages`.

    Attributes:
        stamp: Log time, in ns.
        id: Number of the row.
        topic: Number of the topic.
        page: Number of the page, counted from 0.
        cell: Position of the row in the page.
    """

    stamp: int
    id: int
    topic: int
    page: int
    cell: int


class PageScan:
    """The readable rows of a database.

    Args:
        path: The file.
        limit: Maximum number of bytes of a message.

    Attributes:
        topics: Number, name, type, serialization and QoS of the topics.
        messages: The messages whose data is complete, by log time.

    Raises:
        OSError: The file cannot be read.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit
        self.topics: list[tuple[Any, ...]] = []
        topics: dict[int, tuple[Any, ...]] = {}
        messages: dict[int, FoundMessage] = {}
        with path.open("rb") as file:
            self._file_size = file.seek(0, os.SEEK_END)
            self._left = SHARED_MAX * self._file_size
            self._size, self._usable = _page_size(file)
            for page, content in self._pages(file):
                for cell in _cells(content, 100 if page == 0 else 0):
                    with suppress(ValueError, IndexError, struct.error):
                        self._add(file, page, content, cell, topics, messages)
        self.topics = [topics[number] for number in sorted(topics)]
        self.messages = sorted(messages.values())

    def data(self, message: FoundMessage) -> bytes | None:
        """Return the data of a message; None if it cannot be read any more."""
        self._left = SHARED_MAX * self._file_size
        with self._path.open("rb") as file, suppress(ValueError, IndexError, struct.error):
            file.seek(message.page * self._size)
            _, payload = self._payload(file, file.read(self._size), message.cell)
            values = _values(payload)
            return bytes(values[3])
        return None

    def _pages(self, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
        page = 0
        while True:
            file.seek(page * self._size)
            content = file.read(self._size)
            if len(content) < self._size:
                return
            yield page, content
            page += 1

    def _add(
        self,
        file: BinaryIO,
        page: int,
        content: bytes,
        cell: int,
        topics: dict[int, tuple[Any, ...]],
        messages: dict[int, FoundMessage],
    ) -> None:
        """Add a row if it is one of the two tables.

        Raises:
            ValueError: The row is damaged.
        """
        row, payload = self._payload(file, content, cell)
        values = _values(payload)
        kinds = [type(value) for value in values]
        if kinds == [type(None), int, int, bytes]:
            messages.setdefault(row, FoundMessage(values[2], row, values[1], page, cell))
        elif kinds[:4] == [type(None), str, str, str] and len(values) <= 6 and values[1].startswith("/"):
            topics.setdefault(row, (row, *values[1:4], values[4] if len(values) > 4 else ""))

    def _payload(self, file: BinaryIO, content: bytes, cell: int) -> tuple[int, bytes]:
        """Return the number and the payload of a row, which may go on in other pages.

        Raises:
            ValueError: The row is damaged.
        """
        size, at = _varint(content, cell)
        row, at = _varint(content, at)
        if size > min(self._limit, self._file_size):
            raise ValueError("the row is too long")
        largest = self._usable - 35
        smallest = (self._usable - 12) * 32 // 255 - 23
        local = size
        if size > largest:
            local = smallest + (size - smallest) % (self._usable - 4)
            local = local if local <= largest else smallest
        parts, length = [content[at : at + local]], local
        following = struct.unpack_from(">I", content, at + local)[0] if size > largest else 0
        while length < size:
            if following == 0:
                raise ValueError("a part of the row is missing")
            self._left -= self._usable
            if self._left < 0:
                raise ValueError("rows share pages")
            file.seek((following - 1) * self._size)
            page = file.read(self._size)
            (following,) = struct.unpack_from(">I", page)
            part = page[4 : min(self._usable, 4 + size - length)]
            parts.append(part)
            length += len(part)
            if not part:
                raise ValueError("a part of the row is missing")
        payload = b"".join(parts)
        if len(payload) != size:
            raise ValueError("a part of the row is missing")
        return row, payload


def _page_size(file: BinaryIO) -> tuple[int, int]:
    """Return the size of the pages, and the number of bytes of each that are used."""
    file.seek(16)
    head = file.read(5)
    size, reserved = (int.from_bytes(head[:2], "big"), head[4]) if len(head) == 5 else (0, 0)
    size = 65536 if size == 1 else size
    if size < 512 or size & (size - 1) or size - reserved < 480:
        return PAGE_SIZE, PAGE_SIZE
    return size, size - reserved


def _cells(page: bytes, begin: int) -> list[int]:
    """Return the positions of the rows in a page; none if it is no page with rows."""
    if page[begin] != LEAF:
        return []
    (count,) = struct.unpack_from(">H", page, begin + 3)
    if begin + 8 + 2 * count > len(page):
        return []
    cells = struct.unpack_from(f">{count}H", page, begin + 8)
    return [cell for cell in dict.fromkeys(cells) if begin + 8 + 2 * count <= cell < len(page)]


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and the position behind it."""
    value = 0
    for position in range(at, at + 8):
        value = value << 7 | content[position] & 0x7F
        if content[position] < 0x80:
            return value, position + 1
    return value << 8 | content[at + 8], at + 9


def _values(payload: bytes) -> list[Any]:
    """Return the columns of a row.

    Raises:
        ValueError: The row is damaged.
    """
    end, at = _varint(payload, 0)
    if end > HEADER_MAX:
        raise ValueError("the row has too many columns")
    values: list[Any] = []
    value = end
    while at < end:
        kind, at = _varint(payload, at)
        length = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind] if kind < 10 else (kind - 12) // 2
        if kind in (10, 11) or value + length > len(payload):
            raise ValueError("the row is damaged")
        content = payload[value : value + length]
        value += length
        if kind == 0:
            values.append(None)
        elif kind in (8, 9):
            values.append(kind - 8)
        elif kind < 7:
            values.append(int.from_bytes(content, "big", signed=True))
        elif kind == 7:
            values.append(struct.unpack(">d", content)[0])
        else:
            values.append(content.decode("utf-8", "backslashreplace") if kind % 2 else content)
    return values
