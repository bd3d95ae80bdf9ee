"""Titles, meanings and colours for the pages: metrics by the registry, layers as in the pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from explain_cnn_ros.draw.captions import metric_caption, metric_title, target_probability, target_text
from explain_cnn_ros.draw.style import LayerStyle, layer_style, layer_styles
from explain_cnn_ros.explain.metrics import metric_names
from explain_cnn_ros.explain.metrics.registry import SIMILARITY_METRICS, SUPPORTING
from explain_cnn_ros.explain.network_adapter import PERSON
from explain_cnn_ros.explain.settings import ExplainSettings

#: The metric that pages show first, if an analysis has it.
FIRST_METRIC = SUPPORTING


def legend(metrics: Collection[str], layers: Mapping[int, str], settings: ExplainSettings | None) -> dict[str, Any]:
    """Return the texts and colours of a page, as plain values for JSON.

    A metric that is not registered has its name as title and no caption: the analysis may be one of another version.

    Args:
        metrics: Names of the metrics.
        layers: Names of the layers by number.
        settings: Settings of the explanations; None for no captions.
    """
    registered, styles = metric_names(), layer_styles(layers)
    ordered = [name for name in registered if name in metrics] + sorted(set(metrics) - set(registered))
    return {
        "metrics": {
            name: {"title": metric_title(name), "caption": metric_caption(name, settings) if settings else ""}
            for name in ordered
        },
        "first_metric": FIRST_METRIC if FIRST_METRIC in ordered else next(iter(ordered), ""),
        "similarity_metrics": [metric_title(name) for name in SIMILARITY_METRICS],
        "layers": {layer: _style(layer_style(layer, styles)) for layer in sorted(layers)},
    }


def target_texts(target: str) -> dict[str, Any]:
    """Return how pages call the classes that explanations are about, as plain values for JSON.

    Args:
        target: Names of the classes, separated by commas; "person" for those that count as a person.

    Returns:
        Under "person", whether they are those that count as a person; under "text", their names; under "about", the
        same in a sentence; under "probability", the name of their probability.
    """
    text, person = target_text(target), target == PERSON
    return {
        "person": person,
        "text": text,
        "about": "the person" if person else f"\N{LEFT DOUBLE QUOTATION MARK}{text}\N{RIGHT DOUBLE QUOTATION MARK}",
        "probability": target_probability(target),
    }


def _style(style: LayerStyle) -> dict[str, Any]:
    red, green, blue = style.colour
    return {"colour": f"#{red:02x}{green:02x}{blue:02x}", "width": style.width}
