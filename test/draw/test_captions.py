"""Texts about explanations."""

from __future__ import annotations

import dataclasses

import pytest
from draw_kit import PATCH, explanation, ranking

from explain_cnn_ros.draw.captions import (
    decision_text,
    metric_caption,
    metric_title,
    settings_text,
    stability_text,
    trigger_text,
)
from explain_cnn_ros.explain.metrics import metric, metric_names
from explain_cnn_ros.explain.settings import ExplainSettings


@pytest.mark.parametrize(
    ("probability", "threshold", "text"),
    [
        (0.97, 0.5, "P(person) 0.97 >= 0.50"),
        (0.31, 0.5, "P(person) 0.31 < 0.50"),
        (0.5, 0.5, "P(person) 0.50 >= 0.50"),
        (0.4996, 0.5, "P(person) 0.4996 < 0.5000"),
        (0.50004, 0.5, "P(person) 0.50004 >= 0.50000"),
        (0.9982, 0.5, "P(person) 0.998 >= 0.500"),
        (1.0, 0.5, "P(person) 1.00 >= 0.50"),
        (1e-9, 0.5, "P(person) 0.000000 < 0.500000"),
    ],
)
def test_decision_text_has_as_many_digits_as_are_needed(probability, threshold, text):
    assert decision_text(probability, threshold) == text


def test_stability_text():
    stable, unstable = ranking(3, [PATCH]), ranking(4, [PATCH], unstable=True)
    assert stability_text([unstable]) == "stability 0.04: unstable"
    assert stability_text([stable]) == "stability 1.00: stable"
    assert stability_text([stable, unstable]) == "stability 0.52: unstable in 1 of 2 layers"
    assert stability_text([ranking(3, [PATCH], "weight_sum")]) == ""
    unknown = dataclasses.replace(unstable, stability=float("nan"))
    assert stability_text([unknown]) == "stability unknown: unstable"


@pytest.mark.parametrize(
    ("noise", "text"),
    [
        ("white", "n 50, sigma 0.1 (white), seed 3"),
        ("ramp", "n 50, sigma 0.1 (ramp), seed 3"),
        ("smooth", "n 50, sigma 0.1 (smooth, 26.5 px), seed 3"),
        ("orthogonal", "n 50, sigma 0.1 (orthogonal, 26.5 px), seed 3"),
    ],
)
def test_settings_text_has_the_length_of_noise_that_depends_on_it(noise, text):
    e = explanation(noise=noise, noise_length=26.5, seed=3)
    assert settings_text(e) == text
    assert settings_text(dataclasses.replace(e, perturbations=0)) == "no perturbations"


def test_known_triggers_are_written_in_words():
    assert trigger_text("service") == "requested by service"
    assert trigger_text("low_confidence") == "low confidence"
    assert trigger_text("a_button") == "a_button"


def test_titles_and_captions_of_metrics_are_those_of_the_registry(registered_metric):
    settings = ExplainSettings()
    assert registered_metric in metric_names()
    for name in metric_names():
        assert metric_title(name) == metric(name).title
        assert metric_caption(name, settings) == metric(name).caption(settings) != ""
    assert metric_title(registered_metric) == "dead positions"
    assert metric_caption(registered_metric, settings) == "rarely active"


def test_metric_that_is_not_registered_has_its_name_as_title_and_no_caption():
    assert metric_title("share_of_zeros") == "share of zeros"
    assert metric_caption("share_of_zeros", ExplainSettings()) == ""


@pytest.mark.parametrize("weights", ["outgoing", "incoming"])
def test_caption_names_the_direction_of_the_weights(weights):
    settings = ExplainSettings(weights=weights)
    assert metric_caption("weight_sum", settings) == f"largest {weights} weights"
    assert metric_caption("weight_variance", settings) == f"most varied {weights} weights"
