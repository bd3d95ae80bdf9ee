"""sqlite3 recordings: left by a killed recorder, cut short, of old distributions, and under any name."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from rosbags.rosbag2 import StoragePlugin

from explain_cnn_ros.bags import sqlite_file
from explain_cnn_ros.bags.compression import zstd
from explain_cnn_ros.bags.reader import BagError, BagReader
from explain_cnn_ros.bags.sqlite_pages import SHARED_MAX, PageScan, _values


@pytest.fixture
def sent(kit):
    """40 images of 9 kB, which need several pages each, and as many texts."""
    return [message for i in range(40) for message in (kit.image(i, size=9_000), kit.string(i))]


@pytest.fixture
def database(kit, sent, tmp_path: Path) -> Path:
    kit.write(tmp_path / "bag", sent, StoragePlugin.SQLITE3)
    return tmp_path / "bag" / "bag.db3"


def read(path: Path):
    with BagReader(path) as bag:
        found = list(bag.messages())
        return found, bag.problems, bag.message_count


def killed(source: Path, target: Path, journal: str) -> None:
    """Copy a database as a recorder leaves it that is killed before it closes the file."""
    with sqlite3.connect(source) as whole:
        dump = "\n".join(whole.iterdump())
    process = os.fork()
    if process == 0:
        writer = sqlite3.connect(target, isolation_level=None)
        writer.execute(f"PRAGMA journal_mode = {journal}")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.executescript(dump)
        os._exit(9)
    os.waitpid(process, 0)


def test_messages_in_a_journal_that_was_left(database: Path, sent, tmp_path: Path) -> None:
    """All messages are there, and the folder is left as it was."""
    folder = tmp_path / "killed"
    folder.mkdir()
    killed(database, folder / "killed_0.db3", "WAL")
    assert (folder / "killed_0.db3-wal").stat().st_size > 300_000 > (folder / "killed_0.db3").stat().st_size
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found, problems, count = read(folder)
    assert (found, count) == (sent, 80)
    assert any("killed_0.db3-wal: the recording was not closed" in problem for problem in problems)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("every", [False, True], ids=["of the database", "of each file"])
def test_messages_in_a_journal_of_a_recording_behind_a_link(database: Path, sent, tmp_path: Path, every: bool) -> None:
    """The journal has the name of the file, or a link of its own, with whatever name its file has."""
    store, folder = tmp_path / "store", tmp_path / "folder"
    store.mkdir()
    folder.mkdir()
    killed(database, store / "stored.db3", "WAL")
    if every:
        (store / "stored.db3-wal").rename(store / "other")
        (folder / "linked.db3-wal").symlink_to(store / "other")
    (folder / "linked.db3").symlink_to("../store/stored.db3")
    found, problems, count = read(folder)
    assert (found, count) == (sent, 80)
    journal = "linked.db3-wal" if every else "stored.db3-wal"
    assert any(f"{journal}: the recording was not closed" in problem for problem in problems)


def test_a_change_that_was_not_finished_is_undone(database: Path, sent) -> None:
    """A hot rollback journal holds the pages as they were before."""
    process = os.fork()
    if process == 0:
        writer = sqlite3.connect(database, isolation_level=None)
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.execute("UPDATE messages SET data = x'00', timestamp = 5")
        os._exit(9)
    os.waitpid(process, 0)
    assert database.with_name("bag.db3-journal").stat().st_size
    assert read(database)[0] == sent


def test_a_database_in_wal_mode_needs_no_journal(database: Path, sent) -> None:
    with sqlite3.connect(database) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
    writer.close()
    assert read(database) == (sent, [], 80)
    assert sorted(path.name for path in database.parent.iterdir()) == ["bag.db3", "metadata.yaml"]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.95, 0.999])
def test_of_a_database_that_was_cut_everything_before_the_cut_is_read(database: Path, sent, share: float) -> None:
    content = database.read_bytes()
    database.write_bytes(content[: int(len(content) * share)])
    found, problems, count = read(database.parent)
    assert found == [message for message in sent if message in found]
    assert len(found) == count >= int(len(sent) * share) - 8
    assert "damaged" in problems[0]
    if share < 0.95:
        announced = "/camera/image/compressed: {} of the 40 messages that metadata.yaml announces are there"
        images = sum(message.topic != "/log" for message in found)
        assert announced.format(images) in problems


@pytest.mark.parametrize("kind", [bytes(4096), b"\xa5" * 4096])
def test_a_damaged_page_costs_only_its_own_messages(database: Path, sent, kind: bytes) -> None:
    """Whichever page it is, except for the one that names the topics."""
    content, lost = database.read_bytes(), []
    for page in range(0, len(content) // 4096, 3):
        damaged = bytearray(content)
        damaged[page * 4096 : (page + 1) * 4096] = kind
        database.write_bytes(damaged)
        try:
            found, problems, _ = read(database)
        except BagError:
            lost.append(page)
            continue
        # The last page of an image may be zero without a contradiction in the database.
        changed = [message for message in found if message not in sent]
        assert len(changed) <= 1
        assert len(sent) - len(found) <= 12
        assert problems or len(found) == len(sent)
    assert len(lost) <= 1


@contextlib.contextmanager
def without_index(path: Path) -> Iterator[sqlite3.Connection]:
    """Change a database without an update of its index of the log times."""
    columns, index = "type, name, tbl_name, rootpage, sql", "name = 'timestamp_idx'"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA writable_schema = ON")
        (row,) = writer.execute(f"SELECT {columns} FROM sqlite_master WHERE {index}").fetchall()
        writer.execute(f"DELETE FROM sqlite_master WHERE {index}")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        yield writer
        writer.execute("PRAGMA writable_schema = ON")
        writer.execute(f"INSERT INTO sqlite_master({columns}) VALUES(?, ?, ?, ?, ?)", row)


def test_messages_that_the_index_of_the_times_lacks(database: Path, sent) -> None:
    """They are read in their order."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as writer:
        rows = writer.execute("SELECT * FROM messages WHERE id % 8 = 3").fetchall()
        writer.execute("DELETE FROM messages WHERE id % 8 = 3")
    with without_index(database) as writer:
        writer.executemany("INSERT INTO messages VALUES(?, ?, ?, ?)", rows)
    found, problems, count = read(database)
    assert (found, count) == (sent, 80)
    assert problems == ["bag.db3: its index of the times lacks 10 messages, and is not used"]
    with BagReader(database) as bag:
        start, stop = sent[20].stamp, sent[60].stamp
        assert list(bag.messages(None, start, stop)) == [m for m in sent if start <= m.stamp < stop]


