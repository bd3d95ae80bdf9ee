"""Boxes as markers and annotations: what is projected back is what was drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("rclpy")

from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header
from visualization_msgs.msg import ImageMarker, Marker

from explain_cnn_ros.draw.style import layer_style
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.ros.boxes import WINDOW, Outline, annotations, is_calibrated, markers, outlines


def camera(fx: float = 500.0, fy: float = 480.0, tx: float = 0.0, size: tuple[int, int] = (640, 480)) -> CameraInfo:
    p = [fx, 0.0, size[0] / 2 + 3.5, tx, 0.0, fy, size[1] / 2 - 7.25, 0.0, 0.0, 0.0, 1.0, 0.0]
    return CameraInfo(width=size[0], height=size[1], p=p)


def projected(info: CameraInfo, marker: Marker) -> np.ndarray:
    """Pixels of a marker's points by P, [N, 2]."""
    points = np.array([[p.x, p.y, p.z, 1.0] for p in marker.points])
    homogeneous = points @ np.array(info.p).reshape(3, 4).T
    return homogeneous[:, :2] / homogeneous[:, 2:]


boxes = st.builds(
    Outline,
    layer=st.sampled_from([WINDOW, 3, 7]),
    x=st.floats(-50, 600),
    y=st.floats(-50, 400),
    width=st.floats(1, 200),
    height=st.floats(1, 200),
    colour=st.just((255, 70, 60)),
)


@given(found=st.lists(boxes, min_size=1, max_size=6), tx=st.sampled_from([0.0, -60.0]))
def test_projecting_a_marker_back_gives_its_boxes(found: list[Outline], tx: float) -> None:
    """Also that of a stereo pair's right camera, whose P moves sideways."""
    info = camera(tx=tx)
    header = Header(frame_id="camera_optical")
    array = markers(header, found, info, (640, 480))
    first, *drawn = array.markers
    assert (first.action, first.ns) == (Marker.DELETEALL, drawn[0].ns)
    assert [m.id for m in drawn] == sorted({box.layer for box in found})
    for marker in drawn:
        assert (marker.type, marker.action, marker.header) == (Marker.LINE_LIST, Marker.ADD, header)
        assert marker.pose.orientation.w == 1.0
        assert all(point.z == 1.0 for point in marker.points)
        expected = [corner for box in found if box.layer == marker.id for corner in box.lines]
        np.testing.assert_allclose(projected(info, marker), expected, atol=1e-6)


def test_lines_are_closed() -> None:
    box = Outline(3, 10, 20, 30, 40, (1, 2, 3))
    pairs = list(zip(box.lines[::2], box.lines[1::2], strict=True))
    assert pairs == [((10, 20), (40, 20)), ((40, 20), (40, 60)), ((40, 60), (10, 60)), ((10, 60), (10, 20))]


def test_images_that_are_smaller_than_what_p_is_for() -> None:
    """Binned by two, and a cut-out: boxes lie where the same pixels lie in the full image."""
    header, box = Header(), Outline(3, 10, 20, 30, 40, (1, 2, 3))
    full = camera()
    binned = markers(header, [box], full, (320, 240)).markers[1]
    np.testing.assert_allclose(projected(full, binned)[0], (20, 40), atol=1e-9)
    cut = camera()
    cut.roi = RegionOfInterest(x_offset=100, y_offset=50, width=320, height=240)
    np.testing.assert_allclose(
        projected(cut, markers(header, [box], cut, (320, 240)).markers[1])[0], (110, 70), atol=1e-9
    )


def test_an_uncalibrated_camera() -> None:
    assert is_calibrated(camera())
    assert not is_calibrated(CameraInfo(width=640, height=480))


def test_annotations_are_in_pixels_a_colour_a_line() -> None:
    header = Header(frame_id="camera")
    header.stamp.sec, header.stamp.nanosec = 7, 123
    found = [Outline(WINDOW, 0, 0, 64, 128, (255, 255, 255)), Outline(5, 10, 20, 30, 40, (60, 215, 95))]
    marker = annotations(header, found)
    assert (marker.header, marker.type, marker.action) == (header, ImageMarker.LINE_LIST, ImageMarker.ADD)
    assert [(p.x, p.y) for p in marker.points] == [corner for box in found for corner in box.lines]
    assert len(marker.outline_colors) == len(marker.points) // 2
    assert [round(255 * c.g) for c in marker.outline_colors] == [255] * 4 + [215] * 4
    assert all(c.a == 1.0 for c in marker.outline_colors)


def test_outlines_are_those_of_the_overlay(thin_classifier, picture) -> None:
    explanation = Explainer(thin_classifier, ExplainSettings(perturbations=4, layers=(3, 9))).explain(picture(100, 90))
    window, *patches = outlines(explanation, "activation_sum")
    assert dataclasses.astuple(window)[:5] == (WINDOW, 0, 0, 100, 90)
    expected = [
        (layer, n.patch.x, n.patch.y, n.patch.width, n.patch.height)
        for layer in (3, 9)
        for n in explanation.ranking("activation_sum", layer)
        if n.patch is not None
    ]
    assert sorted(dataclasses.astuple(p)[:5] for p in patches) == sorted(expected)
    assert all(p.colour == layer_style(p.layer).colour for p in patches)
    with pytest.raises(ValueError, match="no ranking by 'entropy'"):
        outlines(explanation, "entropy")
