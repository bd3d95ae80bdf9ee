"""One picture of a whole explanation, for a slide: frame, window, and the top patches by metric and layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from explain_cnn_ros.drawing import (
    BACKGROUND,
    MUTED,
    RULE,
    TEXT,
    Image,
    draw_box,
    line_height,
    put_text,
    resized,
    text_width,
    wrap,
)
from explain_cnn_ros.explanation import Explanation, LayerRanking, RankedNeuron, Silencing
from explain_cnn_ros.overlay import (
    PERSON,
    UNSTABLE,
    View,
    check_frame,
    decision_text,
    draw_regions,
    enlarge,
    layer_style,
    metrics_of,
    neuron_boxes,
    other_regions,
    settings_text,
    silencing_text,
    stability_text,
    trigger_text,
)
from explain_cnn_ros.patches import Patch
from explain_cnn_ros.regions import Region, crop

#: The whole picture, pixels, and its parts from top to bottom and from left to right.
WIDTH, HEIGHT = 1920, 1080
MARGIN, GAP = 40, 30
HEADER, FOOTER = 100, 58
LEFT = 500
#: Most of the left part's height that the frame takes.
FRAME_SHARE = 0.43
#: Columns of the table: what a metric is, then one a layer.
ROW_HEAD, COLUMN_HEAD = 226, 44
CELL_GAP = 10

#: Text sizes, legible at half the picture's size.
TITLE, SUBTITLE, HEADING, BODY, SMALL, SMALLEST = 40, 22, 19, 18, 16, 12

#: Side of a patch's tile, pixels: a cell takes as many ranks as fit at TILE_GOOD, tiles grow to TILE_MAX.
TILE_GOOD, TILE_MAX = 84, 240
TILE_FRAME = 3
#: A tile shows at least this share of the window's longer side, and this much more than its patch; what is not patch
#: keeps this share of its light.
TILE_SCENE_MIN, TILE_SCENE = 0.12, 1.2
TILE_DIM = 0.4
#: Around the patch in its tile: dark pictures, too, show where it is.
TILE_EDGE = (120, 126, 136)

#: What a high value says, in the words of a slide.
MEANINGS = {
    "activation_output_correlation": "moves with the output",
    "activation_precision": "steady under noise",
    "activation_sum": "most active",
    "activation_variance": "varies most over the window",
    "weight_sum": "largest outgoing weights",
    "weight_variance": "most varied outgoing weights",
}


def contact_sheet(
    frame: Image,
    explanation: Explanation,
    regions: Sequence[Region] | None = None,
    *,
    trigger: str = "",
    source: str = "",
) -> Image:
    """Everything about one explanation: uint8 [HEIGHT, WIDTH, 3] RGB.

    Args:
        frame: the explained frame, uint8 [H, W, 3] RGB; not modified.
        regions: what else was found in the frame.
        trigger: what caused the explanation.
        source: where the frame is from, for instance a bag and a time.

    Raises:
        ValueError: not such a frame, or not the explained frame's size.
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
    """What was decided and why it is explained; on the right, how far two metrics agree."""
    right = canvas.shape[1] - 430
    accent = PERSON if explanation.person else MUTED
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
    """The frame with the window outlined; below, the window once for each of the first two metrics."""
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
    names = [wrap(metric.replace("_", " "), BODY, slot) for metric in metrics]
    below = top + (1 + max(map(len, names))) * line_height(BODY) + 6
    own = explanation.region
    scale = min(slot / own.width, (height - below) / own.height)
    size = max(1, round(own.width * scale)), max(1, round(own.height * scale))
    for column, (metric, lines) in enumerate(zip(metrics, names, strict=True)):
        left = column * (slot + GAP)
        for row, line in enumerate(lines, 1):
            put_text(canvas, line, left, top + row * line_height(BODY), BODY, TEXT, max_width=slot)
        rankings = [ranking for ranking in explanation.rankings if ranking.metric == metric]
        window = canvas[below : below + size[1], left : left + size[0]]
        enlarge(window, frame, explanation, neuron_boxes(rankings, None))


