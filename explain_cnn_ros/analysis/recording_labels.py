"""The labels of each recording and of each of its frames. They are found quickly, even among very many labels."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence

from explain_cnn_ros.analysis.labels import Box, FrameLabels, Label

#: A label with its position in the file. Of several labels of the same box, the last one counts.
_Numbered = tuple[int, Label]


class RecordingLabels:
    """The labels of one recording. Of several labels of the same box that cover a frame, the last one counts.

    Args:
        labels: The labels, all of which belong to the recording.
        recording_start: Log time of the first message of the recording, in ns.
    """

    def __init__(self, labels: Sequence[Label], recording_start: int) -> None:
        self._start = recording_start
        self._absolute = _Intervals((number, label) for number, label in enumerate(labels) if label.absolute)
        self._relative = _Intervals((number, label) for number, label in enumerate(labels) if not label.absolute)

    def at(self, log_time: int) -> FrameLabels:
        """Return the labels of a frame.

        Args:
            log_time: Log time of the frame, in ns.
        """
        # Division by a whole number rounds once, so that a label from a frame's log time covers the frame.
        covering = self._absolute.at(log_time / 10**9) + self._relative.at((log_time - self._start) / 10**9)
        found = {label.box: label for _, label in sorted(covering, key=lambda numbered: numbered[0])}
        whole = found.pop(None, None)

        def boxes(person: bool, ignore: bool = False) -> tuple[Box, ...]:
            kept = (one for one in found.values() if one.ignore == ignore and (ignore or one.person == person))
            return tuple(one.box for one in kept if one.box is not None)

        ignored = boxes(False, ignore=True)
        return FrameLabels(None if whole is None else whole.person, boxes(True), boxes(False), ignored)


class LabelsBySource:
    """The labels of several recordings, which are told apart by their paths; see `Label.belongs_to`.

    Args:
        labels: The labels.
        sources: Paths of all recordings, also of those that are not there.
    """

    def __init__(self, labels: Sequence[Label] = (), sources: Iterable[str] = ()) -> None:
        self._labels, self._sources = labels, frozenset(sources)
        self._last: tuple[str, int, RecordingLabels] | None = None

    def __len__(self) -> int:
        return len(self._labels)

    def of(self, source: str, recording_start: int) -> RecordingLabels:
        """Return the labels of a recording. The result of the last call is kept for calls about the same recording.

        Args:
            source: Path of the recording.
            recording_start: Log time of the first message of the recording, in ns.
        """
        if self._last is None or self._last[:2] != (source, recording_start):
            mine = [label for label in self._labels if label.belongs_to(source, self._sources)]
            self._last = (source, recording_start, RecordingLabels(mine, recording_start))
        return self._last[2]


class _Intervals:
    """A segment tree of labels. It finds the labels that cover a time without comparing the time with all labels.

    The leaves are the intervals between two neighbouring starts or ends. Each label is stored in the few nodes whose
    leaves it covers together.
    """

    def __init__(self, labels: Iterable[_Numbered]) -> None:
        given = list(labels)
        self._times = sorted({time for _, label in given for time in (label.start, label.end)})
        self._nodes: defaultdict[int, list[_Numbered]] = defaultdict(list)
        leaves = len(self._times)
        for numbered in given:
            low, high = (leaves + bisect_left(self._times, time) for time in (numbered[1].start, numbered[1].end))
            while low < high:
                if low % 2:
                    self._nodes[low].append(numbered)
                    low += 1
                if high % 2:
                    high -= 1
                    self._nodes[high].append(numbered)
                low, high = low // 2, high // 2

    def at(self, seconds: float) -> list[_Numbered]:
        """Return the labels with start <= seconds < end, in any order."""
        leaf = bisect_right(self._times, seconds) - 1
        found: list[_Numbered] = []
        node = len(self._times) + leaf if leaf >= 0 else 0
        while node:
            found += self._nodes.get(node, [])
            node //= 2
        return found
