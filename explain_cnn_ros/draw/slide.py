"""One slide about a decision: what speaks for it, what speaks against it, and what switching these neurons off does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from explain_cnn_ros.draw.boxes import (
    check_frame,
    draw_tags,
    draw_window,
    metrics_of,
    style_of,
    styles_of,
)
from explain_cnn_ros.draw.canvas import (
    BLACK,
    MUTED,
    RULE,
    TEXT,
    Colour,
    Image,
    draw_box,
    line_height,
    put_text,
    shorten_middle,
    text_width,
    wrap,
)
from explain_cnn_ros.draw.captions import (
    argument_title,
    effect_meaning,
    effect_text,
    effect_unit,
    margin_text,
    proof_details,
    proof_sentences,
    proof_warning,
    settings_text,
)
from explain_cnn_ros.draw.page import GAP, HEADER, HEIGHT, MARGIN, WIDTH, blank_page, draw_frame, draw_header
from explain_cnn_ros.draw.strongest import SHOWN, StrongNeuron, strongest
from explain_cnn_ros.draw.style import UNSTABLE_COLOUR
from explain_cnn_ros.draw.tiles import draw_tile
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.model.windows import Region

#: Height of the footer, and width of the column on the left, in pixels.
FOOTER, LEFT = 34, 480

#: Maximum height of the frame, as a share of the height between header and footer.
FRAME_SHARE = 0.5

#: Number of neurons of each row, distance between their tiles, and maximum width of the window beside them.
TILES, TILE_GAP, WINDOW_MAX = SHOWN, 16, 260

#: Text sizes, in pixels.
HEADING, EFFECT, BODY, READING, SMALL, LABEL, SMALLEST = 30, 26, 21, 18, 16, 15, 13


def slide(
    frame: Image,
    explanation: Explanation,
    regions: Sequence[Region] | None = None,
    *,
    trigger: str = "",
    source: str = "",
) -> Image:
    """Draw what a decision rests on, for people who do not know the method.

    The slide shows the decision, the neurons that support it most and those that oppose it most, over all layers, each
    with its patch and its share of the margin, and the proof of both.

    Args:
        frame: The explained frame, uint8 [H, W, 3], RGB; not modified.
        explanation: The explanation, with influence or counter_influence among its metrics.
        regions: All regions of the frame. Those that are not explained are outlined thinly.
        trigger: Cause of the explanation: "service", "low_confidence" or any text; "" for none.
        source: Origin of the frame, for instance a recording and a time; "" for none.

    Returns:
        The picture, uint8 [HEIGHT, WIDTH, 3], RGB.

    Raises:
        ValueError: The frame is not uint8 [H, W, 3], its size is not that of the explained frame, or the explanation
            has no influence.
    """
    check_frame(frame, explanation)
    if not {SUPPORTING, OPPOSING} & set(metrics_of(explanation)):
        raise ValueError(
            f"the explanation has no influence: request the metrics {SUPPORTING} and {OPPOSING}, or draw its contact "
            "sheet"
        )
    frame = np.ascontiguousarray(frame)
    canvas = blank_page()
    top, bottom = MARGIN + HEADER, HEIGHT - MARGIN - FOOTER
    middle = (top + bottom) // 2
    draw_header(canvas[MARGIN:top, MARGIN:-MARGIN], explanation, trigger, source, WIDTH - 2 * MARGIN)
    _draw_frame(canvas[top:bottom, MARGIN : MARGIN + LEFT], frame, explanation, regions)
    right = canvas[:, MARGIN + LEFT + GAP : -MARGIN]
    _draw_row(right[top : middle - GAP // 2], frame, explanation, SUPPORTING)
    right[middle, :] = RULE
    _draw_row(right[middle + GAP // 2 : bottom], frame, explanation, OPPOSING)
    _draw_footer(canvas[-MARGIN - FOOTER : -MARGIN, MARGIN:-MARGIN], explanation)
    return canvas


def _draw_frame(canvas: Image, frame: Image, explanation: Explanation, regions: Sequence[Region] | None) -> None:
    """Draw the frame with its regions, and write below it how to read the slide."""
    height, width = canvas.shape[:2]
    y = draw_frame(canvas, frame, explanation, regions, FRAME_SHARE * height, SMALL) + GAP
    paragraphs = [
        "Each tile is the patch of the image where one neuron (a channel of a layer) matters most to the decision. Its "
        "surroundings are dimmed. Its number is in the window as well.",
        effect_meaning(explanation),
        margin_text(explanation),
    ]
    if any(strong.unstable for metric in (SUPPORTING, OPPOSING) for strong in strongest(explanation, metric, TILES)):
        paragraphs.append("Dashed: unstable, another seed selects other neurons of this layer.")
    for paragraph in paragraphs:
        for line in wrap(paragraph, READING, width):
            put_text(canvas, line, 0, y, READING, MUTED, max_width=width)
            y += line_height(READING)
        y += READING // 2


def _draw_row(canvas: Image, frame: Image, explanation: Explanation, metric: str) -> None:
    """Draw the neurons that support or oppose the decision: the window, and beside it heading, proof and tiles."""
    neurons = strongest(explanation, metric, TILES)
    if neurons:
        region = explanation.region
        scale = min(WINDOW_MAX / region.width, canvas.shape[0] / region.height)
        size = max(1, round(region.width * scale)), max(1, round(region.height * scale))
        numbered = [(box, str(number)) for number, strong in enumerate(neurons, 1) if (box := strong.box)]
        view = draw_window(canvas[: size[1], : size[0]], frame, explanation, [box for box, _ in reversed(numbered)])
        texts = [number for _, number in numbered]
        draw_tags(view, [box for box, _ in numbered], texts, SMALLEST, styles_of(explanation))
        canvas = canvas[:, size[0] + GAP :]
    sample = (3, 8, 3 + HEADING, 8 + round(0.6 * HEADING))
    draw_box(canvas, sample, TEXT, 3, corners=metric == OPPOSING)
    title = argument_title(explanation.person, metric, explanation.target)
    put_text(canvas, title, 2 * HEADING, 0, HEADING, TEXT, True, max_width=canvas.shape[1] - 2 * HEADING)
    y = _write(canvas, line_height(HEADING) + 6, _statements(explanation, metric)) + 8
    _draw_tiles(canvas[y:], frame, explanation, neurons)


def _statements(explanation: Explanation, metric: str) -> list[tuple[str, int, Colour]]:
    """Return what is written above the tiles: texts with their sizes and colours."""
    if metric not in metrics_of(explanation):
        return [(f"Not computed: request the metric {metric}.", BODY, MUTED)]
    proof = explanation.proof(metric)
    if proof is None:
        nothing = not strongest(explanation, metric, 1)
        text = "No neuron of the explained layers does." if nothing else "Not proved: no neurons were switched off."
        return [(text, BODY, TEXT if nothing else MUTED)]
    warning, details = proof_warning(proof), proof_details(proof)
    return [
        (proof_sentences(explanation, proof), BODY, TEXT),
        *([(f"{warning[0].upper()}{warning[1:]}.", BODY, UNSTABLE_COLOUR)] if warning else []),
        *([(details, SMALL, MUTED)] if details and not warning else []),
    ]


def _write(canvas: Image, y: int, texts: Sequence[tuple[str, int, Colour]]) -> int:
    """Write texts below each other and return the height that is used then."""
    for text, size, colour in texts:
        for line in wrap(text, size, canvas.shape[1]):
            put_text(canvas, line, 0, y, size, colour, max_width=canvas.shape[1])
            y += line_height(size)
    return y


def _draw_tiles(canvas: Image, frame: Image, explanation: Explanation, neurons: Sequence[StrongNeuron]) -> None:
    """Draw the tiles side by side, each with its number, its effect, and its neuron."""
    height, width = canvas.shape[:2]
    side = (width + TILE_GAP) // TILES - TILE_GAP
    named = max((len(_neuron_text(strong, side)) for strong in neurons), default=1)
    side = min(side, height - (5 + line_height(EFFECT) + (3 + named) * line_height(LABEL)))
    for i, strong in enumerate(neurons):
        left = i * (side + TILE_GAP)
        cell = canvas[:, left : left + side]
        neuron = strong.neuron
        draw_tile(cell[:side], frame, explanation, neuron, strong.unstable, strong.opposing)
        number = str(i + 1)
        cell[: line_height(SMALL), : text_width(number, SMALL) + 6] = style_of(explanation, neuron.layer).colour
        put_text(cell, number, 3, 0, SMALL, BLACK)
        y = side + 5
        put_text(cell, effect_text(explanation, neuron.score), 0, y, EFFECT, TEXT, True, max_width=side)
        y += line_height(EFFECT)
        texts = [effect_unit(explanation)]
        if neuron.silenced is not None:
            texts.append(f"measured {effect_text(explanation, neuron.silenced)}")
        texts += _neuron_text(strong, side)
        if strong.others:
            texts.append(f"+ {strong.others} {'neuron' if strong.others == 1 else 'neurons'} here")
        for text in texts:
            put_text(cell, text, 0, y, LABEL, MUTED, max_width=side)
            y += line_height(LABEL)


def _neuron_text(strong: StrongNeuron, width: int) -> list[str]:
    """Return the layer and the channel of a neuron, in two lines if they are too long for one."""
    text = f"{strong.layer_name} / {strong.neuron.channel}"
    if text_width(text, LABEL) <= width:
        return [text]
    channel = f"/{strong.neuron.channel}"
    *lines, last = wrap(f"{strong.layer_name}{channel}", LABEL, width)
    if len(lines) == 1 and all(text_width(line, LABEL) <= width for line in (*lines, last)):
        return [*lines, last]
    return [shorten_middle(strong.layer_name, LABEL, width - text_width(channel, LABEL)) + channel]


def _draw_footer(canvas: Image, explanation: Explanation) -> None:
    """Write the settings of the explanation."""
    canvas[4, :] = RULE
    parts = [settings_text(explanation), f"model {explanation.model_hash or 'unsaved'}", explanation.device]
    put_text(canvas, "  |  ".join(parts), 0, 12, SMALL, MUTED, max_width=canvas.shape[1])
