"""The canvas: where boxes and texts are drawn, and that nothing is drawn beyond their place."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from explain_cnn_ros.draw import canvas as canvas_module
from explain_cnn_ros.draw.canvas import (
    abbreviated,
    draw_box,
    line_height,
    put_text,
    shorten,
    shorten_middle,
    text_width,
    to_ascii,
    wrap,
)


def test_draw_box_touches_nothing_but_its_lines():
    canvas = np.zeros((20, 30, 3), np.uint8)
    draw_box(canvas, (5, 6, 15, 12), (1, 2, 3), 2)
    expected = np.zeros_like(canvas)
    expected[4:14, 3:17] = (1, 2, 3)
    expected[6:12, 5:15] = 0
    np.testing.assert_array_equal(canvas, expected)


@pytest.mark.parametrize("box", [(-20, 2, -10, 8), (40, 2, 50, 8), (2, -9, 8, -5), (2, 30, 8, 40)])
def test_draw_box_beyond_the_canvas_draws_nothing(box):
    canvas = np.zeros((20, 30, 3), np.uint8)
    draw_box(canvas, box, (255, 255, 255), 3, dashed=True)
    assert not canvas.any()


def test_dashed_box_has_corners_and_gaps():
    solid, dashed = np.zeros((60, 60, 3), np.uint8), np.zeros((60, 60, 3), np.uint8)
    draw_box(solid, (10, 10, 50, 50), (255, 255, 255), 1)
    draw_box(dashed, (10, 10, 50, 50), (255, 255, 255), 1, dashed=True)
    assert not (dashed.any(2) & ~solid.any(2)).any()
    assert dashed[9, 9].all() and dashed[50, 50].all()
    assert 0.4 < dashed.any(2).sum() / solid.any(2).sum() < 0.8


def test_only_the_corners_of_a_box_are_drawn():
    canvas = np.zeros((60, 100, 3), np.uint8)
    draw_box(canvas, (10, 10, 90, 50), (255, 255, 255), 2, corners=True)
    expected = np.zeros((60, 100), bool)
    # The box with its lines is 84 x 44 pixels: each corner reaches a quarter of a side, 21 x 11 pixels.
    for rows, columns in itertools.product(((8, 19), (41, 52)), ((8, 29), (71, 92))):
        expected[slice(*rows), slice(*columns)] = True
    inside = np.zeros_like(expected)
    inside[10:50, 10:90] = True
    np.testing.assert_array_equal(canvas.any(2), expected & ~inside)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("side", [6, 8, 12, 20, 33, 80])
def test_line_styles_differ_at_every_size(side, width):
    drawn = {}
    for dashed, corners in itertools.product((False, True), repeat=2):
        canvas = np.zeros((120, 120, 3), np.uint8)
        draw_box(canvas, (20, 20, 20 + side, 20 + side), (255, 255, 255), width, dashed, corners)
        drawn[dashed, corners] = canvas.any(2)
    solid = drawn[False, False]
    for shape in drawn.values():
        assert not (shape & ~solid).any()
        assert shape[20 - width, 20 - width] and shape[19 + side + width, 19 + side + width]
    length = side + 2 * width
    middle = slice(20 - width + length // 2 - 1, 20 - width + length // 2 + 1)
    # Corners have nothing in the middle of a side. A dashed side has a dash there, unless it is long.
    assert not drawn[False, True][20 - width, middle].any() and not drawn[True, True][20 - width, middle].any()
    assert drawn[False, True].sum() < 0.75 * solid.sum()
    assert drawn[True, False].sum() < 0.85 * solid.sum()
    if 8 <= length < 12:
        assert drawn[True, False][20 - width, middle].any()
    assert (drawn[True, False] != drawn[False, True]).sum() > solid.sum() / 8
    if length >= 16:
        assert drawn[True, True].sum() < 0.9 * drawn[False, True].sum()


@pytest.mark.parametrize("size", [9, 16, 40])
def test_text_that_does_not_fit_is_cut(size):
    canvas = np.zeros((60, 400, 3), np.uint8)
    used = put_text(canvas, "activation_output_correlation " * 5, 10, 2, size, max_width=200)
    assert 150 < used <= 200
    assert not canvas[:, :10].any() and not canvas[:, 210:].any()
    assert not canvas[2 + line_height(size) :].any()


@pytest.mark.parametrize("text", ["conv2_1, conv2_2, ... of the block", "iiiii WWWWW,, , .. x", "a", "", "ab" * 30])
def test_as_much_of_a_text_as_fits_is_written(text):
    """The result is the same as if all lengths were tried one after the other."""
    for width in range(0, 300, 7):
        ends = [text[:end].rstrip(" ,") + "..." for end in range(len(text) - 1, 0, -1)]
        middles = [abbreviated(text, length) for length in range(len(text), 2, -1)]
        whole = [text] if text_width(text, 16) <= width else []
        assert shorten(text, 16, width) == (whole + [t for t in ends if text_width(t, 16) <= width] + [""])[0]
        fitting = [t for t in middles if text_width(t, 16) <= width]
        assert shorten_middle(text, 16, width) == (fitting + whole + [""])[0]


def test_a_text_without_end_takes_no_time(monkeypatch):
    measured = []
    real = canvas_module.text_width
    monkeypatch.setattr(canvas_module, "text_width", lambda *text: measured.append(text) or real(*text))
    canvas = np.zeros((60, 400, 3), np.uint8)
    assert put_text(canvas, "x" * 10**6, 0, 0, 16, max_width=200) <= 200
    assert shorten_middle("x" * 10**6, 16, 200).startswith("xx")
    assert len(measured) < 40


@pytest.mark.parametrize(("x", "y"), [(-5, -5), (95, 18), (-500, 0), (500, 0), (0, -500), (0, 500)])
def test_text_beyond_the_canvas_is_clipped(x, y):
    canvas = np.zeros((20, 100, 3), np.uint8)
    put_text(canvas, "gone", x, y, 16)
    assert canvas.shape == (20, 100, 3)


@pytest.mark.parametrize("text", ["activation_output_correlation by name", "a " * 40, "x" * 200])
def test_wrapped_text_fits_and_is_complete(text):
    lines = wrap(text, 16, 150)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(text_width(line, 16) <= 150 for line in lines) or text.startswith("xxx")


@pytest.mark.parametrize(
    ("text", "ascii_"),
    [
        ("Straße, café…", "Stra?e, cafe..."),
        ("a\tb\nc", "a b c"),
        ("\N{GREEK SMALL LETTER SIGMA} = 0.1", "? = 0.1"),
        ("plain", "plain"),
    ],
)
def test_text_is_turned_into_ascii(text, ascii_):
    assert to_ascii(text) == ascii_
