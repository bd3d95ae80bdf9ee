"""The pictures of the next windows, which a thread reads ahead."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from threading import Condition, Thread

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.review.pictures import WindowPictures, draw_pictures
from explain_cnn_ros.analysis.review.queue import ReviewWindow
from explain_cnn_ros.analysis.review.recordings import Recordings
from explain_cnn_ros.analysis.review.stored import FrameKey, StoredPicture

#: Number of windows whose pictures are read together. Reading goes on when fewer are waiting.
TOGETHER = 100

#: Number of answered windows whose pictures stay in memory, so that their answers can be withdrawn.
KEPT = 100


class PictureShelf:
    """The pictures of windows that wait for an answer, and of those that were answered last.

    A thread reads the pictures in the order of the windows, TOGETHER windows ahead. Frames of videos, and of recordings
    whose log times do not ascend, cannot be read one by one, so those of the same TOGETHER windows are read in one
    pass, after the others.

    Args:
        windows: The windows in the order in which they are shown.
        recordings: The recordings. Only the thread reads them.
        stored: Pictures of frames whose recordings are not there, or have changed.
        input_size: Width and height of the network's windows, in pixels; None if they are not known.

    Attributes:
        changed: Is notified of each change. Hold it while calling any method except `start` and `close`.
        failed: Numbers of the windows whose frames cannot be read.
    """

    def __init__(
        self,
        windows: Sequence[ReviewWindow],
        recordings: Recordings,
        stored: Mapping[FrameKey, StoredPicture],
        input_size: tuple[int, int] | None,
    ) -> None:
        self.changed = Condition()
        self.failed: set[int] = set()
        self._windows, self._recordings, self._stored, self._input_size = windows, recordings, stored, input_size
        self._waiting: dict[int, WindowPictures] = {}
        self._answered: OrderedDict[int, WindowPictures] = OrderedDict()
        self._closed = False
        self._thread = Thread(target=self._run, name="pictures", daemon=True)

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()
        self._thread.join()

    def has(self, number: int) -> bool:
        """Whether the pictures of a window are here."""
        return number in self._waiting or number in self._answered

    def get(self, number: int) -> WindowPictures | None:
        """Return the pictures of a window; None if they are not here."""
        return self._waiting.get(number) or self._answered.get(number)

    def release(self, number: int) -> Collection[int]:
        """Note that a window is answered.

        Returns:
            The numbers of the windows whose pictures were given up for it.
        """
        self._answered[number] = self._waiting.pop(number)
        given_up = list(islice(self._answered, max(0, len(self._answered) - KEPT)))
        for old in given_up:
            del self._answered[old]
        self.changed.notify_all()
        return given_up

    def take_back(self, number: int) -> None:
        """Note that an answered window waits for an answer again."""
        self._waiting[number] = self._answered.pop(number)
        self.changed.notify_all()

    def _run(self) -> None:
        for first in range(0, len(self._windows), TOGETHER):
            with self.changed:
                self.changed.wait_for(lambda: self._closed or len(self._waiting) < TOGETHER)
                if self._closed:
                    return
            windows = self._windows[first : first + TOGETHER]
            try:
                self._read(windows)
            except Exception:  # one recording must not end the review
                with self.changed:
                    self.failed.update(window.number for window in windows if not self.has(window.number))
                    self.changed.notify_all()

    def _read(self, windows: Sequence[ReviewWindow]) -> None:
        later: dict[str, list[ReviewWindow]] = defaultdict(list)
        for window in windows:
            if self._closed:
                return
            if window.source in self._recordings.starts and not self._recordings.direct(window):
                later[window.source].append(window)
                continue
            frame = self._recordings.read(window)
            self._put(window, None if frame is None or frame.image is None else self._draw(frame.image, window))
        for of_source in later.values():
            missing = {window.number: window for window in of_source}
            for window, frame in self._recordings.read_all(of_source):
                if self._closed:
                    return
                if frame.image is not None:
                    self._put(missing.pop(window.number), self._draw(frame.image, window))
            for window in missing.values():
                self._put(window, None)

    def _draw(self, image: NDArray[np.uint8], window: ReviewWindow, scale: float = 1.0) -> WindowPictures:
        return draw_pictures(image, window.region, self._input_size, scale)

    def _put(self, window: ReviewWindow, pictures: WindowPictures | None) -> None:
        """Put the pictures of a window here; without any, those that the analysis has stored."""
        stored = self._stored.get((window.source, window.frame))
        if pictures is None and stored is not None and (decoded := stored.decode()) is not None:
            pictures = self._draw(decoded[0], window, decoded[1])
        with self.changed:
            if pictures is None:
                self.failed.add(window.number)
            else:
                self._waiting[window.number] = pictures
            self.changed.notify_all()
