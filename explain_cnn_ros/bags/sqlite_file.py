"""Reader of a sqlite3 storage file (.db3), whole or damaged, with or without a journal beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from explain_cnn_ros.bags.limits import Limits
from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.bags.packed import require_space
from explain_cnn_ros.bags.qos import parse_qos
from explain_cnn_ros.bags.sqlite_pages import SHARED_MAX, PageScan
from explain_cnn_ros.bags.storage import (
    Message,
    Report,
    Topic,
    is_cdr,
    message_type,
    report_missing,
    unpacked,
)

MAGIC = b"SQLite format 3\0"

#: Files beside a database with changes that are not in the database yet, or that must be undone.
JOURNALS = ("-wal", "-journal")

#: Bytes of memory for SQLite's cache. Rows are read once.
CACHE_KIB = 4096


#: The steps of SQLite's virtual machine are checked after each STEPS of them. A query may take STEPS_PER_BYTE steps for
#: each byte of the file, or STEPS_MIN if that is more. Counting and sorting take less than one step for each byte.
STEPS, STEPS_PER_BYTE, STEPS_MIN = 10_000, 100, 10_000_000

#: The index of the log times, as rosbag2 names it.
TIME_INDEX = "timestamp_idx"

#: Condition of rows whose numbers are whole. SQLite stores values of any type in any column.
_NUMBERS = "typeof(topic_id) = 'integer' AND typeof(timestamp) = 'integer'"

#: Marks of computed columns in `PRAGMA table_xinfo`.
_COMPUTED = (2, 3)


class _Row(NamedTuple):
    """A message in the table `messages`."""

    id: int
    topic: int
    stamp: int
    data: bytes


class SqliteFile:
    """A sqlite3 database of rosbag2. If it is damaged, the rows on its intact pages are read.

    Args:
        path: The file, or a link to it. If a journal lies beside it, both are copied to a temporary folder and read
            there.
        report: Called with a sentence for each damage that leaves something to read.
        limits: Maximum sizes of what is unpacked.

    Attributes:
        name: Name of the file.
        topics: The topics.
        start: Log time of the first message, in ns; 0 if there is none.
        end: Log time of the last message, in ns; 0 if there is none.

    Raises:
        ValueError: It is no recording, or nothing in it can be read.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path, report: Report, limits: Limits) -> None:
        self._path, self._report, self._limits = path, report, limits
        self.name = printable(path.name)
        with path.open("rb") as file:
            first = file.read(len(MAGIC))
        if not first:
            raise ValueError("it is empty")
        self._stack = ExitStack()
        self._table = "messages"
        self._scan: PageScan | None = None
        try:
            self._readable, self._database = self._connect()
            try:
                if first != MAGIC:
                    raise sqlite3.DatabaseError("it does not begin as an sqlite3 database does")
                rows, counts, times = self._tables()
            except sqlite3.DatabaseError as error:
                rows, counts, times = self._salvage(error)
        except BaseException:
            self.close()
            raise
        self._topics = {
            number: Topic(name, message_type(kind), counts[number], parse_qos(qos))
            for number, name, kind, encoding, qos in rows
            if is_cdr(encoding, name, path, report)
        }
        self.topics = list(self._topics.values())
        self.start, self.end = times

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def messages(self, topics: Collection[str], start: int, stop: int) -> Iterator[Message]:
        """Yield the messages of some topics, logged at or after `start` and before `stop` (in ns), by log time."""
        wanted = {number: topic for number, topic in self._topics.items() if topic.name in topics}
        given: Counter[int] = Counter()
        for row in self._rows(wanted, start, stop):
            topic = wanted[row.topic]
            given[row.topic] += 1
            message = Message(topic.name, row.stamp, topic.type, row.data)
            plain = unpacked(message, self._limits.unpacked_bytes, self._report)
            if plain:
                yield plain
        if start <= self.start and stop > self.end:
            for number, topic in wanted.items():
                report_missing(self._path, topic.name, given[number], topic.count, self._report)

    def _rows(self, wanted: Collection[int], start: int, stop: int) -> Iterator[_Row]:
        given = set[int]()
        if self._scan is None:
            try:
                for row in self._select(wanted, start, stop):
                    given.add(row.id)
                    yield row
            except sqlite3.DatabaseError as error:
                try:
                    self._salvage(error)
                except ValueError as nothing:
                    self._report(f"{self._path.name}: no further messages can be read: {nothing}")
        if self._scan is not None:
            for found in self._scan.messages:
                if found.topic in wanted and start <= found.stamp < stop and found.id not in given:
                    data = self._scan.data(found)
                    if data is not None:
                        yield _Row(found.id, found.topic, found.stamp, data)

    def _begin(self) -> None:
        """Begin a query, and count its steps anew. In a malicious file, a tree can contain a page many times."""
        self._steps = max(STEPS_MIN, STEPS_PER_BYTE * self._size)

    def _exceeds(self) -> bool:
        self._steps -= STEPS
        return self._steps < 0

    def _select(self, wanted: Iterable[int], start: int, stop: int) -> Iterator[_Row]:
        self._begin()
        left = SHARED_MAX * self._size
        # Sorting numbers only takes little memory where there is no index of the times.
        marks = ",".join(str(number) for number in wanted)
        ordered = self._database.execute(
            f"SELECT rowid FROM {self._table} WHERE topic_id IN ({marks}) AND timestamp >= ? AND timestamp < ? "
            f"AND {_NUMBERS} ORDER BY timestamp, rowid",
            (start, stop),
        )
        for (number,) in ordered:
            row = self._database.execute(
                "SELECT topic_id, timestamp, data FROM messages WHERE rowid = ?", (number,)
            ).fetchone()
            if row is not None and isinstance(row[2], bytes):
                left -= len(row[2])
                if left < 0:
                    raise sqlite3.DatabaseError("its rows share pages")
                yield _Row(number, *row)

    def _tables(self) -> tuple[list[tuple[Any, ...]], Counter[int], tuple[int, int]]:
        """Return the topics, the number of messages of each, and the times of the first and last message."""
        select = self._database.execute
        self._begin()
        select(f"PRAGMA cache_size = -{CACHE_KIB}")
        select("PRAGMA trusted_schema = OFF")
        if self._readable.stat().st_size % select("PRAGMA page_size").fetchone()[0]:
            # SQLite would fill the rest of the last page with zeros.
            raise sqlite3.DatabaseError("it was cut off within a page")
        # A view could compute messages without end.
        tables = select("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE TABLE%'").fetchall()
        if not {("topics",), ("messages",)} <= set(tables):
            raise ValueError("it has no tables of topics and messages, so it is no recording of ROS 2")
        columns = {row[1] for row in select("PRAGMA table_info(topics)")}
        # Computed columns could compute messages of any size.
        if any(
            row[6] in _COMPUTED for table in ("topics", "messages") for row in select(f"PRAGMA table_xinfo({table})")
        ):
            raise ValueError("its tables compute columns, so it is no recording of ROS 2")
        qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
        rows = select(f"SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id").fetchall()
        rows = [row for row in rows if _is_topic(row)]
        counted = select(
            f"SELECT topic_id, count(*), min(timestamp), max(timestamp) FROM messages WHERE {_NUMBERS} "
            "GROUP BY topic_id"
        )
        counts: Counter[int] = Counter()
        firsts, lasts = list[int](), list[int]()
        for number, count, first, last in counted:
            counts[number] = count
            firsts.append(first)
            lasts.append(last)
        self._check_index(counts.total())
        self._report_unknown({row[0] for row in rows}, counts)
        return rows, counts, (min(firsts, default=0), max(lasts, default=0))

    def _check_index(self, count: int) -> None:
        """Read without the index of the times if it lacks rows, because a query by the index would not find them.

        Args:
            count: Number of rows whose numbers are whole.
        """
        partial = {row[1]: row[4] for row in self._database.execute("PRAGMA index_list(messages)")}
        if partial.get(TIME_INDEX, 1):
            return
        # The index is much smaller than the table. A count without a condition would take no steps of SQLite's machine,
        # so that nothing would end it in a malicious file.
        (indexed,) = self._database.execute(
            f"SELECT count(*) FROM messages INDEXED BY {TIME_INDEX} WHERE typeof(timestamp) = 'integer'"
        ).fetchone()
        if indexed < count:
            self._table = "messages NOT INDEXED"
            self._report(f"{self._path.name}: its index of the times lacks {count - indexed} messages, and is not used")

    def _salvage(self, error: Exception) -> tuple[list[tuple[Any, ...]], Counter[int], tuple[int, int]]:
        """Read the database page by page, and return the same as `_tables`."""
        if not self._path.exists():
            raise FileNotFoundError(2, "No such file or directory", str(self._path)) from error
        self._scan = PageScan(self._readable, self._limits.unpacked_bytes)
        counts = Counter(message.topic for message in self._scan.messages)
        if not self._scan.topics and not counts:
            raise ValueError(f"{error}") from error
        self._report(f"{self._path.name}: damaged ({error}): read page by page, {counts.total()} messages can be read")
        self._report_unknown({row[0] for row in self._scan.topics}, counts)
        if not self._scan.topics:
            raise ValueError("the table of its topics is damaged") from error
        stamps = [message.stamp for message in self._scan.messages]
        return self._scan.topics, counts, (min(stamps, default=0), max(stamps, default=0))

    def _report_unknown(self, topics: Collection[int], counts: Counter[int]) -> None:
        lost = sum(count for number, count in counts.items() if number not in topics)
        if lost:
            self._report(f"{self._path.name}: {lost} messages were left out: the row that names their topic is missing")

    def _connect(self) -> tuple[Path, sqlite3.Connection]:
        """Open the database; return the path of the file that is read, and the connection."""
        journals = {suffix: journal for suffix in JOURNALS if (journal := self._journal(suffix)) is not None}
        self._size = sum(file.stat().st_size for file in (self._path, *journals.values()))
        path, mode = self._path, "mode=ro&immutable=1"
        if journals:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            require_space(folder, self._size, path)
            for suffix, file in {"": path, **journals}.items():
                shutil.copyfile(file, folder / f"{path.name}{suffix}")
            path, mode = folder / path.name, "mode=rw"
            names = " and ".join(journal.name for journal in journals.values())
            self._report(f"{names}: the recording was not closed; it is read together with the messages in this file")
        # All characters of a path are escaped, because some have a meaning in a URI.
        uri = f"file:{quote(os.fsencode(path.absolute()))}?{mode}"
        database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self._stack.callback(database.close)
        self._begin()
        database.set_progress_handler(self._exceeds, STEPS)
        database.text_factory = lambda text: text.decode("utf-8", "backslashreplace")
        return path, database

    def _journal(self, suffix: str) -> Path | None:
        """Return a journal with changes; None if there is none.

        If the path of the database is a link, the journal lies beside the file that it names. Where every file of a
        recording is a link by itself, it lies beside the link.
        """
        beside = [path.with_name(path.name + suffix) for path in (self._path, Path(os.path.realpath(self._path)))]
        return next((path for path in beside if path.exists() and path.stat().st_size), None)


def _is_topic(row: tuple[Any, ...]) -> bool:
    """Return whether a row has a whole number, and texts for the name, the type and the serialization of a topic."""
    number, name, kind, encoding, _ = row
    return isinstance(number, int) and all(isinstance(text, str) for text in (name, kind, encoding))
