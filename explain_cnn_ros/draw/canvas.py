"""Boxes, text and translucent areas on arrays. This module knows nothing about explanations.

A canvas is a uint8 array [H, W, 3], RGB, and the functions modify it in place. Positions and sizes are in its pixels.
Whatever lies outside of the canvas is clipped.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]
#: (left, top, right, bottom) in pixels; right and bottom are exclusive.
Rectangle = tuple[int, int, int, int]

BACKGROUND: Colour = (23, 26, 31)
RULE: Colour = (58, 63, 72)
TEXT: Colour = (236, 238, 241)
MUTED: Colour = (160, 167, 178)
BLACK: Colour = (0, 0, 0)

#: Distance from one dash to the next, in line widths, and its minimum in pixels.
DASH, DASH_MIN = 5, 8

#: Length of each of the two pieces of a side of which only the corners are drawn, as a share of the side.
CORNER = 0.25

#: Maximum number of characters of a line of text. No picture has room for more.
TEXT_MAX = 1000

#: Text is drawn larger by this factor and then shrunk, because Hershey fonts have strokes of whole pixels only.
SUPERSAMPLING = 4
FONT = cv2.FONT_HERSHEY_SIMPLEX
#: Height of the capitals of FONT at scale 1, in pixels.
FONT_CAPITALS = 21
#: Heights of capitals, ascent and descent, and widths of the stroke, as shares of the text size.
CAPITALS, ASCENT, DESCENT, STROKE, STROKE_BOLD = 0.68, 0.92, 0.30, 0.095, 0.145


def draw_box(
    canvas: Image, box: Rectangle, colour: Colour, width: int = 1, dashed: bool = False, corners: bool = False
) -> None:
    """Draw a box around a rectangle.

    The lines lie outside of the rectangle, except where the canvas ends: there they are moved inwards.

    Args:
        canvas: uint8 [H, W, 3]; modified.
        box: The rectangle; it may reach out of the canvas.
        colour: Colour of the lines.
        width: Width of the lines, in pixels.
        dashed: Whether the lines are dashed.
        corners: Whether only the four corners are drawn.
    """
    left, top = max(0, box[0] - width), max(0, box[1] - width)
    right, bottom = min(canvas.shape[1], box[2] + width), min(canvas.shape[0], box[3] + width)
    if left >= right or top >= bottom:
        return
    columns: Any = slice(left, right)
    rows: Any = slice(top, bottom)
    if dashed or corners:
        period = max(DASH_MIN, DASH * width) if dashed else 0
        columns = left + _drawn(right - left, period, corners)
        rows = top + _drawn(bottom - top, period, corners)
    canvas[top : min(top + width, bottom), columns] = colour
    canvas[max(bottom - width, top) : bottom, columns] = colour
    canvas[rows, left : min(left + width, right)] = colour
    canvas[rows, max(right - width, left) : right] = colour


@lru_cache(maxsize=4096)
def _drawn(length: int, period: int, corners: bool) -> NDArray[np.intp]:
    """Return the offsets of the drawn pixels of a side, which always include both ends.

    Args:
        length: Length of the side, in pixels.
        period: Distance from one dash to the next, in pixels; 0: the side is not dashed. It is shorter on short sides:
            a dashed side has a dash in its middle, and the corner of a side with dashed corners ends with a dash.
        corners: Whether only the two ends are drawn.
    """
    position = (np.arange(length) + 0.5) / length
    drawn = np.ones(length, bool)
    if period:
        count = max(1, min(4 if corners else 2, length // 4), round(length / period))
        if corners:
            count = -(-count // 4) * 4
        phase = position * count % 1
        drawn &= (phase < 0.3) | (phase > 0.7)
    if corners:
        drawn &= abs(position - 0.5) > 0.5 - CORNER
    return np.flatnonzero(drawn)


@lru_cache(maxsize=1024)
def _text_mask(text: str, size: int, bold: bool) -> Image:
    """Return the opacity of a line of text, uint8 [H, W]."""
    scale = CAPITALS * size * SUPERSAMPLING / FONT_CAPITALS
    stroke = max(1, round((STROKE_BOLD if bold else STROKE) * size * SUPERSAMPLING))
    (width, _), _ = cv2.getTextSize(text, FONT, scale, stroke)
    rows = line_height(size)
    columns = -(-(width + stroke) // SUPERSAMPLING)
    large = np.zeros((rows * SUPERSAMPLING, columns * SUPERSAMPLING), np.uint8)
    base = (stroke // 2, round(ASCENT * size * SUPERSAMPLING))
    cv2.putText(large, text, base, FONT, scale, 255, stroke, cv2.LINE_AA)
    mask: Any = cv2.resize(large, (columns, rows), interpolation=cv2.INTER_AREA)
    return mask


def to_ascii(text: str) -> str:
    """Return a text in ASCII, because the fonts of OpenCV have no other characters.

    Accents are removed. Other characters become question marks. Everything after TEXT_MAX characters is left out.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text[:TEXT_MAX]) if not unicodedata.combining(c))
    return "".join(c if c.isprintable() else " " for c in plain).encode("ascii", "replace").decode()


