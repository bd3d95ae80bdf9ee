"""The overlay as a whole: its size, and the frames that it accepts. Contact sheets accept the same frames."""

from __future__ import annotations

import numpy as np
import pytest
from draw_kit import REGION, everything, explanation, picture, plain

from explain_cnn_ros.draw.boxes import OUTLINE_GAP
from explain_cnn_ros.draw.canvas import resized
from explain_cnn_ros.draw.contact_sheet import contact_sheet
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.draw.panel import PANEL_WIDTH
from explain_cnn_ros.draw.style import READABLE_HEIGHT
from explain_cnn_ros.explain.metrics import PAPER_METRICS
from explain_cnn_ros.model.windows import Region


@pytest.mark.parametrize("size", [(640, 480), (64, 128), (1920, 1080), (1, 1), (17, 300), (300, 17)])
def test_kept_size_is_that_of_the_frame(size):
    region = Region(0, 0, *size, 0.4)
    frame = picture(size)
    e = everything(size, region)
    drawn = draw_overlay(frame, e, PAPER_METRICS, keep_size=True, regions=[region], trigger="service", labels=True)
    assert drawn.shape == frame.shape and drawn.dtype == np.uint8 and drawn.flags.c_contiguous


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (960, 720)), ((64, 128), (360, 720)), ((1920, 1080), (1920, 1080)), ((240, 241), (717, 720))],
)
def test_small_frame_is_enlarged_and_has_a_panel_beside_it(size, expected):
    frame = picture(size)
    region = Region(0, 0, *size, 0.9)
    drawn = draw_overlay(frame, explanation(size=size, region=region))
    unit = expected[1] / READABLE_HEIGHT
    assert drawn.shape == (expected[1], expected[0] + round(PANEL_WIDTH * unit), 3)
    margin = OUTLINE_GAP + 10
    shown = resized(frame, *expected)[margin:-margin, margin:-margin]
    np.testing.assert_array_equal(drawn[margin : expected[1] - margin, margin : expected[0] - margin], shown)


def test_input_is_not_modified_and_may_be_a_view_or_read_only():
    frame = picture()
    e = everything()
    original = frame.copy()
    flipped = np.ascontiguousarray(frame[:, :, ::-1])[:, :, ::-1]
    frame.flags.writeable = False
    for draw in (
        lambda f: draw_overlay(f, e, keep_size=True, regions=[REGION]),
        lambda f: draw_overlay(f, e, regions=[REGION]),
        lambda f: contact_sheet(f, e, [REGION]),
    ):
        drawn = draw(frame)
        np.testing.assert_array_equal(frame, original)
        assert not np.shares_memory(drawn, frame)
        np.testing.assert_array_equal(drawn, draw(flipped))


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((480, 640), np.uint8),
        np.zeros((480, 640, 4), np.uint8),
        np.zeros((480, 640, 3), np.float32),
        np.zeros((0, 640, 3), np.uint8),
        [[0]],
    ],
)
@pytest.mark.parametrize(
    "draw",
    [
        lambda frame: draw_overlay(frame, explanation()),
        lambda frame: contact_sheet(frame, explanation()),
    ],
)
def test_array_that_is_not_an_image_is_refused(draw, frame):
    with pytest.raises(ValueError, match="the image is"):
        draw(frame)


@pytest.mark.parametrize("draw", [draw_overlay, contact_sheet])
def test_explanation_of_a_frame_of_another_size_is_refused(draw):
    with pytest.raises(ValueError, match="640 x 360 pixels, but the explained frame has 640 x 480"):
        draw(plain((640, 360)), explanation())
