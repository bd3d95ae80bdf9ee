"""Pictures of decisions and explanations: boxes, outlines, legend. Arrays in, arrays out, uint8 [H, W, 3] RGB."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from explain_cnn_ros.classifier import check_image
from explain_cnn_ros.drawing import (
    BACKGROUND,
    BLACK,
    MUTED,
    TEXT,
    Colour,
    Image,
    Rectangle,
    darken,
    draw_box,
    line_height,
    put_text,
    resized,
    text_width,
    wrap,
)
from explain_cnn_ros.explanation import Explanation, LayerRanking, RankedNeuron, Silencing
from explain_cnn_ros.patches import Patch
from explain_cnn_ros.regions import Region, crop

#: A short text at a box.
Tag = tuple[Rectangle, str, Colour]

#: The explained window.
EXPLAINED: Colour = (255, 255, 255)
#: Regions at or above the threshold, and below it: apart in lightness as well as in hue.
PERSON: Colour = (255, 214, 64)
NO_PERSON: Colour = (205, 211, 220)
#: What is said about unstable rankings.
UNSTABLE: Colour = (255, 164, 84)

#: A larger frame stays as it is, a smaller one is enlarged until it fills this, unless its size is to be kept.
READABLE_WIDTH, READABLE_HEIGHT = 960, 720
#: The panel beside the frame, at a frame height of READABLE_HEIGHT; it grows with taller frames. Pixels.
PANEL_WIDTH = 340
PANEL_MARGIN = 20
#: More text than this is cut.
PANEL_HEIGHT_MAX = 2000
PANEL_TEXT, PANEL_TITLE = 16, 30
#: The window is shown again in the panel where that makes it larger by this factor and at least this tall.
INSET_GAIN, INSET_HEIGHT_MIN = 1.25, 120

#: Where the frame's size is kept, text lies on strips: opacity, and the most that the lower one takes of the height.
STRIP_OPACITY = 0.66
STRIP_SHARE_MAX = 0.25
#: Text size there, pixels, and shares of the frame's height and width that it follows.
STRIP_TEXT_MIN, STRIP_TEXT_MAX = 9, 30
STRIP_TEXT_OF_HEIGHT, STRIP_TEXT_OF_WIDTH = 1 / 36, 1 / 48

#: Text of tags at boxes, as a share of that on strips.
TAG_TEXT = 0.75
#: Between the explained window and its outline there is room for the boxes of patches at its edge, in line units.
OUTLINE_GAP = 3
#: Lines grow by a pixel with every so many pixels of frame height.
LINE_UNIT_HEIGHT = 720
#: In a window that is less tall than this on the picture, lines get thinner, so that they do not hide it.
THIN_BELOW = 300

#: Digits of a P(person) that is close to 0, 1 or the threshold.
DIGITS_MAX = 6

TRIGGERS = {"service": "asked for by service", "low_confidence": "low confidence"}


@dataclass(frozen=True)
class LayerStyle:
    """How the boxes of layers `first` to `last` are drawn: width in pixels, so that colour is not all that tells."""

    first: int
    last: int
    colour: Colour
    width: int


#: The colours of the paper's Figure 4 for layers 3 to 9; what lies before and behind continues the spectrum.
LAYER_STYLES = (
    LayerStyle(1, 2, (255, 150, 190), 1),
    LayerStyle(3, 4, (255, 70, 60), 1),
    LayerStyle(5, 7, (60, 215, 95), 2),
    LayerStyle(8, 9, (70, 140, 255), 3),
    LayerStyle(10, 10**9, (190, 115, 255), 3),
)


def layer_style(layer: int) -> LayerStyle:
    """The style of a layer, counted from 1."""
    for style in LAYER_STYLES:
        if style.first <= layer <= style.last:
            return style
    raise ValueError(f"layer {layer} does not exist: layers are counted from 1")


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
    """The frame with the explained window, the patches of the selected neurons, and a legend.

    A box lies around its patch, never on it, unless the patch touches the border. Where neurons of several groups of
    layers have the same patch, their boxes nest. Boxes of unstable rankings are dashed.

    Args:
        frame: the explained frame, uint8 [H, W, 3] RGB; not modified.
        metric: whose neurons are drawn, one or several; None is the explanation's first. A neuron that several
            metrics select is drawn once, dashed only when it is unstable by all of them.
        keep_size: the picture is [H, W, 3] like the frame, pixel on pixel, and text lies on translucent strips, as
            far as there is room. Otherwise a small frame is enlarged, and a panel beside it holds the text.
        regions: what else was found in the frame: thin outlines.
        trigger: what caused the explanation.
        labels: write layer and channel at each box.
        top_n: draw only that many neurons of each ranking.

    Raises:
        ValueError: not such a frame, not the explained frame's size, or a metric that the explanation lacks.
    """
    check_frame(frame, explanation)
    frame = np.ascontiguousarray(frame)
    rankings = chosen_rankings(explanation, metric)
    boxes = neuron_boxes(rankings, top_n)
    if keep_size:
        canvas = frame.copy()
        view = View(canvas)
        draw_regions(view, explanation, regions)
        draw_boxes(view, boxes, explanation.region, labels)
        note = f"trigger: {trigger_text(trigger)}" if trigger else ""
        _draw_headline(canvas, explanation.region.probability, explanation.threshold, note)
        _draw_legend_strip(canvas, [line for part in _legend(explanation, rankings, regions, top_n) for line in part])
        return canvas
    return _with_panel(frame, explanation, rankings, boxes, regions, trigger, labels, top_n)


def draw_classification(frame: Image, regions: Sequence[Region], threshold: float) -> Image:
    """The frame, in its size, with regions outlined and their P(person) written at them.

    Args:
        frame: uint8 [H, W, 3] RGB; not modified.
        regions: best first; the headline is about the first.
        threshold: P(person) from which on a region counts as a person.
    """
    check_image(frame)
    canvas = np.array(frame, order="C")
    view = View(canvas)
    if not regions:
        return canvas
    unit = _line_unit(canvas)
    tags: list[Tag] = []
    # The best last, so that they lie on top.
    for region in sorted(regions, key=lambda region: region.probability):
        person = region.probability >= threshold
        colour = PERSON if person else NO_PERSON
        draw_box(canvas, view.box(region), colour, 2 * unit if person else unit)
        tags.insert(0, (view.box(region), f"{region.probability:.2f}", colour))
    persons = sum(region.probability >= threshold for region in regions)
    note = f"{persons} of {len(regions)} regions" if len(regions) > 1 else ""
    below = _draw_headline(canvas, regions[0].probability, threshold, note)
    _draw_tags(canvas, tags, below)
    return canvas


# What is drawn


@dataclass(frozen=True)
class Box:
    """A neuron's patch and how it is drawn."""

    neuron: RankedNeuron
    layer_name: str
    patch: Patch
    unstable: bool


