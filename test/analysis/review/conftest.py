"""Analyses whose tables are written by hand, and reviews of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from explain_cnn_ros.analysis.review.labels_writer import Answer, LabelsWriter
from explain_cnn_ros.analysis.review.queue import ReviewWindow, build_queue
from explain_cnn_ros.analysis.review.recordings import Recordings
from explain_cnn_ros.analysis.review.session import ReviewSession
from explain_cnn_ros.analysis.review.shelf import PictureShelf
from explain_cnn_ros.analysis.review.stored import stored_pictures
from explain_cnn_ros.analysis.review.windows import ReviewedAnalysis, read_analysis
from explain_cnn_ros.analysis.tables import table_of
from explain_cnn_ros.bags.sources import Frame

SECOND = 10**9
START = 1_700_000_000 * SECOND

#: P(person), then x, y, width and height of the window.
Region = tuple[float, int, int, int, int]


class Tables:
    """Writes the tables of an analysis. Frames are a tenth of a second apart, unless their times are given."""

    SECOND, START = SECOND, START

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._frames: list[dict[str, Any]] = []
        self._regions: list[dict[str, Any]] = []
        self._proofs: list[dict[str, Any]] = []

    def add(
        self,
        source: str,
        frames: Sequence[float | Sequence[Region] | None],
        threshold: float = 0.5,
        times: Sequence[int] = (),
        labels: Sequence[bool | None] = (),
    ) -> Tables:
        """Add a recording: for each frame its regions, P(person) of the whole frame, or None without a decision."""
        for i, found in enumerate(frames):
            regions = [(found, 0, 0, 160, 120)] if isinstance(found, float) else list(found or ())
            time = times[i] if times else START + i * SECOND // 10
            row: dict[str, Any] = {"source": source, "frame": i, "stamp": time, "log_time": time}
            label = labels[i] if labels else None
            if regions:
                p, x, y, width, height = regions[0]
                row |= {"probability": p, "person": p >= threshold, "width": 160, "height": 120, "label": label}
                row |= {"region_x": x, "region_y": y, "region_width": width, "region_height": height}
            self._frames.append(row)
            for number, (p, *box) in enumerate(regions):
                key = {"source": source, "frame": i, "stamp": time, "region": number}
                self._regions.append(
                    key
                    | dict(zip(("x", "y", "width", "height"), box, strict=True))
                    | {"probability": p, "person": p >= threshold, "label": label}
                )
        return self

    def prove(self, source: str, frame: int, supporting: float, opposing: float, disagrees: bool = False) -> Tables:
        for metric, together in (("influence", supporting), ("counter_influence", opposing)):
            self._proofs.append(
                {"source": source, "frame": frame, "metric": metric, "together": together, "disagrees": disagrees}
            )
        return self

    def write(self, threshold: float = 0.5, regions: bool = True, **manifest: Any) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        sources = list(dict.fromkeys(row["source"] for row in self._frames))
        content = {"model": "x", "threshold": threshold, "summary": {}, "inputs": sources, "input_size": [32, 64]}
        content["settings"] = {"regions": "scan"}
        (self.folder / "analysis.json").write_text(json.dumps(content | manifest))
        tables = {"frames": self._frames, "proofs": self._proofs} | ({"regions": self._regions} if regions else {})
        (self.folder / "regions.parquet").unlink(missing_ok=True)
        for name, rows in tables.items():
            pq.write_table(table_of(name, rows), self.folder / f"{name}.parquet")
        return self.folder

    def read(self, threshold: float = 0.5, **more: Any) -> ReviewedAnalysis:
        return read_analysis(self.write(threshold, **more))


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path / "out")


class PlainRecordings:
    """Recordings of frames in a colour that tells their number. Frames in `unreadable` cannot be read."""

    def __init__(self, starts: dict[str, int], unreadable: Sequence[int] = (), direct: bool = True) -> None:
        self.starts, self.missing = starts, dict[str, str]()
        self.unreadable, self._direct = unreadable, direct
        self.reads: list[int] = []

    def direct(self, window: ReviewWindow) -> bool:
        return self._direct

    def read(self, window: ReviewWindow) -> Frame | None:
        self.reads.append(window.frame)
        if window.frame in self.unreadable:
            return None
        image = np.full((window.size[1], window.size[0], 3), window.frame, np.uint8)
        return Frame(window.frame, window.log_time, window.log_time, "/camera", "", image)

    def read_all(self, windows: Sequence[ReviewWindow]) -> Iterator[tuple[ReviewWindow, Frame]]:
        for window in sorted(windows, key=lambda window: window.frame):
            frame = self.read(window)
            if frame is not None:
                yield window, frame


class Review:
    """A review without a server, whose pictures have all been read unless it is said otherwise.

    Args:
        analysis: The analysis.
        labels: The labels file.
        recordings: The recordings; None for plain ones that are always there.
        count: Maximum number of windows.
        loaded: Whether all pictures have been read.
        **plain: Properties of the plain recordings.
    """

    def __init__(
        self,
        analysis: ReviewedAnalysis,
        labels: Path,
        recordings: Recordings | None = None,
        count: int = 100,
        loaded: bool = True,
        **plain: Any,
    ) -> None:
        self.file = LabelsWriter(labels)
        starts = {source: int(line.times[0]) for source, line in analysis.timelines.items()}
        self.recordings: Any = recordings or PlainRecordings(starts, **plain)
        stored = stored_pictures(analysis.output) if self.recordings.missing else {}
        self.queue = build_queue(analysis, self.file, self.recordings.starts, stored, count)
        self.shelf = PictureShelf(self.queue.windows, self.recordings, stored, analysis.input_size)
        self.session = ReviewSession(self.queue.windows, self.shelf, self.file)
        self.shelf.start()
        if loaded:
            self.shelf._thread.join()

    @property
    def shown(self) -> list[int]:
        """Frames of the windows in the state."""
        return [window["frame"] for window in self.session.state(5)["windows"]]

    def answer(self, answer: Answer = Answer.PERSON) -> int:
        """Answer the window that is shown, and return its frame."""
        window = self.session.state(5)["windows"][0]
        assert not self.session.answer(window["number"], answer)["stale"]
        return int(window["frame"])

    def close(self) -> None:
        self.session.close()
        self.shelf.close()


@pytest.fixture
def review(tables: Tables, tmp_path: Path) -> Iterator[Callable[..., Review]]:
    """Begin a review of the tables, or of an analysis that was really done."""
    begun: list[Review] = []

    def begin(labels: str = "labels.csv", output: Path | None = None, **more: Any) -> Review:
        analysis = tables.read() if output is None else read_analysis(output)
        recordings = None if output is None else Recordings(analysis)
        begun.append(Review(analysis, tmp_path / labels, recordings, **more))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()
