"""Recordings: MCAP and SQLite files with damaged bytes, records, tables and sizes, packed files, and metadata.yaml."""

from __future__ import annotations

import io
import itertools
import json
import sqlite3
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import lz4.frame
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as BagWriter

from explain_cnn_ros.bags.compression import zstd
from explain_cnn_ros.bags.frame_source import SourceError
from explain_cnn_ros.bags.reader import BagError, BagReader
from explain_cnn_ros.bags.sources import open_source
from tools.fuzz.kind import Kind, check_text, mutate_bytes, refused, require
from tools.fuzz.messages import COMPRESSED, IMAGE, Steady, compressed_cdr, image_cdr, types
from tools.fuzz.mutation import Mutation
from tools.fuzz.pictures import PICTURE

#: Log time of the first message, in ns.
START = 1_700_000_000 * 10**9

#: QoS as rosbag2 records it.
QOS = "- history: 1\n  depth: 5\n  reliability: 1\n  durability: 2\n  deadline:\n    sec: 0\n    nsec: 0\n"

_MAGIC = b"\x89MCAP0\r\n"
_PACK = {"": bytes, "zstd": zstd.compress, "lz4": lz4.frame.compress}

#: Number of problems that a reader may name.
PROBLEMS_MAX = 200

#: Number of frames that are decoded.
FRAMES = 3


@cache
def sent() -> tuple[tuple[str, str, int, bytes], ...]:
    """Return topic, type, log time and data of the messages of the valid recordings."""
    steady = Steady()
    image, picture = image_cdr(steady, "rgb8", 0), compressed_cdr(steady, PICTURE.valid()[0], 0)
    text = b"\0\1\0\0" + struct.pack("<I", 5) + b"text\0"
    found = []
    for number in range(4):
        stamp = START + number * 10**8
        found.append(("/camera/image", IMAGE, stamp, image))
        found.append(("/camera/image/compressed", COMPRESSED, stamp + 5, picture))
        found.append(("/log", "std_msgs/msg/String", stamp + 9, text))
    return tuple(found)


# MCAP.


@cache
def mcap_files() -> tuple[bytes, ...]:
    """Return recordings by the official library, over its options, and by rosbags."""
    found = []
    for chunking, compression, index in itertools.product(
        (True, False), (CompressionType.NONE, CompressionType.ZSTD, CompressionType.LZ4), (True, False)
    ):
        file = io.BytesIO()
        writer = Writer(
            file,
            chunk_size=1500,
            compression=compression,
            use_chunking=chunking,
            use_statistics=index,
            use_summary_offsets=index,
            repeat_channels=index,
            repeat_schemas=index,
        )
        writer.start("ros2", "fuzz")
        channels: dict[str, int] = {}
        for topic, kind, stamp, data in sent():
            if topic not in channels:
                schema = writer.register_schema(kind, "ros2msg", b"")
                channels[topic] = writer.register_channel(topic, "cdr", schema, {"offered_qos_profiles": QOS})
            writer.add_message(channels[topic], stamp, data, stamp)
        writer.finish()
        found.append(file.getvalue())
    return tuple(dict.fromkeys([*found, *_of_rosbags(StoragePlugin.MCAP)]))


def _of_rosbags(storage: StoragePlugin) -> Iterator[bytes]:
    modes = [CompressionMode.NONE, CompressionMode.MESSAGE]
    for mode in [*modes, CompressionMode.STORAGE] if storage == StoragePlugin.MCAP else modes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bag"
            writer = BagWriter(path, version=9, storage_plugin=storage)
            if mode != CompressionMode.NONE:
                writer.set_compression(mode, CompressionFormat.ZSTD)
            with writer:
                connections: dict[str, Any] = {}
                for topic, kind, stamp, data in sent():
                    if topic not in connections:
                        connections[topic] = writer.add_connection(topic, kind, typestore=types())
                    writer.write(connections[topic], stamp, data)
            yield next(path.glob("*.mcap" if storage == StoragePlugin.MCAP else "*.db3")).read_bytes()


def record(opcode: int, content: bytes) -> bytes:
    """Return a record."""
    return struct.pack("<BQ", opcode, len(content)) + content


