"""The boxes of an explanation as messages that viewers draw: lines in front of the camera, and outlines in pixels.

As in the overlay, boxes of neurons that oppose the decision consist of their corners only, and boxes of unstable
rankings are dashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geometry_msgs.msg import Point, Quaternion
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import ImageMarker, Marker, MarkerArray

from explain_cnn_ros.draw.boxes import neuron_boxes, other_regions, region_colour, styles_of
from explain_cnn_ros.draw.canvas import CORNER
from explain_cnn_ros.draw.strongest import shown_rankings
from explain_cnn_ros.draw.style import EXPLAINED_COLOUR, layer_style
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.live import SELECTED, LiveExplanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.model.windows import Region

#: Namespaces of the boxes of neurons that influence selects, of the explained window, of the other persons, and of the
#: text above the window. The namespace of the boxes of another metric is the metric's name.
SUPPORTING_BOXES, OPPOSING_BOXES, WINDOW_BOX, PERSON_BOXES, TEXT = (
    "supporting",
    "opposing",
    "window",
    "persons",
    "text",
)

#: Namespace of the annotations, which are one marker.
NAMESPACE = "explanation"

#: Distance of the boxes from the camera, in metres. They project to the right pixels at any distance. P belongs to the
#: rectified image: on a raw image of a lens with distortion, their directions in space are off.
DISTANCE = 1.0

#: Maximum difference between the aspect ratio of the image and that of its calibration, as a share.
ASPECT_MAX = 0.05

#: Width of the lines of markers, and distance from one dash to the next, in pixels of the image.
LINE, DASH = 1.5, 8.0

#: Share of that distance that a dash covers.
DASH_SHARE = 0.6

#: Height of capitals, as a share of the image's height, and distance of lines of text, as a multiple of that height.
CAPITALS, LINE_SPACING = 1 / 80, 1.6

#: Layer number that stands for windows and persons; layers are counted from 1.
WINDOW = 0

#: Id of the marker that deletes all others. The ids of the others are numbers of layers.
DELETE_ALL_ID = -1


@dataclass(frozen=True)
class Outline:
    """A box to draw.

    Attributes:
        layer: Layer of the neuron whose patch the box is; WINDOW for the explained window and for other persons.
        namespace: Namespace of the marker that the box belongs to.
        x: Left edge, in pixels of the image.
        y: Top edge, in pixels of the image.
        width: Width, in pixels of the image.
        height: Height, in pixels of the image.
        colour: RGB, 0 to 255.
        corners: Whether only the corners are drawn.
        dashed: Whether the lines are dashed.
    """

    layer: int
    namespace: str
    x: float
    y: float
    width: float
    height: float
    colour: tuple[int, int, int]
    corners: bool = False
    dashed: bool = False

    @property
    def lines(self) -> list[tuple[float, float]]:
        """The ends of the lines, two points (x, y) for each line: four sides, or pieces of them."""
        left, top, right, bottom = self.x, self.y, self.x + self.width, self.y + self.height
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        points = []
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            length = abs(x1 - x0) + abs(y1 - y0)
            for ends in pieces(length, self.corners, self.dashed):
                points += [(x0 + share * (x1 - x0), y0 + share * (y1 - y0)) for share in ends]
        return points


def pieces(length: float, corners: bool, dashed: bool) -> list[tuple[float, float]]:
    """Return the pieces of a side that are drawn. They always include both ends.

    Args:
        length: Length of the side, in pixels.
        corners: Whether only the ends of the side are drawn.
        dashed: Whether the side is dashed.

    Returns:
        Start and end of each piece, as shares of the side.
    """
    drawn = [(0.0, CORNER), (1.0 - CORNER, 1.0)] if corners else [(0.0, 1.0)]
    if not dashed:
        return drawn
    count = max(1, round(length * sum(end - start for start, end in drawn) / len(drawn) / DASH))
    gap = (1 - DASH_SHARE) / 2
    found = []
    for start, end in drawn:
        step = (end - start) / count
        cuts = [start]
        for k in range(count):
            cuts += [start + (k + 0.5 - gap) * step, start + (k + 0.5 + gap) * step]
        cuts.append(end)
        found += list(zip(cuts[::2], cuts[1::2], strict=True))
    return found


def outlines(explanation: Explanation, metrics: Sequence[str], top_n: int | None = None) -> list[Outline]:
    """Return the explained window and the patches of the neurons that metrics select, as the overlay draws them.

    Args:
        explanation: The explanation.
        metrics: Names of the metrics that are shown together.
        top_n: Maximum number of neurons of each ranking; see `shown_rankings`.

    Raises:
        ValueError: The explanation has no rankings by one of the metrics.
    """
    region = explanation.region
    found = [Outline(WINDOW, WINDOW_BOX, region.x, region.y, region.width, region.height, EXPLAINED_COLOUR)]
    other = SUPPORTING_BOXES if SUPPORTING in metrics else metrics[0]
    styles = styles_of(explanation)
    for box in neuron_boxes(shown_rankings(explanation, metrics, top_n), None):
        patch, style = box.patch, layer_style(box.neuron.layer, styles)
        found.append(
            Outline(
                box.neuron.layer,
                OPPOSING_BOXES if box.opposing else other,
                patch.x,
                patch.y,
                patch.width,
                patch.height,
                style.colour,
                box.opposing,
                box.unstable,
            )
        )
    return found


def live_outlines(live: LiveExplanation, regions: Sequence[Region]) -> list[Outline]:
    """Return all persons, the explained window and the patches that are shown, as the live overlay draws them.

    Args:
        live: The live explanation.
        regions: The regions of the frame.
    """
    explanation, found = live.explanation, []
    for region in other_regions(explanation, regions):
        found.append(Outline(WINDOW, PERSON_BOXES, *region.person_box, region_colour(explanation, region)))
    return [*outlines(live.drawn, (SUPPORTING, OPPOSING), SELECTED), *found]


def is_calibrated(info: CameraInfo) -> bool:
    """Return whether P is a projection. The P of an uncalibrated camera is zero."""
    return info.p[0] > 0 and info.p[5] > 0


def calibrated_size(info: CameraInfo) -> tuple[int, int]:
    """Return the size (width, height) of the image that a calibration describes, in pixels; 0 where it is not known."""
    return info.roi.width or info.width, info.roi.height or info.height


def fits(info: CameraInfo, image_size: tuple[int, int]) -> bool:
    """Return whether an image may be a smaller copy of what the calibration describes: they have the same aspect ratio.

    The image of a photo that was turned, for instance, has another one.

    Args:
        info: The calibration.
        image_size: Size (width, height) of the image.
    """
    across, down = calibrated_size(info)
    if not (across and down):
        return True
    return abs(across * image_size[1] / (down * image_size[0]) - 1) <= ASPECT_MAX


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
    across, down = calibrated_size(info)
    if across and down:
        u = info.roi.x_offset + u * across / image_size[0]
        v = info.roi.y_offset + v * down / image_size[1]
    fx, cx, tx, fy, cy, ty = info.p[0], info.p[2], info.p[3], info.p[5], info.p[6], info.p[7]
    return (((u - cx) * DISTANCE - tx) / fx, ((v - cy) * DISTANCE - ty) / fy, DISTANCE)


def markers(
    header: Header, boxes: Sequence[Outline], info: CameraInfo, image_size: tuple[int, int], text: str = ""
) -> MarkerArray:
    """Make lines for RViz's Camera and 3D displays. The first marker deletes those of the previous explanation.

    The markers have no lifetime: RViz shows them beside the explained image until the next explanation.

    Each namespace has one marker for each layer, so that displays can show supporting and opposing neurons separately.

    Args:
        header: Header of the image. RViz drops markers that are stamped later than TF.
        boxes: The boxes to draw, in pixels of the image.
        info: The calibration, with a valid P.
        image_size: Size (width, height) of the image.
        text: Text above the first box, which is the explained window, or at the top of the image if there is no room;
            lines are separated by newlines. "" for none.
    """
    # RViz deletes the markers of all namespaces only if the namespace is empty. Its check for duplicates includes this
    # marker, so that no other one may have the same namespace and id.
    array = MarkerArray(markers=[Marker(header=header, ns="", id=DELETE_ALL_ID, action=Marker.DELETEALL)])
    for namespace, layer in sorted({(box.namespace, box.layer) for box in boxes}):
        chosen = [box for box in boxes if (box.namespace, box.layer) == (namespace, layer)]
        marker = Marker(header=header, ns=namespace, id=layer, type=Marker.LINE_LIST, action=Marker.ADD)
        marker.pose.orientation = Quaternion(w=1.0)
        # P may refer to a larger image.
        marker.scale.x = LINE * (calibrated_size(info)[0] or image_size[0]) / image_size[0] * DISTANCE / info.p[0]
        marker.color = colour(chosen[0])
        for box in chosen:
            for u, v in box.lines:
                marker.points.append(_point(info, u, v, image_size))
        array.markers.append(marker)
    if text and boxes:
        window, height, lines = boxes[0], CAPITALS * image_size[1], text.count("\n") + 1
        marker = Marker(header=header, ns=TEXT, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD, text=text)
        # The centre of a text is at its position. If there is no room above the window, the text is inside of it.
        half = LINE_SPACING * height * (lines + 1) / 2
        centre = max(window.y - half, half)
        marker.pose.position = _point(info, window.x + window.width / 2, centre, image_size)
        marker.pose.orientation = Quaternion(w=1.0)
        # P may refer to a larger image.
        marker.scale.z = CAPITALS * (calibrated_size(info)[1] or image_size[1]) * DISTANCE / info.p[5]
        marker.color = colour(window)
        array.markers.append(marker)
    return array


def _point(info: CameraInfo, u: float, v: float, image_size: tuple[int, int]) -> Point:
    x, y, z = unproject(info, u, v, image_size)
    return Point(x=x, y=y, z=z)


def annotations(header: Header, boxes: Sequence[Outline]) -> ImageMarker:
    """Make outlines in pixels for Foxglove and Lichtblick: one list of lines, with a colour for each line.

    Args:
        header: Header of the image.
        boxes: The boxes to draw, in pixels of the image. Without any, the viewer removes the previous ones.
    """
    marker = ImageMarker(header=header, ns=NAMESPACE, type=ImageMarker.LINE_LIST, action=ImageMarker.ADD, scale=2.0)
    # Some viewers draw nothing if this colour is transparent, although each line has its own.
    marker.outline_color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    for box in boxes:
        marker.points += [Point(x=float(u), y=float(v)) for u, v in box.lines]
        marker.outline_colors += [colour(box)] * (len(box.lines) // 2)
    return marker


def colour(box: Outline) -> ColorRGBA:
    """Return the colour of a box, opaque."""
    red, green, blue = (value / 255.0 for value in box.colour)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)
