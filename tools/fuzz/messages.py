"""Messages of images and detections, as recordings have them: serialized, with odd fields or damaged bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.analysis.detection_labels import DetectionLabels
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.bags.detection_types import OWN, ROI, VISION
from explain_cnn_ros.bags.detections import read_detections
from explain_cnn_ros.bags.image_headers import image_head
from explain_cnn_ros.bags.image_messages import LAYOUTS, ImageError, to_rgb
from explain_cnn_ros.bags.reader import Message, Topic
from explain_cnn_ros.bags.topic_choice import IMAGE_TYPES, classify
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.detections import boxes_from, person_windows
from tools.fuzz.cdr import Cdr, damaged
from tools.fuzz.kind import Kind, check_text, mutate_bytes, refused, require
from tools.fuzz.mutation import Mutation
from tools.fuzz.pictures import FORMATS, PICTURE, check_image, mutated_picture

IMAGE, COMPRESSED = IMAGE_TYPES

#: Width and height of the images.
SIZE = (8, 6)

#: Encodings that no message may have, or that are nearly right.
_OTHER_ENCODINGS = (
    "RGB8", "rgb16", "bgr16", "rgba16", "bayer_", "bayer_rggb", "bayer_zzzz8", "8SC1", "16SC1", "32SC1", "64FC1",
    "8UC2", "32FC3", "mono", "yuv444", "nv24", "i420", "",
)  # fmt: skip

#: A number of detections that a message declares, without having them.
_MANY = 2**31


class Steady(Mutation):
    """A mutation that changes nothing, for messages that must be read."""

    def __init__(self) -> None:
        super().__init__(0)

    def chance(self, probability: float) -> bool:
        return probability >= 1


@cache
def types() -> Any:
    """Return the definitions of ROS's common messages."""
    return get_typestore(Stores.ROS2_JAZZY)


def image_cdr(
    mutation: Mutation, encoding: str, odd: float = 0.3, size: tuple[int, int] = SIZE, big_endian: bool = False
) -> bytes:
    """Return an Image.

    Args:
        mutation: The source of odd values.
        encoding: The encoding.
        odd: Probability that a field is odd.
        size: The width and height.
        big_endian: Whether the pixels are big-endian.
    """
    dtype, channels = LAYOUTS.get(encoding, ("u1", 3))
    width, height = size
    step = width * channels * int(dtype[1])
    rows = height * 3 // 2 if encoding.startswith("nv") else height
    data = mutation.random.randbytes(step * rows)
    if dtype == "f4" and mutation.chance(0.5 + odd):
        values = [mutation.real() for _ in range(width * height)]
        data = struct.pack(f"<{len(values)}f", *(v if abs(v) < 1e38 else math.inf for v in values))
    if mutation.chance(odd):
        width = mutation.number(32, width)
    if mutation.chance(odd):
        height = mutation.number(32, height)
    if mutation.chance(odd):
        encoding = mutation.one((*_OTHER_ENCODINGS, mutation.text(encoding), mutation.one(tuple(LAYOUTS))))
    if mutation.chance(odd):
        step = mutation.number(32, step)
    if mutation.chance(odd):
        data = data[: mutation.below(len(data))] if mutation.chance(0.5) else data + bytes(mutation.below(200))
    length = mutation.number(32, len(data)) if mutation.chance(odd / 4) else None
    order = mutation.number(8) if mutation.chance(odd) else int(big_endian)
    cdr = Cdr().header(mutation, odd).numbers("I", height, width).text(encoding)
    return bytes(cdr.number("B", order).number("I", step).blob(data, length).data)


@cache
def _images() -> tuple[bytes, ...]:
    steady = Steady()
    found = [image_cdr(steady, encoding, 0) for encoding in LAYOUTS]
    found += [image_cdr(steady, encoding, 0, (2, 2), True) for encoding in ("mono16", "16UC1", "32FC1", "bayer_rggb16")]
    return tuple(found)


