"""Boxes of a detector, and the windows around the persons in them, which the classifier judges instead of a search."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.model.windows import PERSON_SHARE, Region

#: Minimum share of a box, and of the window around it, that must lie in the frame.
VISIBLE_MIN = 0.1


@dataclass(frozen=True)
class DetectedBox:
    """A box that a detector has found.

    Attributes:
        x: Left edge, in pixels of the frame.
        y: Top edge, in pixels of the frame.
        width: Width, in pixels of the frame.
        height: Height, in pixels of the frame.
        label: Class of the object as the detector calls it, a name or an id; "" if it is not known.
        score: Score of the detection; higher is better.
    """

    x: float
    y: float
    width: float
    height: float
    label: str = ""
    score: float = 0.0


@dataclass(frozen=True)
class DetectedWindows:
    """The windows around the persons of a detector.

    Attributes:
        regions: The windows, that of the highest score first. Their probabilities are NaN.
        refused: A reason for each box that is refused.
        others: Classes of the boxes of other objects.
    """

    regions: tuple[Region, ...]
    refused: tuple[str, ...]
    others: tuple[str, ...]


def boxes_from(message: Any) -> tuple[DetectedBox, ...]:
    """Convert a message with detections. Of a rotated box, the upright box around it is taken.

    Args:
        message: A vision_msgs/Detection2DArray, Detections or RegionOfInterest, of ROS or of rosbags. The class of a
            Detection2D is that of its hypothesis with the highest score. A RegionOfInterest without an area stands for
            no boxes.
    """
    if hasattr(message, "x_offset"):
        if not message.width or not message.height:
            return ()
        return (DetectedBox(message.x_offset, message.y_offset, message.width, message.height),)
    return tuple(_vision_box(d) if hasattr(d, "bbox") else _own_box(d) for d in message.detections)


def _own_box(detection: Any) -> DetectedBox:
    return DetectedBox(detection.x, detection.y, detection.width, detection.height, detection.label, detection.score)


def _vision_box(detection: Any) -> DetectedBox:
    """Convert a vision_msgs/Detection2D."""
    hypotheses = [result.hypothesis for result in detection.results]
    best = max(hypotheses, key=lambda hypothesis: hypothesis.score, default=None)
    box, centre = detection.bbox, detection.bbox.center
    theta = centre.theta if math.isfinite(centre.theta) else math.nan
    sine, cosine = abs(math.sin(theta)), abs(math.cos(theta))
    width, height = cosine * box.size_x + sine * box.size_y, sine * box.size_x + cosine * box.size_y
    return DetectedBox(
        centre.position.x - width / 2,
        centre.position.y - height / 2,
        width,
        height,
        "" if best is None else best.class_id,
        0.0 if best is None else best.score,
    )


def person_windows(
    boxes: Sequence[DetectedBox],
    info: ModelInfo,
    image_size: tuple[int, int],
    classes: Collection[str] = (),
    margin: float = 0.0,
    count_max: int = 24,
) -> DetectedWindows:
    """Return the windows around the boxes of persons.

    A window has the centre of its box and the aspect ratio of the network's input, and contains the box. Around a
    person, it has the margins that the windows of the training have: for networks of this package, a person takes
    PERSON_SHARE of the window's height. Windows may reach out of the frame, as those of a search may.

    Args:
        boxes: The boxes of the detector, in any order.
        info: Metadata of the network that judges the windows.
        image_size: Size (width, height) of the frame, in pixels.
        classes: Classes that the detector calls persons, names or ids; empty for all. Boxes without a class count as
            persons if this is empty.
        margin: Margin on each side as a share of the box's size, for imported networks. It is not used for networks of
            this package.
        count_max: Maximum number of windows. Boxes with the highest scores come first.
    """
    persons = [box for box in boxes if not classes or box.label in classes]
    others = tuple(box.label for box in boxes if classes and box.label not in classes)
    persons.sort(key=lambda box: -box.score if math.isfinite(box.score) else math.inf)
    regions: list[Region] = []
    refused: list[str] = []
    for box in persons:
        reason, window = _window(box, info, image_size, margin)
        if window is None:
            refused.append(reason)
        elif len(regions) < count_max:
            regions.append(window)
    return DetectedWindows(tuple(regions), tuple(refused), others)


def _window(box: DetectedBox, info: ModelInfo, image_size: tuple[int, int], margin: float) -> tuple[str, Region | None]:
    """Return "" and the window around a box, or the reason why the box is refused, and None."""
    if not all(map(math.isfinite, (box.x, box.y, box.width, box.height))):
        return f"a box has the edges {box.x:g}, {box.y:g} and the size {box.width:g} x {box.height:g}", None
    place = f"the box at ({box.x:.0f}, {box.y:.0f}), {box.width:g} x {box.height:g} pixels,"
    if box.width < 1 or box.height < 1:
        return f"{place} is smaller than a pixel", None
    share = visible_share((box.x, box.y, box.width, box.height), image_size)
    within = f"in the image of {image_size[0]} x {image_size[1]} pixels: it must be at least {VISIBLE_MIN:.0%}"
    if share < VISIBLE_MIN:
        return f"only {share:.1%} of {place} lies {within}", None
    across, down = box.width, box.height
    if info.source == ModelInfo.source:
        down /= PERSON_SHARE
    else:
        across, down = (side * (1 + 2 * margin) for side in (across, down))
    aspect = info.input_size[0] / info.input_size[1]
    height = max(down, across / aspect)
    width = height * aspect
    x, y = box.x + (box.width - width) / 2, box.y + (box.height - height) / 2
    # Less would be a window of nothing but repeated edge pixels, and one of any size.
    share = visible_share((x, y, width, height), image_size)
    if share < VISIBLE_MIN:
        return f"only {share:.1%} of the window around {place} lies {within}", None
    return "", Region(round(x), round(y), max(1, round(width)), max(1, round(height)), math.nan)


def visible_share(box: tuple[float, float, float, float], image_size: tuple[int, int]) -> float:
    """Return the share of a box (x, y, width, height) that lies in a frame of `image_size` (width, height)."""
    across = min(box[0] + box[2], image_size[0]) - max(box[0], 0)
    down = min(box[1] + box[3], image_size[1]) - max(box[1], 0)
    return max(0.0, across) * max(0.0, down) / (box[2] * box[3])
