"""A writer of MCAP files, as small as the format allows, with the options of the official library's writer."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lz4.frame

from explain_cnn_ros.bags.compression import zstd

PACK = {"": bytes, "zstd": zstd.compress, "lz4": lz4.frame.compress}


def text(value: str) -> bytes:
    return struct.pack("<I", len(value.encode())) + value.encode()


def record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


def block(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


@dataclass(frozen=True)
class Options:
    """The options of `mcap.writer.Writer`, with the number of messages of a chunk in place of its size.

    Without `channel_counts`, the statistics have no number of messages for any channel, which the format allows.
    """

    chunking: bool = True
    chunk_index: bool = True
    message_index: bool = True
    repeat_channels: bool = True
    repeat_schemas: bool = True
    statistics: bool = True
    channel_counts: bool = True
    summary_offsets: bool = True
    crcs: bool = True
    compression: str = "zstd"
    profile: str = "ros2"
    per_chunk: int = 4


class McapKit:
    """Writes files of messages, and says where their chunks are."""

    def write(
        self,
        path: Path,
        messages: Sequence[tuple[int, int, bytes]],
        options: Options,
        types: Sequence[str] = ("std_msgs/msg/String", "std_msgs/msg/String"),
        encoding: str = "cdr",
    ) -> list[tuple[int, int]]:
        """Write messages (number of the channel from 1, log time, data).

        Returns:
            Position and length of each chunk.
        """
        schemas = [
            record(3, struct.pack("<H", i) + text(t) + text("ros2msg") + block(b"string data"))
            for i, t in enumerate(types, 1)
        ]
        channels = [
            record(4, struct.pack("<HH", i, i) + text(f"/topic{i}") + text(encoding) + block(b""))
            for i in range(1, len(types) + 1)
        ]
        declared = [s + c for s, c in zip(schemas, channels, strict=True)]
        out = bytearray(b"\x89MCAP0\r\n" + record(1, text(options.profile) + text("kit")))
        known, indexes, chunks = set[int](), list[bytes](), list[tuple[int, int]]()
        step = options.per_chunk if options.chunking else 1
        for first in range(0, len(messages), step):
            records, index = b"", dict[int, list[tuple[int, int]]]()
            some = messages[first : first + step]
            for channel, stamp, data in some:
                if channel not in known:
                    known.add(channel)
                    records += declared[channel - 1]
                index.setdefault(channel, []).append((stamp, len(records)))
                records += record(5, struct.pack("<HIQQ", channel, 0, stamp, stamp) + data)
            if not options.chunking:
                out += records
                continue
            start, end = min(m[1] for m in some), max(m[1] for m in some)
            packed = PACK[options.compression](records)
            crc = zlib.crc32(records) if options.crcs else 0
            chunk = record(
                6,
                struct.pack("<QQQI", start, end, len(records), crc)
                + text(options.compression)
                + struct.pack("<Q", len(packed))
                + packed,
            )
            at = len(out)
            out += chunk
            chunks.append((at, len(chunk)))
            offsets, begin = b"", len(out)
            if options.message_index:
                for channel, entries in index.items():
                    offsets += struct.pack("<HQ", channel, len(out))
                    entry = b"".join(struct.pack("<QQ", *e) for e in entries)
                    out += record(7, struct.pack("<H", channel) + block(entry))
            indexes.append(
                record(
                    8,
                    struct.pack("<QQQQ", start, end, at, len(chunk))
                    + block(offsets)
                    + struct.pack("<Q", len(out) - begin)
                    + text(options.compression)
                    + struct.pack("<QQ", len(packed), len(records)),
                )
            )
        out += record(0x0F, struct.pack("<I", 0))
        groups = [(3, schemas if options.repeat_schemas else []), (4, channels if options.repeat_channels else [])]
        if options.statistics:
            counts = Counter(m[0] for m in messages if options.channel_counts)
            stamps = [m[1] for m in messages] or [0]
            statistics = struct.pack(
                "<QHIIIIQQ", len(messages), len(types), len(types), 0, 0, len(chunks), min(stamps), max(stamps)
            )
            groups.append(
                (0x0B, [record(0x0B, statistics + block(b"".join(struct.pack("<HQ", *c) for c in counts.items())))])
            )
        if options.chunk_index:
            groups.append((8, indexes))
        begin, summary, offsets = len(out), b"", b""
        for opcode, group in groups:
            if group:
                offsets += record(0x0E, struct.pack("<BQQ", opcode, begin + len(summary), len(b"".join(group))))
                summary += b"".join(group)
        offset_start = begin + len(summary) if options.summary_offsets and offsets else 0
        summary += offsets if options.summary_offsets else b""
        footer = struct.pack("<QQ", begin if summary else 0, offset_start)
        crc = zlib.crc32(summary + struct.pack("<BQ", 2, 20) + footer) if options.crcs else 0
        out += summary + record(2, footer + struct.pack("<I", crc)) + b"\x89MCAP0\r\n"
        path.write_bytes(out)
        return chunks
