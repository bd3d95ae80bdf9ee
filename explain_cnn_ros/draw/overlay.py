"""The frame with the explained window, the patches of the selected neurons, and a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from explain_cnn_ros.draw.boxes import View, check_frame, draw_boxes, draw_regions, neuron_boxes
from explain_cnn_ros.draw.canvas import BACKGROUND, Image, resized
from explain_cnn_ros.draw.captions import headlines, trigger_text
from explain_cnn_ros.draw.legend import legend_entries
from explain_cnn_ros.draw.panel import panel_beside
from explain_cnn_ros.draw.strips import draw_headline, draw_legend
from explain_cnn_ros.draw.strongest import shown_rankings
from explain_cnn_ros.draw.style import READABLE_HEIGHT, READABLE_WIDTH
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.model.windows import Region


def draw_overlay(
    frame: Image,
    explanation: Explanation,
    metric: str | Sequence[str] | None = None,
    *,
    keep_size: bool = False,
    regions: Sequence[Region] | None = None,
    trigger: str = "",
    labels: bool = False,
    top_n: int | None = None,
) -> Image:
    """Draw an explanation on its frame.

    A box lies around its patch, not on it, except at the border of the picture. Boxes of neurons of several groups of
    layers with the same patch nest. Boxes of unstable rankings are dashed. Boxes of neurons that oppose the decision
    consist of their corners.

    Args:
        frame: The explained frame, uint8 [H, W, 3], RGB; not modified.
        explanation: The explanation.
        metric: Name of the metric whose neurons are drawn, or several names. None: the neurons that support and those
            that oppose the decision, or, without influence, those of the first metric of the explanation. A neuron that
            several metrics select is drawn once. It is dashed only if all their rankings are unstable.
        keep_size: Whether the picture has the size of the frame. Text then lies on translucent strips, and text for
            which there is no room is left out. Otherwise a small frame is enlarged, and a panel beside it has the text.
        regions: All regions of the frame. Those that are not explained are outlined thinly.
        trigger: Cause of the explanation: "service", "low_confidence" or any text; "" for none.
        labels: Whether layer and channel are written at each box.
        top_n: Maximum number of neurons of each ranking that are drawn. None: the strongest neurons of influence over
            all layers, of each place only one, so that the person can be seen; and all neurons of other metrics.

    Returns:
        The picture, uint8, RGB: [H, W, 3] with `keep_size`, larger otherwise.

    Raises:
        ValueError: The frame is not uint8 [H, W, 3], its size is not that of the explained frame, or the explanation
            has no rankings by a metric.
    """
    check_frame(frame, explanation)
    frame = np.ascontiguousarray(frame)
    rankings = shown_rankings(explanation, metric, top_n)
    boxes = neuron_boxes(rankings, None)
    legend = legend_entries(explanation, rankings, regions, top_n)
    if keep_size:
        canvas = frame.copy()
        view = View(canvas)
        draw_regions(view, explanation, regions)
        draw_boxes(view, boxes, explanation, labels)
        note = f"trigger: {trigger_text(trigger)}" if trigger else ""
        draw_headline(canvas, headlines(explanation, note), explanation.person)
        draw_legend(canvas, [entry for group in legend for entry in group])
        return canvas

    scale = max(1.0, min(READABLE_WIDTH / frame.shape[1], READABLE_HEIGHT / frame.shape[0]))
    width, height = round(frame.shape[1] * scale), round(frame.shape[0] * scale)
    panel = panel_beside(frame, explanation, boxes, legend, trigger, scale)
    canvas = np.empty((len(panel), width + panel.shape[1], 3), np.uint8)
    canvas[:, width:] = panel
    canvas[height:, :width] = BACKGROUND
    shown = canvas[:height, :width]
    shown[:] = resized(frame, width, height)
    view = View(shown, 0, 0, width / frame.shape[1], height / frame.shape[0])
    draw_regions(view, explanation, regions)
    draw_boxes(view, boxes, explanation, labels)
    return canvas
