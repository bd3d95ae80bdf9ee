"""Names of the ways in which neurons are selected: a metric, with the noise if it is not the noise of the paper."""

from __future__ import annotations

from typing import Any

from explain_cnn_ros.explain.metrics import DEFAULT_METRICS, OPPOSING, PAPER_METRICS, SUPPORTING, Reads, metric
from explain_cnn_ros.explain.settings import PRESETS, ExplainSettings

#: The two metrics of influence.
INFLUENCE_METRICS = (SUPPORTING, OPPOSING)

#: The paper's metrics that depend on the noise.
PERTURBED_METRICS = tuple(name for name in PAPER_METRICS if metric(name).reads is Reads.PERTURBATIONS)

#: All metrics that depend on the noise.
NOISY_METRICS = (*INFLUENCE_METRICS, *PERTURBED_METRICS)

#: The preset without noise: influence of the image alone.
LIVE = "live"

#: Name of the baseline: neurons that are drawn at random.
RANDOM = "random neurons"

_IMAGE_ALONE = "image alone"


def selector(metric_name: str, preset: str) -> str:
    """Return the name of a metric with the noise of a preset."""
    noise = {"paper": "", LIVE: f", {_IMAGE_ALONE}"}.get(preset, f", {preset} noise")
    return metric_name + noise


def parts(name: str) -> tuple[str, str]:
    """Split a name that `selector` returned into metric and preset."""
    metric_name, _, noise = name.partition(", ")
    preset = LIVE if noise == _IMAGE_ALONE else noise.removesuffix(" noise")
    return metric_name, preset or "paper"


def metrics_with(preset: str) -> tuple[str, ...]:
    """Return influence and the paper's metrics, except those that a preset cannot compute for lack of perturbations."""
    return DEFAULT_METRICS if PRESETS[preset].get("perturbations", 1) else INFLUENCE_METRICS


def settings_with(preset: str, **changes: Any) -> ExplainSettings:
    """Return the settings of a preset with all metrics that it can compute, the same N for all, and without proofs.

    Args:
        preset: Name of the preset.
        **changes: Fields that differ.
    """
    common = {"metrics": metrics_with(preset), "top_n": ExplainSettings().top_n, "proof": "none"}
    return ExplainSettings.preset(preset, **(common | changes))


#: The selector that other selectors are compared with, and the same of the image alone.
INFLUENCE, INFLUENCE_ALONE = selector(SUPPORTING, "paper"), selector(SUPPORTING, LIVE)
