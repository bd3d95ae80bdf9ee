"""Names of the ways in which neurons are selected: a metric, with the noise if it is not the noise of the paper."""

from __future__ import annotations

from explain_cnn_ros.explain.metrics import PAPER_METRICS, metric

#: The paper's metrics that depend on the noise.
PERTURBED_METRICS = tuple(name for name in PAPER_METRICS if metric(name).perturbed)

#: Name of the baseline: neurons that are drawn at random.
RANDOM = "random neurons"


def selector(metric_name: str, preset: str) -> str:
    """Return the name of a metric with the noise of a preset."""
    return metric_name if preset == "paper" else f"{metric_name}, {preset} noise"


def parts(name: str) -> tuple[str, str]:
    """Split a name that `selector` returned into metric and preset."""
    metric_name, _, noise = name.partition(", ")
    return metric_name, noise.removesuffix(" noise") or "paper"
