"""What neurons are selected by, and how that is called: a metric, with the noise where it is not the paper's."""

from __future__ import annotations

#: What is called a metric here, but is none: neurons drawn at random.
RANDOM = "random neurons"


def selector(metric: str, preset: str) -> str:
    """How a metric with the noise of a preset is called."""
    return metric if preset == "paper" else f"{metric}, {preset} noise"


def parts(name: str) -> tuple[str, str]:
    """Metric and preset of what `selector` called so."""
    metric, _, noise = name.partition(", ")
    return metric, noise.removesuffix(" noise") or "paper"
