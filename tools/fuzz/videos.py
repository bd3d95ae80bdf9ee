"""Files of any kind under any name: videos, recordings of ROS 1, photos, and files that are something else."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tools.fuzz.kind import Kind
from tools.fuzz.mutation import Mutation
from tools.fuzz.pictures import PICTURE, pictures
from tools.fuzz.recordings import read_source

#: Names that the files get. A number in a name is a series of images for some readers of videos.
NAMES = (
    "video.avi",
    "video_1.avi",
    "video.mp4",
    "a:b%d.mp4",
    "x.gif",
    "1.mkv",
    "recording.bag",
    "x.png",
    "x",
    "x.mjpeg",
)

_ROS_1 = b"#ROSBAG V2.0\n" + bytes(100)


@cache
def _videos() -> tuple[bytes, ...]:
    """Return short videos; those that this machine's OpenCV cannot write are left out."""
    found = []
    picture: Any = np.zeros((48, 64, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for suffix, code in ((".avi", "MJPG"), (".mp4", "mp4v"), (".avi", "XVID")):
            path = Path(folder) / f"video{suffix}"
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10, (64, 48))
            for number in range(4):
                picture[:, 16 * number :] = 60 * number
                writer.write(picture)
            writer.release()
            if path.is_file() and path.stat().st_size:
                found.append(bytes((0,)) + path.read_bytes())
    return tuple(found)


@cache
def _harmful() -> tuple[bytes, ...]:
    """Return images under the names of videos, and videos whose frames are larger than the video says."""
    files = [
        *PICTURE.hostile()[:12],
        _ROS_1,
        b"",
        b"GIF89a" + b"\xff" * 20,
        bytes(64),
        b"ftyp" * 40,
        b"P6 30000 30000 255\n",
    ]
    found = [bytes((number,)) + file for file in files for number in range(len(NAMES))]
    video = _videos()[0][1:]
    for width, height in ((16000, 16000), (32000, 32000)):
        changed, at = bytearray(video), 0
        while (at := changed.find(b"\xff\xc0", at + 1)) >= 0:
            changed[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        found.append(bytes((0,)) + bytes(changed))
    return tuple(found)


def _mutated(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    video = mutation.one(_videos()) if mutation.chance(0.8) else mutation.one(seeds)
    number = mutation.below(len(NAMES)) if mutation.chance(0.2) else video[0] if video else 0
    data = mutation.mutated(video[1:], [one[1:] for one in _videos()])
    return bytes((number,)) + (data if mutation.chance(0.9) else mutation.one(pictures()))


def _read(data: bytes, folder: Path) -> str:
    path = folder / NAMES[(data[0] if data else zlib.crc32(data)) % len(NAMES)]
    path.write_bytes(data[1:])
    return read_source(path)


KINDS = (Kind("file", _videos, _read, _mutated, _harmful),)
