"""The frame with its live explanation, as one picture of a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from explain_cnn_ros.draw.boxes import (
    THICK_ABOVE,
    Box,
    View,
    check_frame,
    draw_boxes,
    draw_window,
    neuron_boxes,
    other_regions,
    region_colour,
    styles_of,
)
from explain_cnn_ros.draw.canvas import (
    MUTED,
    TEXT,
    Colour,
    Image,
    Rectangle,
    darken,
    draw_box,
    line_height,
    put_text,
    text_width,
)
from explain_cnn_ros.draw.captions import headlines, probability_text, proof_text
from explain_cnn_ros.draw.legend import LegendEntry, names_text
from explain_cnn_ros.draw.strips import STRIP_OPACITY, draw_headline, draw_legend
from explain_cnn_ros.draw.style import (
    EXPLAINED_COLOUR,
    LAYER_STYLES,
    TEXT_SIZE_MIN,
    line_unit,
    text_size,
)
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.live import LiveExplanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.explain.network_adapter import PERSON
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.model.windows import Region

#: Height of the enlarged window, as a share of the picture's height. It is shown if it enlarges the window by at least
#: INSET_GAIN.
INSET_HEIGHT, INSET_GAIN = 0.5, 1.4

#: Brightness of the enlarged window where no patch argues for the decision, as a share of its own.
DIMMED = 0.65

#: Maximum width of the enlarged window, as a share of the picture's width, and the lines of text that are below it.
INSET_WIDTH_MAX, INSET_LINES = 1 / 3, 3.5

#: Size of the text at boxes, as a share of the text size of the picture.
TAG_TEXT = 0.8


def draw_live(frame: Image, live: LiveExplanation, regions: Sequence[Region] | None = None) -> Image:
    """Draw a live explanation on its frame.

    All regions are outlined, with their P(person). The explained window is outlined in white, with the patches of the
    strongest neurons. Boxes support the decision, and corners oppose it. A small window is also shown enlarged, on the
    other side of the picture.

    Args:
        frame: The explained frame, uint8 [H, W, 3], RGB; not modified.
        live: The live explanation.
        regions: All regions of the frame; None counts as none but the explained one.

    Returns:
        The picture, uint8 [H, W, 3], RGB, of the size of the frame.

    Raises:
        ValueError: The frame is not uint8 [H, W, 3], or its size is not that of the explained frame.
    """
    explanation = live.explanation
    check_frame(frame, explanation)
    canvas = np.ascontiguousarray(frame).copy()
    view, unit = View(canvas), line_unit(canvas)
    others = other_regions(explanation, regions)
    outlined = [(view.box(_person(region)), region, region_colour(explanation, region)) for region in others]
    outlined.insert(0, (view.box(explanation.region), explanation.region, EXPLAINED_COLOUR))
    for box, region, colour in reversed(outlined):
        draw_box(canvas, box, colour, 2 * unit if region is explanation.region else unit)
    boxes = neuron_boxes(live.drawn.rankings, None)
    draw_boxes(view, boxes, explanation)
    # P of another target is not comparable with P(person) of the other regions.
    tagged = outlined if explanation.target == PERSON else outlined[:1]
    _draw_tags(canvas, [(box, probability_text(region.probability), colour) for box, region, colour in tagged])
    legend = list(live_legend(live))
    _draw_inset(canvas, frame, explanation, boxes, [box for box, _, _ in outlined])
    draw_headline(canvas, headlines(explanation, "live"), explanation.person)
    draw_legend(canvas, legend)
    return canvas


def _person(region: Region) -> Patch:
    """Return the box of the person in a region, in whole pixels."""
    x, y, width, height = map(round, region.person_box)
    return Patch(x, y, width, height)


def live_legend(live: LiveExplanation) -> Iterator[LegendEntry]:
    """Yield what the boxes of a live explanation mean, and that it is an average over frames."""
    for name, about in ((SUPPORTING, "for it"), (OPPOSING, "against it")):
        proof = live.explanation.proof(name)
        count = f"{proof.neurons} neuron{'' if proof.neurons == 1 else 's'}" if proof else ""
        text = f"{about}: {proof_text(proof, count, live.explanation.target)}" if proof else about
        yield LegendEntry(text, TEXT, 2, corners=name == OPPOSING, short=about)
        if name == SUPPORTING:
            yield LegendEntry(f"influence, {smoothing_text(live)}", tone=MUTED, short=smoothing_text(live))
    layers, names = live.explanation.settings.layers, {r.layer: r.layer_name for r in live.explanation.rankings}
    styles = styles_of(live.explanation)
    for style in styles:
        own = [layer for layer in layers if style.first <= layer <= style.last]
        if own:
            text = f"layers {own[0]} to {own[-1]}" if len(own) > 1 else f"layer {own[0]}"
            known = styles is LAYER_STYLES
            named = text if known else names_text({layer: names[layer] for layer in own if layer in names}) or text
            yield LegendEntry(named, style.colour, style.width, short="" if known else text)


def smoothing_text(live: LiveExplanation) -> str:
    """Return over what time the scores of a live explanation are averaged, for instance "smoothed over 1 s"."""
    return f"smoothed over {live.smoothing:g} s" if live.smoothing else "of this image alone"


def _draw_tags(canvas: Image, tags: Sequence[tuple[Rectangle, str, Colour]]) -> None:
    """Write texts above or below boxes, each where it overlaps the earlier ones least."""
    size = max(TEXT_SIZE_MIN, round(TAG_TEXT * text_size(canvas)))
    height = line_height(size)
    taken: list[Rectangle] = []
    for (left, top, right, bottom), text, colour in tags:
        width = text_width(text, size) + 4
        places = [
            (x, y, x + width, y + height)
            for y in (top - height - 3, bottom + 3)
            for x in (max(0, min(left, canvas.shape[1] - width)), max(0, min(right, canvas.shape[1]) - width))
            if 0 <= y <= canvas.shape[0] - height
        ]
        if not places:
            continue
        place = min(places, key=lambda place: sum(_shared(place, other) for other in taken))
        taken.append(place)
        darken(canvas, place[0], place[1], width, height, STRIP_OPACITY)
        put_text(canvas, text, place[0] + 2, place[1], size, colour)


def _draw_inset(
    canvas: Image, frame: Image, explanation: Explanation, boxes: Sequence[Box], outlined: Sequence[Rectangle]
) -> None:
    """Draw the explained window enlarged, in the corner where it hides least.

    Nothing is drawn if the window is large already, or if its enlargement fits into no corner beside the text.
    """
    region, unit = explanation.region, line_unit(canvas)
    picture_height, picture_width = canvas.shape[:2]
    height = round(INSET_HEIGHT * picture_height)
    width = round(height * region.width / region.height)
    if height < INSET_GAIN * region.height or width > INSET_WIDTH_MAX * picture_width:
        return
    edge, strip = 2 * unit, line_height(text_size(canvas))
    corners = [
        (left, top, left + width, top + height)
        for left in (edge, picture_width - width - edge)
        for top in (picture_height - round(INSET_LINES * strip) - height - edge, strip + 4 + edge)
        if left >= 0 and top >= 0 and left + width <= picture_width and top + height <= picture_height
    ]
    if not corners or not width:
        return
    place = min(corners, key=lambda corner: sum(_shared(corner, box) for box in outlined))
    left, top, right, bottom = place
    inset = canvas[top:bottom, left:right]
    view = draw_window(inset, frame, explanation, ())
    supporting = [view.box(box.patch) for box in boxes if not box.opposing]
    lit = np.zeros(inset.shape[:2], bool)
    for x0, y0, x1, y1 in supporting:
        lit[max(0, y0) : y1, max(0, x0) : x1] = True
    inset[:] = np.where(lit[..., None], inset, cv2.convertScaleAbs(inset, alpha=DIMMED))
    draw_boxes(view, boxes, explanation, unit=max(1.0, (bottom - top) / THICK_ABOVE))
    draw_box(canvas, place, EXPLAINED_COLOUR, edge)


def _shared(one: Rectangle, other: Rectangle) -> int:
    """Return the area that two rectangles share, in pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)
