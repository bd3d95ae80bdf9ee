"""Texts about explanations, without their drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from explain_cnn_ros.explain.explanation import Explanation, LayerRanking, Silencing
from explain_cnn_ros.explain.metrics import metric
from explain_cnn_ros.explain.settings import ExplainSettings

#: Maximum number of digits of a P(person) that is close to 0, to 1 or to the threshold.
DIGITS_MAX = 6

#: Texts for the causes of an explanation.
TRIGGERS = {"service": "requested by service", "low_confidence": "low confidence"}

#: Shapes of noise that depend on `ExplainSettings.noise_length`.
NOISES_WITH_LENGTH = ("smooth", "orthogonal")


def metric_title(name: str) -> str:
    """Return the title of a metric.

    An explanation that another process computed may contain a metric that is not registered here. Its title is its name
    with blanks.
    """
    try:
        return metric(name).title
    except KeyError:
        return name.replace("_", " ")


def metric_caption(name: str, settings: ExplainSettings) -> str:
    """Return the meaning of a high score by a metric, or "" if the metric is not registered."""
    try:
        entry = metric(name)
    except KeyError:
        return ""
    return entry.caption(settings)


def decision_text(probability: float, threshold: float) -> str:
    """Return the comparison that is the decision, for instance "P(person) 0.97 >= 0.50".

    The numbers have two digits. They have up to DIGITS_MAX if P(person) would otherwise look equal to the threshold, to
    0 or to 1.
    """
    digits = 2
    while digits < DIGITS_MAX and any(
        probability != other and f"{probability:.{digits}f}" == f"{other:.{digits}f}" for other in (threshold, 0.0, 1.0)
    ):
        digits += 1
    sign = ">=" if probability >= threshold else "<"
    return f"P(person) {probability:.{digits}f} {sign} {threshold:.{digits}f}"


def headlines(probability: float, threshold: float, note: str) -> list[str]:
    """Return a headline about the decision in several versions, from the longest to the empty one.

    Args:
        probability: P(person).
        threshold: The decision is "person" if P(person) is at least this.
        note: Text that the longest version adds; "" for none.
    """
    label = "Person" if probability >= threshold else "No person"
    decision = decision_text(probability, threshold)
    long = f"{label}: {decision}"
    return ([f"{long}   {note}"] if note else []) + [long, decision, f"P {probability:.2f}", f"{probability:.2f}", ""]


def trigger_text(trigger: str) -> str:
    """Return the cause of an explanation in words. Unknown causes are returned unchanged."""
    return TRIGGERS.get(trigger, trigger)


def settings_text(explanation: Explanation) -> str:
    """Return the settings of the perturbations, for instance "n 50, sigma 0.1 (white), seed 0"."""
    settings = explanation.settings
    length = f", {settings.noise_length:g} px" if settings.noise in NOISES_WITH_LENGTH else ""
    if not explanation.perturbations:
        return "no perturbations"
    return f"n {explanation.perturbations}, sigma {settings.sigma:g} ({settings.noise}{length}), seed {settings.seed}"


def stability_text(rankings: Sequence[LayerRanking]) -> str:
    """Return the mean stability of rankings of several layers, and whether they are stable.

    Returns:
        For instance "stability 0.52: unstable in 1 of 2 layers". "" if no ranking has a stability.
    """
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
    """Return P(person) without the selected neurons, and P(person) without random neurons for comparison."""
    return (
        f"P(person) without them {silencing.probability:.2f}, without random neurons "
        f"{silencing.random_probability_mean:.2f} +- {silencing.random_probability_stddev:.2f}"
    )
