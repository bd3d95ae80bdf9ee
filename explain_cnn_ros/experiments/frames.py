"""Frames of images, folders of images, videos and bags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.bags.sources import IMAGE_SUFFIXES, open_source
from explain_cnn_ros.training.datasets import Photo


def frames_of(path: Path, numbers: Sequence[int]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield an image, or some frames of a folder of images, a video or a bag.

    Args:
        path: The image, folder, video or bag.
        numbers: Numbers of the frames, counted from 0; an image has only one.

    Yields:
        The name of the frame, and the frame uint8 [H, W, 3] RGB.

    Raises:
        ValueError: There is no such frame, or it cannot be read.
        SourceError: There is nothing that can be read at the path.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
        yield path.name, Photo(path, path.stem).read()
        return
    source = open_source(path)
    try:
        for number in numbers:
            entry = next(source.entries(number), None)
            if entry is None:
                raise ValueError(f"{path} has no frame {number}")
            frame = entry.load()
            if frame.image is None:
                raise ValueError(f"{path}, frame {number}: {frame.error}")
            yield f"{path.name}, frame {number}", frame.image
    finally:
        source.close()
