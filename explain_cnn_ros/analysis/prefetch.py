"""Decodes ahead, in threads, while the network works; in order, and never far ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from explain_cnn_ros.analysis.sources import Entry, Frame

#: Frames that are decoded ahead at most: a batch, and what the threads hold in their hands.
DEPTH = 40

#: OpenCV decodes without Python's lock; more threads than this only take time from the network.
THREADS = min(4, os.cpu_count() or 1)


def decoded(entries: Iterable[Entry], depth: int = DEPTH) -> Generator[Frame]:
    """The frames of entries, in order."""
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
