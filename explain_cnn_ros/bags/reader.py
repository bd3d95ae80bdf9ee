"""Reader of rosbag2 recordings, without ROS: a directory or a single file, MCAP or sqlite3, compressed or not.

    with BagReader("sample/street") as bag:
        for topic, stamp, type, data in bag.messages([bag.image_topic().name]):
            ...

The intact parts of a recording that was cut off or lost its metadata.yaml are read; `problems` names the others.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Qos
from rosbags.rosbag2.metadata import parse_qos
from ruamel.yaml import YAML

from explain_cnn_ros.bags.storage import Message, StorageFile, Topic, open_storage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["IMAGE_TYPES", "BagError", "BagReader", "Message", "Topic"]

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")

WHAT_TO_GIVE = "Give a rosbag2 directory or a .mcap or .db3 file."

SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")


class BagError(Exception):
    """A recording cannot be read, or lacks a topic. The message names the cause and the cure."""


class BagReader:
    """The topics and messages of a recording.

    All times are log times, in ns since 1970: the times at which the recorder received the messages.

    Args:
        path: A rosbag2 directory, or one .mcap or .db3 file. Files that are compressed as a whole (.zstd) are
            unpacked into a temporary directory while the bag is open.

    Attributes:
        path: The path.
        problems: Faults of the recording, and the parts that are left out because of them, a sentence each.
        topics: The topics, by name.

    Raises:
        BagError: There is no recording, or nothing in it can be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.problems: list[str] = []
        self._stack = ExitStack()
        self._files: list[StorageFile] = []
        try:
            metadata = self._read_metadata()
            for file in self._find_files(metadata):
                self._open_file(file)
            if not self._files:
                raise BagError(f"{self.path}: nothing in it can be read: " + "; ".join(self.problems))
            self.topics = _merged(self._files, _recorded_qos(metadata))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. No messages can be read afterwards."""
        self._stack.close()

    @property
    def message_count(self) -> int:
        """Number of messages on all topics."""
        return sum(topic.count for topic in self.topics)

    @property
    def start(self) -> int:
        """Log time of the first message, in ns; 0 if there is none."""
        return min((file.start for file in self._files if file.end > 0), default=0)

    @property
    def end(self) -> int:
        """Log time of the last message, in ns; 0 if there is none."""
        return max((file.end for file in self._files if file.end > 0), default=0)

    @property
    def image_topics(self) -> list[Topic]:
        """Topics with raw or compressed images; the one with the most messages comes first."""
        return sorted((t for t in self.topics if t.type in IMAGE_TYPES and t.count), key=lambda t: -t.count)

    def image_topic(self, name: str | None = None) -> Topic:
        """Return an image topic.

        Args:
            name: Name of the topic; None for the image topic with the most messages.

        Raises:
            BagError: There is no such topic.
        """
        images = self.image_topics
        for topic in images:
            if name in (None, topic.name):
                return topic
        if images:
            have = ", ".join(topic.name for topic in images)
            raise BagError(f"{self.path}: no images on {name}. Image topics: {have}.")
        have = ", ".join(f"{topic.name} ({topic.type})" for topic in self.topics) or "no topics at all"
        raise BagError(
            f"{self.path}: no image topic (sensor_msgs/Image or CompressedImage). It holds {have}. "
            "Record the camera's topic as well."
        )

    def messages(
        self, topics: Collection[str] | None = None, start: int | None = None, stop: int | None = None
    ) -> Iterator[Message]:
        """Yield messages in the order of their log time, file by file.

        A damaged part is left out and named in `problems`. The messages behind it come in the order of the file.

        Args:
            topics: Names of topics; None for all.
            start: Only messages logged at or after this time, in ns; None for all.
            stop: Only messages logged before this time, in ns; None for all.

        Raises:
            BagError: The bag has no topic of such a name.
        """
        names = {topic.name for topic in self.topics}
        unknown = sorted(set(topics or ()) - names)
        if unknown:
            raise BagError(f"{self.path}: no topic {', '.join(unknown)}. It holds {', '.join(sorted(names))}")
        wanted = names if topics is None else set(topics)
        return self._messages(wanted, start or 0, 2**63 - 1 if stop is None else stop)

    def _messages(self, topics: Collection[str], start: int, stop: int) -> Iterator[Message]:
        for file in self._files:
            yield from file.messages(topics, start, stop)

    def _report(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _read_metadata(self) -> dict[str, Any]:
        """Return the contents of metadata.yaml; empty if there is none."""
        if not self.path.exists():
            raise BagError(f"{self.path}: no such file or directory. {WHAT_TO_GIVE}")
        if not self.path.is_dir():
            return {}
        file = self.path / "metadata.yaml"
        if not file.exists():
            return {}
        try:
            metadata = YAML(typ="safe").load(file.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
            return dict(metadata)
        except Exception as error:  # files that are not YAML raise all kinds
            self._report(f"metadata.yaml cannot be read ({error}): the files beside it are read")
            return {}

    def _find_files(self, metadata: dict[str, Any]) -> list[Path]:
        """Return the storage files of the recording, in order."""
        if self.path.is_file():
            if not self.path.name.endswith(SUFFIXES):
                cure = (
                    "It seems to be of ROS 1: convert it with `rosbags-convert --src <it> --dst <new directory>`."
                    if self.path.suffix == ".bag"
                    else WHAT_TO_GIVE
                )
                raise BagError(f"{self.path}: not a rosbag2 recording. {cure}")
            return [self.path]
        present = sorted((p for p in self.path.iterdir() if p.name.endswith(SUFFIXES)), key=_natural)
        listed = [self.path / Path(name).name for name in metadata.get("relative_file_paths") or ()]
        if any(file.exists() for file in listed):
            for file in listed:
                if not file.exists():
                    self._report(f"{file.name}, which metadata.yaml lists, is missing, and with it its messages")
            return [file for file in listed if file.exists()]
        if not present:
            inside = sorted(path.parent for path in self.path.glob("*/metadata.yaml"))
            cure = f"Did you mean {inside[0]}?" if inside else WHAT_TO_GIVE
            raise BagError(f"{self.path}: not a rosbag2 recording: no .mcap or .db3 file in it. {cure}")
        if listed:
            self._report("the files that metadata.yaml lists are missing: those beside it are read")
        elif not self.problems:
            self._report(
                "no metadata.yaml: the recording was not closed. "
                f"`ros2 bag reindex {self.path}` writes a new one, if ROS 2's own tools are to read it"
            )
        return present

    def _open_file(self, path: Path) -> None:
        journal = path.with_name(path.name + "-wal")
        if journal.exists() and journal.stat().st_size:
            self._report(f"{journal.name}: messages that were not moved into {path.name} yet are left out")
        try:
            file = open_storage(self._unpacked(path) if path.suffix == ".zstd" else path, self._report)
        except Exception as error:  # damaged bytes raise all kinds
            cure = f". `sqlite3 {path} .recover | sqlite3 <new file>` may save it" if path.suffix == ".db3" else ""
            self._report(f"{path.name} cannot be read ({error}){cure}")
            return
        self._stack.callback(file.close)
        self._files.append(file)

    def _unpacked(self, path: Path) -> Path:
        """Unpack a compressed file, or the intact part of a damaged one, into a temporary directory."""
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        target = Path(directory) / path.stem
        with zstd.open(path, "rb") as packed, target.open("wb") as unpacked:
            try:
                shutil.copyfileobj(packed, unpacked)
            except (EOFError, zstd.ZstdError) as error:
                self._report(f"{path.name}: damaged, unpacked only in part: {error}")
        return target


def _merged(files: list[StorageFile], recorded: dict[str, tuple[Qos, ...]]) -> list[Topic]:
    """Return the topics of all files, by name. QoS in metadata.yaml takes precedence over QoS in the files."""
    counts: dict[tuple[str, str], int] = {}
    offers: dict[str, tuple[Qos, ...]] = {}
    for file in files:
        for topic in file.topics:
            counts[topic.name, topic.type] = counts.get((topic.name, topic.type), 0) + topic.count
            offers[topic.name] = offers.get(topic.name) or topic.qos
    return [Topic(n, t, count, recorded.get(n) or offers[n]) for (n, t), count in sorted(counts.items())]


def _recorded_qos(metadata: dict[str, Any]) -> dict[str, tuple[Qos, ...]]:
    """Return the QoS that metadata.yaml holds, by topic."""
    offers = {}
    for entry in metadata.get("topics_with_message_count") or ():
        try:
            topic = entry["topic_metadata"]
            offers[str(topic["name"])] = tuple(parse_qos(topic["offered_qos_profiles"]))
        except Exception:  # edited by hand: the QoS in the files is used instead
            continue
    return offers


def _natural(path: Path) -> list[int | str]:
    """Return a key that sorts street_2 before street_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
