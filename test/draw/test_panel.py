"""The panel beside a frame."""

from __future__ import annotations

import numpy as np
import pytest
from draw_kit import CORRELATION, everything, explanation, picture, plain, ranking

from explain_cnn_ros.draw.boxes import THICK_ABOVE
from explain_cnn_ros.draw.canvas import BACKGROUND, line_height
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.draw.panel import INSET_WIDTH_MAX, PANEL_HEIGHT_MAX, PANEL_MARGIN, PANEL_TEXT, PANEL_WIDTH
from explain_cnn_ros.draw.style import layer_style
from explain_cnn_ros.explain.metrics import PAPER_METRICS
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.model.windows import Region


@pytest.mark.parametrize("size", [(64, 128), (200, 100), (640, 480), (1920, 1080)])
@pytest.mark.parametrize("metric", [CORRELATION, PAPER_METRICS])
def test_panel_keeps_its_margins(size, metric):
    region = Region(0, 0, *size, 0.5)
    trigger = "the reason is long, \N{GREEK SMALL LETTER SIGMA} and all\nover two lines"
    drawn = draw_overlay(picture(size), everything(size, region), metric, trigger=trigger, regions=[region])
    scale = max(1.0, min(960 / size[0], 720 / size[1]))
    width = drawn.shape[1] - round(size[0] * scale)
    margin = round(PANEL_MARGIN * width / PANEL_WIDTH)
    panel = drawn[:, -width:]
    for strip in (panel[:, : margin - 1], panel[:, -margin:], panel[:margin], panel[-margin:]):
        assert (strip == BACKGROUND).all()
    assert (panel != BACKGROUND).any()


def test_window_is_shown_enlarged_in_the_panel_where_that_helps():
    small = Region(300, 200, 40, 80, 0.9)
    frame = plain()
    frame[200:280, 300:340] = (10, 200, 30)
    drawn = draw_overlay(frame, explanation(region=small))
    panel = drawn[:, 960:]
    inset = (panel == (10, 200, 30)).all(2)
    assert inset.sum() > 4 * 40 * 80 * 1.5**2
    assert (
        not (draw_overlay(frame, explanation(region=Region(0, 0, 640, 480, 0.9)))[:, 960:] == (10, 200, 30))
        .all(2)
        .any()
    )


def test_panel_with_too_much_text_is_cut():
    drawn = draw_overlay(plain(), explanation(), trigger="a long reason " * 300)
    assert drawn.shape == (PANEL_HEIGHT_MAX, 960 + PANEL_WIDTH, 3)
    np.testing.assert_array_equal(drawn[720:, :960], np.broadcast_to(BACKGROUND, (PANEL_HEIGHT_MAX - 720, 960, 3)))


def test_enlarged_window_is_beside_the_texts_and_has_thicker_lines():
    region, patch = Region(300, 200, 40, 80, 0.9), Patch(310, 220, 10, 10)
    drawn = draw_overlay(plain(), explanation([ranking(8, [patch])], region=region))
    gain = min(INSET_WIDTH_MAX / 40, (720 - 2 * PANEL_MARGIN - line_height(PANEL_TEXT)) / 80)
    left, top = 960 + PANEL_MARGIN, PANEL_MARGIN + line_height(PANEL_TEXT)
    width, height = round(40 * gain), round(80 * gain)
    assert drawn.shape == (720, left + width + PANEL_WIDTH, 3)
    inset = drawn[top : top + height, left : left + width]
    blue = (inset == layer_style(8).colour).all(2)
    rows, columns = blue.any(1).nonzero()[0], blue.any(0).nonzero()[0]
    line = round(3 * height / THICK_ABOVE)
    assert line > 3
    assert (rows.min(), rows.max() + 1) == (round(20 * gain) - line, round(30 * gain) + line)
    assert (columns.min(), columns.max() + 1) == (round(10 * gain) - line, round(20 * gain) + line)
    assert (inset[~blue] == 90).all()
