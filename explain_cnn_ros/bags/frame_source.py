"""The interface of all sources of frames (recordings, folders of images, videos), and the settings of reading them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.bags.limits import DEFAULT_LIMITS, Limits
from explain_cnn_ros.options import option, require, validate


class SourceError(Exception):
    """A source cannot be opened. The message names the cause and the cure."""


@dataclass(frozen=True)
class SourceSettings:
    """The part of a source that is read.

    Attributes:
        topics: Image topics of a recording; empty for the preferred one, see `BagReader.image_topic`.
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

    megapixels_max: float = option(
        DEFAULT_LIMITS.megapixels,
        "Maximum number of pixels of an image, in millions. Larger images are not decoded.",
        0.001,
        100_000.0,
    )
    unpacked_mib_max: int = option(
        DEFAULT_LIMITS.unpacked_mib,
        "Maximum size of one chunk or message of a recording when it is unpacked, in MiB. Larger ones are left out.",
        1,
        1_000_000,
    )
    unpacked_gib_max: float = option(
        DEFAULT_LIMITS.unpacked_gib,
        "Maximum size of a file of a recording that is compressed as a whole when it is unpacked, in GiB.",
        0.001,
        1_000_000.0,
    )

    def __post_init__(self) -> None:
        validate(self)
        require(self.end == 0 or self.end > self.start, "end", self.end, f"0, or above start ({self.start})")

    @property
    def limits(self) -> Limits:
        """The maximum sizes."""
        return Limits(self.megapixels_max, self.unpacked_mib_max, self.unpacked_gib_max)

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
        path: The path, as it was given.
        name: The path as text that can be written as UTF-8.
        start: Log time of the first message, in ns.
        end: Log time of the last message, in ns; 0 if it is not known.
        total: Number of frames, or an estimate of it; 0 if it is not known.
        problems: Faults of the source that have been found until now, a sentence each.
        notes: Sentences about unusual properties that are no faults, and about choices that were made.
    """

    path: Path
    name: str
    start: int
    end: int
    total: int

    @property
    def problems(self) -> list[str]: ...

    @property
    def notes(self) -> list[str]: ...

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
