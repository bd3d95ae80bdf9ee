"""Boxes of patches and outlines of windows: which there are, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from explain_cnn_ros.draw.canvas import (
    BLACK,
    Colour,
    Image,
    Rectangle,
    draw_box,
    line_height,
    put_text,
    text_width,
)
from explain_cnn_ros.draw.style import (
    EXPLAINED_COLOUR,
    NO_PERSON_COLOUR,
    PERSON_COLOUR,
    TEXT_SIZE_MIN,
    layer_style,
    line_unit,
    text_size,
)
from explain_cnn_ros.explain.explanation import Explanation, LayerRanking, RankedNeuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.model.windows import Region, check_image, crop

#: A box and the text beside it, in a colour.
Tag = tuple[Rectangle, str, Colour]

#: Size of the text of tags, as a share of the text size of the picture.
TAG_TEXT = 0.75

#: Distance from the explained window to its outline, in thin lines. Boxes of patches at its edge lie between.
OUTLINE_GAP = 3

#: In a window that is shown less tall than this, in pixels, lines are thinner, so that they do not hide it.
THIN_BELOW = 300


@dataclass(frozen=True)
class Box:
    """The patch of a neuron.

    Attributes:
        neuron: The neuron.
        layer_name: Name of its layer, for instance "conv3_1".
        patch: Its patch in the frame.
        unstable: Whether all rankings that select the neuron are unstable.
    """

    neuron: RankedNeuron
    layer_name: str
    patch: Patch
    unstable: bool


@dataclass(frozen=True)
class View:
    """A part of a frame that is shown on a canvas.

    Attributes:
        canvas: uint8 [H, W, 3], often a slice of a larger picture. Whatever is drawn stays on it.
        x: Left edge of the part, in pixels of the frame.
        y: Top edge of the part, in pixels of the frame.
        scale_x: Pixels of the canvas per pixel of the frame, horizontally.
        scale_y: Pixels of the canvas per pixel of the frame, vertically.
    """

    canvas: Image
    x: float = 0.0
    y: float = 0.0
    scale_x: float = 1.0
    scale_y: float = 1.0

    def box(self, area: Region | Patch) -> Rectangle:
        """Return the rectangle of an area of the frame on the canvas; it is at least one pixel wide and tall."""
        left, top = round((area.x - self.x) * self.scale_x), round((area.y - self.y) * self.scale_y)
        right = round((area.x + area.width - self.x) * self.scale_x)
        bottom = round((area.y + area.height - self.y) * self.scale_y)
        return left, top, max(right, left + 1), max(bottom, top + 1)


def check_frame(frame: Image, explanation: Explanation) -> None:
    """Check that a frame may be the one that was explained.

    Raises:
        ValueError: The frame is not uint8 [H, W, 3], or its size is not that of the explained frame.
    """
    check_image(frame)
    size = (frame.shape[1], frame.shape[0])
    if size != tuple(explanation.image_size):
        raise ValueError(
            f"the frame has {size[0]} x {size[1]} pixels, but the explained frame has "
            f"{explanation.image_size[0]} x {explanation.image_size[1]}: pass the explained frame in its original size"
        )


def metrics_of(explanation: Explanation) -> list[str]:
    """Return the names of the metrics of the explanation's rankings, in their order."""
    return list(dict.fromkeys(ranking.metric for ranking in explanation.rankings))


def chosen_rankings(explanation: Explanation, metric: str | Sequence[str] | None) -> list[LayerRanking]:
    """Return the rankings by one or several metrics.

    Args:
        explanation: The explanation.
        metric: Name of a metric, or several names; None: the first metric of the explanation.

    Raises:
        ValueError: The explanation has no rankings by a metric.
    """
    available = metrics_of(explanation)
    if metric is None:
        metric = available[:1]
    names = [metric] if isinstance(metric, str) else list(metric)
    for name in names:
        if name not in available:
            choices = ", ".join(available) or "it has none"
            raise ValueError(f"the explanation has no ranking by {name!r}: choose one of its metrics ({choices})")
    return [ranking for name in names for ranking in explanation.rankings if ranking.metric == name]


