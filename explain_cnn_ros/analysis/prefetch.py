"""Decoding ahead: threads decode the next frames while the network works."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from explain_cnn_ros.bags.sources import Entry, Frame

#: Maximum number of frames that are decoded ahead: a batch, and the frames that the threads are decoding.
DEPTH = 40

#: Maximum number of bytes of the frames that are decoded ahead, if they are as large as the last one.
BYTES_MAX = 512 * 1024**2

#: OpenCV decodes without Python's lock. More threads only take time from the network.
THREADS = min(4, os.cpu_count() or 1)


def decoded(entries: Iterable[Entry], depth: int = DEPTH) -> Generator[Frame]:
    """Yield the frames of entries, in order.

    Args:
        entries: The frames that are to be decoded.
        depth: Maximum number of frames that are decoded ahead.
    """
    # The size of the frames is known when the first one is decoded.
    limit = min(depth, 2 * THREADS)
    with ThreadPoolExecutor(THREADS, "decode") as pool:
        waiting: deque[Future[Frame]] = deque()
        try:
            for entry in entries:
                waiting.append(pool.submit(entry.load))
                while len(waiting) >= limit:
                    frame = waiting.popleft().result()
                    limit = _limit(frame, depth, limit)
                    yield frame
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _limit(frame: Frame, depth: int, before: int) -> int:
    """Return the number of frames that may be decoded ahead."""
    if frame.image is None:
        return before
    return max(1, min(depth, BYTES_MAX // max(1, frame.image.nbytes)))
