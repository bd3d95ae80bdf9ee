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

from explain_cnn_ros.draw.strongest import shown_rankings
from explain_cnn_ros.draw.style import layer_style
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.ros.boxes import (
    CAPITALS,
    LINE,
    OPPOSING_BOXES,
    SUPPORTING_BOXES,
    TEXT,
    WINDOW,
    WINDOW_BOX,
    Outline,
    annotations,
    fits,
    is_calibrated,
    markers,
    outlines,
    pieces,
)


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
    namespace=st.sampled_from([SUPPORTING_BOXES, OPPOSING_BOXES]),
    x=st.floats(-50, 600),
    y=st.floats(-50, 400),
    width=st.floats(1, 200),
    height=st.floats(1, 200),
    colour=st.just((255, 70, 60)),
    corners=st.booleans(),
    dashed=st.booleans(),
)


@given(found=st.lists(boxes, min_size=1, max_size=6), tx=st.sampled_from([0.0, -60.0]))
def test_projecting_a_marker_back_gives_its_boxes(found: list[Outline], tx: float) -> None:
    """Also that of a stereo pair's right camera, whose P moves sideways."""
    info = camera(tx=tx)
    header = Header(frame_id="camera_optical")
    array = markers(header, found, info, (640, 480))
    first, *drawn = array.markers
    # Without a namespace, it deletes those of all namespaces.
    assert (first.action, first.ns) == (Marker.DELETEALL, "")
    # RViz reports two markers of one array with the same namespace and id as an error, whatever their actions are.
    assert len({(m.ns, m.id) for m in array.markers}) == len(array.markers)
    # Markers stay until the next explanation.
    assert all((m.lifetime.sec, m.lifetime.nanosec) == (0, 0) for m in array.markers)
    assert [(m.ns, m.id) for m in drawn] == sorted({(box.namespace, box.layer) for box in found})
    for marker in drawn:
        assert (marker.type, marker.action, marker.header) == (Marker.LINE_LIST, Marker.ADD, header)
        assert marker.pose.orientation.w == 1.0
        assert all(point.z == 1.0 for point in marker.points)
        expected = [
            corner for box in found if (box.namespace, box.layer) == (marker.ns, marker.id) for corner in box.lines
        ]
        np.testing.assert_allclose(projected(info, marker), expected, atol=1e-6)


def test_lines_are_closed() -> None:
    box = Outline(3, "supporting", 10, 20, 30, 40, (1, 2, 3))
    pairs = list(zip(box.lines[::2], box.lines[1::2], strict=True))
    assert pairs == [((10, 20), (40, 20)), ((40, 20), (40, 60)), ((40, 60), (10, 60)), ((10, 60), (10, 20))]


def test_boxes_of_corners() -> None:
    """Each corner has a quarter of both sides."""
    box = Outline(3, "opposing", 10, 20, 40, 80, (1, 2, 3), corners=True)
    pairs = list(zip(box.lines[::2], box.lines[1::2], strict=True))
    assert pairs == [
        *(((10, 20), (20, 20)), ((40, 20), (50, 20))),
        *(((50, 20), (50, 40)), ((50, 80), (50, 100))),
        *(((50, 100), (40, 100)), ((20, 100), (10, 100))),
        *(((10, 100), (10, 80)), ((10, 40), (10, 20))),
    ]


@pytest.mark.parametrize(
    ("length", "corners", "dashed", "expected"),
    [
        (100, False, False, [(0, 1)]),
        (100, True, False, [(0, 0.25), (0.75, 1)]),
        # Two dashes' distances: half a dash, a gap, a whole dash, a gap, half a dash.
        (16, False, True, [(0, 0.15), (0.35, 0.65), (0.85, 1)]),
        (3, False, True, [(0, 0.3), (0.7, 1)]),
        (32, True, True, [(0, 0.075), (0.175, 0.25), (0.75, 0.825), (0.925, 1)]),
    ],
)
def test_pieces_of_a_side(length: float, corners: bool, dashed: bool, expected: list[tuple[float, float]]) -> None:
    assert pieces(length, corners, dashed) == [pytest.approx(piece) for piece in expected]


@pytest.mark.parametrize(
    ("size", "found"),
    [((640, 480), True), ((320, 240), True), ((213, 160), True), ((480, 640), False), ((640, 360), False)],
)
def test_a_calibration_is_for_images_of_its_shape(size: tuple[int, int], found: bool) -> None:
    """A photo that was turned, or an image of another mode of the camera, has another shape."""
    assert fits(camera(), size) is found
    cut = with_roi(camera(size=(1280, 720)), RegionOfInterest(width=640, height=480))
    assert fits(cut, size) is found
    assert fits(CameraInfo(), size), "nothing is known about its images"


def with_roi(info: CameraInfo, roi: RegionOfInterest) -> CameraInfo:
    info.roi = roi
    return info


@pytest.mark.parametrize("factor", [1, 4])
def test_lines_are_as_wide_in_binned_images(factor: int) -> None:
    info = camera(fx=500.0 * factor, size=(640 * factor, 480 * factor))
    box = Outline(3, SUPPORTING_BOXES, 10, 10, 50, 50, (255, 70, 60))
    marker = markers(Header(), [box], info, (640, 480)).markers[1]
    assert marker.scale.x * info.p[0] / factor == pytest.approx(LINE)


