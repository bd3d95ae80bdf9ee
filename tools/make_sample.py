#!/usr/bin/env python3
"""Makes the sample recording from a folder of video frames: a rosbag2 in MCAP with compressed images.

    python tools/make_sample.py FRAMES --first 200 --count 50

The JPEG files are stored unchanged if the recording is then not larger than --max-bytes; otherwise they are encoded
again at the highest quality that fits. The command needs no ROS. The same frames, settings and versions of OpenCV and
rosbags give the same bytes.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

IMAGE_TOPIC = "/camera/image_raw/compressed"
INFO_TOPIC = "/camera/camera_info"
FRAME_ID = "camera_optical_frame"

#: Stamp of the first frame. The date is arbitrary, because the video does not say when it was recorded.
START = datetime(2024, 5, 1, 12, 0, 0, tzinfo=timezone.utc)
RATE = 5  # frames/s

#: Horizontal field of view, in degrees. It is assumed, not measured: there is no calibration of this camera.
FIELD_OF_VIEW = 50.0

INFINITE = QosTime(9223372036, 854775807)  # the value that ROS 2 writes for 'no limit'
CAMERA_QOS = Qos(
    history=QosHistory.KEEP_LAST,
    depth=10,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.VOLATILE,
    deadline=INFINITE,
    lifespan=INFINITE,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=INFINITE,
    avoid_ros_namespace_conventions=False,
)


def choose_frames(folder: Path, first: int, count: int) -> list[Path]:
    """Return `count` JPEG files that are named by a number, beginning with number `first`.

    Raises:
        ValueError: There are fewer files.
    """
    numbered = sorted((int(p.stem), p) for p in folder.glob("*.jpg") if p.stem.isdigit())
    frames = [path for number, path in numbered if number >= first][:count]
    if len(frames) < count:
        raise ValueError(f"{folder}: {len(frames)} frames (<number>.jpg) numbered {first} or higher, {count} needed")
    return frames


def decoded(frame: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a frame, [height, width, 3].

    Raises:
        ValueError: The frame is no image.
    """
    image = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("one of the frames cannot be decoded")
    return image.astype(np.uint8, copy=False)


def encoded(frames: list[bytes], quality: int) -> list[bytes]:
    """Encode the frames as JPEG of this quality (1 to 100)."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return [cv2.imencode(".jpg", decoded(frame), settings)[1].tobytes() for frame in frames]


def write_fitting_bag(directory: Path, frames: list[bytes], max_bytes: int) -> int | None:
    """Write the frames unchanged if the recording is then small enough, otherwise at the best quality that fits.

    Returns:
        The quality; None for unchanged frames.

    Raises:
        ValueError: Even quality 1 does not fit.
    """
    if write_bag(directory, frames) <= max_bytes:
        return None
    low, high = 1, 95
    while low <= high:
        quality = (low + high) // 2
        if write_bag(directory, encoded(frames, quality)) <= max_bytes:
            low = quality + 1
        else:
            high = quality - 1
    if high < 1:
        raise ValueError(f"{len(frames)} frames do not fit into {max_bytes} bytes: take fewer")
    write_bag(directory, encoded(frames, high))
    return high


def camera_matrix(width: int, height: int) -> tuple[float, float, float]:
    """Return focal length and principal point (x, y), in pixels, of a pinhole camera with square pixels."""
    focal = (width / 2) / math.tan(math.radians(FIELD_OF_VIEW / 2))
    return focal, (width - 1) / 2, (height - 1) / 2


def bag_size(directory: Path) -> int:
    """Return the size of all files of a recording, in bytes."""
    return sum(file.stat().st_size for file in directory.iterdir())


def write_bag(directory: Path, frames: list[bytes]) -> int:
    """Write image and CameraInfo of each frame, in place of an earlier recording, and return the size in bytes.

    Both messages have the same stamp, which is also their log time.
    """
    types = get_typestore(Stores.ROS2_JAZZY)
    message = {name.rsplit("/", 1)[1]: cls for name, cls in types.types.items()}
    height, width = decoded(frames[0]).shape[:2]
    focal, x, y = camera_matrix(width, height)

    if directory.exists():
        shutil.rmtree(directory)
    writer = Writer(directory, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        info_name, image_name = "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/CompressedImage"
        infos = writer.add_connection(INFO_TOPIC, info_name, typestore=types, offered_qos_profiles=[CAMERA_QOS])
        images = writer.add_connection(IMAGE_TOPIC, image_name, typestore=types, offered_qos_profiles=[CAMERA_QOS])
        for i, frame in enumerate(frames):
            stamp = int(START.timestamp()) * 10**9 + i * 10**9 // RATE
            time = message["Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
            header = message["Header"](stamp=time, frame_id=FRAME_ID)
            info = message["CameraInfo"](
                header=header,
                height=height,
                width=width,
                distortion_model="plumb_bob",
                d=np.zeros(5),
                k=np.array([focal, 0, x, 0, focal, y, 0, 0, 1]),
                r=np.eye(3).ravel(),
                p=np.array([focal, 0, x, 0, 0, focal, y, 0, 0, 0, 1, 0]),
                binning_x=0,
                binning_y=0,
                roi=message["RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
            )
            image = message["CompressedImage"](header=header, format="jpeg", data=np.frombuffer(frame, np.uint8))
            writer.write(infos, stamp, types.serialize_cdr(info, info_name))
            writer.write(images, stamp, types.serialize_cdr(image, image_name))
    return bag_size(directory)


def fidelity(originals: list[bytes], copies: list[bytes]) -> float:
    """Return the mean PSNR of the copies, in dB."""
    pairs = zip(originals, copies, strict=True)
    return float(np.mean([cv2.PSNR(decoded(original), decoded(copy)) for original, copy in pairs]))


def main(argv: list[str] | None = None) -> int:
    """Create the sample; return 1 if that fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("frames", type=Path, help="folder of JPEG files, each named by the number of its frame")
    parser.add_argument("--output", type=Path, default=Path("sample/street"), help="directory (%(default)s)")
    parser.add_argument("--first", type=int, default=200, help="number of the first frame (%(default)s)")
    parser.add_argument("--count", type=int, default=50, help="frames, at 5 frames/s (%(default)s)")
    parser.add_argument("--max-bytes", type=int, default=3_000_000, help="size of the recording (%(default)s)")
    parser.add_argument("--force", action="store_true", help="replace an existing recording")
    options = parser.parse_args(argv)

    output: Path = options.output
    if output.exists() and not (options.force and (output / "metadata.yaml").exists()):
        print(f"make_sample: {output} exists; --force replaces a recording", file=sys.stderr)
        return 1
    try:
        paths = choose_frames(options.frames, options.first, options.count)
        frames = [path.read_bytes() for path in paths]
        with tempfile.TemporaryDirectory() as scratch:
            bag = Path(scratch) / output.name
            quality = write_fitting_bag(bag, frames, options.max_bytes)
            if output.exists():
                shutil.rmtree(output)
            shutil.copytree(bag, output)
    except ValueError as error:
        print(f"make_sample: {error}", file=sys.stderr)
        return 1
    encoding = "unchanged JPEG data"
    if quality is not None:
        encoding = f"JPEG quality {quality}, {fidelity(frames, encoded(frames, quality)):.1f} dB PSNR"
    span = f"{paths[0].name} to {paths[-1].name}"
    print(f"{output}: {len(paths)} frames, {span}, {encoding}, {bag_size(output)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