def _draw_table(canvas: Image, frame: Image, explanation: Explanation) -> None:
    """A row for each metric, a column for each layer, in each cell the patches of the best neurons."""
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
    for metric, top, bottom in zip(metrics, tops[:-1], tops[1:] - CELL_GAP, strict=True):
        if top > COLUMN_HEAD:
            canvas[top - CELL_GAP // 2, :] = RULE
        rankings = {ranking.layer: ranking for ranking in explanation.rankings if ranking.metric == metric}
        silencing = next((s for s in explanation.silencing if s.metric == metric), None)
        _draw_row_head(canvas[top:bottom, : ROW_HEAD - CELL_GAP], metric, list(rankings.values()), silencing)
        for layer, left, right in zip(layers, lefts[:-1], lefts[1:] - CELL_GAP, strict=True):
            if layer in rankings:
                _draw_cell(canvas[top:bottom, left:right], frame, explanation, rankings[layer])


def _draw_row_head(canvas: Image, metric: str, rankings: Sequence[LayerRanking], silencing: Silencing | None) -> None:
    """What the metric is called and means, how stable its rankings are, and whether its neurons matter."""
    y = 2
    width = canvas.shape[1]
    stability = stability_text(rankings)
    unstable = any(ranking.unstable for ranking in rankings)
    parts = (
        (metric.replace("_", " "), HEADING, TEXT, True),
        (stability, SMALL, UNSTABLE if unstable else MUTED, False),
        (silencing_text(silencing) if silencing else "", SMALL, TEXT, False),
        (MEANINGS.get(metric, ""), SMALL, MUTED, False),
    )
    for text, size, colour, bold in (part for part in parts if part[0]):
        for line in wrap(text, size, width, bold):
            if y + line_height(size) <= canvas.shape[0]:
                put_text(canvas, line, 0, y, size, colour, bold, max_width=width)
                y += line_height(size)
        y += 3


def _grid(count: int, width: int, height: int) -> tuple[int, int, int]:
    """(columns, rows, side) of the largest square tiles of which `count` fit, each over its label."""
    label = line_height(SMALL) + 4
    best = (1, count, 1)
    for columns in range(count, 0, -1):
        rows = -(-count // columns)
        side = min((width + CELL_GAP) // columns - CELL_GAP, (height + CELL_GAP) // rows - CELL_GAP - label, TILE_MAX)
        if side > best[2]:
            best = (columns, rows, side)
    return best


def _draw_cell(canvas: Image, frame: Image, explanation: Explanation, ranking: LayerRanking) -> None:
    """The best neurons of a layer by a metric, as many as fit."""
    height, width = canvas.shape[:2]
    top_n = max(1, explanation.settings.top_n)
    count = max((n for n in range(1, top_n + 1) if _grid(n, width, height)[2] >= TILE_GOOD), default=1)
    columns, _, side = _grid(count, width, height)
    label = line_height(SMALL) + 4
    if not ranking.neurons:
        put_text(canvas, "no neuron", 0, 2, SMALL, MUTED, max_width=width)
        put_text(canvas, "has a value", 0, 2 + line_height(SMALL), SMALL, MUTED, max_width=width)
    for rank, neuron in enumerate(ranking.neurons[:count]):
        left, top = rank % columns * (side + CELL_GAP), rank // columns * (side + label + CELL_GAP)
        _draw_tile(canvas[top : top + side, left : left + side], frame, explanation.region, neuron, ranking.unstable)
        space = canvas[top + side + 4 : top + side + label, left : left + (width if columns == 1 else side)]
        texts = _labels(ranking, neuron, rank + 1)
        text = next((text for text in texts if text_width(text, SMALL) <= space.shape[1]), texts[-1])
        put_text(space, text, 0, 0, SMALL, TEXT, max_width=space.shape[1])


def _labels(ranking: LayerRanking, neuron: RankedNeuron, rank: int) -> list[str]:
    """Layer, channel, rank and score in versions from long to short."""
    name = f"{ranking.layer_name} / {neuron.channel}"
    score = f"{neuron.score:.2g}" if abs(neuron.score) < 100 else f"{neuron.score:.0f}"
    return [
        f"{name}   #{rank}   {score}",
        f"{name}   {score}",
        name,
        f"{ranking.layer_name}/{neuron.channel}",
        f"{neuron.channel}",
    ]


def _draw_tile(canvas: Image, frame: Image, region: Region, neuron: RankedNeuron, unstable: bool) -> None:
    """The neuron's patch and, dimmed, what is around it, framed in the colour of its layer."""
    side = canvas.shape[0]
    inner = canvas[TILE_FRAME : side - TILE_FRAME, TILE_FRAME : side - TILE_FRAME]
    if not inner.size:
        return
    if neuron.patch is None:
        inner[:] = RULE
        text = "no patch"
        put_text(
            inner, text, (inner.shape[1] - text_width(text, SMALL)) // 2, inner.shape[0] // 2 - SMALL, SMALL, MUTED
        )
    else:
        _draw_patch(inner, frame, region, neuron.patch)
    draw_box(
        canvas,
        (TILE_FRAME, TILE_FRAME, side - TILE_FRAME, side - TILE_FRAME),
        layer_style(neuron.layer).colour,
        TILE_FRAME,
        unstable,
    )


def _draw_patch(canvas: Image, frame: Image, region: Region, patch: Patch) -> None:
    shown = max(TILE_SCENE_MIN * max(region.width, region.height), TILE_SCENE * max(patch.width, patch.height))
    # Whole pixels, and as many on either side of the patch.
    scene = math.ceil(shown)
    x, y = patch.x - (scene - patch.width) // 2, patch.y - (scene - patch.height) // 2
    side = canvas.shape[0]
    picture = crop(frame, x, y, scene, scene, (side, side))
    canvas[:] = cv2.convertScaleAbs(picture, alpha=TILE_DIM)
    left, top, right, bottom = View(canvas, x, y, side / scene, side / scene).box(patch)
    bright = slice(max(0, top), bottom), slice(max(0, left), right)
    canvas[bright] = picture[bright]
    draw_box(canvas, (left, top, right, bottom), TILE_EDGE)


def _draw_footer(canvas: Image, explanation: Explanation) -> None:
    """How to read the picture, and what it was made with."""
    width = canvas.shape[1]
    canvas[10, :] = RULE
    reading = (
        "A tile: what the neuron responds to most strongly, bright; its surroundings dimmed. "
        "Labels: layer / channel, score; the best first. Dashed: unstable ranking, another seed selects other neurons."
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