def _text(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def chunk(records: bytes, compression: str = "zstd", start: int = START, end: int = START) -> bytes:
    """Return a chunk of some records."""
    packed = _PACK[compression](records)
    head = struct.pack("<QQQI", start, end, len(records), zlib.crc32(records))
    return record(6, head + _text(compression) + struct.pack("<Q", len(packed)) + packed)


def _declared(number: int, topic: str, kind: str = IMAGE, qos: str = "") -> bytes:
    metadata = _text("offered_qos_profiles") + _text(qos) if qos else b""
    channel = struct.pack("<HH", number, number) + _text(topic) + _text("cdr") + struct.pack("<I", len(metadata))
    return record(3, struct.pack("<H", number) + _text(kind) + _text("") * 2) + record(4, channel + metadata)


def _message(number: int, data: bytes, stamp: int = START) -> bytes:
    return record(5, struct.pack("<HIQQ", number, 0, stamp, stamp) + data)


def _file(*records: bytes) -> bytes:
    return b"".join((_MAGIC, record(1, _text("ros2") + _text("fuzz")), *records, record(15, bytes(4))))


@cache
def _mcap_bombs() -> tuple[bytes, ...]:
    """Return files whose records are many, large when they are unpacked, or nested in a way that takes long."""
    declared, image = _declared(1, "/image"), sent()[0][3]
    hostile = "- " * 400 + "a"
    merges = "a0: &a0 {x: 1}\n" + "".join(
        f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
    )
    frames = zstd.compress(b"")
    return (
        _file(chunk(bytes(60_000_000))),
        _file(chunk(declared + record(0x80, b"") * 200_000)),
        _file(chunk(declared + _message(1, b"") * 30_000)),
        _file(*[chunk(bytes(60_000_000), start=START, end=START + 10**9)] * 2),
        _file(chunk(declared + _message(1, bytes(60_000_000)), end=START + 10**9)),
        # A message, and bytes that are none, by turns.
        _file(declared, *[_message(1, image[:60]), b"\xff" * 9] * 2000),
        # Messages that are compressed and cannot be unpacked.
        _file(declared, *(_message(1, b"\x28\xb5\x2f\xfd" + struct.pack("<I", i), START + i) for i in range(10_000))),
        _file(declared, *(_message(1, image[: 40 + i % 50], START + i) for i in range(1000))),
        # Messages of as many channels as there are.
        _file(*(_declared(i, f"/image{i}") for i in range(3000)), *(_message(i % 3000, b"") for i in range(20_000))),
        _file(*(_message(i, b"") for i in range(40_000))),
        _file(_declared(1, "/image", qos=hostile), _message(1, image)),
        _file(_declared(1, "/image", qos="[" * 20_000), _message(1, image)),
        _file(_declared(1, "/image", qos=merges), _message(1, image)),
        _file(*(_declared(i, f"/image{i}", qos=QOS * 20) for i in range(300)), _message(1, image)),
        _file(_declared(1, "/" + "\u202e" * 3000), _message(1, image)),
        _file(_declared(1, "/image", kind="a" * 100_000), _message(1, image)),
        _file(declared, _message(1, frames * 60_000 + zstd.compress(image))),
        _file(declared, _message(1, zstd.compress(bytes(60_000_000)))),
        # A chunk of empty frames, each of which is unpacked by itself.
        _file(record(6, struct.pack("<QQQI", START, START, 0, 0) + _text("zstd") + struct.pack("<Q", 9 * 100_000)
                     + (frames * 100_001)[: 9 * 100_000])),
    )  # fmt: skip


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the magic, the records, and the rest of a file."""
    at = len(_MAGIC)
    yield data[:at]
    while at + 9 <= len(data):
        length = int.from_bytes(data[at + 1 : at + 9], "little")
        if at + 9 + length > len(data):
            break
        yield data[at : at + 9 + length]
        at += 9 + length
    yield data[at:]


def _mutated_mcap(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    """Return a file with changes of its bytes, of its records, or of the records in a chunk."""
    files = mcap_files()
    data = mutation.one(files) if mutation.chance(0.95) else mutation.one([seed for seed in seeds if len(seed) < 10**5])
    if mutation.chance(0.4):
        return mutation.mutated(data, files)
    parts = list(_records(data))
    for _ in range(1 + mutation.below(3)):
        at, kind = mutation.below(len(parts)), mutation.below(8)
        part = parts[at]
        if kind == 0 and len(parts) > 1:
            del parts[at]
        elif kind == 1:
            parts[at:at] = [part] * mutation.one((1, 2, 200))
        elif kind == 2:
            other = mutation.below(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif kind == 3 and len(part) >= 9:
            parts[at] = record(part[0], mutation.mutated(part[9:], (), 2))
        elif kind == 4 and len(part) >= 9:
            parts[at] = part[:1] + struct.pack("<Q", mutation.number(64, len(part) - 9)) + part[9:]
        elif kind == 5:
            parts[at:at] = [mutation.one(list(_records(mutation.one(files))))]
        elif chunks := [i for i, one in enumerate(parts) if one[:1] == b"\x06"]:
            at = mutation.one(chunks)
            with suppress(Exception):  # the chunk may be damaged already
                parts[at] = _mutated_chunk(mutation, parts[at])
    # Without the end, in which the sums of the summary do not fit any more, the file is walked.
    if mutation.chance(0.4):
        parts = [part for part in parts if part[:1] not in (b"\x02", b"\x0b", b"\x08")]
    return b"".join(parts)


def _mutated_chunk(mutation: Mutation, part: bytes) -> bytes:
    """Return a chunk with changes of its records, whose checksum is right again."""
    start, end, size, _, length = struct.unpack_from("<QQQII", part, 9)
    compression = part[41 : 41 + length].decode()
    packed = part[49 + length :]
    records = packed if not compression else zstd.decompress(packed) if compression == "zstd" else _lz4(packed)
    changed = mutation.mutated(records)
    result = bytearray(chunk(changed, mutation.one(tuple(_PACK)), start, end))
    if mutation.chance(0.3):
        at = 9 + 8 * mutation.below(4)
        result[at : at + 8] = struct.pack("<Q", mutation.number(64, size))
    return bytes(result)


def _lz4(packed: bytes) -> bytes:
    return bytes(lz4.frame.decompress(packed))


# SQLite.

_TABLES = (
    "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, serialization_format TEXT NOT "
    "NULL, offered_qos_profiles TEXT NOT NULL)",
    "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, data BLOB "
    "NOT NULL)",
)


def database(statements: Sequence[str | tuple[str, Any]]) -> bytes:
    """Return a database that some statements of SQL have filled."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.db3"
        connection = sqlite3.connect(path, isolation_level=None)
        for setting in ("page_size = 1024", "synchronous = OFF", "journal_mode = MEMORY"):
            connection.execute(f"PRAGMA {setting}")
        for statement in statements:
            if isinstance(statement, str):
                connection.execute(statement)
            else:
                connection.execute(*statement)
        connection.close()
        return path.read_bytes()


def _filled(topics: Sequence[tuple[Any, ...]], messages: Sequence[tuple[Any, ...]]) -> list[str | tuple[str, Any]]:
    rows: list[str | tuple[str, Any]] = [("INSERT INTO topics VALUES(?, ?, ?, ?, ?)", row) for row in topics]
    return rows + [("INSERT INTO messages VALUES(?, ?, ?, ?)", row) for row in messages]


@cache
def _rows() -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    numbers = {topic: number for number, topic in enumerate(dict.fromkeys(s[0] for s in sent()), 1)}
    kinds = {topic: kind for topic, kind, _, _ in sent()}
    topics: list[tuple[Any, ...]] = [(number, topic, kinds[topic], "cdr", QOS) for topic, number in numbers.items()]
    return topics, [(i, numbers[topic], stamp, data) for i, (topic, _, stamp, data) in enumerate(sent(), 1)]


@cache
def sqlite_files() -> tuple[bytes, ...]:
    """Return recordings with and without an index of the times, and by rosbags."""
    tables = [*_TABLES, *_filled(*_rows())]
    indexed = [*tables, "CREATE INDEX timestamp_idx ON messages (timestamp ASC)"]
    return (database(tables), database(indexed), *_of_rosbags(StoragePlugin.SQLITE3))


@cache
def _sqlite_bombs() -> tuple[bytes, ...]:
    """Return databases whose columns hold or compute something else than a recording has."""
    topics, messages = _rows()
    plain_topics = "CREATE TABLE topics(id, name, type, serialization_format, offered_qos_profiles)"
    plain_messages = "CREATE TABLE messages(id, topic_id, timestamp, data)"
    odd = (None, "", "text", b"blob", 0.5, -1, 2**63 - 1, float("inf"), "1) OR 1=1 --", "\u202e", "a\0b")
    found = []
    for value in odd:
        for column in range(5):
            row = [1, "/image", IMAGE, "cdr", QOS]
            row[column] = value
            found.append(database([plain_topics, plain_messages, *_filled([tuple(row)], messages)]))
        for column in range(4):
            other: list[Any] = [99, 1, START, messages[0][3]]
            other[column] = value
            found.append(database([plain_topics, plain_messages, *_filled(topics, [*messages, tuple(other)])]))
    computed = "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB AS ({}))"
    one = ("INSERT INTO messages(topic_id, timestamp) VALUES(?, ?)", (1, START))
    for formula in ("zeroblob({})", "hex(zeroblob({}))", "printf('%.*c', {}, 'x')"):
        small = database([_TABLES[0], computed.format(formula.format("000000010")), *_filled(topics, []), one])
        found.append(small.replace(b"000000010", b"900000000"))
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x, 1, x, zeroblob(9) FROM c"
    found.append(
        database(
            [_TABLES[0], *_filled(topics, []), f"CREATE VIEW messages(id, topic_id, timestamp, data) AS {endless}"]
        )
    )
    numbers = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
    injected = f"1) UNION ALL SELECT * FROM ({numbers}) --"
    found.append(database([plain_topics, plain_messages, *_filled([(injected, "/image", IMAGE, "cdr", "")], messages)]))
    other_key = "CREATE TABLE messages(id, topic_id PRIMARY KEY, timestamp, data) WITHOUT ROWID"
    found.append(database([plain_topics, other_key, *_filled(topics, [(1, 1, START, messages[0][3])])]))
    many = [(i, f"/image{i}", IMAGE, "cdr", QOS) for i in range(1, 400)]
    found.append(database([*_TABLES, *_filled(many, messages)]))
    damaged = [(i, 1, START + i, b"\x28\xb5\x2f\xfd" + struct.pack("<I", i)) for i in range(5000)]
    found.append(database(["BEGIN", *_TABLES, *_filled(topics, damaged), "COMMIT"]))
    found.append(database([*_TABLES, *_filled([(1, "/image", IMAGE, "cdr", "[" * 20_000)], messages)]))
    found.append(database([*_TABLES, *_filled([(1, "/" + "x" * 100_000, IMAGE, "cdr", "")], messages)]))
    return tuple(found)


def _mutated_database(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    small = [seed for seed in seeds if len(seed) < 10**5]
    data = mutation.one(sqlite_files() if mutation.chance(0.7) else small)
    if mutation.chance(0.3):
        # The numbers of the head, and those at the beginning of a page.
        changed, page = bytearray(data), 1024 * mutation.below(len(data) // 1024 or 1)
        at = page + mutation.below(100 if page == 0 else 16)
        changed[at : at + 2] = struct.pack(">H", mutation.number(16))
        return bytes(changed)
    return mutation.mutated(data, small)


# Reading.


def read_recording(path: Path) -> str:
    """Read all of a recording, and the first frames of it. Return "", or the name of the refusal."""
    try:
        with BagReader(path) as bag:
            counts = Counter[tuple[str, str]]()
            if bag.image_topics:
                check_text(bag.choice())
            for message in bag.messages():
                counts[message.topic, message.type] += 1
                require(type(message.stamp) is int, f"the log time {message.stamp!r}")
                require(isinstance(message.data, bytes), f"data of the type {type(message.data).__name__}")
            unknown = counts.keys() - {(topic.name, topic.type) for topic in bag.topics}
            require(not unknown, f"messages of unknown topics: {unknown}")
            require(type(bag.start) is int and type(bag.end) is int, f"the times {bag.start!r}, {bag.end!r}")
            _check_texts(bag.problems, bag.notes)
    except BagError as error:
        return refused(error)
    return read_source(path) or ("" if counts else "no messages")


def _check_texts(problems: Sequence[str], notes: Sequence[str]) -> None:
    require(len(problems) <= PROBLEMS_MAX, f"{len(problems)} problems")
    for text in (*problems, *notes):
        check_text(text)


def read_source(path: Path) -> str:
    """Read the first frames of a recording, a video or a photo. Return "", or the name of the refusal."""
    try:
        source = open_source(path)
    except SourceError as error:
        return refused(error)
    try:
        read = 0
        for entry in itertools.islice(source.entries(), FRAMES):
            frame = entry.load()
            require((frame.image is None) == bool(frame.error), "a frame with an image and an error, or with neither")
            check_text(frame.error)
            read += frame.image is not None
        _check_texts(source.problems, source.notes)
        json.dumps([source.start, source.end, source.total])
    finally:
        source.close()
    return "" if read else "no frames"


def _read_as(name: str) -> Any:
    def read(data: bytes, folder: Path) -> str:
        path = folder / name
        path.write_bytes(data)
        return read_recording(path)

    return read


def _packed(files: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(zstd.compress(file) for file in files)


def _packed_bombs() -> tuple[bytes, ...]:
    empty = zstd.compress(b"")
    return (
        zstd.compress(_MAGIC + bytes(20_000_000)),
        zstd.compress(_MAGIC + bytes(200_000_000)),
        zstd.compress(_MAGIC) + empty * 100_000,
        zstd.compress(_MAGIC + _message(1, b"") * 30_000),
        b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + bytes(100),
    )


def _mutated_packed(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    if mutation.chance(0.5):
        return mutate_bytes(mutation, [seed for seed in seeds if len(seed) < 10**5])
    return bytes(zstd.compress(_mutated_mcap(mutation, mcap_files())))


KINDS = (
    Kind("mcap", mcap_files, _read_as("recording.mcap"), _mutated_mcap, _mcap_bombs),
    Kind("sqlite", sqlite_files, _read_as("recording.db3"), _mutated_database, _sqlite_bombs),
    Kind("packed", lambda: _packed(mcap_files()), _read_as("recording.mcap.zstd"), _mutated_packed, _packed_bombs),
)
