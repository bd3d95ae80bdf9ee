"""Draws how viewers show an explanation, from the messages that they receive: docs/images/viewers.jpg.

    python tools/draw_viewers.py [--output docs/images/viewers.jpg] [--frame 35]

A frame of the sample recording is scanned and explained. Its messages are serialized and deserialized, and each panel
is drawn from them alone: the image with the annotations' pixels, the image with the markers' points projected by
CameraInfo, and the markers in space.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage
from visualization_msgs.msg import Marker

from explain_cnn_ros.bags.image_messages import to_rgb
from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.draw.boxes import shown_metrics
from explain_cnn_ros.draw.captions import probability_text
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.ros import boxes
from explain_cnn_ros.ros.summary import legend
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings

ROOT = Path(__file__).resolve().parent.parent

#: Size of a panel in pixels, magnification of the images, and colour of empty space.
PANEL, ZOOM, BACKGROUND = (533, 533), 2, (48, 48, 48)


def travelled(message: Any) -> Any:
    """Return a message as a subscriber receives it."""
    return deserialize_message(serialize_message(message), type(message))


def sample(index: int) -> tuple[CompressedImage, CameraInfo]:
    """Return a frame of the sample and the calibration of its camera."""
    with BagReader(ROOT / "sample/street") as bag:
        image = next(itertools.islice(bag.messages([bag.image_topic().name]), index, None))
        info = next(itertools.islice(bag.messages(["/camera/camera_info"]), index, None))
    return deserialize_message(image.data, CompressedImage), deserialize_message(info.data, CameraInfo)


def segments(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert the points of a list of lines, [2 L, D], to lines [L, 2, D]."""
    return points.reshape(-1, 2, points.shape[1])


def draw(image: Any, lines: NDArray[np.float64], colour: Any, width: int) -> None:
    """Draw lines [L, 2, 2], in pixels."""
    shade = tuple(round(255 * value) for value in (colour.r, colour.g, colour.b))
    for (x0, y0), (x1, y1) in lines:
        start, end = ((round(16 * x), round(16 * y)) for x, y in ((x0, y0), (x1, y1)))
        cv2.line(image, start, end, shade, width, cv2.LINE_AA, 4)


def write(image: Any, marker: Any, centre: NDArray[np.float64], height: float) -> None:
    """Write the lines of a text marker around its position, in pixels. `height` is that of capitals."""
    lines = marker.text.split("\n")
    for i, line in enumerate(lines):
        scale, font = height / 21, cv2.FONT_HERSHEY_SIMPLEX  # whose capitals have 21 pixels
        (width, _), _ = cv2.getTextSize(line, font, scale, 1)
        y = centre[1] + (i - (len(lines) - 1) / 2) * boxes.LINE_SPACING * height + height / 2
        shade = tuple(round(255 * value) for value in (marker.color.r, marker.color.g, marker.color.b))
        cv2.putText(image, line, (round(centre[0] - width / 2), round(y)), font, scale, shade, 1, cv2.LINE_AA)