def write_shared_pages(path: Path, root_of: str, kind: int, row: bytes, time: int) -> None:
    """Write a database of pages of 512 bytes in which a tree contains its pages 70 times each, on four levels.

    Args:
        path: The database. It has one message.
        root_of: Name of the table or of the index whose tree it is.
        kind: Type of the inner pages: 5 for a table, 2 for an index.
        row: What a cell of an inner page holds after the number of its child.
        time: Log time of the message, in ns.
    """
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA page_size = 512")
        made.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name, type, serialization_format)")
        made.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data)")
        if root_of != "messages":
            made.execute(f"CREATE INDEX {root_of} ON messages(timestamp)")
        made.execute("CREATE TABLE pages(data)")
        made.execute("INSERT INTO topics VALUES(1, '/log', 'std_msgs/msg/String', 'cdr')")
        made.execute("INSERT INTO messages VALUES(1, 1, ?, x'00010000')", (time,))
        made.execute("INSERT INTO pages VALUES(zeroblob(3000))")
        made.commit()
        (root,) = made.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (root_of,)).fetchone()
    content = bytearray(path.read_bytes())
    spare = range(len(content) // 512 - 3, len(content) // 512 + 1)  # pages of the blob
    leaf = content[512 * (root - 1) : 512 * root]
    for page, child in zip([root, *spare[:3]], spare, strict=True):
        cell = struct.pack(">I", child) + row
        head = struct.pack(">BHHHBI", kind, 0, 70, 512 - len(cell), 0, child) + struct.pack(">H", 512 - len(cell)) * 70
        content[512 * (page - 1) : 512 * page] = head.ljust(512 - len(cell), b"\0") + cell
    content[512 * (spare[-1] - 1) : 512 * spare[-1]] = leaf
    path.write_bytes(content)


def test_trees_of_an_index_whose_pages_share_their_children_take_no_time(tmp_path: Path, monkeypatch) -> None:
    """Five pages stand for millions of rows of the index."""
    monkeypatch.setattr(sqlite_file, "STEPS_MIN", 100_000)
    path = tmp_path / "tree.db3"
    payload = b"\x03\x01\x09\x07"  # a row of the index: 7 and 1
    write_shared_pages(path, "timestamp_idx", 2, varint(len(payload)) + payload, 7)
    with BagReader(path) as bag:
        assert [message.stamp for message in bag.messages()] == [7]
        assert ["damaged (interrupted)" in problem for problem in bag.problems] == [True]


def test_columns_of_old_distributions(database: Path, sent, tmp_path: Path) -> None:
    """Eloquent has no QoS and no table with the version of the schema."""
    old = sqlite3.connect(tmp_path / "old.db3")
    old.execute("ATTACH ? AS new", (str(database),))
    old.executescript(
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,"
        " serialization_format TEXT NOT NULL);"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,"
        " data BLOB NOT NULL);"
        "INSERT INTO topics SELECT id, name, type, serialization_format FROM new.topics;"
        "INSERT INTO messages SELECT * FROM new.messages;"
    )
    old.close()
    assert read(tmp_path / "old.db3") == (sent, [], 80)


@pytest.mark.parametrize("qos", ["not yaml: [", "7", "- history: 1\n  depth: 5\n", "- history: {a: b}\n", None])
def test_qos_that_cannot_be_parsed_costs_no_message(database: Path, sent, qos: str | None) -> None:
    with sqlite3.connect(database) as writer:
        writer.execute("PRAGMA writable_schema = ON")
        writer.execute("UPDATE topics SET offered_qos_profiles = ?", (qos or "",))
    writer.close()
    assert read(database) == (sent, [], 80)


@pytest.mark.parametrize("name", ["a#b?c=d.db3", "50%41.db3", "a b ü &x=1.db3", "12:30:05.db3", b"stra\xdfe.db3"])
def test_paths_with_any_characters(database: Path, sent, name: str | bytes) -> None:
    path = database.with_name(os.fsdecode(name))
    shutil.move(database, path)
    assert read(path) == (sent, [], 80)


def test_views_are_not_computed(tmp_path: Path) -> None:
    """They could give messages without end."""
    writer = sqlite3.connect(tmp_path / "view.db3")
    writer.executescript(
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT);"
        "INSERT INTO topics VALUES(1, '/a', 'std_msgs/msg/String', 'cdr');"
        "CREATE VIEW messages AS WITH RECURSIVE x(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM x)"
        " SELECT i AS id, 1 AS topic_id, i AS timestamp, x'00' AS data FROM x;"
    )
    writer.close()
    with pytest.raises(BagError, match="no tables of topics and messages"):
        BagReader(tmp_path / "view.db3")


