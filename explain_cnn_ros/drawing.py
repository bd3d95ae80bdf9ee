"""Drawing on arrays: boxes, text, sheets of shade; nothing here knows what a neuron is."""

from __future__ import annotations

import math
import unicodedata
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]
#: (left, top, right, bottom), right and bottom exclusive.
Rectangle = tuple[int, int, int, int]

BACKGROUND: Colour = (23, 26, 31)
RULE: Colour = (58, 63, 72)
TEXT: Colour = (236, 238, 241)
MUTED: Colour = (160, 167, 178)
BLACK: Colour = (0, 0, 0)

#: Strokes of a line's height, from one dash to the next, in units of the line's width; at least DASH_MIN pixels.
DASH, DASH_MIN = 5, 8

#: Text is drawn this much larger and shrunk: Hershey strokes come in whole pixels only.
SUPERSAMPLING = 4
FONT = cv2.FONT_HERSHEY_SIMPLEX
#: Height of FONT's capitals at scale 1, pixels; capitals, ascent, descent and stroke as shares of the text size.
FONT_CAPITALS = 21
CAPITALS, ASCENT, DESCENT, STROKE, STROKE_BOLD = 0.68, 0.92, 0.30, 0.095, 0.145


def draw_box(canvas: Image, box: Rectangle, colour: Colour, width: int = 1, dashed: bool = False) -> None:
    """Draw a box around (left, top, right, bottom), which itself stays free; moved inwards where the canvas ends.

    Sides are parallel to the pixels: there is nothing to anti-alias.
    """
    left, top = max(0, box[0] - width), max(0, box[1] - width)
    right, bottom = min(canvas.shape[1], box[2] + width), min(canvas.shape[0], box[3] + width)
    if left >= right or top >= bottom:
        return
    columns: Any = slice(left, right)
    rows: Any = slice(top, bottom)
    if dashed:
        period = max(DASH_MIN, DASH * width)
        columns = left + _dashes(right - left, period)
        rows = top + _dashes(bottom - top, period)
    canvas[top : min(top + width, bottom), columns] = colour
    canvas[max(bottom - width, top) : bottom, columns] = colour
    canvas[rows, left : min(left + width, right)] = colour
    canvas[rows, max(right - width, left) : right] = colour


@lru_cache(maxsize=4096)
def _dashes(length: int, period: int) -> NDArray[np.intp]:
    """Where a dashed side of a box is drawn: both its ends, and as many dashes between as fit."""
    count = max(1, round(length / period))
    phase = (np.arange(length) + 0.5) / length * count % 1
    return np.flatnonzero((phase < 0.3) | (phase > 0.7))


@lru_cache(maxsize=1024)
def _text_mask(text: str, size: int, bold: bool) -> Image:
    """Opacity of a line of text, uint8 [H, W]."""
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
    """OpenCV's fonts have nothing but ASCII: accents go, the rest becomes a question mark."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isprintable() else " " for c in plain).encode("ascii", "replace").decode()


def line_height(size: int) -> int:
    """Height of a line of text, from the top of its letters to below their tails, pixels."""
    return math.ceil((ASCENT + DESCENT) * size)


def text_width(text: str, size: int, bold: bool = False) -> int:
    """Width of a line of text, pixels."""
    return _text_mask(to_ascii(text), size, bold).shape[1] if text else 0


def put_text(
    canvas: Image, text: str, x: int, y: int, size: int, colour: Colour = TEXT, bold: bool = False,
    max_width: int | None = None,
) -> int:  # fmt: skip
    """Write a line with its top left corner at (x, y); what does not fit into `max_width` is cut. Returns its width."""
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
    """Cut a text until it fits, with three dots; "" where nothing fits."""
    if text_width(text, size, bold) <= max_width:
        return text
    for end in range(len(text) - 1, 0, -1):
        if text_width(shorter := text[:end].rstrip(" ,") + "...", size, bold) <= max_width:
            return shorter
    return ""


def wrap(text: str, size: int, max_width: int, bold: bool = False) -> list[str]:
    """Break a text into lines that fit: at spaces, too long words behind underscores; what is still longer stays so."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if text_width(f"{line} {word}".strip(), size, bold) <= max_width:
            line = f"{line} {word}".strip()
            continue
        if line:
            lines.append(line)
        line = ""
        for piece in word.replace("_", "_ ").split():
            if line and text_width(line + piece, size, bold) > max_width:
                lines.append(line)
                line = ""
            line += piece
    return [*lines, line] if line else lines


def darken(canvas: Image, x: int, y: int, width: int, height: int, opacity: float) -> None:
    """Lay a translucent dark sheet over a part of the canvas."""
    roi = canvas[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
    if roi.size:
        roi[:] = cv2.convertScaleAbs(roi, alpha=1 - opacity, beta=opacity * sum(BACKGROUND) / 3)


def resized(image: Image, width: int, height: int) -> Image:
    """The image in another size: smooth when it grows, averaged when it shrinks."""
    if image.shape[:2] == (height, width):
        return image
    grows = width >= image.shape[1] and height >= image.shape[0]
    result: Any = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)
    return result
