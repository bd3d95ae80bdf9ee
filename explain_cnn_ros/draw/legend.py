"""The legend: its entries, and how one is drawn. Where the entries are placed is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from explain_cnn_ros.draw.boxes import other_regions
from explain_cnn_ros.draw.canvas import MUTED, TEXT, Colour, Image, draw_box, put_text, text_width
from explain_cnn_ros.draw.captions import metric_title, settings_text, stability_text
from explain_cnn_ros.draw.style import (
    EXPLAINED_COLOUR,
    LAYER_STYLES,
    NO_PERSON_COLOUR,
    PERSON_COLOUR,
    UNSTABLE_COLOUR,
)
from explain_cnn_ros.explain.explanation import Explanation, LayerRanking
from explain_cnn_ros.model.windows import Region


@dataclass(frozen=True)
class LegendEntry:
    """A text with an optional sample of a line.

    Attributes:
        text: The meaning of the line, or a text without a line.
        colour: Colour of the line; None for a text without a line.
        width: Width of the line, in pixels.
        dashed: Whether the line is dashed.
        tone: Colour of the text.
    """

    text: str
    colour: Colour | None = None
    width: int = 1
    dashed: bool = False
    tone: Colour = TEXT


def legend_entries(
    explanation: Explanation, rankings: Sequence[LayerRanking], regions: Sequence[Region] | None, top_n: int | None
) -> list[list[LegendEntry]]:
    """Return the legend of an overlay.

    Args:
        explanation: The explanation.
        rankings: Those of its rankings that are shown.
        regions: Regions of the frame that are shown; None counts as none.
        top_n: Maximum number of neurons of each ranking that are shown; None: all of them.

    Returns:
        Groups of entries, the most important group first: metrics, layers, windows, settings.
    """
    count = explanation.settings.top_n if top_n is None else min(top_n, explanation.settings.top_n)
    metrics = []
    for metric in dict.fromkeys(ranking.metric for ranking in rankings):
        own = [ranking for ranking in rankings if ranking.metric == metric]
        metrics.append(LegendEntry(f"top {count} by {metric_title(metric)}"))
        if stability := stability_text(own):
            tone = UNSTABLE_COLOUR if any(ranking.unstable for ranking in own) else MUTED
            metrics.append(LegendEntry(stability, tone=tone))
    windows = [LegendEntry("explained window", EXPLAINED_COLOUR, 2), *_region_entries(explanation, regions)]
    return [metrics, list(layer_entries(rankings)), windows, [LegendEntry(settings_text(explanation), tone=MUTED)]]


def layer_entries(rankings: Sequence[LayerRanking]) -> Iterator[LegendEntry]:
    """Yield an entry for the stable and one for the unstable layers of each layer style, if there are such layers."""
    for style in LAYER_STYLES:
        for unstable in (False, True):
            names = {
                ranking.layer: ranking.layer_name
                for ranking in rankings
                if style.first <= ranking.layer <= style.last and ranking.unstable == unstable
            }
            if names:
                suffix = " (unstable)" if unstable else ""
                yield LegendEntry(_names_text(names) + suffix, style.colour, style.width, unstable)


def _names_text(names: dict[int, str]) -> str:
    """Join names by their numbers; three or more consecutive ones become, for instance, "conv3_1 to conv3_3"."""
    texts: list[str] = []
    run: list[int] = []
    for layer in [*sorted(names), 0]:
        if run and layer != run[-1] + 1:
            whole = [names[run[0]], names[run[-1]]] if len(run) > 2 else [names[i] for i in run]
            texts.append((" to " if len(run) > 2 else ", ").join(whole))
            run = []
        run.append(layer)
    return ", ".join(texts)


def _region_entries(explanation: Explanation, regions: Sequence[Region] | None) -> Iterator[LegendEntry]:
    """Yield an entry for each colour of the other regions."""
    others = other_regions(explanation, regions)
    if any(region.probability >= explanation.threshold for region in others):
        yield LegendEntry("another person", PERSON_COLOUR)
    if any(not region.probability >= explanation.threshold for region in others):
        yield LegendEntry("below the threshold", NO_PERSON_COLOUR)


def sample_width(entry: LegendEntry, size: int) -> int:
    """Return the width that the sample takes beside a text of this size, in pixels; 0 for an entry without one."""
    return round(2.4 * size) if entry.colour else 0


def entry_width(entry: LegendEntry, size: int) -> int:
    """Return the width of an entry with a text of this size, in pixels."""
    return text_width(entry.text, size) + sample_width(entry, size)


def draw_entry(canvas: Image, entry: LegendEntry, x: int, y: int, size: int, max_width: int | None = None) -> None:
    """Draw the sample of an entry, and write its text to the right.

    Args:
        canvas: uint8 [H, W, 3]; modified.
        entry: The entry.
        x: Left edge of the entry.
        y: Top edge of the entry.
        size: Text size, in pixels.
        max_width: The text is shortened so that the entry has at most this width, in pixels; None: it is not shortened.
    """
    sample = sample_width(entry, size)
    if entry.colour:
        height = round(0.62 * size)
        top = y + round(0.62 * size) - height // 2
        box = (x + entry.width, top + entry.width, x + round(1.9 * size), top + height - entry.width)
        draw_box(canvas, box, entry.colour, entry.width, entry.dashed)
    put_text(
        canvas, entry.text, x + sample, y, size, entry.tone, max_width=None if max_width is None else max_width - sample
    )