def neuron_boxes(rankings: Sequence[LayerRanking], top_n: int | None) -> list[Box]:
    """A box for each neuron with a patch, in drawing order: deeper layers first, of a layer the best last."""
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


def check_frame(frame: Image, explanation: Explanation) -> None:
    """Raise ValueError unless this may be the frame that was explained."""
    check_image(frame)
    size = (frame.shape[1], frame.shape[0])
    if size != tuple(explanation.image_size):
        raise ValueError(
            f"the frame is {size[0]} x {size[1]} pixels, but the explanation is of one of "
            f"{explanation.image_size[0]} x {explanation.image_size[1]}"
        )


def chosen_rankings(explanation: Explanation, metric: str | Sequence[str] | None) -> list[LayerRanking]:
    """The rankings by one or several metrics, None is the explanation's first; ValueError for what it lacks."""
    available = metrics_of(explanation)
    if metric is None:
        metric = available[:1]
    names = [metric] if isinstance(metric, str) else list(metric)
    for name in names:
        if name not in available:
            raise ValueError(f"the explanation has no ranking by {name!r}: it has {', '.join(available) or 'none'}")
    return [ranking for name in names for ranking in explanation.rankings if ranking.metric == name]


def metrics_of(explanation: Explanation) -> list[str]:
    """The metrics that there are rankings by, in their order."""
    return list(dict.fromkeys(ranking.metric for ranking in explanation.rankings))


