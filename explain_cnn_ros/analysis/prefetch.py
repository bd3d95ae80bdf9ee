"""Decoding ahead: threads decode the next frames while the network works."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from explain_cnn_ros.bags.sources import Entry, Frame

#: Maximum number of frames that are decoded ahead: a batch, and the frames that the threads are decoding.
DEPTH = 40

#: OpenCV decodes without Python's lock. More threads only take time from the network.
THREADS = min(4, os.cpu_count() or 1)


def decoded(entries: Iterable[Entry], depth: int = DEPTH) -> Generator[Frame]:
    """Yield the frames of entries, in order.

    Args:
        entries: The frames that are to be decoded.
        depth: Maximum number of frames that are decoded ahead.
    """
    with ThreadPoolExecutor(THREADS, "decode") as pool:
        waiting: deque[Future[Frame]] = deque()
        try:
            for entry in entries:
                waiting.append(pool.submit(entry.load))
                if len(waiting) >= depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
