"""Sources of frames: a rosbag2 recording, a folder of images, or a video file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.bags.image_messages import ImageError, to_rgb
from explain_cnn_ros.bags.reader import BagError, BagReader
from explain_cnn_ros.bags.storage import Message
from explain_cnn_ros.options import option, require, validate

#: Names of image and video files end in one of these, in upper or lower case.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")


class SourceError(Exception):
    """A source cannot be opened. The message names the cause and the cure."""


@dataclass(frozen=True)
class SourceSettings:
    """The part of a source that is read.

    Attributes:
        topics: Image topics of a recording; empty for the image topic with the most messages.
        start: Frames before this time are left out.
        end: Frames at or after this time are left out.
        rate: Frame rate of a folder of images.

    Raises:
        ValueError: A value is out of range; the message names the field and what is expected.
    """

    topics: tuple[str, ...] = ()
    start: float = option(
        0.0, "Leave out frames before this time, in seconds from the start of the recording.", 0.0, 1e9
    )
    end: float = option(
        0.0, "Leave out frames at or after this time, in seconds from the start of the recording; 0: none.", 0.0, 1e9
    )
    rate: float = option(
        10.0, "Frame rate of a folder of images, which has no times of its own, in frames per second.", 0.001, 10_000.0
    )

    def __post_init__(self) -> None:
        validate(self)
        require(self.end == 0 or self.end > self.start, "end", self.end, f"0, or above start ({self.start})")

    def includes(self, time: int) -> bool:
        """Whether frames at a time, in ns from the start of the recording, are read."""
        return self.start * 1e9 <= time and (not self.end or time < self.end * 1e9)


@dataclass(frozen=True)
class Frame:
    """A frame as it was recorded.

    Attributes:
        index: Number of the frame in the source, counted from 0. Frames that cannot be decoded count as well.
        stamp: Stamp of the message's header, in ns since 1970; the log time if there is no header.
        log_time: Time at which the frame was recorded, in ns.
        topic: Topic of the message, or name of the file.
        frame_id: `frame_id` of the message's header; "" if there is no header.
        image: uint8 [H, W, 3] RGB; None if it cannot be decoded.
        error: The reason why the image cannot be decoded; "" if it can.
    """

    index: int
    stamp: int
    log_time: int
    topic: str
    frame_id: str
    image: NDArray[np.uint8] | None
    error: str = ""


@dataclass(frozen=True)
class Entry:
    """A frame that is not decoded yet.

    Attributes:
        index: Number of the frame in the source, counted from 0.
        log_time: Time at which the frame was recorded, in ns.
        load: Decodes the frame. It may be called in any thread.
    """

    index: int
    log_time: int
    load: Callable[[], Frame]


class Place(NamedTuple):
    """The first frame of a log time, in a recording whose log times ascend.

    Attributes:
        frame: Number of the frame.
        log_time: Its log time, in ns.
    """

    frame: int
    log_time: int


class Source(Protocol):
    """A recording, a folder of images, or a video.

    Attributes:
        name: The path, as it was given.
        start: Log time of the first message, in ns.
        total: Maximum number of frames; 0 if it is not known.
        problems: Faults of the source that have been found until now, a sentence each.
    """

    name: str
    start: int
    total: int

    @property
    def problems(self) -> list[str]: ...

    def entries(self, first: int = 0, near: Place | None = None) -> Iterator[Entry]:
        """Yield the frames in order.

        Args:
            first: Number of the first frame that is yielded.
            near: A place at or before `first` where reading may begin; None for the beginning.
        """
        ...

    def close(self) -> None:
        """Close the files."""
        ...


class BagSource:
    """The image topics of a rosbag2 recording.

    Args:
        path: A rosbag2 directory, or a .mcap or .db3 file.
        settings: The part of the recording that is read.

    Raises:
        SourceError: There is no recording, or it has no such topics.
    """

    def __init__(self, path: Path, settings: SourceSettings) -> None:
        self.name = str(path)
        self._types = get_typestore(Stores.ROS2_JAZZY)
        try:
            self._bag = BagReader(path)
        except BagError as error:
            raise SourceError(str(error)) from error
        try:
            topics = [self._bag.image_topic(name) for name in settings.topics] or [self._bag.image_topic()]
        except BagError as error:
            self._bag.close()
            raise SourceError(str(error)) from error
        self._topics = [topic.name for topic in topics]
        self.start, self.total = self._bag.start, sum(topic.count for topic in topics)
        self._from = self.start + round(settings.start * 1e9)
        self._to = self.start + round(settings.end * 1e9) if settings.end else None
        if settings.start or settings.end:
            self.total = 0

    @property
    def problems(self) -> list[str]:
        return self._bag.problems

    def entries(self, first: int = 0, near: Place | None = None) -> Iterator[Entry]:
        near = near or Place(0, self._from)
        messages = self._bag.messages(self._topics, near.log_time, self._to)
        for index, message in enumerate(messages, near.frame):
            if index >= first:
                yield Entry(index, message.stamp, partial(self._load, index, message))

    def _load(self, index: int, message: Message) -> Frame:
        stamp, frame_id = message.stamp, ""
        try:
            image: Any = self._types.deserialize_cdr(message.data, message.type)
            header = image.header
            stamp = int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
            frame_id = header.frame_id
            return Frame(index, stamp, message.stamp, message.topic, frame_id, to_rgb(image))
        except ImageError as error:
            reason = str(error)
        except Exception as error:  # damaged bytes raise all kinds
            reason = f"the message cannot be read: {type(error).__name__}: {error}"
        return Frame(index, stamp, message.stamp, message.topic, frame_id, None, reason)

    def close(self) -> None:
        self._bag.close()


class FolderSource:
    """The images of a folder, in the natural order of their names.

    Args:
        path: The folder.
        settings: The part of the folder that is read.

    Raises:
        SourceError: There is no image in the folder.
    """

    def __init__(self, path: Path, settings: SourceSettings) -> None:
        self.name, self.start, self.problems = str(path), 0, list[str]()
        files = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise SourceError(
                f"{path}: neither a rosbag2 recording nor a folder with images ({', '.join(IMAGE_SUFFIXES)})"
            )
        files.sort(key=lambda p: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", p.name)])
        times = [round(i * 1e9 / settings.rate) for i in range(len(files))]
        self._files = [(t, p) for t, p in zip(times, files, strict=True) if settings.includes(t)]
        self.total = len(self._files)

    def entries(self, first: int = 0, near: Place | None = None) -> Iterator[Entry]:
        for index, (time, path) in enumerate(self._files[first:], first):
            yield Entry(index, time, partial(self._load, index, time, path))

    @staticmethod
    def _load(index: int, time: int, path: Path) -> Frame:
        try:
            data = np.fromfile(path, np.uint8)
            decoded = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
        except (OSError, cv2.error):
            decoded = None
        if decoded is None:
            return Frame(index, time, time, path.name, "", None, f"{path.name} is no image that can be read")
        return Frame(index, time, time, path.name, "", _rgb(decoded))

    def close(self) -> None:
        pass


class VideoSource:
    """The frames of a video file.

    Args:
        path: The file.
        settings: The part of the video that is read.

    Raises:
        SourceError: OpenCV cannot read the file.
    """

    def __init__(self, path: Path, settings: SourceSettings) -> None:
        self.name, self.start, self.problems = str(path), 0, list[str]()
        self._path, self._settings = path, settings
        video = cv2.VideoCapture(str(path))
        if not video.isOpened():
            raise SourceError(
                f"{path}: OpenCV cannot read this video; convert it, for instance with ffmpeg, to H.264 in MP4"
            )
        self._rate = video.get(cv2.CAP_PROP_FPS) or settings.rate
        self.total = 0 if settings.start or settings.end else max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
        video.release()

    def entries(self, first: int = 0, near: Place | None = None) -> Iterator[Entry]:
        video, index = cv2.VideoCapture(str(self._path)), 0
        try:
            number = 0
            while video.grab():
                time = round(number * 1e9 / self._rate)
                number += 1
                if self._settings.end and time >= self._settings.end * 1e9:
                    break
                if not self._settings.includes(time):
                    continue
                if index >= first:
                    # A video is decoded frame by frame, so only the colours are left for other threads.
                    yield Entry(index, time, partial(self._load, index, time, *video.retrieve()))
                index += 1
        finally:
            video.release()

    def _load(self, index: int, time: int, decoded: bool, image: Any) -> Frame:
        if not decoded:
            return Frame(index, time, time, self._path.name, "", None, "the frame cannot be decoded")
        return Frame(index, time, time, self._path.name, "", _rgb(image))

    def close(self) -> None:
        pass


def _rgb(bgr: Any) -> Any:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def open_source(path: Path, settings: SourceSettings | None = None) -> Source:
    """Open the source at a path.

    Args:
        path: A rosbag2 recording, a folder of images, or a video file.
        settings: The part of the source that is read; None for all frames.

    Raises:
        SourceError: There is no source at the path, or it cannot be read.
    """
    settings = settings or SourceSettings()
    if not path.exists():
        raise SourceError(
            f"{path}: no such file or directory; give a rosbag2 recording, a folder of images, or a video"
        )
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        return VideoSource(path, settings)
    if (
        path.is_dir()
        and not any(path.glob("*.mcap*"))
        and not any(path.glob("*.db3*"))
        and not (path / "metadata.yaml").exists()
    ):
        return FolderSource(path, settings)
    return BagSource(path, settings)