def neuron_boxes(rankings: Sequence[LayerRanking], top_n: int | None) -> list[Box]:
    """Return the boxes of the neurons that have a patch, each neuron once, in the order in which they are drawn.

    Args:
        rankings: Rankings of any layers by any metrics.
        top_n: Only this number of neurons of each ranking; None: all of them.

    Returns:
        Boxes of deeper layers first; within a layer, boxes of better neurons last, so that they lie on top.
    """
    found: dict[tuple[int, int], tuple[int, Box]] = {}
    for ranking in rankings:
        for rank, neuron in enumerate(ranking.neurons[:top_n]):
            if neuron.patch is None:
                continue
            key = (neuron.layer, neuron.channel)
            earlier = found.get(key)
            unstable = ranking.unstable and (earlier is None or earlier[1].unstable)
            best = rank if earlier is None else min(rank, earlier[0])
            found[key] = (best, Box(neuron, ranking.layer_name, neuron.patch, unstable))
    ordered = sorted(found.values(), key=lambda entry: (-entry[1].neuron.layer, -entry[0], entry[1].neuron.channel))
    return [box for _, box in ordered]


def other_regions(explanation: Explanation, regions: Sequence[Region] | None) -> list[Region]:
    """Return the regions except the explained one; None counts as no regions."""
    own = explanation.region
    place = (own.x, own.y, own.width, own.height)
    return [region for region in regions or () if (region.x, region.y, region.width, region.height) != place]


def draw_boxes(view: View, boxes: Sequence[Box], region: Region, labels: bool = False) -> None:
    """Draw boxes of neurons in the given order.

    Args:
        view: The part of the frame that is shown; its canvas is modified.
        boxes: Boxes, for instance from `neuron_boxes`.
        region: The explained window. The lines are thinner if it is small.
        labels: Whether layer and channel are written at each box.
    """
    left, top, right, bottom = view.box(region)
    unit = min(line_unit(view.canvas), (bottom - top) / THIN_BELOW, 2 * (right - left) / THIN_BELOW)
    for box in boxes:
        style = layer_style(box.neuron.layer)
        draw_box(view.canvas, view.box(box.patch), style.colour, max(1, round(style.width * unit)), box.unstable)
    if labels:
        tags = [
            (view.box(box.patch), f"{box.layer_name}/{box.neuron.channel}", layer_style(box.neuron.layer).colour)
            for box in reversed(boxes)
        ]
        _draw_tags(view.canvas, tags)


def draw_regions(view: View, explanation: Explanation, regions: Sequence[Region] | None) -> None:
    """Outline the explained window in white between black lines, and the other regions thinly in their colours."""
    unit = line_unit(view.canvas)
    for region in reversed(other_regions(explanation, regions)):
        colour = PERSON_COLOUR if region.probability >= explanation.threshold else NO_PERSON_COLOUR
        draw_box(view.canvas, view.box(region), colour, unit)
    gap = OUTLINE_GAP * unit
    left, top, right, bottom = view.box(explanation.region)
    own = (left - gap, top - gap, right + gap, bottom + gap)
    draw_box(view.canvas, own, BLACK, 4 * unit)
    draw_box(view.canvas, own, EXPLAINED_COLOUR, 3 * unit)
    draw_box(view.canvas, own, BLACK, unit)


def draw_window(canvas: Image, frame: Image, explanation: Explanation, boxes: Sequence[Box]) -> None:
    """Fill a canvas with the explained window and boxes. Outside of the frame, its nearest edge pixel is repeated."""
    region = explanation.region
    height, width = canvas.shape[:2]
    canvas[:] = crop(frame, region.x, region.y, region.width, region.height, (width, height))
    view = View(canvas, region.x, region.y, width / region.width, height / region.height)
    draw_boxes(view, boxes, region)


def _draw_tags(canvas: Image, tags: Sequence[Tag]) -> None:
    """Write a text at each box. Each is placed where it overlaps the earlier ones least."""
    size = max(TEXT_SIZE_MIN, round(TAG_TEXT * text_size(canvas)))
    height = line_height(size)
    taken: list[Rectangle] = []
    for (box_left, box_top, box_right, box_bottom), text, colour in tags:
        width = text_width(text, size) + 6
        if width > canvas.shape[1] or height > canvas.shape[0]:
            continue
        corners = [
            (max(0, min(x, canvas.shape[1] - width)), max(0, min(y, canvas.shape[0] - height)))
            for y in (box_top - height - 2, box_bottom + 2, box_top, box_bottom - height)
            for x in (box_left, box_right - width)
        ]
        places = [(x, y, x + width, y + height) for x, y in corners]
        place = min(places, key=lambda place: sum(_overlap(place, other) for other in taken))
        taken.append(place)
        left, top, right, bottom = place
        canvas[top:bottom, left:right] = colour
        put_text(canvas, text, left + 3, top, size, BLACK)


def _overlap(one: Rectangle, other: Rectangle) -> int:
    """Return the area that two rectangles share, in pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)
