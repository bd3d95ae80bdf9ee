"""Decoding ahead: threads decode the next frames while the network works."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition

from explain_cnn_ros.bags.sources import Entry, Frame

#: Maximum number of frames that are decoded ahead: a batch, and the frames that the threads are decoding.
DEPTH = 40

#: Maximum number of bytes of the frames that are decoded ahead, as long as no frame is larger than all before it.
BYTES_MAX = 256 * 1024**2

#: OpenCV decodes without Python's lock. More threads only take time from the network.
THREADS = min(4, os.cpu_count() or 1)


class MemoryGate:
    """Lets threads decode frames while those that nobody has taken yet leave enough memory.

    The sizes of frames are not known before they are decoded: each one that is being decoded counts as much as the
    largest one before. The frame that is needed next is always decoded, so nothing waits for good.

    Args:
        bytes_max: Maximum number of bytes.

    Attributes:
        largest: Number of bytes of the largest frame; 0 before the first one.
    """

    def __init__(self, bytes_max: int) -> None:
        self.largest = 0
        self._bytes_max = bytes_max
        self._changed = Condition()
        self._decoding = self._waiting = self._taken = 0
        self._closed = False

    def load(self, number: int, entry: Entry) -> Frame | None:
        """Decode a frame when there is memory for it.

        Args:
            number: Number of the frame among those that are decoded, counted from 0.
            entry: The frame.

        Returns:
            The frame; None if the gate was closed before.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or number == self._taken or self._fits())
            if self._closed:
                return None
            self._decoding += 1
        frame = entry.load()
        with self._changed:
            self._decoding -= 1
            self._waiting += size_of(frame)
            self.largest = max(self.largest, size_of(frame))
            self._changed.notify_all()
        return frame

    def take(self, frame: Frame) -> None:
        """Notice that a frame is no longer waiting. Frames are taken in the order of their numbers."""
        with self._changed:
            self._taken += 1
            self._waiting -= size_of(frame)
            self._changed.notify_all()

    def close(self) -> None:
        """Let no further frame be decoded."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _fits(self) -> bool:
        return self.largest > 0 and self._waiting + (self._decoding + 1) * self.largest <= self._bytes_max


def size_of(frame: Frame) -> int:
    """Return the number of bytes of a frame's image."""
    return 0 if frame.image is None else frame.image.nbytes


def decoded(entries: Iterable[Entry], depth: int = DEPTH) -> Generator[Frame]:
    """Yield the frames of entries, in order.

    Args:
        entries: The frames that are to be decoded.
        depth: Maximum number of frames that are decoded ahead.
    """
    gate = MemoryGate(BYTES_MAX)

    def next_frame() -> Frame:
        frame = waiting.popleft().result()
        assert frame is not None, "the gate is open"
        gate.take(frame)
        return frame

    with ThreadPoolExecutor(THREADS, "decode") as pool:
        waiting: deque[Future[Frame | None]] = deque()
        try:
            for number, entry in enumerate(entries):
                waiting.append(pool.submit(gate.load, number, entry))
                # An entry may hold the bytes of its message, which can be as large as the image.
                while len(waiting) >= (max(1, min(depth, BYTES_MAX // gate.largest)) if gate.largest else THREADS):
                    yield next_frame()
            while waiting:
                yield next_frame()
        finally:
            gate.close()
            for future in waiting:
                future.cancel()
