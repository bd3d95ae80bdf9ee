"""A review: which window is shown next, and what happens with an answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from threading import Event
from typing import Any

from explain_cnn_ros.analysis.review.labels_writer import Answer, LabelsWriter
from explain_cnn_ros.analysis.review.pictures import WindowPictures
from explain_cnn_ros.analysis.review.queue import ReviewWindow
from explain_cnn_ros.analysis.review.shelf import PictureShelf
from explain_cnn_ros.analysis.review.windows import ReviewError
from explain_cnn_ros.files import visible

#: Number of windows that a state describes: the one that is shown, and those whose pictures the page loads ahead.
DESCRIBED = 6


class ReviewSession:
    """The state of a review, for any number of pages at once. All methods may be called in any thread.

    An answer about a window that has one already changes nothing, so it does no harm if a page sends it twice, or if
    another page was faster.

    Args:
        windows: The windows, in the order in which they are shown.
        shelf: The pictures of the windows. It must have been started, or be started later.
        labels: The labels file.

    Attributes:
        ended: Is set when a page has ended the review.
    """

    def __init__(self, windows: Sequence[ReviewWindow], shelf: PictureShelf, labels: LabelsWriter) -> None:
        self.ended = Event()
        self._windows, self._shelf, self._labels = windows, shelf, labels
        self._waiting: dict[int, None] = dict.fromkeys(range(len(windows)))
        self._history: list[tuple[int, bytes]] = []
        self._answers: dict[int, Answer] = {}
        self._closed = False

    def state(self, wait: float = 0.0) -> dict[str, Any]:
        """Return the state, as plain values for JSON.

        Args:
            wait: Maximum time to wait until the pictures of a window are here, in seconds.

        Returns:
            Under "windows", the window that is shown and the next ones, at most DESCRIBED; under "loading", whether
            windows are left and none is ready; under "done" and "total", numbers of windows; under "counts", the
            number of answers of this review by name; under "last", the number of the window that was answered last and
            can be taken back, or null; under "file", the labels file.
        """
        with self._shelf.changed:
            self._shelf.changed.wait_for(lambda: bool(self._ready(1)) or not self._left() or self._closed, wait)
            return self._state()

    def pictures(self, number: int) -> WindowPictures | None:
        """Return the pictures of a window; None if they are not here."""
        with self._shelf.changed:
            return self._shelf.get(number)

    def answer(self, number: int, answer: Answer) -> dict[str, Any]:
        """Store the answer about a window, and return the new state; see `state`.

        Under "stale", the state has whether the window had an answer already, which stays.

        Args:
            number: Number of the window.
            answer: The answer.

        Raises:
            ValueError: There is no window of this number, or its pictures have not been shown.
            ReviewError: The answer cannot be stored. The state is as it was.
        """
        with self._shelf.changed:
            self._require_open()
            if not 0 <= number < len(self._windows) or not (number in self._answers or self._shelf.has(number)):
                raise ValueError(f"there is no window {number} to be answered")
            stale = number in self._answers
            if not stale:
                line = self._labels.append(self._windows[number].key, answer)
                del self._waiting[number]
                self._answers[number] = answer
                self._history.append((number, line))
                given_up = self._shelf.release(number)
                self._history = [entry for entry in self._history if entry[0] not in given_up]
            return self._state() | {"stale": stale}

    def back(self, number: int) -> dict[str, Any]:
        """Withdraw the last answer, so that its window is shown again, and return the new state; see `state`.

        Args:
            number: Number of the window that the page knows as the last one. If another one is, nothing happens.

        Raises:
            ReviewError: The answer cannot be withdrawn. The state is as it was.
        """
        with self._shelf.changed:
            self._require_open()
            stale = not self._history or self._history[-1][0] != number
            if not stale:
                self._labels.withdraw(self._history[-1][1])
                self._history.pop()
                del self._answers[number]
                # The first one that waits is shown next.
                self._waiting = {number: None} | self._waiting
                self._shelf.take_back(number)
            return self._state() | {"stale": stale}

    def end(self) -> None:
        """End the review from a page."""
        self.ended.set()

    def close(self) -> None:
        """Refuse further answers. An answer that is being stored is stored before this returns."""
        with self._shelf.changed:
            self._closed = True
            self._shelf.changed.notify_all()

    @property
    def finished(self) -> bool:
        """Whether no window waits for an answer."""
        with self._shelf.changed:
            return not self._left()

    @property
    def failed(self) -> int:
        """Number of windows that were left out because their frames could not be read."""
        with self._shelf.changed:
            return len(self._shelf.failed)

    def _require_open(self) -> None:
        if self._closed:
            raise ReviewError("the review has ended: run `explain-cnn review` again to continue it")

    def _left(self) -> int:
        return len(self._waiting) - len(self._shelf.failed)

    def _ready(self, count: int) -> list[int]:
        """Return the windows that are shown next."""
        return list(islice(filter(self._shelf.has, self._waiting), count))

    def _state(self) -> dict[str, Any]:
        counts = list(self._answers.values())
        ready = self._ready(DESCRIBED)
        return {
            "windows": [self._described(number) for number in ready],
            "loading": not ready and self._left() > 0,
            "done": len(self._answers),
            "total": len(self._windows) - len(self._shelf.failed),
            "counts": {answer.value: counts.count(answer) for answer in Answer},
            "last": self._history[-1][0] if self._history else None,
            "file": visible(self._labels.path),
        }

    def _described(self, number: int) -> dict[str, Any]:
        window = self._windows[number]
        pictures = self._shelf.get(number)
        assert pictures is not None, "the window is ready"
        return {
            "number": number,
            "source": visible(window.source),
            "frame": window.frame,
            "seconds": round(window.seconds, 3),
            "probability": window.region.probability,
            "person": window.person,
            "reasons": window.reasons,
            "box": pictures.box,
            "size": pictures.size,
        }
