"""The frames of a video."""

from __future__ import annotations

import itertools
import math
import os
import re
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from explain_cnn_ros.bags.frame_estimate import estimated_frames
from explain_cnn_ros.bags.frame_source import Entry, Frame, Place, SourceError, SourceSettings
from explain_cnn_ros.bags.image_files import ImageError, require_size
from explain_cnn_ros.bags.mp4_boxes import shown_frames
from explain_cnn_ros.bags.names import printable

#: Suffixes of containers that store the number of their frames. Others give an estimate.
_COUNTED = (".mp4", ".mov", ".m4v", ".3gp", ".avi")

#: Share of the announced frames that may be missing at the end, because containers and decoders count differently.
_MISSING = 0.01

#: Level of the messages of FFmpeg that are printed.
_FATAL = "8"

#: A time that goes back by more than this, in ns, begins a new part of the video.
_RESTART = 10**9


class VideoSource:
    """The frames of a video file, at the times that the file gives them.

    Args:
        path: The file.
        settings: The part of the video that is read.

    Raises:
        SourceError: OpenCV cannot read the file, or its frames are too large.
    """

    def __init__(self, path: Path, settings: SourceSettings) -> None:
        self.path, self.name, self.start, self.end = path, printable(path), 0, 0
        self.problems, self.notes = list[str](), list[str]()
        self._settings = settings
        video = _open(path)
        if not video.isOpened():
            raise SourceError(
                f"{self.name}: OpenCV cannot read this video: it is damaged, cut off, or of an unknown kind; if other "
                "programs play it, convert it, for instance with ffmpeg, to H.264 in MP4"
            )
        try:
            width, height = (int(video.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            require_size(width, height, settings.megapixels_max)
        except ImageError as error:
            raise SourceError(f"{self.name}: {error}") from error
        rate = video.get(cv2.CAP_PROP_FPS)
        self._rate = rate if math.isfinite(rate) and rate > 0 else settings.rate
        announced = video.get(cv2.CAP_PROP_FRAME_COUNT)
        shown = shown_frames(path)
        self._announced = round(announced * shown.share) if 0 < announced < 1e9 else 0
        self._counted = path.suffix.lower() in _COUNTED and not shown.fragmented and shown.share > 1 - _MISSING
        self.end = round(self._announced * 1e9 / self._rate)
        self.total = estimated_frames(self._announced, self.end, settings)
        video.release()

    def entries(self, first: int = 0, near: Place | None = None) -> Iterator[Entry]:
        """Yield the frames in order; see `Source`. A video is always read from its beginning."""
        video, index, times = _open(self.path), 0, array("q")
        try:
            for time in self._times(video):
                times.append(time)
                if self._settings.end and time >= self._settings.end * 1e9:
                    return
                if not self._settings.includes(time):
                    continue
                if index >= first:
                    # A video is decoded frame by frame, so only the colours are left for other threads.
                    yield Entry(index, time, partial(self._load, index, time, *video.retrieve()))
                index += 1
        finally:
            video.release()
        self._compare(times)

    def _times(self, video: cv2.VideoCapture) -> Iterator[int]:
        """Grab the frames, and yield the time of each, in ns. The times ascend."""
        step, time, offset = max(1, round(1e9 / self._rate)), -1, 0
        while video.grab():
            position = video.get(cv2.CAP_PROP_POS_MSEC)
            own = round(position * 1e6) + offset if math.isfinite(position) else time
            if time < 0:
                # If frames are not stored in the order in which they are shown, the first time may be negative.
                own = max(own, 0)
            if own <= time:
                if own < time - _RESTART:
                    offset += time + step - own
                own = time + step
            time = own
            yield time

    def _compare(self, times: Sequence[int]) -> None:
        """Report frames that the video announces and that could not be read.

        Args:
            times: The times of the frames that could be read, in ns.
        """
        problem = self._fault(times)
        if problem and problem not in self.problems:
            self.problems.append(problem)

    def _fault(self, times: Sequence[int]) -> str:
        if not times:
            return "no frame can be decoded; convert it, for instance with ffmpeg, to H.264 in MP4"
        step = 1e9 / self._rate
        missing = self._announced - len(times)
        if missing <= max(1, _MISSING * self._announced):
            return ""
        found = f"{len(times)} of the {self._announced} frames that the video announces could be read"
        if times[-1] + 2 * step + 5e8 < self._announced * step or self._counted:
            return f"{found}, the last one at {times[-1] / 1e9:.1f} s: it is cut off or damaged"
        # The number is an estimate, which a gap of this length confirms.
        gap, at = max(((b - a, a) for a, b in itertools.pairwise(times)), default=(0, 0))
        if gap < missing * step / 2:
            return ""
        return f"{found}: there are none from {at / 1e9:.1f} to {(at + gap) / 1e9:.1f} s"

    def _load(self, index: int, time: int, decoded: bool, image: Any) -> Frame:
        name = printable(self.path.name)
        if not decoded or image is None:
            return Frame(index, time, time, name, "", None, "the frame cannot be decoded")
        try:
            return Frame(index, time, time, name, "", cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        except cv2.error as error:
            return Frame(index, time, time, name, "", None, f"the frame cannot be decoded: {error}")

    def close(self) -> None:
        """Do nothing: no file is open between two calls."""


def _open(path: Path) -> cv2.VideoCapture:
    """Open a video, whatever its name. It may not be open, because OpenCV cannot read it."""
    absolute = path.absolute()
    if re.fullmatch(r"[A-Za-z0-9_/. +-]+", str(absolute)):
        return _capture(str(absolute))
    # OpenCV takes "a:b" for a protocol and "%d" for a series of images, and refuses names that are not UTF-8.
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"video{path.suffix if path.suffix.isascii() else ''}"
        os.symlink(absolute, link)
        return _capture(str(link))


def _capture(path: str) -> cv2.VideoCapture:
    # For a damaged video, the decoder prints thousands of lines, between which the report would not be found.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _FATAL)
    video = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    return video if video.isOpened() else cv2.VideoCapture(path)
