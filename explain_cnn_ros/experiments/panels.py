"""Figure 4 of the paper: a panel for each metric, with the boxes of its neurons in the colours of their layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from explain_cnn_ros.draw.boxes import chosen_rankings, metrics_of, neuron_boxes, styles_of
from explain_cnn_ros.draw.canvas import BACKGROUND, MUTED, Image, draw_box, line_height, put_text, resized, wrap
from explain_cnn_ros.draw.captions import metric_title, target_probability
from explain_cnn_ros.draw.legend import LegendEntry, draw_entry, entry_width, layer_entries
from explain_cnn_ros.draw.style import LAYER_STYLES, layer_style
from explain_cnn_ros.explain.explanation import Explanation
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
        The panels side by side under their titles, uint8 [H, W, 3] RGB. Below the panels of networks other than VGGs,
        whose layers do not have the colours of the paper's Figure 4, stands a legend of the layers.
    """
    region = explanation.region
    width = max(1, round(HEIGHT * region.width / region.height))
    window = crop(frame, region.x, region.y, region.width, region.height, (width, HEIGHT))
    names = metrics_of(explanation)
    title = f"{target_probability(explanation.target)} {region.probability:.3f}"
    titles = [title, *(metric_title(name) for name in names)]
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
    return (
        canvas if styles_of(explanation) == LAYER_STYLES else np.vstack([canvas, _legend(explanation, canvas.shape[1])])
    )


def _legend(explanation: Explanation, width: int) -> Image:
    """Draw the legend of the layers, `width` pixels wide, on as many lines as it needs."""
    rankings = [r for name in metrics_of(explanation) for r in chosen_rankings(explanation, name)]
    lines: list[list[LegendEntry]] = [[]]
    # The panels do not tell unstable rankings apart.
    for entry in layer_entries([replace(ranking, unstable=False) for ranking in rankings]):
        if lines[-1] and sum(entry_width(e, TEXT_SIZE) + GAP for e in [*lines[-1], entry]) > width:
            lines.append([])
        lines[-1].append(entry)
    canvas = np.full((GAP + len(lines) * line_height(TEXT_SIZE), width, 3), BACKGROUND, np.uint8)
    for i, line in enumerate(lines):
        left = 0
        for entry in line:
            draw_entry(canvas, entry, left, GAP + i * line_height(TEXT_SIZE), TEXT_SIZE, max_width=width - left)
            left += entry_width(entry, TEXT_SIZE) + GAP
    return canvas


def _draw_boxes(panel: Image, explanation: Explanation, name: str, region: Region) -> None:
    scale, styles = HEIGHT / region.height, styles_of(explanation)
    for box in neuron_boxes(chosen_rankings(explanation, name), None):
        left, top = (box.patch.x - region.x) * scale, (box.patch.y - region.y) * scale
        corners = (left, top, left + box.patch.width * scale, top + box.patch.height * scale)
        style = layer_style(box.neuron.layer, styles)
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