def test_images_that_are_smaller_than_what_p_is_for() -> None:
    """Binned by two, and a cut-out: boxes lie where the same pixels lie in the full image."""
    header, box = Header(), Outline(3, "supporting", 10, 20, 30, 40, (1, 2, 3))
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
    found = [
        Outline(WINDOW, WINDOW_BOX, 0, 0, 64, 128, (255, 255, 255)),
        Outline(5, OPPOSING_BOXES, 10, 20, 30, 40, (60, 215, 95), corners=True),
    ]
    marker = annotations(header, found)
    assert (marker.header, marker.type, marker.action) == (header, ImageMarker.LINE_LIST, ImageMarker.ADD)
    assert [(p.x, p.y) for p in marker.points] == [corner for box in found for corner in box.lines]
    assert len(marker.outline_colors) == len(marker.points) // 2
    assert [round(255 * c.g) for c in marker.outline_colors] == [255] * 4 + [215] * 8
    assert all(c.a == 1.0 for c in marker.outline_colors)
    # A viewer that looks at this colour first draws the marker as well.
    assert marker.outline_color.a == 1.0


def test_annotations_without_boxes_draw_nothing() -> None:
    header = Header(frame_id="camera")
    header.stamp.sec = 7
    marker = annotations(header, [])
    # The same namespace and id as those of an explanation, whose boxes it replaces.
    shown = annotations(header, [Outline(WINDOW, WINDOW_BOX, 0, 0, 64, 128, (255, 255, 255))])
    assert (marker.header, marker.ns, marker.id) == (header, shown.ns, shown.id)
    assert (marker.type, marker.action) == (ImageMarker.LINE_LIST, ImageMarker.ADD)
    assert len(marker.points) == len(marker.outline_colors) == 0


@pytest.mark.parametrize(
    "namespaces",
    [
        {"influence": SUPPORTING_BOXES, "counter_influence": OPPOSING_BOXES},
        {"influence": SUPPORTING_BOXES},
        {"counter_influence": OPPOSING_BOXES},
        {"activation_sum": "activation_sum"},
    ],
    ids=lambda namespaces: " and ".join(namespaces),
)
def test_outlines_are_those_of_the_overlay(thin_classifier, picture, namespaces: dict[str, str]) -> None:
    settings = ExplainSettings(
        perturbations=4, layers=(3, 9), metrics=("influence", "counter_influence", "activation_sum")
    )
    explanation = Explainer(thin_classifier, settings).explain(picture(100, 90))
    window, *patches = outlines(explanation, list(namespaces))
    assert dataclasses.astuple(window)[:6] == (WINDOW, WINDOW_BOX, 0, 0, 100, 90)
    expected = [
        (r.layer, namespaces[r.metric], n.patch.x, n.patch.y, n.patch.width, n.patch.height)
        for r in shown_rankings(explanation, list(namespaces))
        for n in r.neurons
        if n.patch is not None
    ]
    assert expected
    assert sorted(dataclasses.astuple(p)[:6] for p in patches) == sorted(expected)
    assert all(p.colour == layer_style(p.layer).colour for p in patches)
    assert all(p.corners == (p.namespace == OPPOSING_BOXES) for p in patches)
    unstable = {(r.layer, namespaces[r.metric]): r.unstable for r in explanation.rankings if r.metric in namespaces}
    assert all(p.dashed == unstable[p.layer, p.namespace] for p in patches)


def test_outlines_of_a_metric_that_the_explanation_lacks(thin_classifier, picture) -> None:
    settings = ExplainSettings(layers=(3,), metrics=("activation_sum",))
    explanation = Explainer(thin_classifier, settings).explain(picture(50, 60))
    with pytest.raises(ValueError, match="no ranking by 'entropy'"):
        outlines(explanation, ["entropy"])


def test_the_text_is_above_the_window() -> None:
    """Its capitals have their share of the image's height, also if P is for a larger image."""
    window, info = Outline(WINDOW, WINDOW_BOX, 100, 200, 30, 40, (255, 255, 255)), camera()
    for image_size in ((640, 480), (320, 240)):
        array = markers(Header(), [window], info, image_size, "two\nlines")
        assert len({(m.ns, m.id) for m in array.markers}) == len(array.markers) == 3
        text = array.markers[-1]
        assert (text.ns, text.type, text.text) == (TEXT, Marker.TEXT_VIEW_FACING, "two\nlines")
        assert text.scale.z * info.p[5] == pytest.approx(480 * CAPITALS)
        (place,) = projected(info, Marker(points=[text.pose.position])) * image_size[0] / 640
        assert place[0] == pytest.approx(115)
        assert 200 - 10 * image_size[1] * CAPITALS < place[1] < 200 - image_size[1] * CAPITALS
    assert len(markers(Header(), [window], info, (640, 480)).markers) == 2, "no text, no marker of it"


def test_the_text_is_in_the_image_if_the_window_is_the_whole_image() -> None:
    window, info = Outline(WINDOW, WINDOW_BOX, 0, 0, 640, 480, (255, 255, 255)), camera()
    text = markers(Header(), [window], info, (640, 480), "three\nlines\nhere").markers[-1]
    (place,) = projected(info, Marker(points=[text.pose.position]))
    assert 3 * 480 * CAPITALS / 2 < place[1] < 10 * 480 * CAPITALS
