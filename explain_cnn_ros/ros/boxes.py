"""The boxes of an explanation as messages that viewers draw: lines in front of the camera, and outlines in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geometry_msgs.msg import Point, Quaternion
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import ImageMarker, Marker, MarkerArray

from explain_cnn_ros.draw.boxes import chosen_rankings, neuron_boxes
from explain_cnn_ros.draw.style import EXPLAINED_COLOUR, layer_style
from explain_cnn_ros.explain.explanation import Explanation

NAMESPACE = "explanation"

#: Distance of the boxes from the camera, in metres. They project to the right pixels at any distance.
DISTANCE = 1.0

#: Width of the lines of markers, in pixels of the image.
LINE = 1.5

#: Layer number that stands for the explained window; layers are counted from 1.
WINDOW = 0


@dataclass(frozen=True)
class Outline:
    """A box to draw.

    Attributes:
        layer: Layer of the neuron whose patch the box is; WINDOW for the explained window.
        x: Left edge, in pixels of the image.
        y: Top edge, in pixels of the image.
        width: Width, in pixels of the image.
        height: Height, in pixels of the image.
        colour: RGB, 0 to 255.
    """

    layer: int
    x: float
    y: float
    width: float
    height: float
    colour: tuple[int, int, int]

    @property
    def lines(self) -> list[tuple[float, float]]:
        """The ends of the four sides: eight points (x, y)."""
        left, top, right, bottom = self.x, self.y, self.x + self.width, self.y + self.height
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return [point for pair in zip(corners, corners[1:] + corners[:1], strict=True) for point in pair]


def outlines(explanation: Explanation, metric: str) -> list[Outline]:
    """Return the explained window and the patches of the neurons that a metric selects, as the overlay draws them.

    Raises:
        ValueError: The explanation has no rankings by the metric.
    """
    region = explanation.region
    found = [Outline(WINDOW, region.x, region.y, region.width, region.height, EXPLAINED_COLOUR)]
    for box in neuron_boxes(chosen_rankings(explanation, metric), None):
        patch, style = box.patch, layer_style(box.neuron.layer)
        found.append(Outline(box.neuron.layer, patch.x, patch.y, patch.width, patch.height, style.colour))
    return found


def is_calibrated(info: CameraInfo) -> bool:
    """Return whether P is a projection. The P of an uncalibrated camera is zero."""
    return info.p[0] > 0 and info.p[5] > 0


def unproject(info: CameraInfo, u: float, v: float, image_size: tuple[int, int]) -> tuple[float, float, float]:
    """Compute the point at DISTANCE that P projects to a pixel.

    Args:
        info: The calibration. Its P may refer to a larger image, of which the published one is binned, cut out (`roi`)
            or resized.
        u: Column of the pixel.
        v: Row of the pixel.
        image_size: Size (width, height) of the image that contains the pixel.

    Returns:
        (x, y, z) in the optical frame of the camera, in metres.
    """
    across, down = info.roi.width or info.width, info.roi.height or info.height
    if across and down:
        u = info.roi.x_offset + u * across / image_size[0]
        v = info.roi.y_offset + v * down / image_size[1]
    fx, cx, tx, fy, cy, ty = info.p[0], info.p[2], info.p[3], info.p[5], info.p[6], info.p[7]
    return (((u - cx) * DISTANCE - tx) / fx, ((v - cy) * DISTANCE - ty) / fy, DISTANCE)


def markers(header: Header, boxes: Sequence[Outline], info: CameraInfo, image_size: tuple[int, int]) -> MarkerArray:
    """Make lines for RViz's Camera and 3D displays. The first marker deletes those of the previous explanation.

    Args:
        header: Header of the image. RViz drops markers that are stamped later than TF.
        boxes: The boxes to draw, in pixels of the image.
        info: The calibration, with a valid P.
        image_size: Size (width, height) of the image.
    """
    array = MarkerArray(markers=[Marker(header=header, ns=NAMESPACE, action=Marker.DELETEALL)])
    for layer in sorted({box.layer for box in boxes}):
        of_layer = [box for box in boxes if box.layer == layer]
        marker = Marker(header=header, ns=NAMESPACE, id=layer, type=Marker.LINE_LIST, action=Marker.ADD)
        marker.pose.orientation = Quaternion(w=1.0)
        marker.scale.x = LINE * DISTANCE / info.p[0]
        marker.color = colour(of_layer[0])
        for box in of_layer:
            for u, v in box.lines:
                x, y, z = unproject(info, u, v, image_size)
                marker.points.append(Point(x=x, y=y, z=z))
        array.markers.append(marker)
    return array


def annotations(header: Header, boxes: Sequence[Outline]) -> ImageMarker:
    """Make outlines in pixels for Foxglove and Lichtblick: one list of lines, with a colour for each line.

    Args:
        header: Header of the image.
        boxes: The boxes to draw, in pixels of the image.
    """
    marker = ImageMarker(header=header, ns=NAMESPACE, type=ImageMarker.LINE_LIST, action=ImageMarker.ADD, scale=2.0)
    for box in boxes:
        marker.points += [Point(x=float(u), y=float(v)) for u, v in box.lines]
        marker.outline_colors += [colour(box)] * 4
    return marker


def colour(box: Outline) -> ColorRGBA:
    """Return the colour of a box, opaque."""
    red, green, blue = (value / 255.0 for value in box.colour)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)
