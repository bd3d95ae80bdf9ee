"""A whole explanation in one picture, for a slide: the frame, the window, and the best patches by metric and layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from explain_cnn_ros.draw.boxes import (
    View,
    check_frame,
    draw_regions,
    draw_window,
    metrics_of,
    neuron_boxes,
    other_regions,
)
from explain_cnn_ros.draw.canvas import (
    BACKGROUND,
    MUTED,
    RULE,
    TEXT,
    Image,
    line_height,
    put_text,
    resized,
    text_width,
    wrap,
)
from explain_cnn_ros.draw.captions import (
    decision_text,
    metric_caption,
    metric_title,
    settings_text,
    silencing_text,
    stability_text,
    trigger_text,
)
from explain_cnn_ros.draw.style import PERSON_COLOUR, UNSTABLE_COLOUR, layer_style
from explain_cnn_ros.draw.tiles import draw_cell
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.model.windows import Region

#: Size of the picture, and of its parts from top to bottom and from left to right, in pixels.
WIDTH, HEIGHT = 1920, 1080
MARGIN, GAP = 40, 30
HEADER, FOOTER = 100, 58
LEFT = 500

#: Maximum height of the frame, as a share of the height between header and footer.
FRAME_SHARE = 0.43

#: Width of the table's first column and height of its first row, and distance between cells, in pixels.
ROW_HEAD, COLUMN_HEAD = 226, 44
CELL_GAP = 10

#: Text sizes, in pixels. The smallest common one is legible at half the size of the picture.
TITLE, SUBTITLE, HEADING, BODY, SMALL, SMALLEST = 40, 22, 19, 18, 16, 12


def contact_sheet(
    frame: Image,
    explanation: Explanation,
    regions: Sequence[Region] | None = None,
    *,
    trigger: str = "",
    source: str = "",
) -> Image:
    """Draw everything about one explanation.

    Args:
        frame: The explained frame, uint8 [H, W, 3], RGB; not modified.
        explanation: The explanation.
        regions: All regions of the frame. Those that are not explained are outlined thinly.
        trigger: Cause of the explanation: "service", "low_confidence" or any text; "" for none.
        source: Origin of the frame, for instance a recording and a time; "" for none.

    Returns:
        The picture, uint8 [HEIGHT, WIDTH, 3], RGB.

    Raises:
        ValueError: The frame is not uint8 [H, W, 3], or its size is not that of the explained frame.
    """
    check_frame(frame, explanation)
    frame = np.ascontiguousarray(frame)
    canvas = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    canvas[:] = BACKGROUND
    body = slice(MARGIN + HEADER, HEIGHT - MARGIN - FOOTER)
    _draw_header(canvas[MARGIN : MARGIN + HEADER, MARGIN:-MARGIN], explanation, trigger, source)
    _draw_pictures(canvas[body, MARGIN : MARGIN + LEFT], frame, explanation, regions)
    _draw_table(canvas[body, MARGIN + LEFT + GAP : -MARGIN], frame, explanation)
    _draw_footer(canvas[-MARGIN - FOOTER : -MARGIN, MARGIN:-MARGIN], explanation)
    return canvas


def _draw_header(canvas: Image, explanation: Explanation, trigger: str, source: str) -> None:
    """Write the decision and the origin of the explanation, and on the right the set similarity."""
    right = canvas.shape[1] - 430
    accent = PERSON_COLOUR if explanation.person else MUTED
    canvas[4:78, :8] = accent
    title = "Person" if explanation.person else "No person"
    x = 26 + put_text(canvas, title, 26, 0, TITLE, accent if explanation.person else TEXT, True)
    decision = decision_text(explanation.region.probability, explanation.threshold)
    put_text(canvas, decision + " (threshold)", x + 22, 0, TITLE, TEXT, max_width=right - x - 22)
    size = f"frame of {explanation.image_size[0]} x {explanation.image_size[1]} pixels"
    parts = [f"trigger: {trigger_text(trigger)}" if trigger else "", source, size]
    put_text(canvas, "  |  ".join(filter(None, parts)), 26, 54, SUBTITLE, MUTED, max_width=right - 26)

    similarity = explanation.set_similarity
    if not math.isfinite(similarity):
        return
    number = f"{similarity:.2f}"
    x = canvas.shape[1] - text_width(number, TITLE, True)
    put_text(canvas, number, x, 8, TITLE, TEXT, True)
    for row, line in enumerate(("set similarity of", "correlation and precision")):
        left = x - 18 - text_width(line, BODY)
        put_text(canvas, line, left, 8 + row * line_height(BODY), BODY, MUTED)


def _draw_pictures(canvas: Image, frame: Image, explanation: Explanation, regions: Sequence[Region] | None) -> None:
    """Draw the frame with its regions, and below it the window for each of the first two metrics."""
    height, width = canvas.shape[:2]
    caption = line_height(BODY) + 4
    scale = min(width / frame.shape[1], FRAME_SHARE * height / frame.shape[0])
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    others = other_regions(explanation, regions)
    note = "; yellow: another person" if any(r.probability >= explanation.threshold for r in others) else ""
    put_text(canvas, f"white: the explained window{note}", 0, 0, BODY, MUTED, max_width=width)
    picture = canvas[caption : caption + size[1], : size[0]]
    picture[:] = resized(frame, *size)
    draw_regions(View(picture, 0, 0, size[0] / frame.shape[1], size[1] / frame.shape[0]), explanation, regions)

    metrics = metrics_of(explanation)[:2]
    if not metrics:
        return
    top = caption + size[1] + GAP // 2
    count = explanation.settings.top_n
    put_text(canvas, f"the window, with the top {count} of each layer by", 0, top, BODY, MUTED, max_width=width)
    slot = (width - GAP) // 2
    titles = [wrap(metric_title(metric), BODY, slot) for metric in metrics]
    below = top + (1 + max(map(len, titles))) * line_height(BODY) + 6
    own = explanation.region
    scale = min(slot / own.width, (height - below) / own.height)
    size = max(1, round(own.width * scale)), max(1, round(own.height * scale))
    for column, (metric, lines) in enumerate(zip(metrics, titles, strict=True)):
        left = column * (slot + GAP)
        for row, line in enumerate(lines, 1):
            put_text(canvas, line, left, top + row * line_height(BODY), BODY, TEXT, max_width=slot)
        rankings = [ranking for ranking in explanation.rankings if ranking.metric == metric]
        window = canvas[below : below + size[1], left : left + size[0]]
        draw_window(window, frame, explanation, neuron_boxes(rankings, None))


def _draw_table(canvas: Image, frame: Image, explanation: Explanation) -> None:
    """Draw a row for each metric and a column for each layer; the cells have the patches of the best neurons."""
    layers = {ranking.layer: ranking.layer_name for ranking in explanation.rankings}
    metrics = metrics_of(explanation)
    if not layers:
        put_text(canvas, "the explanation has no rankings", 0, 0, BODY, MUTED)
        return
    lefts = np.linspace(ROW_HEAD, canvas.shape[1] + CELL_GAP, len(layers) + 1).round().astype(int)
    tops = np.linspace(COLUMN_HEAD, canvas.shape[0] + CELL_GAP, len(metrics) + 1).round().astype(int)
    for (layer, name), left, right in zip(layers.items(), lefts[:-1], lefts[1:] - CELL_GAP, strict=True):
        size = next((s for s in (HEADING, SMALL) if text_width(name, s, True) <= right - left), SMALLEST)
        put_text(canvas, name, left, HEADING - size, size, TEXT, True, max_width=right - left)
        canvas[COLUMN_HEAD - 16 : COLUMN_HEAD - 12, left:right] = layer_style(layer).colour
    top_n = explanation.settings.top_n
    for metric, top, bottom in zip(metrics, tops[:-1], tops[1:] - CELL_GAP, strict=True):
        if top > COLUMN_HEAD:
            canvas[top - CELL_GAP // 2, :] = RULE
        _draw_row_head(canvas[top:bottom, : ROW_HEAD - CELL_GAP], metric, explanation)
        rankings = {ranking.layer: ranking for ranking in explanation.rankings if ranking.metric == metric}
        for layer, left, right in zip(layers, lefts[:-1], lefts[1:] - CELL_GAP, strict=True):
            if layer in rankings:
                draw_cell(canvas[top:bottom, left:right], frame, explanation.region, rankings[layer], top_n)


def _draw_row_head(canvas: Image, metric: str, explanation: Explanation) -> None:
    """Write the title of a metric, its stability, the effect of its neurons and the meaning of a high score."""
    rankings = [ranking for ranking in explanation.rankings if ranking.metric == metric]
    silencing = next((s for s in explanation.silencing if s.metric == metric), None)
    unstable = any(ranking.unstable for ranking in rankings)
    parts = (
        (metric_title(metric), HEADING, TEXT, True),
        (stability_text(rankings), SMALL, UNSTABLE_COLOUR if unstable else MUTED, False),
        (silencing_text(silencing) if silencing else "", SMALL, TEXT, False),
        (metric_caption(metric, explanation.settings), SMALL, MUTED, False),
    )
    width = canvas.shape[1]
    y = 2
    for text, size, colour, bold in (part for part in parts if part[0]):
        for line in wrap(text, size, width, bold):
            if y + line_height(size) <= canvas.shape[0]:
                put_text(canvas, line, 0, y, size, colour, bold, max_width=width)
                y += line_height(size)
        y += 3


def _draw_footer(canvas: Image, explanation: Explanation) -> None:
    """Write how to read the picture, and the settings of the explanation."""
    width = canvas.shape[1]
    canvas[10, :] = RULE
    reading = (
        "Each tile shows the patch to which a neuron responds most strongly, and its surroundings dimmed. "
        "Labels: layer / channel, score; best first. "
        "Dashed: the ranking is unstable, another seed selects other neurons."
    )
    put_text(canvas, reading, 0, 18, SMALL, MUTED, max_width=width)
    parts = [
        settings_text(explanation),
        f"top {explanation.settings.top_n}",
        f"output: {explanation.settings.output}",
        f"model {explanation.model_hash or 'unsaved'}",
        explanation.device,
    ]
    if explanation.timings:
        parts.append(f"{explanation.seconds:.1f} s")
    put_text(canvas, "  |  ".join(parts), 0, 18 + line_height(SMALL), SMALL, MUTED, max_width=width)
