"""Figure 4 of the paper: a panel a metric, with the boxes of its neurons in the colours of their layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from explain_cnn_ros.drawing import BACKGROUND, MUTED, Image, draw_box, line_height, put_text, resized, wrap
from explain_cnn_ros.explanation import Explanation
from explain_cnn_ros.overlay import chosen_rankings, layer_style, metrics_of, neuron_boxes
from explain_cnn_ros.regions import Region, crop

#: Height of a panel, gap between panels, and size of the text, pixels.
HEIGHT, GAP, TEXT_SIZE = 384, 14, 17


def panels(frame: Image, explanation: Explanation) -> Image:
    """The explained window by itself, and once for each metric with its boxes, side by side; RGB."""
    region = explanation.region
    width = max(1, round(HEIGHT * region.width / region.height))
    window = crop(frame, region.x, region.y, region.width, region.height, (width, HEIGHT))
    metrics = metrics_of(explanation)
    titles = [f"P(person) {region.probability:.3f}", *(metric.replace("_", " ") for metric in metrics)]
    lines = [wrap(title, TEXT_SIZE, width) for title in titles]
    head = max(len(wrapped) for wrapped in lines) * line_height(TEXT_SIZE) + 6
    canvas = np.full((head + HEIGHT, len(titles) * (width + GAP) - GAP, 3), BACKGROUND, np.uint8)
    for i, (wrapped, metric) in enumerate(zip(lines, [None, *metrics], strict=True)):
        left = i * (width + GAP)
        for j, line in enumerate(wrapped):
            put_text(canvas, line, left, j * line_height(TEXT_SIZE), TEXT_SIZE, max_width=width)
        panel = window.copy()
        if metric is not None:
            _draw(panel, explanation, metric, region)
        canvas[head:, left : left + width] = panel
    return canvas


def _draw(panel: Image, explanation: Explanation, metric: str, region: Region) -> None:
    scale = HEIGHT / region.height
    for box in neuron_boxes(chosen_rankings(explanation, metric), None):
        left, top = (box.patch.x - region.x) * scale, (box.patch.y - region.y) * scale
        corners = (left, top, left + box.patch.width * scale, top + box.patch.height * scale)
        style = layer_style(box.neuron.layer)
        x0, y0, x1, y1 = (round(v) for v in corners)
        draw_box(panel, (x0, y0, x1, y1), style.colour, style.width)


def stacked(rows: Sequence[Image], names: Sequence[str]) -> Image:
    """Rows of panels below each other, each under its name."""
    width = max(row.shape[1] for row in rows) + 2 * GAP
    head = line_height(TEXT_SIZE) + 8
    canvas = np.full((sum(row.shape[0] + head + GAP for row in rows) + GAP, width, 3), BACKGROUND, np.uint8)
    top = GAP
    for row, name in zip(rows, names, strict=True):
        put_text(canvas, name, GAP, top, TEXT_SIZE, MUTED, max_width=width - 2 * GAP)
        canvas[top + head : top + head + row.shape[0], GAP : GAP + row.shape[1]] = row
        top += head + row.shape[0] + GAP
    # Figures wider than this are shown smaller anyway.
    scale = min(1.0, 1800 / width)
    return resized(canvas, round(width * scale), round(canvas.shape[0] * scale))
