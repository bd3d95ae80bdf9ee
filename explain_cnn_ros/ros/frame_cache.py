"""The newest camera images of a recorder, and the search for the image of an explanation."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, TypeVar

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

MIB = 1024**2

#: Number of images whose identity is remembered, also when the images themselves are not stored any more.
REMEMBERED = 10_000

#: Identity of an image: the seconds and nanoseconds of its stamp, and its frame_id.
Key = tuple[int, int, str]

V = TypeVar("V")


def key_of(header: Header) -> Key:
    """Return the identity of the image with a header. An explanation and its decision have the header of the image."""
    return header.stamp.sec, header.stamp.nanosec, header.frame_id


def remember(values: OrderedDict[Key, V], key: Key, value: V, size: int = REMEMBERED) -> None:
    """Store a value as the newest one of a dictionary, and remove the oldest ones above a size."""
    values[key] = value
    values.move_to_end(key)
    while len(values) > size:
        values.popitem(last=False)


@dataclass
class _Frame:
    """A stored image.

    Attributes:
        message: The image.
        decided: Whether the node has decided it. Only decided images are explained.
    """

    message: Image | CompressedImage
    decided: bool = False


class FrameCache:
    """Stores the newest images up to a number of bytes.

    If there is no more room, images are removed that the node has skipped: those that are older than the last decided
    one and not decided themselves. After them, the oldest images are removed.

    Args:
        capacity: Maximum number of bytes of all images together.

    Attributes:
        size: Number of bytes of the stored images.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._frames: OrderedDict[Key, _Frame] = OrderedDict()
        self._decided: OrderedDict[Key, None] = OrderedDict()
        # Checksum of each image; None if there were different images with one key.
        self._checksums: OrderedDict[Key, int | None] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, message: Image | CompressedImage) -> None:
        """Store an image."""
        key, checksum = key_of(message.header), zlib.crc32(message.data)
        same = self._checksums.get(key, checksum) == checksum
        remember(self._checksums, key, checksum if same else None)
        self._remove(key)
        if same and len(message.data) <= self._capacity:
            self._frames[key] = _Frame(message, key in self._decided)
            self.size += len(message.data)
            while self.size > self._capacity:
                self._remove(self._expendable())

    def decide(self, header: Header) -> None:
        """Note that the node has decided the image with a header."""
        key = key_of(header)
        remember(self._decided, key, None)
        if key in self._frames:
            self._frames[key].decided = True

    def knows(self, header: Header) -> bool:
        """Return whether an image with a header has arrived."""
        return key_of(header) in self._checksums

    def find(self, header: Header) -> Any:
        """Return the image with a header.

        Raises:
            LookupError: There is no such image, or it is not certain which one it is. The message says why.
        """
        key = key_of(header)
        if key[:2] == (0, 0):
            raise LookupError(
                "its stamp is 0, as that of any other image without a stamp: let the camera's driver stamp its images"
            )
        if key not in self._checksums:
            raise LookupError("its image did not arrive here")
        if self._checksums[key] is None:
            raise LookupError(
                "several different images have its stamp: let the camera's driver give each image a stamp of its own"
            )
        if key not in self._frames:
            raise LookupError(
                f"its image is not stored any more, since images have at most {self._capacity / MIB:.0f} MiB: raise "
                "--memory"
            )
        return self._frames[key].message

    def _expendable(self) -> Key:
        """Return the key of the image to be removed next."""
        newest_decided = next((key for key in reversed(self._frames) if self._frames[key].decided), None)
        if newest_decided is not None:
            for key, frame in self._frames.items():
                if key == newest_decided:
                    break
                if not frame.decided:
                    return key
        return next(iter(self._frames))

    def _remove(self, key: Key) -> None:
        frame = self._frames.pop(key, None)
        if frame is not None:
            self.size -= len(frame.message.data)
