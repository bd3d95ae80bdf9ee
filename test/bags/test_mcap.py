"""MCAP files of all writers: every combination of indexes and repetitions, chunks that overlap, and damage."""

from __future__ import annotations

import dataclasses
import itertools
import random
import struct
from pathlib import Path

import pytest
from mcap_kit import McapKit, Options

from explain_cnn_ros.bags.compression import zstd
from explain_cnn_ros.bags.limits import Limits
from explain_cnn_ros.bags.mcap_records import CHANNEL, SCHEMA, Channel, Declarations
from explain_cnn_ros.bags.reader import BagError, BagReader

KIT = McapKit()

#: Number, log time and data of messages on two topics, slightly out of order.
MESSAGES = [(1 + i % 3 // 2, 1000 + 10 * (i ^ 1), b"\0\1\0\0" + bytes([i])) for i in range(24)]

FLAGS = [f.name for f in dataclasses.fields(Options) if isinstance(f.default, bool)]


def read(path: Path, limits: Limits | None = None) -> tuple[list[tuple[int, int, bytes]], list[str]]:
    """Return the messages and the problems, after a check of the counts."""
    with BagReader(path, limits or Limits()) as bag:
        found = [(int(m.topic[-1]), m.stamp, m.data) for m in bag.messages()]
        assert bag.message_count >= len(found)
        return found, bag.problems


def ordered(messages: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    return sorted(messages, key=lambda message: message[1])


@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
def test_every_combination_of_a_writers_options(tmp_path: Path, compression: str) -> None:
    """All messages are there, once, by log time, with right counts, and nothing is called damaged."""
    path = tmp_path / "x.mcap"
    for values in itertools.product([True, False], repeat=len(FLAGS)):
        options = Options(compression=compression, **dict(zip(FLAGS, values, strict=True)))
        KIT.write(path, MESSAGES, options)
        with BagReader(path) as bag:
            assert [(int(m.topic[-1]), m.stamp, m.data) for m in bag.messages()] == ordered(MESSAGES), options
            assert [(t.name, t.count) for t in bag.topics] == [("/topic1", 16), ("/topic2", 8)], options
            assert (bag.start, bag.end) == (1000, 1230), options
            some = [(int(m.topic[-1]), m.stamp, m.data) for m in bag.messages(["/topic2"], 1050, 1180)]
            assert some == [m for m in ordered(MESSAGES) if m[0] == 2 and 1050 <= m[1] < 1180], options
            assert bag.problems == [], options


def test_same_messages_as_the_official_library(tmp_path: Path) -> None:
    """Over all options of its writer, ours and its reader's."""
    pytest.importorskip("mcap")
    from mcap.reader import NonSeekingReader
    from mcap.writer import CompressionType, IndexType, Writer

    path = tmp_path / "x.mcap"
    names = (
        "repeat_channels",
        "repeat_schemas",
        "use_chunking",
        "use_statistics",
        "use_summary_offsets",
        "enable_crcs",
    )
    indexes = (IndexType.NONE, IndexType.CHUNK, IndexType.MESSAGE, IndexType.CHUNK | IndexType.MESSAGE, IndexType.ALL)
    for values in itertools.product([True, False], repeat=len(names)):
        for index, compression in itertools.product(indexes, CompressionType):
            options = dict(zip(names, values, strict=True)) | {"index_types": index, "compression": compression}
            with path.open("wb") as file:
                writer = Writer(file, chunk_size=200, **options)
                writer.start("ros2", "test")
                schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data")
                channels = [writer.register_channel(f"/topic{i}", "cdr", schema) for i in (1, 2)]
                for number, stamp, data in MESSAGES:
                    writer.add_message(channels[number - 1], stamp, data, stamp)
                writer.add_metadata("run", {"robot": "one"})
                writer.add_attachment(0, 0, "a.yaml", "text/yaml", b"a: 1")
                writer.finish()
            with path.open("rb") as file:
                official = [
                    (int(c.topic[-1]), m.log_time, m.data) for _, c, m in NonSeekingReader(file).iter_messages()
                ]
            found, problems = read(path)
            assert found == ordered(official), options
            assert problems == [], options


def test_counts_of_some_channels_only(tmp_path: Path) -> None:
    """The others are counted."""
    path = tmp_path / "x.mcap"
    KIT.write(path, MESSAGES, Options(crcs=False))
    content = path.read_bytes()
    first, both = struct.pack("<HQ", 1, 16), struct.pack("<HQHQ", 1, 16, 2, 8)
    assert content.count(struct.pack("<I", 20) + both) == 1
    path.write_bytes(content.replace(both, first + first))
    with BagReader(path) as bag:
        assert [(topic.name, topic.count) for topic in bag.topics] == [("/topic1", 16), ("/topic2", 8)]
        assert bag.problems == []


@pytest.mark.parametrize("profile", ["", "ros1", "px4"])
def test_the_profile_does_not_matter(tmp_path: Path, profile: str) -> None:
    KIT.write(tmp_path / "x.mcap", MESSAGES, Options(profile=profile))
    assert read(tmp_path / "x.mcap") == (ordered(MESSAGES), [])


def test_types_as_other_writers_spell_them(tmp_path: Path) -> None:
    KIT.write(tmp_path / "x.mcap", MESSAGES, Options(), ("std_msgs/String", "sensor_msgs::msg::dds_::Image_"))
    with BagReader(tmp_path / "x.mcap") as bag:
        assert [topic.type for topic in bag.topics] == ["std_msgs/msg/String", "sensor_msgs/msg/Image"]


def overlapping(seed: int) -> list[tuple[int, int, bytes]]:
    """Messages whose log times go back by up to 40 messages."""
    rng = random.Random(seed)
    return [(1, 1000 + 10 * i + rng.randrange(400), b"\0\1\0\0" + bytes([i])) for i in range(100)]


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_of_overlapping_chunks_only_the_damaged_one_is_lost(tmp_path: Path, seed: int, index: bool) -> None:
    path, messages = tmp_path / "x.mcap", overlapping(seed)
    chunks = KIT.write(path, messages, Options(chunk_index=index, message_index=index, statistics=index))
    assert read(path) == (ordered(messages), [])
    number = random.Random(seed).randrange(len(chunks))
    content = bytearray(path.read_bytes())
    for at in range(70, 75):
        content[chunks[number][0] + at] ^= 0xFF
    path.write_bytes(content)
    found, problems = read(path)
    # The first chunk declares the channel, which the end of the file repeats.
    assert found == ordered(messages[: 4 * number] + messages[4 * number + 4 :])
    assert "damaged" in problems[0]
    if index:
        assert problems[-1] == "x.mcap: 96 of the 100 messages on /topic1 that the file announces can be read"


@pytest.mark.parametrize("options", [Options(), Options(chunk_index=False), Options(chunking=False, statistics=False)])
def test_any_flipped_length_costs_few_messages_and_little_memory(tmp_path: Path, options: Options) -> None:
    path = tmp_path / "x.mcap"
    chunks = KIT.write(path, MESSAGES, options)
    content = path.read_bytes()
    if options.chunking:
        lengths = [at + 1 for at, _ in chunks]
    else:
        heads = [struct.pack("<BQHIQ", 5, 22 + 5, number, 0, stamp) for number, stamp, _ in MESSAGES]
        lengths = [content.index(head) + 1 for head in heads]
    for number, at in enumerate(lengths):
        for byte in (0, 2, 5, 7):
            damaged = bytearray(content)
            damaged[at + byte] ^= 0x7F
            path.write_bytes(damaged)
            found, problems = read(path)
            per = 4 if options.chunking else 1
            expected = MESSAGES[: per * number] + MESSAGES[per * (number + 1) :]
            # A wrong length may lead to a place that looks like a record. Chunks have a second length and a checksum.
            assert len(set(expected) - set(found)) <= (0 if options.chunking else 4), (number, byte)
            assert len(set(found) - set(MESSAGES)) <= (not options.chunking)
            assert len(set(found)) == len(found)
            if len(found) < len(MESSAGES):
                assert problems, (number, byte)


def test_a_chunk_may_not_unpack_to_more_than_the_limit(tmp_path: Path) -> None:
    """Neither by what it declares, nor against what it declares."""
    path = tmp_path / "x.mcap"
    messages = [*MESSAGES, (1, 5000, b"\0\1\0\0" + bytes(3 * 1024**2))]
    chunks = KIT.write(path, messages, Options(per_chunk=1, crcs=False))
    assert path.stat().st_size < 20_000
    found, problems = read(path, Limits(unpacked_mib=2))
    assert found == ordered(MESSAGES)
    assert "it declares 3 MiB, the limit is 2 MiB (--unpacked-mib-max)" in problems[0]
    assert "17 messages on /topic1" in problems[1]
    content = bytearray(path.read_bytes())
    content[chunks[-1][0] + 25 : chunks[-1][0] + 33] = (100).to_bytes(8, "little")
    path.write_bytes(content)
    found, problems = read(path)
    assert found == ordered(MESSAGES)
    assert "unpacks to more than the 100 bytes that it declares" in problems[0]


def test_a_message_may_not_unpack_to_more_than_the_limit(kit, tmp_path: Path) -> None:
    large = zstd.compress(bytes(3 * 1024**2))
    undeclared = zstd.ZstdCompressor().compress(bytes(3 * 1024**2), zstd.ZstdCompressor.FLUSH_FRAME)
    sent = [kit.image(i)._replace(data=data) for i, data in enumerate([kit.image(0).data, large, undeclared])]
    with BagReader(kit.write(tmp_path / "bag", sent), Limits(unpacked_mib=2)) as bag:
        assert list(bag.messages()) == sent[:1]
        assert all("more than 2 MiB, its limit (--unpacked-mib-max)" in problem for problem in bag.problems)
        assert len(bag.problems) == 2


@pytest.mark.parametrize("suffix", ["zstd", "zst"])
def test_a_packed_file_may_not_unpack_to_more_than_the_limit(tmp_path: Path, suffix: str) -> None:
    for name, data in (
        ("declared", zstd.compress(bytes(3 * 1024**2))),
        ("undeclared", zstd.ZstdCompressor().compress(bytes(3 * 1024**2), zstd.ZstdCompressor.FLUSH_FRAME)),
    ):
        path = tmp_path / f"{name}.mcap.{suffix}"
        path.write_bytes(data)
        with pytest.raises(BagError, match=r"unpacks to more than 0.001953 GiB, its limit \(--unpacked-gib-max\)"):
            BagReader(path, Limits(unpacked_gib=2 / 1024))


def test_small_data_may_not_unpack_to_very_much(tmp_path: Path, monkeypatch) -> None:
    """Whatever the limit is: recordings do not shrink to a 2000th."""
    path = tmp_path / "bomb.mcap.zstd"
    path.write_bytes(zstd.compress(bytes(3 * 1024**2)))
    assert path.stat().st_size < 500
    monkeypatch.setattr("explain_cnn_ros.bags.limits.SMALL", 1024)
    with pytest.raises(BagError, match="unpacks to more than"):
        BagReader(path)
    monkeypatch.setattr("explain_cnn_ros.bags.limits.RATIO", 40_000)
    with pytest.raises(BagError, match="does not begin as an MCAP file does"):
        BagReader(path)


def test_a_large_chunk_without_compression_is_read_message_by_message(tmp_path: Path, monkeypatch) -> None:
    messages = [(1, 1000 + i, b"\0\1\0\0" + bytes(600 * 1024)) for i in range(4)]
    KIT.write(tmp_path / "x.mcap", messages, Options(compression=""))
    assert read(tmp_path / "x.mcap", Limits(unpacked_mib=2))[0] == []
    monkeypatch.setattr("explain_cnn_ros.bags.mcap_walk.LONG_CHUNK", 2**20)
    assert read(tmp_path / "x.mcap", Limits(unpacked_mib=4)) == (messages, [])


@pytest.mark.parametrize("declared", [0, 2**64 - 1])
def test_a_chunk_without_messages(tmp_path: Path, declared: int) -> None:
    """Its times mean nothing: writers put 0 or the largest number there."""
    path = tmp_path / "x.mcap"
    none = dict.fromkeys(FLAGS, False)
    chunks = KIT.write(path, MESSAGES, Options(**none | {"chunking": True}))
    content = bytearray(path.read_bytes())
    head = struct.pack("<QQQI", declared, 0, 0, 0) + struct.pack("<IQ", 0, 0)
    content[chunks[0][0] : chunks[0][0]] = b"\x06" + struct.pack("<Q", len(head)) + head
    path.write_bytes(content)
    assert read(path) == (ordered(MESSAGES), [])


def test_log_times_beyond_what_fits_are_left_out(tmp_path: Path) -> None:
    KIT.write(tmp_path / "x.mcap", [*MESSAGES, (1, 2**64 - 5, b"\0\1\0\0")], Options())
    found, problems = read(tmp_path / "x.mcap")
    assert found == ordered(MESSAGES)
    assert "after the year 2262" in problems[0]


@pytest.mark.parametrize("options", [Options(), Options(crcs=False), Options(chunk_index=False, statistics=False)])
def test_a_file_that_is_appended_to_another_one_is_named(tmp_path: Path, options: Options) -> None:
    """Zeros, which some file systems leave, are no file."""
    first, second, path = tmp_path / "a.mcap", tmp_path / "b.mcap", tmp_path / "c.mcap"
    KIT.write(first, MESSAGES[:12], options)
    KIT.write(second, MESSAGES, options)
    for following in (second, first):
        path.write_bytes(first.read_bytes() + following.read_bytes())
        found, problems = read(path)
        begin, end = first.stat().st_size, path.stat().st_size
        appended = f"c.mcap: bytes {begin} to {end} were left out: another MCAP file is appended"
        assert found == ordered(MESSAGES[:12])
        assert [problem.startswith(appended) for problem in problems].count(True) == 1
    path.write_bytes(first.read_bytes() + bytes(1000))
    found, problems = read(path)
    assert found == ordered(MESSAGES[:12])
    assert problems == ["c.mcap: ends without a footer: the recording was not closed"]


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def test_schemas_that_are_repeated_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each channel gets the type of its schema only once, even if the schema is repeated many times."""
    renamed: list[Channel] = []
    original = Channel._replace
    monkeypatch.setattr(Channel, "_replace", lambda self, **fields: renamed.append(self) or original(self, **fields))
    found = Declarations()
    for number in range(300):
        schema = 1 if number % 2 else 2
        if number == 150:
            found.add(SCHEMA, struct.pack("<H", 2) + text("b/msg/B"))
        found.add(CHANNEL, struct.pack("<HH", number, schema) + text(f"/{number}") + text("cdr") + text(""))
    for _ in range(300):
        found.add(SCHEMA, struct.pack("<H", 1) + text("a/msg/A"))
    assert {channel.type for number, channel in found.channels.items() if number % 2} == {"a/msg/A"}
    assert {channel.type for number, channel in found.channels.items() if number % 2 == 0} == {"b/msg/B"}
    assert len(renamed) == 150 + 75