@cache
def _harmful_images() -> tuple[bytes, ...]:
    """Return images whose sizes overflow, or are larger than their data."""
    found = []
    for width, height, step, encoding in (
        (2**32 - 1, 2**32 - 1, 0, "rgb8"),
        (2**31, 2, 0, "32FC1"),
        (1, 2**32 - 1, 0, "mono8"),
        (1, 2**32 - 1, 2**32 - 1, "mono8"),
        (2**32 - 1, 1, 1, "mono8"),
        (8, 6, 2**32 - 1, "rgb8"),
        (7, 5, 0, "nv12"),
        (7, 5, 0, "yuyv"),
        (1, 1, 0, "bayer_rggb8"),
        (2, 1, 0, "nv21"),
    ):
        cdr = Cdr().header(Steady(), 0).numbers("I", height, width).text(encoding).number("B", 0)
        found.append(bytes(cdr.number("I", step).blob(bytes(1000)).data))
    for text in ("a" * 100_000, "\u202e" * 5000, "\x1b[2J"):
        cdr = Cdr().header(Steady(), 0).numbers("I", 6, 8).text(text).number("B", 0)
        found.append(bytes(cdr.number("I", 24).blob(bytes(144)).data))
    return tuple(found)


def _mutated_image(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    size = mutation.one((SIZE, SIZE, (1, 1), (2, 2), (3, 5), (40, 30)))
    odd = mutation.one((0.05, 0.15, 0.4))
    image = image_cdr(mutation, mutation.one(tuple(LAYOUTS)), odd, size, mutation.chance(0.2))
    return damaged(mutation, image if mutation.chance(0.9) else mutation.one(seeds))


def compressed_cdr(mutation: Mutation, picture: bytes, odd: float = 0.3) -> bytes:
    """Return a CompressedImage of an image file; see `image_cdr`."""
    form = mutation.one((*FORMATS, mutation.text("jpeg"))) if mutation.chance(odd) else "jpeg"
    length = mutation.number(32, len(picture)) if mutation.chance(odd / 8) else None
    return bytes(Cdr().header(mutation, odd).text(form).blob(picture, length).data)


def _compressed() -> tuple[bytes, ...]:
    return tuple(compressed_cdr(Steady(), picture, 0) for picture in PICTURE.valid())


def _harmful_compressed() -> tuple[bytes, ...]:
    return tuple(compressed_cdr(Steady(), picture, 0) for picture in (*PICTURE.hostile(), *PICTURE.kept.values()))


def _mutated_compressed(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    if mutation.chance(0.1):
        return mutate_bytes(mutation, seeds)
    pictures = PICTURE.seeds if mutation.chance(0.05) else PICTURE.valid()
    picture = mutated_picture(mutation, pictures) if mutation.chance(0.7) else mutation.one(pictures)
    return damaged(mutation, compressed_cdr(mutation, picture), 0.1)


def _read_image(data: bytes, kind: str) -> str:
    found = classify(Topic("/image", kind, 1), Message("/image", 0, kind, data))
    require(len(found.encoding) <= 256, "an encoding without end")
    try:
        message: Any = types().deserialize_cdr(data, kind)
        int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)
    except Exception:  # readers of recordings name the damaged message
        return "cdr"
    return check_conversion(message)


def check_conversion(message: Any) -> str:
    """Convert a message of an image, and check the result. Return "", or the name of the refusal."""
    try:
        image = to_rgb(message)
    except ImageError as error:
        return refused(error)
    if hasattr(message, "format"):
        head = image_head(bytes(message.data))
        require(head is not None and head.width > 0 and head.height > 0, f"decoded with the head {head}")
        assert head is not None
        turned = head.orientation >= 5
        check_image(image, (head.height, head.width) if turned else (head.width, head.height))
    else:
        check_image(image, (message.width, message.height))
    return ""


# Detections.


def _box(cdr: Cdr, mutation: Mutation, odd: float, count: int) -> None:
    values = [mutation.real() if mutation.chance(odd) else float(20 + 3 * i) for i in range(count)]
    cdr.numbers("d", *values)


def vision_cdr(mutation: Mutation, odd: float = 0.2, count: int = 2) -> bytes:
    """Return a vision_msgs/Detection2DArray; see `image_cdr`."""
    cdr = Cdr().header(mutation, odd)
    cdr.number("I", mutation.number(32, count) if mutation.chance(odd / 4) else count)
    for _ in range(count):
        cdr.header(mutation, odd)
        hypotheses = 1 + mutation.below(2)
        cdr.number("I", mutation.number(32, hypotheses) if mutation.chance(odd / 8) else hypotheses)
        for _ in range(hypotheses):
            cdr.text(mutation.text("person") if mutation.chance(odd) else "person")
            _box(cdr, mutation, odd, 1 + 7 + 36)
        _box(cdr, mutation, odd, 5)
        cdr.text(mutation.text("7") if mutation.chance(odd) else "7")
    return bytes(cdr.data)


def own_cdr(mutation: Mutation, odd: float = 0.2, count: int = 3) -> bytes:
    """Return an explain_cnn_ros/Detections; see `image_cdr`."""
    cdr = Cdr().header(mutation, odd)
    cdr.number("I", mutation.number(32, count) if mutation.chance(odd / 4) else count)
    for _ in range(count):
        _box(cdr, mutation, odd, 4)
        cdr.text(mutation.text("person") if mutation.chance(odd) else "person")
        _box(cdr, mutation, odd, 1)
    return bytes(cdr.data)


def roi_cdr(mutation: Mutation, odd: float = 0.3) -> bytes:
    """Return a RegionOfInterest; see `image_cdr`."""
    cdr = Cdr()
    cdr.numbers("I", *(mutation.number(32, 20) if mutation.chance(odd) else 20 + i for i in range(4)))
    return bytes(cdr.number("B", mutation.number(8) if mutation.chance(odd) else 0).data)


#: The types of messages with detections, in an order that does not change: an input begins with the number of its type.
DETECTIONS: tuple[tuple[str, Callable[..., bytes]], ...] = ((VISION, vision_cdr), (OWN, own_cdr), (ROI, roi_cdr))


def _detections() -> tuple[bytes, ...]:
    return tuple(bytes((number,)) + make(Steady(), 0) for number, (_, make) in enumerate(DETECTIONS))


def _many_detections() -> tuple[bytes, ...]:
    """Return as many detections as a message may have, and declarations of more."""
    found = [b"\1" + own_cdr(Steady(), 0, 33_000), b"\0" + vision_cdr(Steady(), 0, 5000)]
    for number in (0, 1):
        found.append(bytes((number,)) + bytes(Cdr().header(Steady(), 0).number("I", _MANY).data))
        found.append(bytes((number,)) + bytes(Cdr().header(Steady(), 0).number("I", _MANY).data) + bytes(3_000_000))
    cdr = Cdr().header(Steady(), 0).number("I", 1).numbers("d", 0, 0, 5, 5).text("x" * 100_000).number("d", 0.5)
    return (*found, b"\1" + bytes(cdr.data))


def _mutated_detections(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    number = mutation.below(len(DETECTIONS))
    if mutation.chance(0.01):
        return bytes((number,)) + mutate_bytes(mutation, seeds)[1:]
    return bytes((number,)) + damaged(mutation, DETECTIONS[number][1](mutation, mutation.one((0.02, 0.1, 0.4))))


def _read_detections(data: bytes, folder: Path) -> str:
    kind = DETECTIONS[(data[0] if data else 0) % len(DETECTIONS)][0]
    topic = Topic("/detections", kind, 1)
    message = Message("/detections", 0, kind, data[1:])
    bag: Any = SimpleNamespace(messages=lambda *_: iter((message,)))
    found = list(read_detections(bag, topic, ("/image",)))
    require(len(found) == 1, f"{len(found)} messages instead of one")
    check_text(found[0].error)
    labels = DetectionLabels(topic, iter(found), AnalysisSettings(label_topic="/detections"))
    for problem in labels.problems(()):
        check_text(problem)
    if found[0].error:
        return "cdr"
    boxes = boxes_from(found[0].message)
    windows = person_windows(boxes, ModelInfo(), (640, 480))
    for window in windows.regions:
        require(window.width >= 1 and window.height >= 1, f"a window without area: {window}")
        values = (window.x, window.y, window.width, window.height)
        require(max(map(abs, values)) < 2**31, f"a window that no message can hold: {window}")
    for reason in windows.refused:
        check_text(reason)
    return "boxes" if windows.refused and not windows.regions else ""


KINDS = (
    Kind("image", _images, lambda data, _: _read_image(data, IMAGE), _mutated_image, _harmful_images),
    Kind("compressed", _compressed, lambda data, _: _read_image(data, COMPRESSED), _mutated_compressed,
         _harmful_compressed),
    Kind("detections", _detections, _read_detections, _mutated_detections, _many_detections),
)  # fmt: skip
