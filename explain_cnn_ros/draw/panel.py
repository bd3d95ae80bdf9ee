"""The panel beside a frame: the decision, the legend, and the window enlarged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from explain_cnn_ros.draw.boxes import Box, draw_window
from explain_cnn_ros.draw.canvas import BACKGROUND, MUTED, TEXT, Image, line_height, put_text, wrap
from explain_cnn_ros.draw.captions import decision_of, decision_title, trigger_text
from explain_cnn_ros.draw.legend import LegendEntry, draw_entry, sample_width
from explain_cnn_ros.draw.style import PERSON_COLOUR, READABLE_HEIGHT
from explain_cnn_ros.explain.explanation import Explanation

#: Width of the texts with both margins, margin, and sizes of the text and of the title, in units. A unit is a pixel
#: beside a frame of READABLE_HEIGHT; it grows with taller frames.
PANEL_WIDTH = 340
PANEL_MARGIN = 20
PANEL_TEXT, PANEL_TITLE = 16, 30

#: Maximum height, in units. Text below it is cut.
PANEL_HEIGHT_MAX = 2000

#: The window is shown if that enlarges it by this factor in comparison with the frame. Its maximum width, in units.
INSET_GAIN, INSET_WIDTH_MAX = 1.25, 320


def panel_beside(
    frame: Image,
    explanation: Explanation,
    boxes: Sequence[Box],
    legend: Sequence[Sequence[LegendEntry]],
    trigger: str,
    scale: float,
) -> Image:
    """Return the panel beside a frame.

    Args:
        frame: The explained frame in its original size, uint8 [H, W, 3].
        explanation: The explanation.
        boxes: Boxes that are drawn in the enlarged window.
        legend: Groups of entries.
        trigger: Cause of the explanation; "" for none.
        scale: Factor by which the frame is enlarged.

    Returns:
        uint8 [height, width, 3]. The panel is at least as tall as the enlarged frame. The enlarged window is on its
        left, and the texts are on its right.
    """
    height = round(frame.shape[0] * scale)
    unit = max(1.0, height / READABLE_HEIGHT)
    margin, text = round(PANEL_MARGIN * unit), round(PANEL_TEXT * unit)
    region, top = explanation.region, margin + line_height(text)
    gain = min(INSET_WIDTH_MAX * unit / region.width, (height - top - margin) / region.height)
    size = max(1, round(gain * region.width)), max(1, round(gain * region.height))
    left = margin + size[0] if gain >= INSET_GAIN * scale else 0
    texts_width = round(PANEL_WIDTH * unit)
    panel = np.empty((max(height, round(PANEL_HEIGHT_MAX * unit)), left + texts_width, 3), np.uint8)
    panel[:] = BACKGROUND
    used = _write(panel[:, left:], explanation, legend, trigger, unit)
    if left:
        put_text(panel, "the window, enlarged", margin, margin, text, MUTED, max_width=left)
        draw_window(panel[top : top + size[1], margin:left], frame, explanation, boxes)
    return panel[: max(height, used)]


def _write(
    panel: Image, explanation: Explanation, legend: Sequence[Sequence[LegendEntry]], trigger: str, unit: float
) -> int:
    """Write the decision and the legend. Return the height that they take, with both margins."""
    margin, text, title = round(PANEL_MARGIN * unit), round(PANEL_TEXT * unit), round(PANEL_TITLE * unit)
    width = panel.shape[1] - 2 * margin
    accent = PERSON_COLOUR if explanation.person else TEXT
    y = margin
    for line in wrap(decision_title(explanation), title, width, True):
        put_text(panel, line, margin, y, title, accent, True, width)
        y += line_height(title)
    lines = [decision_of(explanation)]
    if trigger:
        lines.append(f"trigger: {trigger_text(trigger)}")
    for line in (part for whole in lines for part in wrap(whole, text, width)):
        put_text(panel, line, margin, y, text, TEXT, max_width=width)
        y += line_height(text)
    for group in legend:
        y += margin // 2
        for entry in group:
            for line in wrap(entry.text, text, width - sample_width(entry, text)):
                draw_entry(panel, dataclasses.replace(entry, text=line), margin, y, text, width)
                y += line_height(text)
                # Only the first line has the sample.
                entry = dataclasses.replace(entry, colour=None)
    return y + margin
