"""The recordings of an analysis, opened again to read single frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress

from explain_cnn_ros.analysis.review.queue import ReviewWindow
from explain_cnn_ros.analysis.review.windows import ReviewedAnalysis
from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.bags.sources import Frame, Source, SourceError, VideoSource, open_source


class Recordings:
    """The recordings of an analysis that are there.

    Args:
        analysis: The analysis.

    Attributes:
        missing: Reasons why the others cannot be opened, by their paths in the tables.
    """

    def __init__(self, analysis: ReviewedAnalysis) -> None:
        self.missing: dict[str, str] = {}
        self._sources: dict[str, Source] = {}
        self._timelines = analysis.timelines
        for path in analysis.inputs:
            name = printable(path)
            if name not in self._timelines:
                continue
            try:
                self._sources[name] = open_source(path, analysis.settings)
            except (SourceError, OSError) as error:
                self.missing[name] = str(error)

    @property
    def starts(self) -> dict[str, int]:
        """Log times of the first messages, in ns, by the paths of the recordings."""
        return {name: source.start for name, source in self._sources.items()}

    def direct(self, window: ReviewWindow) -> bool:
        """Whether the frame of a window can be read without all frames before it."""
        source = self._sources.get(window.source)
        return source is not None and not isinstance(source, VideoSource) and self._timelines[window.source].complete

    def read(self, window: ReviewWindow) -> Frame | None:
        """Read the frame of a window; None if it is not in the recording any more."""
        with suppress(OSError):
            return next((frame for _, frame in self._frames([window])), None)
        return None

    def read_all(self, windows: Sequence[ReviewWindow]) -> Iterator[tuple[ReviewWindow, Frame]]:
        """Read the frames of windows of one recording, in a single pass and in the order of the frames.

        Args:
            windows: The windows. Those whose frames are not in the recording any more are left out.

        Yields:
            Each window with its frame.
        """
        with suppress(OSError):
            yield from self._frames(sorted(windows, key=lambda window: window.frame))

    def close(self) -> None:
        """Close the files."""
        for source in self._sources.values():
            source.close()

    def _frames(self, windows: Sequence[ReviewWindow]) -> Iterator[tuple[ReviewWindow, Frame]]:
        if not windows or windows[0].source not in self._sources:
            return
        wanted: defaultdict[int, list[ReviewWindow]] = defaultdict(list)
        for window in windows:
            wanted[window.frame].append(window)
        first, last = windows[0], windows[-1].frame
        source, near = self._sources[first.source], self._timelines[first.source].place(first.log_time)
        for entry in source.entries(first.frame, near):
            # Another recording may have the same path now.
            if entry.index in wanted and entry.log_time == wanted[entry.index][0].log_time:
                frame = entry.load()
                if frame.image is not None and frame.image.shape[1::-1] == wanted[entry.index][0].size:
                    yield from ((window, frame) for window in wanted[entry.index])
            if entry.index >= last:
                return
