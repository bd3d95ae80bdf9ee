"""The legend: its entries, and how one is drawn. Where the entries are placed is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from explain_cnn_ros.draw.boxes import argues, opposes, other_regions, region_colour
from explain_cnn_ros.draw.canvas import MUTED, TEXT, Colour, Image, abbreviated, draw_box, put_text, text_width
from explain_cnn_ros.draw.captions import (
    metric_caption,
    metric_title,
    proof_text,
    proof_warning,
    settings_text,
    stability_text,
)
from explain_cnn_ros.draw.style import (
    EXPLAINED_COLOUR,
    NO_PERSON_COLOUR,
    PERSON_COLOUR,
    UNSTABLE_COLOUR,
    layer_styles,
)
from explain_cnn_ros.explain.explanation import Explanation, LayerRanking
from explain_cnn_ros.explain.network_adapter import PERSON
from explain_cnn_ros.model.windows import Region

#: Height of the sample of a line, as a share of the text size. Corners need more room to be recognized.
SAMPLE_HEIGHT, CORNERS_HEIGHT = 0.62, 0.9

#: Maximum number of characters of a layer's name where there is little room.
SHORT_NAME = 16


@dataclass(frozen=True)
class LegendEntry:
    """A text with an optional sample of a line.

    Attributes:
        text: The meaning of the line, or a text without a line.
        colour: Colour of the line; None for a text without a line.
        width: Width of the line, in pixels.
        dashed: Whether the line is dashed.
        corners: Whether only the corners of the box are drawn.
        tone: Colour of the text.
        short: Shorter text for where the text does not fit on a line; "" for none.
    """

    text: str
    colour: Colour | None = None
    width: int = 1
    dashed: bool = False
    corners: bool = False
    tone: Colour = TEXT
    short: str = ""


def legend_entries(
    explanation: Explanation, rankings: Sequence[LayerRanking], regions: Sequence[Region] | None, top_n: int | None
) -> list[list[LegendEntry]]:
    """Return the legend of an overlay.

    Args:
        explanation: The explanation.
        rankings: Those of its rankings that are shown, with the neurons that are shown.
        regions: Regions of the frame that are shown; None counts as none.
        top_n: Maximum number of neurons of each ranking that are shown; None: no maximum.

    Returns:
        Groups of entries, the most important group first: metrics, layers, windows, settings.
    """
    count = explanation.settings.top_n if top_n is None else min(top_n, explanation.settings.top_n)
    metrics: list[LegendEntry] = []
    for name in dict.fromkeys(ranking.metric for ranking in rankings):
        if argues(name):
            metrics += _argument_entries(explanation, name)
        else:
            metrics.append(LegendEntry(f"top {count} by {metric_title(name)}"))
            metrics += _stability_entries(explanation, name)
    metrics += _limit_entries(explanation, rankings, top_n)
    windows = [LegendEntry("explained window", EXPLAINED_COLOUR, 2), *_region_entries(explanation, regions)]
    return [metrics, list(layer_entries(rankings)), windows, [LegendEntry(settings_text(explanation), tone=MUTED)]]


def _argument_entries(explanation: Explanation, name: str) -> Iterator[LegendEntry]:
    """Yield the entries of a metric whose neurons support or oppose the decision: line and proof, and warnings."""
    caption = metric_caption(name, explanation.settings)
    proof = explanation.proof(name)
    if not any(ranking.neurons for ranking in explanation.rankings if ranking.metric == name):
        text = f"{caption}: no neuron"
    else:
        text = f"{caption}: {proof_text(proof, target=explanation.target)}" if proof else caption
    yield LegendEntry(text, TEXT, 2, corners=opposes(name), short=caption)
    if proof and (warning := proof_warning(proof)):
        yield LegendEntry(warning, tone=UNSTABLE_COLOUR, short="do not rely on it")


def _limit_entries(
    explanation: Explanation, rankings: Sequence[LayerRanking], top_n: int | None
) -> Iterator[LegendEntry]:
    """Yield an entry that says which neurons are drawn, if not all that support or oppose the decision are."""
    names = {ranking.metric for ranking in rankings if argues(ranking.metric)}
    drawn, selected = (
        sum(len(ranking.neurons) for ranking in some if ranking.metric in names)
        for some in (rankings, explanation.rankings)
    )
    if drawn < selected:
        text = "drawn: the strongest at each place" if top_n is None else f"drawn: the top {top_n} of each layer"
        yield LegendEntry(text, tone=MUTED)


def _stability_entries(explanation: Explanation, name: str) -> Iterator[LegendEntry]:
    """Yield an entry with the stability of a metric, if it has one."""
    rankings = [ranking for ranking in explanation.rankings if ranking.metric == name]
    if text := stability_text(rankings):
        yield LegendEntry(text, tone=UNSTABLE_COLOUR if any(ranking.unstable for ranking in rankings) else MUTED)


def layer_entries(rankings: Sequence[LayerRanking]) -> Iterator[LegendEntry]:
    """Yield an entry for the stable and one for the unstable layers with neurons of each layer style."""
    explained = {ranking.layer: ranking.layer_name for ranking in rankings}
    for style in layer_styles(explained):
        for unstable in (False, True):
            names = {
                ranking.layer: ranking.layer_name
                for ranking in rankings
                if style.first <= ranking.layer <= style.last and ranking.unstable == unstable and ranking.neurons
            }
            if names:
                suffix = " (unstable)" if unstable else ""
                text = names_text(names)
                brief = names_text({layer: abbreviated(name, SHORT_NAME) for layer, name in names.items()})
                short = "" if brief == text else brief + suffix
                yield LegendEntry(text + suffix, style.colour, style.width, unstable, short=short)


def names_text(names: dict[int, str]) -> str:
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
    if explanation.target != PERSON:
        if others:
            yield LegendEntry("another region", region_colour(explanation, others[0]))
        return
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
        height = round((CORNERS_HEIGHT if entry.corners else SAMPLE_HEIGHT) * size)
        top = y + round(0.62 * size) - height // 2
        box = (x + entry.width, top + entry.width, x + round(1.9 * size), top + height - entry.width)
        draw_box(canvas, box, entry.colour, entry.width, entry.dashed, entry.corners)
    put_text(
        canvas, entry.text, x + sample, y, size, entry.tone, max_width=None if max_width is None else max_width - sample
    )
