"""The boxes of an explanation for viewers that draw by themselves: lines in front of the camera, outlines in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geometry_msgs.msg import Point, Quaternion
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import ImageMarker, Marker, MarkerArray

from explain_cnn_ros.explanation import Explanation
from explain_cnn_ros.overlay import EXPLAINED, chosen_rankings, layer_style, neuron_boxes

NAMESPACE = "explanation"

#: Metres in front of the camera that boxes are drawn at: where they project to the right pixels, it does not matter.
DISTANCE = 1.0

#: Width of the lines of markers, pixels of the image.
LINE = 1.5

#: What the explained window is called among the layers, which count from 1.
WINDOW = 0


@dataclass(frozen=True)
class Outline:
    """A box to draw.

    layer: of the neuron whose patch it is; WINDOW for the explained window.
    x, y, width, height: pixels of the image.
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
        """Ends of its four sides, eight points."""
        left, top, right, bottom = self.x, self.y, self.x + self.width, self.y + self.height
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return [point for pair in zip(corners, corners[1:] + corners[:1], strict=True) for point in pair]


def outlines(explanation: Explanation, metric: str) -> list[Outline]:
    """The explained window and the patches of the neurons that a metric selects, as the overlay draws them."""
    region = explanation.region
    found = [Outline(WINDOW, region.x, region.y, region.width, region.height, EXPLAINED)]
    for box in neuron_boxes(chosen_rankings(explanation, metric), None):
        patch, style = box.patch, layer_style(box.neuron.layer)
        found.append(Outline(box.neuron.layer, patch.x, patch.y, patch.width, patch.height, style.colour))
    return found


def is_calibrated(info: CameraInfo) -> bool:
    """Whether P projects at all: an uncalibrated camera publishes zeros."""
    return info.p[0] > 0 and info.p[5] > 0


def unproject(info: CameraInfo, u: float, v: float, image_size: tuple[int, int]) -> tuple[float, float, float]:
    """The point at DISTANCE in the optical frame that P projects to pixel (u, v) of an image of (width, height).

    The image may be smaller than the one that P is for: binned, cut out (`roi`), or resized.
    """
    across, down = info.roi.width or info.width, info.roi.height or info.height
    if across and down:
        u = info.roi.x_offset + u * across / image_size[0]
        v = info.roi.y_offset + v * down / image_size[1]
    fx, cx, tx, fy, cy, ty = info.p[0], info.p[2], info.p[3], info.p[5], info.p[6], info.p[7]
    return (((u - cx) * DISTANCE - tx) / fx, ((v - cy) * DISTANCE - ty) / fy, DISTANCE)


def markers(header: Header, boxes: Sequence[Outline], info: CameraInfo, image_size: tuple[int, int]) -> MarkerArray:
    """Lines for RViz's Camera and 3D displays, led by a marker that deletes those of the explanation before.

    Args:
        header: of the image: RViz drops what is stamped later than TF.
        info: calibrated.
        image_size: (width, height) of the image whose pixels the boxes are in.
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
    """Outlines in pixels, for Foxglove and Lichtblick: one list of lines, a colour a line."""
    marker = ImageMarker(header=header, ns=NAMESPACE, type=ImageMarker.LINE_LIST, action=ImageMarker.ADD, scale=2.0)
    for box in boxes:
        marker.points += [Point(x=float(u), y=float(v)) for u, v in box.lines]
        marker.outline_colors += [colour(box)] * 4
    return marker


def colour(box: Outline) -> ColorRGBA:
    """Opaque."""
    red, green, blue = (value / 255.0 for value in box.colour)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)