def line_height(size: int) -> int:
    """Return the height of a line of text of this size, ascent and descent included, in pixels."""
    return math.ceil((ASCENT + DESCENT) * size)


def text_width(text: str, size: int, bold: bool = False) -> int:
    """Return the width of a line of text, in pixels."""
    return _text_mask(to_ascii(text), size, bold).shape[1] if text else 0


def put_text(
    canvas: Image, text: str, x: int, y: int, size: int, colour: Colour = TEXT, bold: bool = False,
    max_width: int | None = None,
) -> int:  # fmt: skip
    """Write a line of text.

    Args:
        canvas: uint8 [H, W, 3]; modified.
        text: The text; characters outside of ASCII are replaced.
        x: Left edge of the line.
        y: Top edge of the line.
        size: Text size, in pixels.
        colour: Colour of the text.
        bold: Whether the strokes are thick.
        max_width: The text is shortened to this width, in pixels; None: it is not shortened.

    Returns:
        The width of the line, in pixels.
    """
    text = to_ascii(text)
    if max_width is not None:
        text = shorten(text, size, max_width, bold)
    if not text:
        return 0
    mask = _text_mask(text, size, bold)
    left, top = max(0, x), max(0, y)
    roi = canvas[top : max(0, y + mask.shape[0]), left : max(0, x + mask.shape[1])]
    if roi.size:
        alpha = mask[top - y : top - y + roi.shape[0], left - x : left - x + roi.shape[1], None].astype(np.uint16)
        roi[:] = (roi * (255 - alpha) + np.array(colour, np.uint16) * alpha + 127) // 255
    return mask.shape[1]


def shorten(text: str, size: int, max_width: int, bold: bool = False) -> str:
    """Shorten a text with three dots until it is at most `max_width` pixels wide; "" if even that is too wide."""
    if text_width(text, size, bold) <= max_width:
        return text

    def shortened(end: int) -> str:
        return text[:end].rstrip(" ,") + "..."

    # The width rises with the length, so the longest text that fits is found by bisection.
    fitting = bisect_right(range(1, len(text)), max_width, key=lambda end: text_width(shortened(end), size, bold))
    return shortened(fitting) if fitting else ""


def shorten_middle(text: str, size: int, max_width: int, bold: bool = False) -> str:
    """Replace the middle of a text by three dots until it is at most `max_width` pixels wide.

    Returns:
        The text; "..." if nothing else fits, and "" if even that is too wide.
    """
    text = to_ascii(text)
    lengths = range(3, len(text) + 1)
    fitting = bisect_right(lengths, max_width, key=lambda length: text_width(abbreviated(text, length), size, bold))
    if fitting:
        return abbreviated(text, lengths[fitting - 1])
    return text if text_width(text, size, bold) <= max_width else ""


def abbreviated(text: str, length: int) -> str:
    """Replace the middle of a text by three dots if it has more than `length` characters, which are at least 3.

    A third of what is left is the beginning, and two thirds are the end, at which names of layers differ.
    """
    if len(text) <= length:
        return text
    kept = max(0, length - 3)
    begin, end = kept // 3, kept - kept // 3
    return f"{text[:begin].rstrip(' .')}...{text[len(text) - end :].lstrip(' .')}"


def wrap(text: str, size: int, max_width: int, bold: bool = False) -> list[str]:
    """Break a text into lines that are at most `max_width` pixels wide.

    Lines break at spaces, and words that are too long break after underscores and dots. A longer piece stays too long.
    """
    lines: list[str] = []
    line = ""
    for word in text.split():
        if text_width(f"{line} {word}".strip(), size, bold) <= max_width:
            line = f"{line} {word}".strip()
            continue
        if line:
            lines.append(line)
        line = ""
        for piece in word.replace("_", "_ ").replace(".", ". ").split():
            if line and text_width(line + piece, size, bold) > max_width:
                lines.append(line)
                line = ""
            line += piece
    return [*lines, line] if line else lines


def darken(canvas: Image, x: int, y: int, width: int, height: int, opacity: float) -> None:
    """Darken a rectangle of the canvas; the higher the opacity (0 to 1), the darker it is."""
    roi = canvas[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
    if roi.size:
        roi[:] = cv2.convertScaleAbs(roi, alpha=1 - opacity, beta=opacity * sum(BACKGROUND) / 3)


def resized(image: Image, width: int, height: int) -> Image:
    """Return the image in another size: interpolated if it grows, averaged over areas if it shrinks."""
    if image.shape[:2] == (height, width):
        return image
    grows = width >= image.shape[1] and height >= image.shape[0]
    result: Any = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)
    return result