def stability_text(rankings: Sequence[LayerRanking]) -> str:
    """Mean stability over some layers and how many of them are unstable; "" where nothing was perturbed."""
    values = [ranking.stability for ranking in rankings if ranking.stability is not None]
    if not values:
        return ""
    finite = [value for value in values if math.isfinite(value)]
    mean = f"stability {sum(finite) / len(finite):.2f}" if finite else "stability unknown"
    unstable = sum(ranking.unstable for ranking in rankings)
    if unstable == 0:
        return f"{mean}: stable"
    if unstable == len(values):
        return f"{mean}: unstable"
    return f"{mean}: unstable in {unstable} of {len(values)} layers"


def silencing_text(silencing: Silencing) -> str:
    """What P(person) becomes without the selected neurons, beside what it becomes without random ones."""
    return (
        f"P(person) without them {silencing.probability:.2f}, without random neurons "
        f"{silencing.random_probability_mean:.2f} +- {silencing.random_probability_stddev:.2f}"
    )


def decision_text(probability: float, threshold: float) -> str:
    """The comparison that is the decision, "P(person) 0.97 >= 0.50".

    It has as many digits as it takes to tell P(person) from the threshold, and from certainty.
    """
    digits = 2
    while digits < DIGITS_MAX and any(
        probability != other and f"{probability:.{digits}f}" == f"{other:.{digits}f}" for other in (threshold, 0.0, 1.0)
    ):
        digits += 1
    sign = ">=" if probability >= threshold else "<"
    return f"P(person) {probability:.{digits}f} {sign} {threshold:.{digits}f}"


def trigger_text(trigger: str) -> str:
    """A trigger in words; unknown ones as they are."""
    return TRIGGERS.get(trigger, trigger)


def settings_text(explanation: Explanation) -> str:
    """What the explanation was made with, in short."""
    settings = explanation.settings
    length = f", {settings.noise_length:g} px" if settings.noise == "smooth" else ""
    if not explanation.perturbations:
        return "no perturbations"
    return f"n {explanation.perturbations}, sigma {settings.sigma:g} ({settings.noise}{length}), seed {settings.seed}"


def _headlines(probability: float, threshold: float, note: str) -> list[str]:
    """The headline in versions from long to short."""
    said = "Person" if probability >= threshold else "No person"
    decision = decision_text(probability, threshold)
    long = f"{said}: {decision}"
    return ([f"{long}   {note}"] if note else []) + [long, decision, f"P {probability:.2f}", f"{probability:.2f}", ""]


@dataclass(frozen=True)
class Legend:
    """A line of the legend: what it looks like, None for plain text, and what it means."""

    text: str
    colour: Colour | None = None
    width: int = 1
    dashed: bool = False
    tone: Colour = TEXT


def _legend(
    explanation: Explanation, rankings: Sequence[LayerRanking], regions: Sequence[Region] | None, top_n: int | None
) -> list[list[Legend]]:
    """The legend in parts, the most important first."""
    count = explanation.settings.top_n if top_n is None else min(top_n, explanation.settings.top_n)
    metrics = []
    for metric in dict.fromkeys(ranking.metric for ranking in rankings):
        own = [ranking for ranking in rankings if ranking.metric == metric]
        metrics.append(Legend(f"top {count} by {metric}"))
        if stability := stability_text(own):
            metrics.append(Legend(stability, tone=UNSTABLE if any(ranking.unstable for ranking in own) else MUTED))
    outlines = [Legend("explained window", EXPLAINED, 2), *_region_legend(explanation, regions)]
    return [metrics, list(group_legend(rankings)), outlines, [Legend(settings_text(explanation), tone=MUTED)]]


def group_legend(rankings: Sequence[LayerRanking]) -> Iterator[Legend]:
    """A line for each colour, and one more for those of its layers that are unstable."""
    for style in LAYER_STYLES:
        for unstable in (False, True):
            names = {
                ranking.layer: ranking.layer_name
                for ranking in rankings
                if style.first <= ranking.layer <= style.last and ranking.unstable == unstable
            }
            if names:
                yield Legend(
                    _names_text(names) + (" (unstable)" if unstable else ""), style.colour, style.width, unstable
                )


