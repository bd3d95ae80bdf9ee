"""Messages of a detector for recordings in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bag_kit import ROOT, SECOND, START, TYPES, BagKit, Sent
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import get_types_from_msg

from explain_cnn_ros.bags.reader import BagReader

VISION, OWN, ROI = (
    "vision_msgs/msg/Detection2DArray",
    "explain_cnn_ros/msg/Detections",
    "sensor_msgs/msg/RegionOfInterest",
)

#: Name of the detector's topic.
TOPIC = "/detector/detections"

#: The files of vision_msgs 4.1.1, without their comments.
VISION_FILES = {
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nstring id",
    "Detection2DArray": "std_msgs/Header header\nDetection2D[] detections",
}

_FILES = {f"vision_msgs/msg/{name}": text for name, text in VISION_FILES.items()} | {
    f"explain_cnn_ros/msg/{name}": (ROOT / "msg" / f"{name}.msg").read_text() for name in ("Detection", "Detections")
}
_FOUND: dict[str, Any] = {}
for _name, _text in _FILES.items():
    _FOUND |= get_types_from_msg(_text, _name)
TYPES.register(_FOUND)

_CLASS = TYPES.types


class Drawn(NamedTuple):
    """A box of a detector: its edges at the left and at the top, its size, its class and its score."""

    x: float
    y: float
    width: float
    height: float
    label: str = "person"
    score: float = 0.9
    theta: float = 0.0


def stamp_of(i: int, late: int = 0) -> int:
    """Return the stamp of the i-th image of `Studio.record`; images are a tenth of a second apart."""
    return START + i * SECOND // 10 - late


def _header(stamp: int, frame_id: str) -> Any:
    time = _CLASS["builtin_interfaces/msg/Time"](sec=stamp // SECOND, nanosec=stamp % SECOND)
    return _CLASS["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def vision(stamp: int, boxes: list[Drawn], frame_id: str = "camera") -> Any:
    """Return a Detection2DArray. Each box has a second hypothesis with a lower score."""
    header = _header(stamp, frame_id)
    pose = _CLASS["geometry_msgs/msg/PoseWithCovariance"](
        pose=_CLASS["geometry_msgs/msg/Pose"](
            position=_CLASS["geometry_msgs/msg/Point"](x=0.0, y=0.0, z=0.0),
            orientation=_CLASS["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
        ),
        covariance=np.zeros(36),
    )

    def hypothesis(label: str, score: float) -> Any:
        return _CLASS["vision_msgs/msg/ObjectHypothesisWithPose"](
            hypothesis=_CLASS["vision_msgs/msg/ObjectHypothesis"](class_id=label, score=score), pose=pose
        )

    def detection(box: Drawn) -> Any:
        position = _CLASS["vision_msgs/msg/Point2D"](x=box.x + box.width / 2, y=box.y + box.height / 2)
        centre = _CLASS["vision_msgs/msg/Pose2D"](position=position, theta=box.theta)
        return _CLASS["vision_msgs/msg/Detection2D"](
            header=header,
            results=[hypothesis("second", box.score - 0.1), hypothesis(box.label, box.score)],
            bbox=_CLASS["vision_msgs/msg/BoundingBox2D"](center=centre, size_x=box.width, size_y=box.height),
            id="7",
        )

    return _CLASS[VISION](header=header, detections=[detection(box) for box in boxes])


def own(stamp: int, boxes: list[Drawn], frame_id: str = "camera") -> Any:
    """Return a Detections."""
    kind = _CLASS["explain_cnn_ros/msg/Detection"]
    detections = [kind(x=b.x, y=b.y, width=b.width, height=b.height, label=b.label, score=b.score) for b in boxes]
    return _CLASS[OWN](header=_header(stamp, frame_id), detections=detections)


def roi(x: int = 0, y: int = 0, width: int = 0, height: int = 0) -> Any:
    """Return a RegionOfInterest."""
    return _CLASS[ROI](x_offset=x, y_offset=y, width=width, height=height, do_rectify=False)


def sent(message: Any, log_time: int, topic: str = TOPIC) -> Sent:
    """Return a message to be recorded at a time."""
    kind = message.__msgtype__
    return Sent(topic, log_time, kind, bytes(TYPES.serialize_cdr(message, kind)))


def malformed(log_time: int, kind: str = VISION, topic: str = TOPIC) -> Sent:
    """Return a message that ends in the middle of its header."""
    return Sent(topic, log_time, kind, sent(vision(START, []), 0).data[:14])


def copy_into(path: Path, bag: Path, messages: list[Sent], storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """Record the messages of a recording and further ones, in the order of their log times.

    Of messages with the same log time, those of the recording come first.
    """
    with BagReader(bag) as reader:
        own_messages = [Sent(m.topic, m.stamp, m.type, m.data) for m in reader.messages()]
    return BagKit().write(path, sorted([*own_messages, *messages], key=lambda m: m.stamp), storage)
