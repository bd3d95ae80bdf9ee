"""Recordings for tests: messages with known contents, and a writer of rosbag2 recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from explain_cnn_ros.bags.reader import BagReader

ROOT = Path(__file__).resolve().parents[1]

#: The recording that ships with the repository.
SAMPLE = ROOT / "sample" / "street"

SECOND = 10**9
START = 1_700_000_000 * SECOND

TYPES = get_typestore(Stores.ROS2_JAZZY)
#: A message type that no machine has installed.
TYPES.register(get_types_from_msg("int32 x", "nowhere_msgs/msg/Thing"))


class Sent(NamedTuple):
    """A message to be recorded."""

    topic: str
    stamp: int
    type: str
    data: bytes


class BagKit:
    """Builds messages and writes recordings of them."""

    SECOND = SECOND
    START = START
    MCAP = StoragePlugin.MCAP
    SQLITE3 = StoragePlugin.SQLITE3

    def image(self, i: int, topic: str = "/camera/image/compressed", size: int = 200, period: float = 0.1) -> Sent:
        """Return the i-th compressed image; images are `period` seconds apart. It is noise, so that it stays large."""
        stamp = START + round(i * period * SECOND)
        cls = TYPES.types
        message = cls["sensor_msgs/msg/CompressedImage"](
            header=cls["std_msgs/msg/Header"](
                stamp=cls["builtin_interfaces/msg/Time"](sec=stamp // SECOND, nanosec=stamp % SECOND),
                frame_id=f"frame {i}",
            ),
            format="jpeg",
            data=np.random.default_rng(i).integers(0, 256, size, np.uint8),
        )
        name = "sensor_msgs/msg/CompressedImage"
        return Sent(topic, stamp, name, bytes(TYPES.serialize_cdr(message, name)))

    def compressed(self, i: int, topic: str, data: bytes, form: str = "jpeg") -> Sent:
        """Return a compressed image with given data; images are a tenth of a second apart."""
        name = "sensor_msgs/msg/CompressedImage"
        stamp = START + i * SECOND // 10
        message = TYPES.types[name](header=self._header(stamp), format=form, data=np.frombuffer(data, np.uint8))
        return Sent(topic, stamp, name, bytes(TYPES.serialize_cdr(message, name)))

    def raw(self, i: int, topic: str, encoding: str) -> Sent:
        """Return a raw image of 8 x 6 pixels of at most 4 bytes; images are a tenth of a second apart."""
        name = "sensor_msgs/msg/Image"
        stamp = START + i * SECOND // 10
        message = TYPES.types[name](
            header=self._header(stamp),
            height=6,
            width=8,
            encoding=encoding,
            is_bigendian=0,
            step=32,
            data=np.zeros(6 * 32, np.uint8),
        )
        return Sent(topic, stamp, name, bytes(TYPES.serialize_cdr(message, name)))

    @staticmethod
    def _header(stamp: int) -> Any:
        time = TYPES.types["builtin_interfaces/msg/Time"](sec=stamp // SECOND, nanosec=stamp % SECOND)
        return TYPES.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")

    def string(self, i: int, topic: str = "/log", text: str | None = None) -> Sent:
        """Return the i-th text; texts are a tenth of a second apart."""
        message = TYPES.types["std_msgs/msg/String"](data=text or f"text {i}")
        data = bytes(TYPES.serialize_cdr(message, "std_msgs/msg/String"))
        return Sent(topic, START + i * SECOND // 10, "std_msgs/msg/String", data)

    def thing(self, i: int, topic: str = "/thing") -> Sent:
        """Return a message of a type that is not installed."""
        message = TYPES.types["nowhere_msgs/msg/Thing"](x=i)
        data = bytes(TYPES.serialize_cdr(message, "nowhere_msgs/msg/Thing"))
        return Sent(topic, START + i * SECOND // 10, "nowhere_msgs/msg/Thing", data)

    def deserialize(self, message: Any) -> Any:
        return TYPES.deserialize_cdr(message.data, message.type)

    def write(
        self,
        path: Path,
        messages: list[Sent],
        storage: StoragePlugin = StoragePlugin.MCAP,
        compression: CompressionMode = CompressionMode.NONE,
        qos: dict[str, list[Qos]] | None = None,
        encoding: str = "cdr",
    ) -> Path:
        """Record the messages, and return the recording's directory."""
        writer = Writer(path, version=9, storage_plugin=storage)
        writer.set_compression(compression, CompressionFormat.ZSTD)
        with writer:
            connections: dict[tuple[str, str], Any] = {}
            for message in messages:
                key = message.topic, message.type
                if key not in connections:
                    connections[key] = writer.add_connection(
                        message.topic,
                        message.type,
                        typestore=TYPES,
                        serialization_format=encoding,
                        offered_qos_profiles=(qos or {}).get(message.topic, []),
                    )
                writer.write(connections[key], message.stamp, message.data)
        return path


