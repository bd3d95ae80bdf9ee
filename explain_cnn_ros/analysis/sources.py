"""Where frames come from: a rosbag2 recording, a folder of images, or a video file."""

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

from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.bags.reader import BagError, BagReader
from explain_cnn_ros.bags.storage import Message
from explain_cnn_ros.image_messages import ImageError, to_rgb

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")


class SourceError(Exception):
    """There is nothing to analyse; the text names the cause and the cure."""


@dataclass(frozen=True)
class Frame:
    """A frame as it was recorded.

    index: its number in the source, from 0; frames that cannot be decoded count.
    stamp: what its header says, ns since 1970; the log time where there is no header.
    log_time: when it was recorded, ns.
    image: uint8 [H, W, 3] RGB; None when it cannot be decoded, for the reason `error`.
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
    """A frame that is yet to be decoded, by `load`, in any thread."""

    index: int
    log_time: int
    load: Callable[[], Frame]


class Place(NamedTuple):
    """A place in a recording whose log times ascend: the first frame of a log time."""

    frame: int
    log_time: int


class Source(Protocol):
    """One recording.

    name: as it was given.
    start: log time of its beginning, ns.
    total: frames there may be; 0 if that is not known.
    problems: what was wrong with it, so far.
    """

    name: str
    start: int
    total: int

    @property
    def problems(self) -> list[str]: ...

    def entries(self, first: int = 0, near: Place | None = None) -> Iterator[Entry]:
        """Frames from number `first` on; `near` is a place at or before it, where reading may begin."""
        ...

    def close(self) -> None: ...


class BagSource:
    """The image topics of a rosbag2 recording."""

    def __init__(self, path: Path, settings: AnalysisSettings) -> None:
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
        except Exception as error:  # whatever damaged bytes give
            reason = f"the message cannot be read: {type(error).__name__}: {error}"
        return Frame(index, stamp, message.stamp, message.topic, frame_id, None, reason)

    def close(self) -> None:
        self._bag.close()


class FolderSource:
    """The images of a folder, in the natural order of their names."""

    def __init__(self, path: Path, settings: AnalysisSettings) -> None:
        self.name, self.start, self.problems = str(path), 0, list[str]()
        files = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise SourceError(
                f"{path}: neither a rosbag2 recording nor a folder with images ({', '.join(IMAGE_SUFFIXES)})"
            )
        files.sort(key=lambda p: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", p.name)])
        times = [round(i * 1e9 / settings.rate) for i in range(len(files))]
        self._files = [(t, p) for t, p in zip(times, files, strict=True) if _inside(t, settings)]
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
    """The frames of a video file."""

    def __init__(self, path: Path, settings: AnalysisSettings) -> None:
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
                if not _inside(time, self._settings):
                    continue
                if index >= first:
                    # A video is decoded frame by frame: nothing is left for other threads but the colours.
                    yield Entry(index, time, partial(self._load, index, time, *video.retrieve()))
                index += 1
        finally:
            video.release()

    def _load(self, index: int, time: int, there: bool, image: Any) -> Frame:
        if not there:
            return Frame(index, time, time, self._path.name, "", None, "the frame cannot be decoded")
        return Frame(index, time, time, self._path.name, "", _rgb(image))

    def close(self) -> None:
        pass


def _rgb(bgr: Any) -> Any:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _inside(time: int, settings: AnalysisSettings) -> bool:
    return settings.start * 1e9 <= time and (not settings.end or time < settings.end * 1e9)


def open_source(path: Path, settings: AnalysisSettings) -> Source:
    """The recording at a path.

    Raises:
        SourceError: there is none.
    """
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
