"""Boxes of patches and outlines of windows: which there are, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from explain_cnn_ros.draw.canvas import (
    BLACK,
    Colour,
    Image,
    Rectangle,
    abbreviated,
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
    LayerStyle,
    layer_style,
    layer_styles,
    line_unit,
    text_size,
)
from explain_cnn_ros.explain.explanation import Explanation, LayerRanking, RankedNeuron
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING, Selects, metric, metric_names
from explain_cnn_ros.explain.network_adapter import PERSON
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.model.windows import Region, check_image, crop

#: Size of the text of tags, as a share of the text size of the picture.
TAG_TEXT = 0.75

#: Distance from the explained window to its outline, in thin lines. Boxes of patches at its edge lie between.
OUTLINE_GAP = 3

#: In a window that is shown less tall than this, in pixels, lines are thinner, so that they do not hide it. In an
#: enlarged window that is taller than this, they are thicker.
THIN_BELOW, THICK_ABOVE = 300, 400

#: Maximum number of characters of a layer's name at a box.
TAG_NAME = 24


@dataclass(frozen=True)
class Box:
    """The patch of a neuron.

    Attributes:
        neuron: The neuron.
        layer_name: Name of its layer, for instance "conv3_1".
        patch: Its patch in the frame.
        unstable: Whether all rankings that select the neuron are unstable.
        opposing: Whether the neuron opposes the shown decision.
    """

    neuron: RankedNeuron
    layer_name: str
    patch: Patch
    unstable: bool
    opposing: bool = False


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


def styles_of(explanation: Explanation) -> tuple[LayerStyle, ...]:
    """Return the styles of the layers of an explanation; see `layer_styles`."""
    return layer_styles({ranking.layer: ranking.layer_name for ranking in explanation.rankings})


def style_of(explanation: Explanation, layer: int) -> LayerStyle:
    """Return the style of a layer of an explanation."""
    return layer_style(layer, styles_of(explanation))


def region_colour(explanation: Explanation, region: Region) -> Colour:
    """Return the colour of the outline of a region that is not explained.

    Its probability is P(person), so that the threshold of an explanation of another target does not apply.
    """
    person = explanation.target == PERSON and region.probability >= explanation.threshold
    return PERSON_COLOUR if person else NO_PERSON_COLOUR


def opposes(name: str) -> bool:
    """Return whether a metric selects neurons that oppose the shown decision. Unregistered metrics do not."""
    return name in metric_names() and metric(name).selects is Selects.OPPOSING


def argues(name: str) -> bool:
    """Return whether a metric selects neurons that support or oppose the decision. Unregistered metrics do not."""
    return name in metric_names() and metric(name).selects is not Selects.HIGHEST


def shown_metrics(explanation: Explanation, name: str | None = None) -> tuple[str, ...]:
    """Return the metrics that are shown together.

    Args:
        explanation: The explanation.
        name: Name of a metric; None: influence, or the first metric of an explanation without it.

    Returns:
        The metrics of the neurons that support and of those that oppose the decision, if `name` is influence or None
        and the explanation has them. Otherwise the metric alone; nothing for an explanation without rankings.
    """
    available = metrics_of(explanation)
    both = tuple(metric for metric in (SUPPORTING, OPPOSING) if metric in available)
    if name in (None, SUPPORTING) and both:
        return both
    return tuple(available[:1]) if name is None else (name,)


def chosen_rankings(explanation: Explanation, metric: str | Sequence[str] | None) -> list[LayerRanking]:
    """Return the rankings by one or several metrics.

    Args:
        explanation: The explanation.
        metric: Name of a metric, or several names; None: those of `shown_metrics`.

    Raises:
        ValueError: The explanation has no rankings by a metric.
    """
    available = metrics_of(explanation)
    if metric is None:
        metric = shown_metrics(explanation)
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
            opposing = opposes(ranking.metric) and (earlier is None or earlier[1].opposing)
            best = rank if earlier is None else min(rank, earlier[0])
            found[key] = (best, Box(neuron, ranking.layer_name, neuron.patch, unstable, opposing))
    ordered = sorted(found.values(), key=lambda entry: (-entry[1].neuron.layer, -entry[0], entry[1].neuron.channel))
    return [box for _, box in ordered]


def other_regions(explanation: Explanation, regions: Sequence[Region] | None) -> list[Region]:
    """Return the regions except the explained one; None counts as no regions."""
    own = explanation.region
    place = (own.x, own.y, own.width, own.height)
    return [region for region in regions or () if (region.x, region.y, region.width, region.height) != place]


def draw_boxes(
    view: View, boxes: Sequence[Box], explanation: Explanation, labels: bool = False, unit: float | None = None
) -> None:
    """Draw boxes of neurons in the given order.

    Args:
        view: The part of the frame that is shown; its canvas is modified.
        boxes: Boxes, for instance from `neuron_boxes`.
        explanation: The explanation. The lines are thinner if its window is small.
        labels: Whether layer and channel are written at each box.
        unit: Width of the thinnest line, in pixels; None: it follows from the size of the picture.
    """
    left, top, right, bottom = view.box(explanation.region)
    styles = styles_of(explanation)
    thick = line_unit(view.canvas) if unit is None else unit
    thickness = min(thick, (bottom - top) / THIN_BELOW, 2 * (right - left) / THIN_BELOW)
    for box in boxes:
        style = layer_style(box.neuron.layer, styles)
        width = max(1, round(style.width * thickness))
        draw_box(view.canvas, view.box(box.patch), style.colour, width, box.unstable, box.opposing)
    if labels:
        size = max(TEXT_SIZE_MIN, round(TAG_TEXT * text_size(view.canvas)))
        texts = [f"{abbreviated(box.layer_name, TAG_NAME)}/{box.neuron.channel}" for box in boxes]
        draw_tags(view, boxes[::-1], texts[::-1], size, styles)


def draw_regions(view: View, explanation: Explanation, regions: Sequence[Region] | None) -> None:
    """Outline the explained window in white between black lines, and the other regions thinly in their colours."""
    unit = line_unit(view.canvas)
    for region in reversed(other_regions(explanation, regions)):
        draw_box(view.canvas, view.box(region), region_colour(explanation, region), unit)
    gap = OUTLINE_GAP * unit
    left, top, right, bottom = view.box(explanation.region)
    own = (left - gap, top - gap, right + gap, bottom + gap)
    draw_box(view.canvas, own, BLACK, 4 * unit)
    draw_box(view.canvas, own, EXPLAINED_COLOUR, 3 * unit)
    draw_box(view.canvas, own, BLACK, unit)


def draw_window(canvas: Image, frame: Image, explanation: Explanation, boxes: Sequence[Box]) -> View:
    """Fill a canvas with the explained window and boxes. Outside of the frame, its nearest edge pixel is repeated."""
    region = explanation.region
    height, width = canvas.shape[:2]
    canvas[:] = crop(frame, region.x, region.y, region.width, region.height, (width, height))
    view = View(canvas, region.x, region.y, width / region.width, height / region.height)
    draw_boxes(view, boxes, explanation, unit=max(1.0, height / THICK_ABOVE))
    return view


def draw_tags(view: View, boxes: Sequence[Box], texts: Sequence[str], size: int, styles: Sequence[LayerStyle]) -> None:
    """Write a text at each box. Each is placed where it overlaps the earlier ones least.

    Args:
        view: The part of the frame that is shown; its canvas is modified.
        boxes: The boxes.
        texts: A text for each box.
        size: Text size, in pixels of the canvas.
        styles: The styles of the layers.
    """
    canvas, height = view.canvas, line_height(size)
    taken: list[Rectangle] = []
    for box, text in zip(boxes, texts, strict=True):
        box_left, box_top, box_right, box_bottom = view.box(box.patch)
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
        canvas[top:bottom, left:right] = layer_style(box.neuron.layer, styles).colour
        put_text(canvas, text, left + 3, top, size, BLACK)


def _overlap(one: Rectangle, other: Rectangle) -> int:
    """Return the area that two rectangles share, in pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)
