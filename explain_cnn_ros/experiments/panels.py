"""Figure 4 of the paper: a panel for each metric, with the boxes of its neurons in the colours of their layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from explain_cnn_ros.draw.boxes import chosen_rankings, metrics_of, neuron_boxes
from explain_cnn_ros.draw.canvas import BACKGROUND, MUTED, Image, draw_box, line_height, put_text, resized, wrap
from explain_cnn_ros.draw.style import layer_style
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import metric
from explain_cnn_ros.model.windows import Region, crop

#: Height of a panel, gap between panels, and size of the text, in pixels.
HEIGHT, GAP, TEXT_SIZE = 384, 14, 17

#: Maximum width of a figure, in pixels. Wider figures would be shown smaller anyway.
WIDTH_MAX = 1800


def panels(frame: Image, explanation: Explanation) -> Image:
    """Draw the explained window, and beside it the window with the boxes of each metric.

    Args:
        frame: The explained frame, uint8 [H, W, 3] RGB.
        explanation: Its explanation.

    Returns:
        The panels side by side under their titles, uint8 [H, W, 3] RGB.
    """
    region = explanation.region
    width = max(1, round(HEIGHT * region.width / region.height))
    window = crop(frame, region.x, region.y, region.width, region.height, (width, HEIGHT))
    names = metrics_of(explanation)
    titles = [f"P(person) {region.probability:.3f}", *(metric(name).title for name in names)]
    lines = [wrap(title, TEXT_SIZE, width) for title in titles]
    head = max(len(wrapped) for wrapped in lines) * line_height(TEXT_SIZE) + 6
    canvas = np.full((head + HEIGHT, len(titles) * (width + GAP) - GAP, 3), BACKGROUND, np.uint8)
    for i, (wrapped, name) in enumerate(zip(lines, [None, *names], strict=True)):
        left = i * (width + GAP)
        for j, line in enumerate(wrapped):
            put_text(canvas, line, left, j * line_height(TEXT_SIZE), TEXT_SIZE, max_width=width)
        panel = window.copy()
        if name is not None:
            _draw_boxes(panel, explanation, name, region)
        canvas[head:, left : left + width] = panel
    return canvas


def _draw_boxes(panel: Image, explanation: Explanation, name: str, region: Region) -> None:
    scale = HEIGHT / region.height
    for box in neuron_boxes(chosen_rankings(explanation, name), None):
        left, top = (box.patch.x - region.x) * scale, (box.patch.y - region.y) * scale
        corners = (left, top, left + box.patch.width * scale, top + box.patch.height * scale)
        style = layer_style(box.neuron.layer)
        x0, y0, x1, y1 = (round(v) for v in corners)
        draw_box(panel, (x0, y0, x1, y1), style.colour, style.width)


def stacked(rows: Sequence[Image], names: Sequence[str]) -> Image:
    """Draw rows of panels below each other.

    Args:
        rows: The rows, uint8 [H, W, 3] RGB.
        names: A name for each row, which is drawn above it.

    Returns:
        The figure, uint8 [H, W, 3] RGB.
    """
    width = max(row.shape[1] for row in rows) + 2 * GAP
    head = line_height(TEXT_SIZE) + 8
    canvas = np.full((sum(row.shape[0] + head + GAP for row in rows) + GAP, width, 3), BACKGROUND, np.uint8)
    top = GAP
    for row, name in zip(rows, names, strict=True):
        put_text(canvas, name, GAP, top, TEXT_SIZE, MUTED, max_width=width - 2 * GAP)
        canvas[top + head : top + head + row.shape[0], GAP : GAP + row.shape[1]] = row
        top += head + row.shape[0] + GAP
    scale = min(1.0, WIDTH_MAX / width)
    return resized(canvas, round(width * scale), round(canvas.shape[0] * scale))
