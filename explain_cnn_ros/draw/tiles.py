"""Tiles: the patches of the best neurons of a ranking side by side, each with a label."""

from __future__ import annotations

import math

import cv2

from explain_cnn_ros.draw.boxes import View, opposes, style_of
from explain_cnn_ros.draw.canvas import MUTED, RULE, TEXT, Colour, Image, draw_box, line_height, put_text, text_width
from explain_cnn_ros.explain.explanation import Explanation, LayerRanking, RankedNeuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.model.windows import Region, crop

#: Side of a tile, in pixels. A cell has as many tiles as fit at TILE_GOOD, and these grow up to TILE_MAX.
TILE_GOOD, TILE_MAX = 84, 240

#: Width of the frame of a tile, distance between tiles, and text size, in pixels.
TILE_FRAME, TILE_GAP, TILE_TEXT = 3, 10, 16

#: Minimum side of the part of the frame that a tile shows: a share of the window's longer side, and a factor on the
#: patch's longer side.
TILE_SCENE_MIN, TILE_SCENE = 0.12, 1.2

#: Brightness of what surrounds the patch, as a share of its own.
TILE_DIM = 0.4

#: Colour of the line around the patch, which shows its place in dark pictures as well.
TILE_EDGE: Colour = (120, 126, 136)


def draw_cell(canvas: Image, frame: Image, explanation: Explanation, ranking: LayerRanking, top_n: int) -> None:
    """Draw the tiles of the best neurons of a ranking.

    Args:
        canvas: uint8 [H, W, 3]; modified.
        frame: The explained frame, uint8 [H, W, 3].
        explanation: The explanation.
        ranking: The ranking.
        top_n: Maximum number of tiles. There are fewer if they would become too small.
    """
    height, width = canvas.shape[:2]
    count = max((n for n in range(1, top_n + 1) if _grid(n, width, height)[2] >= TILE_GOOD), default=1)
    columns, _, side = _grid(count, width, height)
    label = line_height(TILE_TEXT) + 4
    if not ranking.neurons:
        put_text(canvas, "no neuron", 0, 2, TILE_TEXT, MUTED, max_width=width)
        put_text(canvas, "has a value", 0, 2 + line_height(TILE_TEXT), TILE_TEXT, MUTED, max_width=width)
    for rank, neuron in enumerate(ranking.neurons[:count]):
        left, top = rank % columns * (side + TILE_GAP), rank // columns * (side + label + TILE_GAP)
        tile = canvas[top : top + side, left : left + side]
        draw_tile(tile, frame, explanation, neuron, ranking.unstable, opposes(ranking.metric))
        space = canvas[top + side + 4 : top + side + label, left : left + (width if columns == 1 else side)]
        texts = _labels(ranking, neuron, rank + 1)
        text = next((text for text in texts if text_width(text, TILE_TEXT) <= space.shape[1]), texts[-1])
        put_text(space, text, 0, 0, TILE_TEXT, TEXT, max_width=space.shape[1])


def _grid(count: int, width: int, height: int) -> tuple[int, int, int]:
    """Return (columns, rows, side) of the largest square tiles with labels of which `count` fit."""
    label = line_height(TILE_TEXT) + 4
    best = (1, count, 1)
    for columns in range(count, 0, -1):
        rows = -(-count // columns)
        side = min((width + TILE_GAP) // columns - TILE_GAP, (height + TILE_GAP) // rows - TILE_GAP - label, TILE_MAX)
        if side > best[2]:
            best = (columns, rows, side)
    return best


def _labels(ranking: LayerRanking, neuron: RankedNeuron, rank: int) -> list[str]:
    """Return layer, channel, rank and score in several versions, the longest first."""
    name = f"{ranking.layer_name} / {neuron.channel}"
    score = f"{neuron.score:.2g}" if abs(neuron.score) < 100 else f"{neuron.score:.0f}"
    return [
        f"{name}   #{rank}   {score}",
        f"{name}   {score}",
        name,
        f"{ranking.layer_name}/{neuron.channel}",
        f"{neuron.channel}",
    ]


def draw_tile(
    canvas: Image,
    frame: Image,
    explanation: Explanation,
    neuron: RankedNeuron,
    unstable: bool = False,
    opposing: bool = False,
) -> None:
    """Draw the patch of a neuron and its surroundings, framed in the colour of the layer.

    Args:
        canvas: uint8 [side, side, 3]; modified.
        frame: The explained frame, uint8 [H, W, 3].
        explanation: The explanation.
        neuron: The neuron.
        unstable: Whether the ranking that selects it is unstable.
        opposing: Whether the neuron opposes the shown decision.
    """
    side = canvas.shape[0]
    inner = canvas[TILE_FRAME : side - TILE_FRAME, TILE_FRAME : side - TILE_FRAME]
    if not inner.size:
        return
    if neuron.patch is None:
        inner[:] = RULE
        text = "no patch"
        left, top = (inner.shape[1] - text_width(text, TILE_TEXT)) // 2, inner.shape[0] // 2 - TILE_TEXT
        put_text(inner, text, left, top, TILE_TEXT, MUTED)
    else:
        _draw_patch(inner, frame, explanation.region, neuron.patch)
    box = (TILE_FRAME, TILE_FRAME, side - TILE_FRAME, side - TILE_FRAME)
    draw_box(canvas, box, style_of(explanation, neuron.layer).colour, TILE_FRAME, unstable, opposing)


def _draw_patch(canvas: Image, frame: Image, region: Region, patch: Patch) -> None:
    """Fill a canvas with a patch and its dimmed surroundings."""
    shown = max(TILE_SCENE_MIN * max(region.width, region.height), TILE_SCENE * max(patch.width, patch.height))
    # Whole pixels of the frame, equally many on both sides of the patch.
    scene = math.ceil(shown)
    x, y = patch.x - (scene - patch.width) // 2, patch.y - (scene - patch.height) // 2
    side = canvas.shape[0]
    picture = crop(frame, x, y, scene, scene, (side, side))
    canvas[:] = cv2.convertScaleAbs(picture, alpha=TILE_DIM)
    left, top, right, bottom = View(canvas, x, y, side / scene, side / scene).box(patch)
    bright = slice(max(0, top), bottom), slice(max(0, left), right)
    canvas[bright] = picture[bright]
    draw_box(canvas, (left, top, right, bottom), TILE_EDGE)
