"""Images and the detections of the same stamp: who waits for whom, how long, and in how much memory."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from explain_cnn_ros.scan.detections import DetectedBox

#: Maximum number of images that wait, and of their bytes.
IMAGES_MAX, BYTES_MAX = 300, 256 * 2**20

#: Maximum number of arrays of detections that wait for their images, and of boxes in each of them.
DETECTIONS_MAX, BOXES_MAX = 100, 1000

#: Number of images without detections whose times of arrival are remembered, to tell late detections from others.
REMEMBERED = 1000


@dataclass(frozen=True)
class DetectedImage:
    """An image with its detections.

    Attributes:
        message: The message of the image.
        boxes: The boxes of the detector; none if it found nothing.
        arrived: Time at which the image arrived, by the matcher's clock.
    """

    message: Any
    boxes: tuple[DetectedBox, ...]
    arrived: float


@dataclass(frozen=True)
class _WaitingImage:
    message: Any
    size: int
    arrived: float


class DetectionMatcher:
    """Matches images and detections by their stamps.

    Both may come first. An image waits for a limited time, and is skipped if no detections arrive. Images that arrived
    before one that is matched are skipped as well: detectors do not return to earlier images. A stamp of 0 matches
    nothing, because all images of a camera without stamps have it.

    Args:
        wait: Returns the maximum time that an image waits, in seconds.
        clock: Returns the time in seconds.

    Attributes:
        counts: Numbers by kind: "matched"; "skipped" (images without detections); "no memory" (images among these that
            waited for a shorter time, because others needed the memory); "late" (detections whose image had been
            skipped); "unmatched" (detections of stamps that no image has).
        lateness: Time from the arrival of the image to the arrival of the newest detections, in seconds, if these were
            late; 0 otherwise.
        no_memory: Whether the image of the newest detections was skipped because others needed the memory.
        newest_image: Stamp of the newest image, in nanoseconds; 0 before the first.
        newest_detections: Stamp of the newest detections, in nanoseconds; 0 before the first.
    """

    def __init__(self, wait: Callable[[], float], clock: Callable[[], float] = time.perf_counter) -> None:
        self._wait, self._clock = wait, clock
        self.counts: Counter[str] = Counter()
        self.reset()

    def reset(self) -> None:
        """Forget all images and detections. Counts stay."""
        self._images: OrderedDict[int, _WaitingImage] = OrderedDict()
        self._detections: OrderedDict[int, tuple[tuple[DetectedBox, ...], float]] = OrderedDict()
        self._skipped: OrderedDict[int, tuple[float, bool]] = OrderedDict()
        self._bytes = 0
        self.lateness, self.no_memory = 0.0, False
        self.newest_image = self.newest_detections = 0

    @property
    def waiting(self) -> int:
        """Number of images that wait for detections."""
        return len(self._images)

    def add_image(self, stamp: int, message: Any, size: int) -> DetectedImage | None:
        """Add an image that has arrived.

        Args:
            stamp: Its stamp, in nanoseconds.
            message: Its message.
            size: Number of bytes of the message.

        Returns:
            The image with its detections if these were there before; None if it waits, or is skipped.
        """
        self.expire()
        now, self.newest_image = self._clock(), stamp
        if stamp == 0:
            self.counts["skipped"] += 1
            return None
        if stamp in self._detections:
            boxes, _ = self._detections.pop(stamp)
            for earlier in list(self._images):
                self._skip(earlier)
            return self._matched(DetectedImage(message, boxes, now))
        if stamp in self._images:
            self._skip(stamp)
        self._images[stamp] = _WaitingImage(message, size, now)
        self._bytes += size
        while len(self._images) > IMAGES_MAX or (self._bytes > BYTES_MAX and len(self._images) > 1):
            self._skip(next(iter(self._images)), no_memory=True)
            self.counts["no memory"] += 1
        return None

    def add_detections(self, stamp: int, boxes: Sequence[DetectedBox]) -> DetectedImage | None:
        """Add the detections of one image.

        Args:
            stamp: Stamp of the image, in nanoseconds.
            boxes: The boxes. More than BOXES_MAX are cut.

        Returns:
            The image with its detections; None if there is no such image, or not yet.
        """
        self.expire()
        self.newest_detections = stamp
        self.lateness, self.no_memory = 0.0, False
        if stamp in self._images:
            return self._take(stamp, boxes)
        if stamp in self._skipped:
            self.counts["late"] += 1
            arrived, self.no_memory = self._skipped.pop(stamp)
            self.lateness = self._clock() - arrived
        elif stamp == 0:
            self.counts["unmatched"] += 1
        else:
            self._detections[stamp] = tuple(boxes[:BOXES_MAX]), self._clock()
            while len(self._detections) > DETECTIONS_MAX:
                self._detections.popitem(last=False)
                self.counts["unmatched"] += 1
        return None

    def add_unstamped(self, boxes: Sequence[DetectedBox]) -> DetectedImage | None:
        """Add detections without a stamp, which are those of the newest image that waits.

        Args:
            boxes: The boxes.

        Returns:
            The image with its detections; None if no image waits.
        """
        self.expire()
        if not self._images:
            self.counts["unmatched"] += 1
            return None
        return self._take(next(reversed(self._images)), boxes)

    def expire(self) -> None:
        """Skip the images that have waited for too long, and forget detections whose images do not come."""
        limit = self._clock() - self._wait()
        while self._images and next(iter(self._images.values())).arrived < limit:
            self._skip(next(iter(self._images)))
        while self._detections and next(iter(self._detections.values()))[1] < limit:
            self._detections.popitem(last=False)
            self.counts["unmatched"] += 1

    def _take(self, stamp: int, boxes: Sequence[DetectedBox]) -> DetectedImage:
        """Remove an image, and skip those that arrived before it."""
        while (first := next(iter(self._images))) != stamp:
            self._skip(first)
        image = self._images.pop(stamp)
        self._bytes -= image.size
        return self._matched(DetectedImage(image.message, tuple(boxes[:BOXES_MAX]), image.arrived))

    def _matched(self, image: DetectedImage) -> DetectedImage:
        self.counts["matched"] += 1
        return image

    def _skip(self, stamp: int, no_memory: bool = False) -> None:
        image = self._images.pop(stamp)
        self._bytes -= image.size
        self.counts["skipped"] += 1
        self._skipped[stamp] = image.arrived, no_memory
        while len(self._skipped) > REMEMBERED:
            self._skipped.popitem(last=False)