def _names_text(names: dict[int, str]) -> str:
    """Names by number, three and more in a row in short: "conv3_1 to conv3_3"."""
    texts: list[str] = []
    run: list[int] = []
    for layer in [*sorted(names), 0]:
        if run and layer != run[-1] + 1:
            whole = [names[run[0]], names[run[-1]]] if len(run) > 2 else [names[i] for i in run]
            texts.append((" to " if len(run) > 2 else ", ").join(whole))
            run = []
        run.append(layer)
    return ", ".join(texts)


def _region_legend(explanation: Explanation, regions: Sequence[Region] | None) -> Iterator[Legend]:
    others = other_regions(explanation, regions)
    if any(region.probability >= explanation.threshold for region in others):
        yield Legend("another person", PERSON)
    if any(not region.probability >= explanation.threshold for region in others):
        yield Legend("below the threshold", NO_PERSON)


def other_regions(explanation: Explanation, regions: Sequence[Region] | None) -> list[Region]:
    """The regions but the explained one."""
    own = explanation.region
    place = (own.x, own.y, own.width, own.height)
    return [region for region in regions or () if (region.x, region.y, region.width, region.height) != place]


# Boxes


@dataclass(frozen=True)
class View:
    """A part of a frame shown on a canvas; what is drawn through it stays on the canvas.

    canvas: uint8 [H, W, 3], often a slice of a larger picture.
    x, y: frame pixel in the canvas's top left corner.
    scale_x, scale_y: canvas pixels per frame pixel.
    """

    canvas: Image
    x: float = 0.0
    y: float = 0.0
    scale_x: float = 1.0
    scale_y: float = 1.0

    def box(self, area: Region | Patch) -> Rectangle:
        """(left, top, right, bottom) on the canvas, right and bottom exclusive, at least one pixel."""
        left, top = round((area.x - self.x) * self.scale_x), round((area.y - self.y) * self.scale_y)
        right = round((area.x + area.width - self.x) * self.scale_x)
        bottom = round((area.y + area.height - self.y) * self.scale_y)
        return left, top, max(right, left + 1), max(bottom, top + 1)


def draw_boxes(view: View, boxes: Sequence[Box], region: Region, labels: bool = False) -> None:
    """Draw the boxes of a region's neurons in their order, on request with layer and channel."""
    left, top, right, bottom = view.box(region)
    unit = min(_line_unit(view.canvas), (bottom - top) / THIN_BELOW, 2 * (right - left) / THIN_BELOW)
    for box in boxes:
        style = layer_style(box.neuron.layer)
        draw_box(view.canvas, view.box(box.patch), style.colour, max(1, round(style.width * unit)), box.unstable)
    if labels:
        tags = [
            (view.box(box.patch), f"{box.layer_name}/{box.neuron.channel}", layer_style(box.neuron.layer).colour)
            for box in reversed(boxes)
        ]
        _draw_tags(view.canvas, tags)


def _draw_tags(canvas: Image, tags: Sequence[Tag], top: int = 0) -> None:
    """Write at each box, (box, text, colour), the first ones where they please, later ones where there is room.

    Args:
        top: rows of the canvas that stay free of them.
    """
    size = max(STRIP_TEXT_MIN, round(TAG_TEXT * _strip_text(canvas)))
    height = line_height(size)
    taken: list[Rectangle] = []
    for (box_left, box_top, box_right, box_bottom), text, colour in tags:
        width = text_width(text, size) + 6
        if width > canvas.shape[1] or height > canvas.shape[0] - top:
            continue
        places = [
            (max(0, min(x, canvas.shape[1] - width)), max(top, min(y, canvas.shape[0] - height)))
            for y in (box_top - height - 2, box_bottom + 2, box_top, box_bottom - height)
            for x in (box_left, box_right - width)
        ]
        x, y = min(places, key=lambda place: sum(_shared((*place, width, height), other) for other in taken))
        taken.append((x, y, width, height))
        canvas[y : y + height, x : x + width] = colour
        put_text(canvas, text, x + 3, y, size, BLACK)


