"""Translucent strips at the top and the bottom of a picture: the headline and the legend."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from explain_cnn_ros.draw.canvas import TEXT, Image, darken, line_height, put_text, text_width
from explain_cnn_ros.draw.legend import LegendEntry, draw_entry, entry_width
from explain_cnn_ros.draw.style import PERSON_COLOUR, text_size

#: Opacity of a strip.
STRIP_OPACITY = 0.66

#: Maximum height of a strip, as a share of the picture's height.
STRIP_SHARE_MAX = 0.25


def draw_headline(canvas: Image, texts: Sequence[str], person: bool) -> None:
    """Write the longest headline that fits on a strip at the top. Draw nothing if there is no room.

    Args:
        canvas: The picture, uint8 [H, W, 3]; modified.
        texts: Versions of the headline, the longest first.
        person: Whether the decision is "person", or the other target.
    """
    size = text_size(canvas)
    room = canvas.shape[1] - 2 * (size // 2)
    headline = next((text for text in texts if text_width(text, size, True) <= room), "")
    height = line_height(size) + 4
    if not headline or height > STRIP_SHARE_MAX * canvas.shape[0]:
        return
    darken(canvas, 0, 0, canvas.shape[1], height, STRIP_OPACITY)
    put_text(canvas, headline, size // 2, 2, size, PERSON_COLOUR if person else TEXT, True)


def draw_legend(canvas: Image, legend: Sequence[LegendEntry]) -> None:
    """Draw the first entries of the legend that fit on a strip at the bottom."""
    height, width = canvas.shape[:2]
    size = text_size(canvas)
    margin, line = size // 2, line_height(size)
    rows = _flow(legend, size, width - 2 * margin)[: max(0, int((STRIP_SHARE_MAX * height - 4) // line))]
    if not rows:
        return
    top = height - len(rows) * line - 4
    darken(canvas, 0, top, width, height - top, STRIP_OPACITY)
    for row, entries in enumerate(rows):
        for x, entry in entries:
            draw_entry(canvas, entry, margin + x, top + 2 + row * line, size)


def _flow(legend: Sequence[LegendEntry], size: int, width: int) -> list[list[tuple[int, LegendEntry]]]:
    """Distribute entries over rows as (x, entry). Entries that are wider than a row are shortened or left out."""
    rows: list[list[tuple[int, LegendEntry]]] = []
    x = width + 1
    for entry in legend:
        if entry.short and entry_width(entry, size) > width:
            entry = dataclasses.replace(entry, text=entry.short)
        own = entry_width(entry, size)
        if own > width:
            continue
        if x + own > width:
            rows.append([])
            x = 0
        rows[-1].append((x, entry))
        x += own + size
    return rows