@pytest.mark.parametrize("suffix", [".zstd", ".zst"])
def test_a_recording_beside_its_packed_copy_is_read_once(database: Path, sent, suffix: str) -> None:
    packed = database.with_name(f"bag.db3{suffix}")
    packed.write_bytes(zstd.compress(database.read_bytes()))
    (database.parent / "metadata.yaml").unlink()
    (database.parent / "._bag.db3").write_bytes(b"left by a system")
    with BagReader(database.parent) as bag:
        assert list(bag.messages()) == sent
        assert bag.notes == [f"bag.db3{suffix} is left out: bag.db3 beside it is the same"]
    database.unlink()
    assert read(database.parent)[0] == sent


def test_no_space_for_a_temporary_copy_is_said(database: Path, monkeypatch) -> None:
    database.with_name("bag.db3-wal").write_bytes(b"x" * 100)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(BagError, match="set TMPDIR to a folder on a larger disk"):
        BagReader(database)


def test_values_of_other_types(tmp_path: Path) -> None:
    """SQLite stores any value in any column. Numbers of topics that are texts are no part of a query."""
    path = tmp_path / "odd.db3"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE topics(id, name, type, serialization_format, offered_qos_profiles)")
        database.execute("CREATE TABLE messages(id, topic_id, timestamp, data)")
        rows = [(1, "/log"), ("1) OR 1=1 --", "/b"), (2, None), (3, b"/c"), (None, "/d")]
        database.executemany("INSERT INTO topics VALUES(?, ?, 'std_msgs/msg/String', 'cdr', NULL)", rows)
        times = [(1, 5), (1, 0.5), (1, None), (1, "later"), (1, float("inf")), ("1", 6), (2, 7)]
        database.executemany("INSERT INTO messages VALUES(NULL, ?, ?, x'00010000')", times)
        database.commit()
    with BagReader(path) as bag:
        assert [topic.name for topic in bag.topics] == ["/log"]
        assert [message.stamp for message in bag.messages()] == [5]
        assert (bag.start, bag.end) == (5, 7)