class Studio:
    """Cuts pictures out of the sample, and records them."""

    START, SECOND = START, SECOND

    def __init__(self) -> None:
        with BagReader(SAMPLE) as bag:
            messages = list(bag.messages([bag.image_topic().name]))
        self.jpegs = [bytes(TYPES.deserialize_cdr(m.data, m.type).data) for m in messages]
        whole: Any = cv2.imdecode(np.frombuffer(self.jpegs[0], np.uint8), cv2.IMREAD_COLOR)
        self.street: NDArray[np.uint8] = np.ascontiguousarray(whole[..., ::-1])

    def picture(self, i: int) -> NDArray[np.uint8]:
        """Return a part of the street, uint8 [120, 160, 3] RGB, which differs for each i."""
        top, left = (37 * i) % 400, (61 * i) % 600
        return np.ascontiguousarray(self.street[top : top + 120, left : left + 160])

    def jpeg(self, i: int) -> bytes:
        return bytes(cv2.imencode(".jpg", self.picture(i)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1])

    def record(
        self,
        path: Path,
        frames: Sequence[bytes | NDArray[np.uint8]],
        topic: str = "/camera/image/compressed",
        storage: StoragePlugin = StoragePlugin.MCAP,
        compression: CompressionMode = CompressionMode.NONE,
        others: Sequence[tuple[str, int, bytes | NDArray[np.uint8]]] = (),
        delay: int = 0,
    ) -> Path:
        """Record JPEG files or RGB images, ten a second. The header's stamp is `delay` ns before the log time.

        `others` are images on other topics: topic, log time after the start in ns, image.
        """
        sent = [(topic, i * SECOND // 10, frame) for i, frame in enumerate(frames)]
        sent = sorted([*sent, *others], key=lambda s: s[1])
        names = {True: "sensor_msgs/msg/CompressedImage", False: "sensor_msgs/msg/Image"}
        writer = Writer(path, version=9, storage_plugin=storage)
        if compression != CompressionMode.NONE:
            writer.set_compression(compression, CompressionFormat.ZSTD)
        with writer:
            connections: dict[str, Any] = {}
            for name, time, image in sent:
                compressed = isinstance(image, bytes)
                kind = names[compressed]
                if name not in connections:
                    connections[name] = writer.add_connection(name, kind, typestore=TYPES)
                stamp = START + time - delay
                header = TYPES.types["std_msgs/msg/Header"](
                    stamp=TYPES.types["builtin_interfaces/msg/Time"](sec=stamp // SECOND, nanosec=stamp % SECOND),
                    frame_id="camera",
                )
                if isinstance(image, bytes):
                    message = TYPES.types[kind](header=header, format="jpeg", data=np.frombuffer(image, np.uint8))
                else:
                    message = TYPES.types[kind](
                        header=header,
                        height=image.shape[0],
                        width=image.shape[1],
                        encoding="rgb8",
                        is_bigendian=0,
                        step=3 * image.shape[1],
                        data=np.ascontiguousarray(image).reshape(-1),
                    )
                writer.write(connections[name], START + time, bytes(TYPES.serialize_cdr(message, kind)))
        return path

    def film(self, path: Path, count: int = 8, code: str = "MJPG", rate: float = 20.0) -> Path:
        """Write a video of the pictures."""
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), rate, (160, 120))
        for i in range(count):
            writer.write(self.picture(i)[..., ::-1])
        writer.release()
        return path

    def record_texts(self, path: Path) -> Path:
        """Write a recording without images."""
        kind = "std_msgs/msg/String"
        with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            log = writer.add_connection("/log", kind, typestore=TYPES)
            writer.write(log, START, bytes(TYPES.serialize_cdr(TYPES.types[kind](data="x"), kind)))
        return path
