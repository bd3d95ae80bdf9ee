"""The pixels of labelled windows, read from the recordings again."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.repair.labelled import LabelledWindow, RepairError
from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.bags.sources import Source, SourceError, SourceSettings, open_source
from explain_cnn_ros.model.windows import Region, crop
from explain_cnn_ros.scan.decider import WHOLE
from explain_cnn_ros.training.datasets import BACKGROUND_WINDOW, PERSON_WINDOW, list_images

Image = NDArray[np.uint8]

#: Names of the files that `write_windows` writes: numbers of the recording, of the frame and of the region.
WINDOW_FILE = re.compile(r"\d{3,}-\d{7,}-\d{2,}\.png")


def frames_of(
    inputs: Sequence[Path], settings: SourceSettings, windows: Sequence[LabelledWindow]
) -> Iterator[tuple[Image, list[LabelledWindow]]]:
    """Yield the frames of windows, uint8 [H, W, 3] RGB, each with its windows.

    Each recording is read once. Windows of recordings, or of frames, that are not there any more are left out.

    Args:
        inputs: The inputs of the analysis.
        settings: The part of them that was read.
        windows: The windows.
    """
    wanted: dict[str, dict[int, list[LabelledWindow]]] = defaultdict(lambda: defaultdict(list))
    for window in windows:
        wanted[window.source][window.frame].append(window)
    for path in inputs:
        frames = wanted.get(printable(path))
        if not frames:
            continue
        try:
            source = open_source(path, settings)
        except (SourceError, OSError):
            continue
        try:
            yield from _frames(source, frames)
        finally:
            source.close()


def _frames(source: Source, wanted: dict[int, list[LabelledWindow]]) -> Iterator[tuple[Image, list[LabelledWindow]]]:
    last = max(wanted)
    for entry in source.entries():
        # Another recording may have the same path now.
        if entry.index in wanted and entry.log_time == wanted[entry.index][0].log_time:
            image = entry.load().image
            if image is not None:
                yield image, wanted[entry.index]
        if entry.index >= last:
            return


def cut_out(image: Image, windows: Sequence[LabelledWindow], size: tuple[int, int]) -> Image:
    """Cut out the regions of windows.

    Args:
        image: The frame, uint8 [H, W, 3] RGB.
        windows: Windows of this frame, N of them, at least one.
        size: Size (width, height) of the results, in pixels.

    Returns:
        The windows, uint8 [N, height, width, 3] RGB.
    """
    regions = [window.region for window in windows]
    return np.stack([crop(image, r.x, r.y, r.width, r.height, size) for r in regions])


def judged_aspect(regions: str, size: tuple[int, int], windows: Sequence[LabelledWindow]) -> float | None:
    """Return the aspect ratio, width by height, to which the network resizes regions of any shape.

    Whole frames are resized to the windows of the network, whatever their shape is.

    Args:
        regions: How frames were turned into regions, one of `decider.REGIONS`.
        size: Size (width, height) of the windows of the network, in pixels.
        windows: The windows.

    Returns:
        The aspect ratio; None if the regions keep their shape. Those of a network whose windows are too wide for a
        training window keep it, too, if they are narrow enough themselves.

    Raises:
        RepairError: A training window cannot hold a region, so that the network would learn from a part of it.
    """
    if regions != WHOLE:
        return None
    widest = PERSON_WINDOW[0] / BACKGROUND_WINDOW[1]
    if size[0] / size[1] <= widest:
        return size[0] / size[1]
    for region in (window.region for window in windows):
        if region.width > widest * region.height:
            raise RepairError(
                f"the network judged whole frames of {region.width} x {region.height} pixels (--regions whole) in "
                f"windows of {size[0]} x {size[1]}, and a training has windows of {PERSON_WINDOW[0]} x "
                f"{PERSON_WINDOW[1]}, which cannot hold them: analyse with --regions scan, or give --silence without "
                "--inria"
            )
    return None


def with_context(image: Image, region: Region, aspect: float | None = None) -> Image:
    """Cut out a region with its surroundings as a training window, uint8 [160, 96, 3] RGB.

    The region takes 128 pixels of the height, and is in the middle, so that a person in it is 96 pixels tall.

    Args:
        image: The frame, uint8 [H, W, 3] RGB.
        region: The region.
        aspect: Aspect ratio, width by height, to which the region is resized; None if it keeps its shape. See
            `judged_aspect`.
    """
    across, down = (side * region.height / BACKGROUND_WINDOW[1] for side in PERSON_WINDOW)
    if aspect is not None:
        across = PERSON_WINDOW[0] * region.width / (BACKGROUND_WINDOW[1] * aspect)
    x, y = region.x + (region.width - across) / 2, region.y + (region.height - down) / 2
    cut: Image = crop(image, x, y, across, down, PERSON_WINDOW)
    return cut


def write_windows(
    inputs: Sequence[Path],
    settings: SourceSettings,
    windows: Sequence[LabelledWindow],
    folder: Path,
    aspect: float | None = None,
) -> list[LabelledWindow]:
    """Write windows for a training: PNG files in the folders person and background; see `datasets.read_own`.

    The training reads all images of the two folders. Therefore the windows of an earlier run are removed first.

    Args:
        inputs: The inputs of the analysis.
        settings: The part of them that was read.
        windows: The windows.
        folder: The folder; it is created.
        aspect: Aspect ratio to which the regions are resized; see `with_context`.

    Returns:
        The windows that were written.

    Raises:
        OSError: A file cannot be removed or written.
        RepairError: One of the folders holds an image that this function has not written. No file is removed then.
    """
    folders = [folder / name for name in ("person", "background")]
    _clear(folders)
    numbers = {source: number for number, source in enumerate(dict.fromkeys(window.source for window in windows))}
    written = []
    for one in folders:
        one.mkdir(parents=True, exist_ok=True)
    for image, some in frames_of(inputs, settings, windows):
        for window in some:
            pixels = with_context(image, window.region, aspect)
            _, png = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))
            name = f"{numbers[window.source]:03d}-{window.frame:07d}-{window.number:02d}.png"
            (folder / ("person" if window.person else "background") / name).write_bytes(png.tobytes())
            written.append(window)
    return written


def _clear(folders: Sequence[Path]) -> None:
    """Remove the windows that an earlier run has written into folders. Links are removed, but never followed.

    Raises:
        OSError: A folder cannot be read, or a file cannot be removed.
        RepairError: A folder holds another image, which the training would read. No file is removed then.
    """
    links = [folder for folder in folders if folder.is_symlink()]
    images = [path for folder in folders if folder not in links and folder.exists() for path in list_images(folder)]
    for path in images:
        if not WINDOW_FILE.fullmatch(path.name):
            raise RepairError(f"{path} is no window of a repair: move it to another place, or give another --output")
    for path in links + images:
        path.unlink()
