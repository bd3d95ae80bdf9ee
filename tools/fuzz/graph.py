"""Messages and requests that arrive over the graph: what the node's source, its matcher and its service make of them.

Bytes that are no message of ROS never reach a node: its middleware refuses them. They are counted as refused here too.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# The classes of messages check their fields only if this is set before they are imported.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")

from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from visualization_msgs.msg import MarkerArray

from explain_cnn_ros import msg, srv
from explain_cnn_ros.bags.detection_types import OWN
from explain_cnn_ros.bags.image_messages import LAYOUTS, ImageError
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.ros.boxes import Outline, is_calibrated, markers
from explain_cnn_ros.ros.detections import DetectionSource
from explain_cnn_ros.ros.messages import region_from
from explain_cnn_ros.ros.node import ExplainNode
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.problems import RAW
from explain_cnn_ros.ros.requests import ExplainRequest, RequestQueue
from explain_cnn_ros.ros.source import ImageSource
from explain_cnn_ros.ros.statistics import Statistics
from explain_cnn_ros.ros.worker import _require_visible
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.detections import person_windows
from tools.fuzz.cdr import Cdr, damaged
from tools.fuzz.kind import Kind, check_text, mutate_bytes, refused, require
from tools.fuzz.messages import SIZE, Steady, check_conversion, compressed_cdr, image_cdr, own_cdr, roi_cdr
from tools.fuzz.mutation import Mutation
from tools.fuzz.pictures import PICTURE
from tools.soak_day import SimulatedNode, SimulatedTime, publisher

#: The classes of the messages of a stream, by the number before each message.
_CLASSES: tuple[Any, ...] = (Image, CompressedImage, CameraInfo, msg.Detections, RegionOfInterest)
_IMAGE, _COMPRESSED, _CALIBRATION, _BOXES, _ROI = range(len(_CLASSES))


def _frame(kind: int, message: bytes) -> bytes:
    return struct.pack("<BI", kind, len(message)) + message


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 5 <= len(data):
        kind, length = struct.unpack_from("<BI", data, at)
        yield kind % len(_CLASSES), data[at + 5 : at + 5 + length]
        at += 5 + length


def camera_info_cdr(mutation: Mutation, odd: float = 0.2) -> bytes:
    """Return a CameraInfo; see `image_cdr`."""
    cdr = Cdr().header(mutation, odd)
    cdr.numbers("I", *(mutation.number(32, side) if mutation.chance(odd) else side for side in SIZE[::-1]))
    cdr.text(mutation.text("plumb_bob") if mutation.chance(odd) else "plumb_bob")
    cdr.number("I", mutation.number(32, 5) if mutation.chance(odd / 6) else 5)
    values = [0.0] * 5 + [50.0, 0, 4, 0, 50, 3, 0, 0, 1] * 2 + [50.0, 0, 4, 0, 0, 50, 3, 0, 0, 0, 1, 0]
    cdr.numbers("d", *(mutation.real() if mutation.chance(odd) else value for value in values))
    cdr.numbers("I", *(mutation.number(32, value) if mutation.chance(odd) else value for value in (0, 0, 0, 0, 0, 0)))
    return bytes(cdr.number("B", mutation.number(8) if mutation.chance(odd) else 0).data)


def _message(mutation: Mutation, kind: int, odd: float) -> bytes:
    if kind == _IMAGE:
        return image_cdr(mutation, mutation.one(tuple(LAYOUTS)), odd)
    if kind == _COMPRESSED:
        return compressed_cdr(mutation, mutation.one(PICTURE.valid()), odd)
    return (camera_info_cdr, own_cdr, roi_cdr)[kind - _CALIBRATION](mutation, odd)


@cache
def _streams() -> tuple[bytes, ...]:
    steady = Steady()
    every = b"".join(_frame(kind, _message(steady, kind, 0)) for kind in (_CALIBRATION, _BOXES, _IMAGE))
    return (
        every,
        _frame(_IMAGE, _message(steady, _IMAGE, 0)) + _frame(_ROI, roi_cdr(steady, 0)),
        _frame(_CALIBRATION, camera_info_cdr(steady, 0)) + _frame(_COMPRESSED, _message(steady, _COMPRESSED, 0)),
    )


def _mutated_stream(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    if mutation.chance(0.02):
        return mutate_bytes(mutation, seeds)
    odd = mutation.one((0.02, 0.1, 0.4))
    kinds = [mutation.below(len(_CLASSES)) for _ in range(1 + mutation.below(4))]
    return b"".join(_frame(kind, damaged(mutation, _message(mutation, kind, odd), 0.1)) for kind in kinds)


def _read_stream(data: bytes, folder: Path) -> str:
    node: Any = SimulatedNode(SimulatedTime())
    node.publishers = {
        "/image": [publisher(RAW, ReliabilityPolicy.RELIABLE)],
        "/detections": [publisher(OWN, ReliabilityPolicy.RELIABLE)],
    }
    matched: list[Any] = []
    detections: Any
    source = ImageSource(node, lambda: True, _parameters, Statistics(), lambda image: detections.add_image(image))
    detections = DetectionSource(node, source, _parameters, matched.append)
    outcome, images = "cdr", []
    for kind, content in _frames(data):
        try:
            message = deserialize_message(content, _CLASSES[kind])
        except Exception:  # the middleware refuses it
            continue
        outcome = ""
        if kind in (_IMAGE, _COMPRESSED):
            images.append(message)
            source._on_image(message, {})
        elif kind == _CALIBRATION:
            source._on_camera_info(message)
        else:
            detections._on_detections(message)
    for image in images:
        outcome = check_conversion(image) or outcome
        _draw(source.camera_info(image.header), image)
    for found in matched:
        windows = person_windows(found.boxes, ModelInfo(), SIZE)
        for region in windows.regions:
            require(region.width >= 1 and region.height >= 1, f"a window without area: {region}")
        for reason in windows.refused:
            check_text(reason)
    for problem in (*source.problems(), *detections.problems(), source.calibration_problem()):
        if problem is not None:
            check_text(problem.text)
    return outcome


def _draw(info: Any, image: Any) -> None:
    """Draw boxes by a calibration, as the node does; the message must be one that ROS can send."""
    if info is not None and is_calibrated(info):
        boxes = [Outline(0, "window", 1, 1, 4, 4, (255, 0, 0)), Outline(3, "supporting", 0, 2, 3, 3, (0, 255, 0))]
        array = markers(image.header, boxes, info, SIZE, "text\nof two lines")
        deserialize_message(serialize_message(array), MarkerArray)


# Requests.


def request_cdr(mutation: Mutation, odd: float = 0.2, newest: bool = False) -> bytes:
    """Return a request of Explain.srv; see `image_cdr`.

    Args:
        mutation: The source of odd values.
        odd: Probability that a field is odd.
        newest: Whether the image is empty, so that the newest frame is explained.
    """
    cdr = Cdr()
    if newest:
        cdr.numbers("I", 0, 0).text("").numbers("I", 0, 0).text("").number("B", 0).number("I", 0).blob(b"")
    else:
        cdr.data = bytearray(image_cdr(mutation, mutation.one(tuple(LAYOUTS)), odd))
    metrics = ["influence", "counter_influence", "weight_sum"][: mutation.below(4)]
    if mutation.chance(odd):
        metrics.append(mutation.text("influence"))
    cdr.number("I", mutation.number(32, len(metrics)) if mutation.chance(odd / 8) else len(metrics))
    for metric in metrics:
        cdr.text(metric)
    cdr.number("I", mutation.number(32, 3) if mutation.chance(odd) else mutation.below(5))
    cdr.text(mutation.text("person") if mutation.chance(odd) else mutation.one(("", "person")))
    regions = mutation.below(2) if not mutation.chance(odd / 4) else mutation.number(32, 1)
    cdr.number("I", regions)
    if regions:
        for code, value in (("i", 1), ("i", 0), ("I", 5), ("I", 6)):
            chosen = mutation.number(32, value) if mutation.chance(odd) else value
            cdr.number(code, chosen - 2**32 if code == "i" and chosen >= 2**31 else chosen)
        cdr.number("f", max(-3e38, min(3e38, mutation.real())) if mutation.chance(odd) else 0.5)
    return bytes(cdr.data)


def _requests() -> tuple[bytes, ...]:
    return (request_cdr(Steady(), 0), request_cdr(Steady(), 0, newest=True))


def _mutated_request(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    if mutation.chance(0.02):
        return mutate_bytes(mutation, seeds)
    return damaged(mutation, request_cdr(mutation, mutation.one((0.02, 0.1, 0.4)), mutation.chance(0.2)), 0.15)


@cache
def _explainer() -> Explainer:
    network = VGGClassifier("vgg11", (32, 64), hidden=6)
    return Explainer(PersonClassifier(network.eval(), ModelInfo("vgg11", 6, (32, 64)), "cpu"))


@cache
def _parameters() -> NodeParameters:
    return NodeParameters(regions="detections")


class _Node:
    """The parts of the node that the service needs."""

    def __init__(self) -> None:
        self.queue = RequestQueue(4)
        self._newest: Any = SimpleNamespace(image=SimpleNamespace(shape=(SIZE[1], SIZE[0], 3)))
        self._source = SimpleNamespace(topic="/image")
        self.executor, self.active, self.state_id, self.state_label = None, True, 3, "active"
        self.parameters = SimpleNamespace(current=_parameters())
        self._working: Any = self

    def _request(self, worker: Any, request: ExplainRequest) -> str:
        return self.queue.put(request)


def _read_request(data: bytes, folder: Path) -> str:
    try:
        request = deserialize_message(data, srv.Explain.Request)
    except Exception:  # the middleware refuses it
        return "cdr"
    node: Any = _Node()
    refusal = ExplainNode._request_explanation(node, request, SimpleNamespace())
    if refusal:
        check_text(refusal)
        return "service"
    queued = node.queue.take()
    assert queued is not None
    size = SIZE
    if queued.source is not node._newest:
        if outcome := check_conversion(queued.source):
            return outcome
        size = queued.source.width, queued.source.height
    try:
        if queued.region is not None:
            require(queued.region == region_from(request.region[0]), "another region than the requested one")
            _require_visible(queued.region, size)
        _explainer().check(queued.settings)
    except ImageError as error:
        return refused(error)
    except ValueError as error:
        refused(error)
        return "request"
    return ""


KINDS = (
    Kind("stream", _streams, _read_stream, _mutated_stream),
    Kind("request", _requests, _read_request, _mutated_request),
)