def _shared(one: Rectangle, other: Rectangle) -> int:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def draw_regions(view: View, explanation: Explanation, regions: Sequence[Region] | None) -> None:
    """Outline the other regions thinly, and the explained window, OUTLINE_GAP away from it, in white between black."""
    unit = _line_unit(view.canvas)
    for region in reversed(other_regions(explanation, regions)):
        colour = PERSON if region.probability >= explanation.threshold else NO_PERSON
        draw_box(view.canvas, view.box(region), colour, unit)
    gap = OUTLINE_GAP * unit
    left, top, right, bottom = view.box(explanation.region)
    own = (left - gap, top - gap, right + gap, bottom + gap)
    draw_box(view.canvas, own, BLACK, 4 * unit)
    draw_box(view.canvas, own, EXPLAINED, 3 * unit)
    draw_box(view.canvas, own, BLACK, unit)


def _line_unit(canvas: Image) -> int:
    return max(1, canvas.shape[0] // LINE_UNIT_HEIGHT)


# Where the frame's size is kept


def _strip_text(canvas: Image) -> int:
    """Text size for a picture of this size, pixels."""
    size = min(canvas.shape[0] * STRIP_TEXT_OF_HEIGHT, canvas.shape[1] * STRIP_TEXT_OF_WIDTH)
    return round(min(max(size, STRIP_TEXT_MIN), STRIP_TEXT_MAX))


def _draw_headline(canvas: Image, probability: float, threshold: float, note: str) -> int:
    """The headline on a strip at the top, as long as fits; returns the strip's height, 0 where none fits."""
    size = _strip_text(canvas)
    room = canvas.shape[1] - 2 * (size // 2)
    texts = _headlines(probability, threshold, note)
    headline = next((text for text in texts if text_width(text, size, True) <= room), "")
    height = line_height(size) + 4
    if not headline or height > STRIP_SHARE_MAX * canvas.shape[0]:
        return 0
    darken(canvas, 0, 0, canvas.shape[1], height, STRIP_OPACITY)
    put_text(canvas, headline, size // 2, 2, size, PERSON if probability >= threshold else TEXT, True)
    return height


def _draw_legend_strip(canvas: Image, legend: Sequence[Legend]) -> None:
    """As much of the legend as fits on a strip at the bottom."""
    height, width = canvas.shape[:2]
    size = _strip_text(canvas)
    margin, line = size // 2, line_height(size)
    rows = _flow(legend, size, width - 2 * margin)[: max(0, int((STRIP_SHARE_MAX * height - 4) // line))]
    if not rows:
        return
    top = height - len(rows) * line - 4
    darken(canvas, 0, top, width, height - top, STRIP_OPACITY)
    for row, items in enumerate(rows):
        for x, item in items:
            draw_legend(canvas, item, margin + x, top + 2 + row * line, size)


def _flow(legend: Sequence[Legend], size: int, width: int) -> list[list[tuple[int, Legend]]]:
    """Set the legend in rows: (x, line). What is wider than a row is left out."""
    rows: list[list[tuple[int, Legend]]] = []
    x = width + 1
    for item in legend:
        own = legend_width(item, size)
        if own > width:
            continue
        if x + own > width:
            rows.append([])
            x = 0
        rows[-1].append((x, item))
        x += own + size
    return rows


def legend_width(item: Legend, size: int) -> int:
    """Width of a line of the legend with its sample, pixels."""
    return text_width(item.text, size) + (_sample_width(size) if item.colour else 0)


def _sample_width(size: int) -> int:
    return round(2.4 * size)


def draw_legend(canvas: Image, item: Legend, x: int, y: int, size: int, max_width: int | None = None) -> None:
    """A sample box and what it means."""
    if item.colour:
        height = round(0.62 * size)
        top = y + round(0.62 * size) - height // 2
        sample = (x + item.width, top + item.width, x + round(1.9 * size), top + height - item.width)
        draw_box(canvas, sample, item.colour, item.width, item.dashed)
        x += _sample_width(size)
        max_width = None if max_width is None else max_width - _sample_width(size)
    put_text(canvas, item.text, x, y, size, item.tone, max_width=max_width)


# Where there is a panel beside the frame


def _with_panel(
    frame: Image,
    explanation: Explanation,
    rankings: Sequence[LayerRanking],
    boxes: Sequence[Box],
    regions: Sequence[Region] | None,
    trigger: str,
    labels: bool,
    top_n: int | None,
) -> Image:
    scale = max(1.0, min(READABLE_WIDTH / frame.shape[1], READABLE_HEIGHT / frame.shape[0]))
    width, height = round(frame.shape[1] * scale), round(frame.shape[0] * scale)
    unit = max(1.0, height / READABLE_HEIGHT)
    panel = np.empty((max(height, round(PANEL_HEIGHT_MAX * unit)), round(PANEL_WIDTH * unit), 3), np.uint8)
    panel[:] = BACKGROUND
    used = _draw_panel(panel, explanation, rankings, regions, trigger, top_n, unit)
    margin, text = round(PANEL_MARGIN * unit), round(PANEL_TEXT * unit)
    top = used + line_height(text)
    room = (panel.shape[1] - 2 * margin, height - top - margin)
    gain = min(room[0] / explanation.region.width, room[1] / explanation.region.height)
    if room[1] >= INSET_HEIGHT_MIN * unit and gain >= INSET_GAIN * scale:
        put_text(panel, "the window, enlarged", margin, used, text, MUTED)
        right = margin + round(gain * explanation.region.width)
        inset = panel[top : top + round(gain * explanation.region.height), margin:right]
        enlarge(inset, frame, explanation, boxes)

    canvas = np.empty((max(height, used), width + panel.shape[1], 3), np.uint8)
    canvas[:, width:] = panel[: len(canvas)]
    canvas[height:, :width] = BACKGROUND
    shown = canvas[:height, :width]
    shown[:] = resized(frame, width, height)
    view = View(shown, 0, 0, width / frame.shape[1], height / frame.shape[0])
    draw_regions(view, explanation, regions)
    draw_boxes(view, boxes, explanation.region, labels)
    return canvas


def enlarge(canvas: Image, frame: Image, explanation: Explanation, boxes: Sequence[Box]) -> None:
    """Fill a canvas with the explained window and its boxes; outside of the frame, the frame's edge is repeated."""
    region = explanation.region
    height, width = canvas.shape[:2]
    canvas[:] = crop(frame, region.x, region.y, region.width, region.height, (width, height))
    view = View(canvas, region.x, region.y, width / region.width, height / region.height)
    draw_boxes(view, boxes, region)


def _draw_panel(
    panel: Image,
    explanation: Explanation,
    rankings: Sequence[LayerRanking],
    regions: Sequence[Region] | None,
    trigger: str,
    top_n: int | None,
    unit: float,
) -> int:
    """Write the panel; returns how much of its height was used."""
    margin, text, title = round(PANEL_MARGIN * unit), round(PANEL_TEXT * unit), round(PANEL_TITLE * unit)
    width = panel.shape[1] - 2 * margin
    accent = PERSON if explanation.person else TEXT
    y = margin
    put_text(panel, "Person" if explanation.person else "No person", margin, y, title, accent, True, width)
    y += line_height(title)
    lines = [decision_text(explanation.region.probability, explanation.threshold)]
    if trigger:
        lines.append(f"trigger: {trigger_text(trigger)}")
    for line in (part for whole in lines for part in wrap(whole, text, width)):
        put_text(panel, line, margin, y, text, TEXT, max_width=width)
        y += line_height(text)
    for part in _legend(explanation, rankings, regions, top_n):
        y += margin // 2
        for item in part:
            for line in wrap(item.text, text, width - (_sample_width(text) if item.colour else 0)):
                draw_legend(panel, dataclasses.replace(item, text=line), margin, y, text, width)
                y += line_height(text)
                item = dataclasses.replace(item, colour=None)
    return y + margin