def in_space(marker_array: Any, info: CameraInfo, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw the markers and the camera's field of view, from a position behind and above the camera."""
    panel = np.full((*PANEL[::-1], 3), BACKGROUND, np.uint8)
    eye, target = np.array([-1.0, -0.75, -1.1]), np.array([-0.05, -0.02, 0.7])
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward])

    def seen(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = axes @ (points - eye).T
        return np.stack([PANEL[0] / 2 + 850 * x / z, PANEL[1] / 2 + 850 * y / z], 1)

    fx, cx, fy, cy = info.p[0], info.p[2], info.p[5], info.p[6]
    corners = np.array(
        [
            ((u - cx) / fx, (v - cy) / fy, 1.0)
            for u, v in ((0, 0), (info.width, 0), (info.width, info.height), (0, info.height))
        ]
    )
    flat = np.array([(0, 0), (info.width, 0), (info.width, info.height), (0, info.height)], np.float32)
    view = cv2.getPerspectiveTransform(flat, seen(corners).astype(np.float32))
    screen = cv2.warpPerspective(image, view, PANEL, flags=cv2.INTER_AREA)
    where = cv2.warpPerspective(np.full(image.shape[:2], 255, np.uint8), view, PANEL)[..., None] / 255.0
    panel = (panel * (1 - 0.55 * where) + screen * 0.55 * where).astype(np.uint8)
    grey = type(marker_array.markers[-1].color)(r=0.75, g=0.75, b=0.75)
    for corner, following in zip(corners, np.roll(corners, -1, 0), strict=True):
        draw(panel, seen(np.stack([np.zeros(3), corner]))[None], grey, 1)
        draw(panel, seen(np.stack([corner, following]))[None], grey, 1)
    for axis, shade in zip(np.eye(3) * 0.2, ((1.0, 0.2, 0.2), (0.2, 1.0, 0.2), (0.3, 0.5, 1.0)), strict=True):
        colour = type(grey)(r=shade[0], g=shade[1], b=shade[2])
        draw(panel, seen(np.stack([np.zeros(3), axis]))[None], colour, 3)
    for marker in marker_array.markers[1:]:
        if marker.type == Marker.LINE_LIST:
            points = np.array([(p.x, p.y, p.z) for p in marker.points])
            draw(panel, segments(seen(points)), marker.color, 1)
    return panel


def titled(panel: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    """Add a line of text above a panel."""
    bar = np.full((34, panel.shape[1], 3), 250, np.uint8)
    cv2.putText(bar, title, (8, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (30, 30, 30), 1, cv2.LINE_AA)
    return np.concatenate([bar, panel])


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/images/viewers.jpg", help="[%(default)s]")
    parser.add_argument("--frame", type=int, default=35, help="of the sample [%(default)s]")
    arguments = parser.parse_args()
    message, info = sample(arguments.frame)
    frame = to_rgb(message)
    classifier = PersonClassifier.load()
    region = classifier.scan(frame, ScanSettings(person_height_min=60))[0]
    explanation = Explainer(classifier, ExplainSettings.preset("stable")).explain(frame, region)
    found = boxes.outlines(explanation, shown_metrics(explanation))
    outlined = travelled(boxes.annotations(message.header, found))
    words = "\n".join(legend(explanation, shown_metrics(explanation)))
    marked = travelled(boxes.markers(message.header, found, info, (frame.shape[1], frame.shape[0]), words))
    # The panels show the enlarged part around the window.
    large: Any = cv2.resize(frame, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    foxglove, rviz = large.copy(), large.copy()
    left = min(max(0, ZOOM * (region.x + region.width // 2) - PANEL[0] // 2), large.shape[1] - PANEL[0])
    top = min(max(0, ZOOM * (region.y + region.height // 2) - PANEL[1] // 2), large.shape[0] - PANEL[1])
    part = slice(top, top + PANEL[1]), slice(left, left + PANEL[0])
    pixels = segments(np.array([(p.x, p.y) for p in outlined.points]))
    for line, colour in zip(pixels, outlined.outline_colors, strict=True):
        draw(foxglove, ZOOM * line[None], colour, round(outlined.scale))
    p = np.array(info.p).reshape(3, 4)
    for marker in marked.markers[1:]:
        text = marker.type == Marker.TEXT_VIEW_FACING
        points = [marker.pose.position] if text else marker.points
        homogeneous = np.array([(q.x, q.y, q.z, 1.0) for q in points]) @ p.T
        projected = ZOOM * homogeneous[:, :2] / homogeneous[:, 2:]
        if text:
            write(rviz, marker, projected[0], ZOOM * marker.scale.z * info.p[5])
        else:
            draw(rviz, segments(projected), marker.color, round(ZOOM * marker.scale.x * info.p[0]))
    space = in_space(marked, info, frame)
    picture = np.concatenate(
        [
            titled(foxglove[part], "Foxglove, Image panel: image and ~/annotations"),
            titled(rviz[part], "RViz, Camera display: image and ~/markers"),
            titled(space, "RViz, 3D view: ~/markers, 1 m before the camera"),
        ],
        axis=1,
    )
    scale = 1600 / picture.shape[1]
    smaller: Any = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(arguments.output), smaller[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(
        f"{arguments.output}: frame {arguments.frame}, P(person) {probability_text(region.probability)}, "
        f"{len(found) - 1} patches"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
