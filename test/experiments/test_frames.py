"""Frames of images, folders, videos and bags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from explain_cnn_ros.experiments.frames import frames_of

ROOT = Path(__file__).parents[2]


def test_frames_of_everything(tmp_path: Path, picture: Callable[..., NDArray[np.uint8]]) -> None:
    """Images, folders, videos and bags."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), picture(64, 48, i)[..., ::-1])
    ((name, image),) = frames_of(folder / "2.png", [0])
    assert name == "2.png" and np.array_equal(image, picture(64, 48, 2))
    found = list(frames_of(folder, [1, 3]))
    assert [name for name, _ in found] == ["frames, frame 1", "frames, frame 3"]
    assert np.array_equal(found[1][1], picture(64, 48, 3))
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for i in range(3):
        video.write(np.full((48, 64, 3), (0, 0, 60 + 60 * i), np.uint8))
    video.release()
    ((_, frame),) = frames_of(tmp_path / "v.avi", [2])
    assert np.abs(frame.astype(int) - (180, 0, 0)).max() < 12
    ((name, frame),) = frames_of(ROOT / "sample/street", [5])
    assert name == "street, frame 5" and frame.shape == (576, 768, 3)
    with pytest.raises(ValueError, match="frames has no frame 9"):
        list(frames_of(folder, [9]))
