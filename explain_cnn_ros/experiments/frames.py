"""Frames to look at: of images, folders, videos and bags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.analysis.sources import IMAGE_SUFFIXES, open_source
from explain_cnn_ros.training.datasets import Photo


def frames_of(path: Path, chosen: Sequence[int]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """An image; or the chosen frames of a folder of images, a video or a bag: their name, and uint8 [H, W, 3] RGB.

    Raises:
        ValueError, SourceError: what cannot be read, or is not there.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
        yield path.name, Photo(path, path.stem).read()
        return
    source = open_source(path, AnalysisSettings())
    try:
        for number in chosen:
            entry = next(source.entries(number), None)
            if entry is None:
                raise ValueError(f"{path} has no frame {number}")
            frame = entry.load()
            if frame.image is None:
                raise ValueError(f"{path}, frame {number}: {frame.error}")
            yield f"{path.name}, frame {number}", frame.image
    finally:
        source.close()
