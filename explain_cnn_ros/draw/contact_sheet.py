"""The second sheet about an explanation: the best patches by metric and layer. `slide` draws the first sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from explain_cnn_ros.draw.boxes import (
    check_frame,
    draw_window,
    metrics_of,
    neuron_boxes,
    style_of,
)
from explain_cnn_ros.draw.canvas import (
    MUTED,
    RULE,
    TEXT,
    Colour,
    Image,
    line_height,
    put_text,
    shorten_middle,
    text_width,
    wrap,
)
from explain_cnn_ros.draw.captions import (
    metric_caption,
    metric_title,
    settings_text,
    silencing_text,
    stability_text,
)
from explain_cnn_ros.draw.page import GAP, HEADER, HEIGHT, MARGIN, TITLE, blank_page, draw_frame, draw_header
from explain_cnn_ros.draw.style import UNSTABLE_COLOUR
from explain_cnn_ros.draw.tiles import draw_cell
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.model.windows import Region

#: Height of the footer, and width of the column on the left, in pixels.
FOOTER, LEFT = 58, 500

#: Width of the set similarity on the right of the header, in pixels.
SIMILARITY = 430

#: Maximum height of the frame, as a share of the height between header and footer.
FRAME_SHARE = 0.43

#: Width of the table's first column and height of its first row, and distance between cells, in pixels.
ROW_HEAD, COLUMN_HEAD = 320, 44
CELL_GAP = 10

#: Text sizes, in pixels. The smallest common one is legible at half the size of the picture.
HEADING, BODY, SMALL, SMALLER, SMALLEST, TINY = 19, 18, 16, 14, 12, 11


def contact_sheet(
    frame: Image,
    explanation: Explanation,
    regions: Sequence[Region] | None = None,
    *,
    trigger: str = "",
    source: str = "",
) -> Image:
    """Draw the frame, the window, and the best patches by metric and layer.

    The metrics are those of the explanation except influence, which `slide` shows, or influence if there are no others.

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
    canvas = blank_page()
    body = slice(MARGIN + HEADER, HEIGHT - MARGIN - FOOTER)
    header = canvas[MARGIN : MARGIN + HEADER, MARGIN:-MARGIN]
    draw_header(header, explanation, trigger, source, header.shape[1] - SIMILARITY)
    _draw_similarity(header, explanation.set_similarity)
    _draw_pictures(canvas[body, MARGIN : MARGIN + LEFT], frame, explanation, regions)
    _draw_table(canvas[body, MARGIN + LEFT + GAP : -MARGIN], frame, explanation)
    _draw_footer(canvas[-MARGIN - FOOTER : -MARGIN, MARGIN:-MARGIN], explanation)
    return canvas


def sheet_metrics(explanation: Explanation) -> list[str]:
    """Return the metrics of a contact sheet: those except influence, or influence if there are no others."""
    metrics = metrics_of(explanation)
    return [name for name in metrics if name not in (SUPPORTING, OPPOSING)] or metrics


def _draw_similarity(canvas: Image, similarity: float) -> None:
    """Write the set similarity on the right of the header."""
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
    used = draw_frame(canvas, frame, explanation, regions, FRAME_SHARE * height, BODY)
    metrics = sheet_metrics(explanation)[:2]
    if not metrics:
        return
    top = used + GAP // 2
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
    metrics = sheet_metrics(explanation)
    if not layers:
        put_text(canvas, "the explanation has no rankings", 0, 0, BODY, MUTED)
        return
    lefts = np.linspace(ROW_HEAD, canvas.shape[1] + CELL_GAP, len(layers) + 1).round().astype(int)
    tops = np.linspace(COLUMN_HEAD, canvas.shape[0] + CELL_GAP, len(metrics) + 1).round().astype(int)
    for (layer, name), left, right in zip(layers.items(), lefts[:-1], lefts[1:] - CELL_GAP, strict=True):
        _draw_column_head(canvas[:, left:right], name)
        canvas[COLUMN_HEAD - 16 : COLUMN_HEAD - 12, left:right] = style_of(explanation, layer).colour
    top_n = explanation.settings.top_n
    for metric, top, bottom in zip(metrics, tops[:-1], tops[1:] - CELL_GAP, strict=True):
        if top > COLUMN_HEAD:
            canvas[top - CELL_GAP // 2, :] = RULE
        _draw_row_head(canvas[top:bottom, : ROW_HEAD - CELL_GAP], metric, explanation)
        rankings = {ranking.layer: ranking for ranking in explanation.rankings if ranking.metric == metric}
        for layer, left, right in zip(layers, lefts[:-1], lefts[1:] - CELL_GAP, strict=True):
            if layer in rankings:
                draw_cell(canvas[top:bottom, left:right], frame, explanation, rankings[layer], top_n)


def _draw_column_head(canvas: Image, name: str) -> None:
    """Write the name of a layer. A long one takes two lines, in which its middle is left out if necessary."""
    width = canvas.shape[1]
    for size in (HEADING, SMALL, SMALLEST):
        if text_width(name, size, True) <= width:
            put_text(canvas, name, 0, HEADING - size, size, TEXT, True)
            return
    lines = wrap(name, TINY, width, True)
    if len(lines) > 2 or any(text_width(line, TINY, True) > width for line in lines):
        lines = [shorten_middle(name, TINY, width, True)]
    for row, line in enumerate(lines):
        put_text(canvas, line, 0, row * line_height(TINY), TINY, TEXT, True)


def _draw_row_head(canvas: Image, metric: str, explanation: Explanation) -> None:
    """Write the title of a metric, its stability, the effect of its neurons and the meaning of a high score."""
    rankings = [ranking for ranking in explanation.rankings if ranking.metric == metric]
    silencing = next((s for s in explanation.silencing if s.metric == metric), None)
    unstable = any(ranking.unstable for ranking in rankings)
    parts = (
        (metric_title(metric), HEADING, TEXT, True),
        (stability_text(rankings), SMALL, UNSTABLE_COLOUR if unstable else MUTED, False),
        (silencing_text(silencing, explanation.target) if silencing else "", SMALL, TEXT, False),
        (metric_caption(metric, explanation.settings), SMALL, MUTED, False),
    )
    y = 2
    for line, size, colour, bold in _fitting([part for part in parts if part[0]], *canvas.shape[1::-1]):
        put_text(canvas, line, 0, y, size, colour, bold, max_width=canvas.shape[1])
        y += line_height(size)


#: A text, its size in pixels, its colour, and whether it is bold.
Part = tuple[str, int, Colour, bool]


def _fitting(parts: Sequence[Part], width: int, height: int) -> list[Part]:
    """Return the lines of texts that fit an area: smaller if necessary, then without the last texts.

    Args:
        parts: The texts, the most important ones first.
        width: Width of the area, in pixels.
        height: Height of the area, in pixels.

    Returns:
        A part for each line. No text is cut, unless it is the only one.
    """
    lines: list[Part] = []
    for count, limit in [
        (len(parts), SMALL),
        (len(parts), SMALLER),
        *((n, SMALLEST) for n in range(len(parts), 0, -1)),
    ]:
        lines = [
            (line, size, colour, bold)
            for text, full, colour, bold in parts[:count]
            for size in [full if bold else min(full, limit)]
            for line in wrap(text, size, width, bold)
        ]
        if sum(line_height(size) for _, size, _, _ in lines) <= height - 2:
            break
    return lines


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