def test_computed_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "computed.db3"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE topics(id, name, type, serialization_format, offered_qos_profiles)")
        database.execute("CREATE TABLE messages(id, topic_id, timestamp, data AS (zeroblob(500000000)))")
    with pytest.raises(BagError, match="compute columns"):
        BagReader(path)


def varint(value: int) -> bytes:
    """A number of variable length, as in SQLite's format."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))


def ring(size: int) -> bytes:
    """Return a damaged database of three pages. The second one has 25 rows, which all continue in the third one."""
    page = bytearray(4096)
    page[0], page[3:5] = 0x0D, struct.pack(">H", 25)
    for number in range(25):
        at = 2000 + 16 * number
        row = varint(size) + varint(number + 1)
        page[8 + 2 * number : 10 + 2 * number] = struct.pack(">H", at)
        page[at : at + len(row)] = row
        local = at + len(row) + 489  # bytes of the row in this page
        page[local : local + 4] = struct.pack(">I", 3)
    first = bytes(16) + b"\x10\x00" + bytes(4096 - 18)  # the page size, and nothing else
    return first + bytes(page) + struct.pack(">I", 3) + bytes(4092)


class CountingFile(io.FileIO):
    """A file that counts the bytes that are read."""

    count = 0

    def read(self, size: int = -1, /) -> bytes:
        found = super().read(size)
        CountingFile.count += len(found or b"")
        return found or b""


def scanned(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Read a damaged database; return the number of bytes that are read."""
    monkeypatch.setattr(Path, "open", lambda self, mode: CountingFile(str(self)))
    CountingFile.count = 0
    assert PageScan(path, 512 * 2**20).messages == []
    return CountingFile.count


@pytest.mark.parametrize("pages", [2, 131071], ids=["as large as the file", "half a gigabyte"])
def test_rows_that_share_pages_take_no_time(pages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ring.db3"
    path.write_bytes(ring(489 + 4092 * pages))
    assert scanned(path, monkeypatch) <= (2 + SHARED_MAX) * path.stat().st_size


def test_a_row_with_very_many_columns_is_refused() -> None:
    """The values of such columns take no bytes in the file, but they would take memory."""
    assert _values(varint(3) + bytes(2)) == [None, None]
    with pytest.raises(ValueError, match="too many columns"):
        _values(varint(1001) + bytes(1000))


def test_trees_whose_pages_share_their_children_take_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five pages of 512 bytes stand for 25 million rows."""
    monkeypatch.setattr(sqlite_file, "STEPS_MIN", 100_000)
    path = tmp_path / "tree.db3"
    write_shared_pages(path, "messages", 5, varint(1), 1_700_000_000_000_000_000)
    with BagReader(path) as bag:
        assert bag.message_count == 1
        assert ["damaged (interrupted)" in problem for problem in bag.problems] == [True]
