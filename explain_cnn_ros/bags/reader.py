"""Reader of rosbag2 recordings, without ROS: a directory or a single file, MCAP or sqlite3, compressed or not.

    with BagReader("sample/street") as bag:
        for topic, stamp, type, data in bag.messages([bag.image_topic().name]):
            ...

The intact parts of a recording that was cut off or lost its metadata.yaml are read; `problems` names the others.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from rosbags.interfaces import Qos

from explain_cnn_ros.bags.joined_files import merged, report_overlaps, without_copies
from explain_cnn_ros.bags.limits import DEFAULT_LIMITS, Limits
from explain_cnn_ros.bags.mcap_file import McapFile
from explain_cnn_ros.bags.metadata import Metadata
from explain_cnn_ros.bags.names import listed, printable
from explain_cnn_ros.bags.packed import unpack_file
from explain_cnn_ros.bags.sqlite_file import SqliteFile
from explain_cnn_ros.bags.storage import TIME_MAX, TIME_MIN, Message, StorageFile, Topic
from explain_cnn_ros.bags.storage_files import BagError, is_packed, is_sqlite, require_contents, storage_files
from explain_cnn_ros.bags.topic_choice import IMAGE_TYPES, ImageTopic, Look, classify, preferred
from explain_cnn_ros.files import visible

__all__ = ["IMAGE_TYPES", "BagError", "BagReader", "Message", "Topic"]

#: Log times below this, in ns, are not counted from 1970: the clock was not set yet, or it is simulated.
CLOCK_UNSET = 10**8 * 10**9

#: Maximum number of problems that are listed, and of the characters of each.
PROBLEMS_MAX, PROBLEM_LENGTH = 100, 500

#: Maximum number of topics that an error names.
NAMED = 6

#: Maximum number of topics without messages, and of problems, that an error names, and of the characters of a problem.
FEW, FAULT_LENGTH = 3, 200

#: Maximum number of image topics among which one is preferred.
CLASSIFIED = 100


class BagReader:
    """The topics and messages of a recording.

    All times are log times, in ns since 1970: the times at which the recorder received the messages.

    Args:
        path: A rosbag2 directory, or one .mcap or .db3 file. Files that are compressed as a whole (.zstd, .zst)
            are unpacked into a temporary directory while the bag is open.
        limits: Maximum sizes of what is unpacked.

    Attributes:
        path: The path.
        problems: Faults of the recording, and the parts that are left out because of them, a sentence each.
        notes: Sentences about properties of the recording that are unusual, but no faults.
        topics: The topics, by name.
        start: Log time of the first message, in ns; 0 if there is none. Messages that were recorded before the clock
            was set, with log times near 0, come before it.
        end: Log time of the last message, in ns; 0 if there is none.

    Raises:
        BagError: There is no recording, or nothing in it can be read.
        OSError: The recording cannot be read, for instance because its disk is not mounted any more.
    """

    def __init__(self, path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> None:
        self.path = Path(path)
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._limits = limits
        self._stack = ExitStack()
        self._files: list[StorageFile] = []
        self._image_topics: list[ImageTopic] | None = None
        try:
            metadata, files = storage_files(self.path, self._report, self.notes.append)
            of_metadata = len(self.problems)
            for file in files:
                self._open_file(file)
            if not self._files:
                # Without the problems of the metadata: their remedies do not help.
                reasons = "; ".join(self.problems[of_metadata:])
                raise BagError(f"{printable(self.path)}: nothing in it can be read: {reasons}")
            self._files = sorted(without_copies(self._files, self.notes.append), key=lambda file: file.start)
            report_overlaps(self._files, self._report)
            self.topics = _topics(self._files, metadata.qos)
            self._compare_counts(metadata, files)
            self.start, self.end = self._times()
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
    def image_topics(self) -> list[Topic]:
        """Topics with raw or compressed images; the one with the most messages comes first."""
        return sorted((t for t in self.topics if t.type in IMAGE_TYPES and t.count), key=lambda t: -t.count)

    def image_topic(self, name: str | None = None) -> Topic:
        """Return an image topic.

        Args:
            name: Name of the topic; None for the preferred one: colour is preferred over grey, and grey over depth.
                Among topics of the same kind, the one with the most messages is preferred.

        Raises:
            BagError: There is no such topic.
        """
        images = self.image_topics
        if images and name is None:
            return preferred(self.image_kinds()).topic
        for topic in images:
            if topic.name == name:
                return topic
        raise BagError(f"{printable(self.path)}: {self._without_images(name)}")

    def _without_images(self, name: str | None) -> str:
        """Return the reason why there are no images on a topic, or on any topic."""
        images = listed([topic.name for topic in self.image_topics])
        if images:
            text = f"no images on {name}. Image topics: {images}."
        else:
            have = listed([f"{topic.name} ({topic.type}, {topic.count} messages)" for topic in self.topics], NAMED)
            text = (
                "no image topic (sensor_msgs/Image or CompressedImage) with messages. "
                f"It holds {have or 'no topics at all'}."
            )
        empty = [topic.name for topic in self.topics if topic.type in IMAGE_TYPES and not topic.count]
        silent = listed([topic for topic in empty if name in (None, topic)], FEW)
        if silent:
            text += (
                f" No messages on {silent}: the camera published nothing during the recording, or with a QoS that the "
                "recorder did not match."
            )
        faults = listed(self.problems, FEW, FAULT_LENGTH, "; ")
        if faults:
            text += f" Faults of the recording: {faults}."
        if not images and not silent:
            text += f"{' If they are not the cause, record' if faults else ' Record'} the camera's topic as well."
        return text

    def image_kinds(self) -> list[ImageTopic]:
        """Return the image topics with the most messages, and the kinds of their images.

        The first image of each is read for that.
        """
        if self._image_topics is None:
            self._image_topics = [classify(topic, self._first(topic)) for topic in self.image_topics[:CLASSIFIED]]
        return self._image_topics

    def _first(self, topic: Topic) -> Message | None:
        """Return the first message of a topic; None if there is none that can be read."""
        return next((message for message in self.messages([topic.name]) if message.type == topic.type), None)

    def choice(self) -> str:
        """Return a sentence about the choice of the preferred image topic; "" if it is the only one and no depth."""
        kinds = self.image_kinds()
        chosen = preferred(kinds)
        others = listed(
            [
                f"{found.topic.name} ({found.encoding or 'unknown encoding'}, {found.topic.count} images)"
                for found in kinds
                if found is not chosen
            ]
        )
        if not others and chosen.look != Look.DEPTH:
            return ""
        what = f"{listed([chosen.topic.name])} is read ({chosen.look.name.lower()}, {chosen.topic.count} images)"
        return f"{what}; --topics selects others: {others}" if others else f"{what}; there are no other images"

    def messages(
        self, topics: Collection[str] | None = None, start: int | None = None, stop: int | None = None
    ) -> Iterator[Message]:
        """Yield messages in the order of their log time. Files that overlap in time are read together.

        A damaged part is left out and named in `problems`. When all messages have been read, `problems` also names the
        topics of which fewer messages could be read than the file announces.

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
            raise BagError(f"{printable(self.path)}: no topic {', '.join(unknown)}. It holds {listed(sorted(names))}")
        wanted = names if topics is None else set(topics)
        start, stop = TIME_MIN if start is None else start, TIME_MAX if stop is None else stop
        return merged(self._files, wanted, start, stop, self._report)

    def _report(self, problem: str) -> None:
        # Names of topics and files may have any characters, and any length.
        problem = visible(problem)
        problem = problem if len(problem) <= PROBLEM_LENGTH else f"{problem[:PROBLEM_LENGTH]} ..."
        if len(self.problems) <= PROBLEMS_MAX and problem not in self.problems:
            self.problems.append(problem if len(self.problems) < PROBLEMS_MAX else "there are further problems")

    def _open_file(self, path: Path) -> None:
        kind = SqliteFile if is_sqlite(path) else McapFile
        try:
            require_contents(path)
            readable = self._unpacked(path) if is_packed(path) else path
            file: StorageFile = kind(readable, self._report, self._limits)
        except OSError as error:
            if not path.exists():
                raise
            self._report(f"{printable(path.name)} cannot be read: {error.strerror or error}")
            return
        except Exception as error:  # damaged bytes raise all kinds
            self._report(f"{printable(path.name)} cannot be read: {error}")
            return
        self._stack.callback(file.close)
        self._files.append(file)

    def _unpacked(self, path: Path) -> Path:
        """Unpack a compressed file, or the intact part of a damaged one, into a temporary directory."""
        target = Path(self._stack.enter_context(tempfile.TemporaryDirectory())) / path.stem
        unpack_file(path, target, self._limits.file_bytes, self._report)
        return target

    def _compare_counts(self, metadata: Metadata, files: list[Path]) -> None:
        """Report topics with fewer messages than metadata.yaml announces, unless a whole file is missing."""
        if len(self._files) < max(len(files), len(metadata.files)):
            return
        counts: dict[str, int] = {}
        for topic in self.topics:
            counts[topic.name] = counts.get(topic.name, 0) + topic.count
        for name, announced in metadata.counts.items():
            found = counts.get(name, 0)
            if found < announced:
                self._report(f"{name}: {found} of the {announced} messages that metadata.yaml announces are there")

    def _times(self) -> tuple[int, int]:
        """Return the log times of the first message after the clock was set, and of the last message."""
        files = [file for file in self._files if any(topic.count for topic in file.topics)]
        start, end = min((file.start for file in files), default=0), max((file.end for file in files), default=0)
        if start < CLOCK_UNSET <= end:
            everything = {topic.name for topic in self.topics}
            later = [next(file.messages(everything, CLOCK_UNSET, TIME_MAX), None) for file in files]
            start = min((message.stamp for message in later if message is not None), default=start)
            self.notes.append(
                "the first messages have log times before the clock was set (the recorder used simulated time without "
                "/clock, or the system's clock was set later): times are counted from the first message after that"
            )
        return start, end


def _topics(files: list[StorageFile], recorded: dict[str, tuple[Qos, ...]]) -> list[Topic]:
    """Return the topics of all files, by name. QoS in metadata.yaml takes precedence over QoS in the files."""
    counts: dict[tuple[str, str], int] = {}
    offers: dict[str, tuple[Qos, ...]] = {}
    for file in files:
        for topic in file.topics:
            counts[topic.name, topic.type] = counts.get((topic.name, topic.type), 0) + topic.count
            offers[topic.name] = offers.get(topic.name) or topic.qos
    return [Topic(n, t, count, recorded.get(n) or offers[n]) for (n, t), count in sorted(counts.items())]
