"""Pictures of frames that an analysis has stored, for recordings that are not there any more."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from explain_cnn_ros.analysis.job import PARTS
from explain_cnn_ros.analysis.report import NAME

_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)

_URI = "data:image/jpeg;base64,"

#: Path of the recording, and number of the frame.
FrameKey = tuple[str, int]


class StoredPicture(NamedTuple):
    """A picture of a frame.

    Attributes:
        jpeg: The picture, a JPEG file.
        width: Width of the frame as it was recorded, in pixels; 0 if `scale` is known.
        scale: Size of the picture relative to the frame; 0 if it follows from `width`.
    """

    jpeg: bytes
    width: int
    scale: float

    def decode(self) -> tuple[NDArray[np.uint8], float] | None:
        """Return the picture, uint8 [H, W, 3] RGB, and its size relative to the frame; None if it is damaged."""
        # OpenCV raises an error about no data, and returns None for data that are no picture.
        image: Any = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR) if self.jpeg else None
        if image is None:
            return None
        return np.ascontiguousarray(image[..., ::-1]), self.scale or image.shape[1] / self.width


def stored_pictures(output: Path) -> dict[FrameKey, StoredPicture]:
    """Return the pictures of explained frames: those of the parts, while they exist, and those of the report.

    Args:
        output: Folder of the analysis.
    """
    return dict(_of_report(output / NAME)) | dict(_of_parts(output / PARTS))


def _of_report(path: Path) -> Iterator[tuple[FrameKey, StoredPicture]]:
    try:
        found = _DATA.search(path.read_text(encoding="utf-8"))
        shown = json.loads(found[1])["shown"] if found else []
        for frame in shown:
            jpeg = base64.b64decode(frame["image"].removeprefix(_URI))
            yield (str(frame["source"]), int(frame["frame"])), StoredPicture(jpeg, int(frame["size"][0]), 0.0)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        # A report of another version, or a damaged one, has no pictures.
        return


def _of_parts(folder: Path) -> Iterator[tuple[FrameKey, StoredPicture]]:
    for path in sorted(folder.glob("?????-???????/pictures.parquet")):
        try:
            with path.open("rb") as file:
                rows = pq.read_table(file).to_pylist()
            for row in rows:
                yield (row["source"], row["frame"]), StoredPicture(row["jpeg"], 0, row["scale"])
        except (OSError, KeyError, pa.ArrowException):
            continue
