"""Texts about explanations."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from draw_kit import PATCH, REGION, explanation, proof, ranking
from hypothesis import given
from hypothesis import strategies as st

from explain_cnn_ros.draw.captions import (
    argument_title,
    decision_text,
    effect_meaning,
    effect_text,
    effect_unit,
    margin_text,
    metric_caption,
    metric_title,
    percent,
    probability_text,
    proof_details,
    proof_sentences,
    proof_text,
    proof_warning,
    settings_text,
    stability_text,
    trigger_text,
)
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING, metric, metric_names
from explain_cnn_ros.explain.settings import ExplainSettings


@pytest.mark.parametrize(
    ("probability", "threshold", "text"),
    [
        (0.97, 0.5, "P(person) 0.97, threshold 0.50"),
        (0.31, 0.905, "P(person) 0.31, threshold 0.905"),
        (0.5, 0.5, "P(person) is the threshold 0.50"),
        (0.498, 0.5, "P(person) 0.498, threshold 0.500"),
        (0.4996, 0.5, "P(person) just below the threshold 0.50"),
        (0.50004, 0.5, "P(person) just above the threshold 0.50"),
        (0.9982, 0.5, "P(person) 0.998, threshold 0.50"),
        (0.9982, 0.999, "P(person) 0.998, threshold 0.999"),
        (1.0, 0.5, "P(person) >0.999, threshold 0.50"),
        (1e-9, 0.5, "P(person) <0.001, threshold 0.50"),
        (0.0003, 0.0, "P(person) just above the threshold 0.00"),
    ],
)
def test_decision_text_has_as_many_digits_as_are_needed(probability, threshold, text):
    assert decision_text(probability, threshold) == text


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.0, "<0.001"),
        (0.00049, "<0.001"),
        (0.0006, "0.001"),
        (0.0042, "0.004"),
        (0.01, "0.01"),
        (0.3134, "0.31"),
        (0.99, "0.99"),
        (0.9912, "0.991"),
        (0.9994, "0.999"),
        (0.9995, ">0.999"),
        (1.0, ">0.999"),
        (math.nan, "unknown"),
    ],
)
def test_probability_has_at_most_three_digits(probability, text):
    assert probability_text(probability) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.71, "71 %"),
        (2.04, "204 %"),
        (0.0949, "9.5 %"),
        (0.0996, "10 %"),
        (-0.025, "-2.5 %"),
        (-0.00002, "0 %"),
        (0.0, "0 %"),
        (9.994, "999 %"),
        (9.996, ">999 %"),
        (-1e9, "<-999 %"),
        (math.inf, ">999 %"),
        (math.nan, "unknown"),
    ],
)
def test_percent_has_at_most_three_digits(share, text):
    assert percent(share) == text


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_shares_and_probabilities_never_have_more_than_three_digits(value):
    for text in (percent(value), probability_text(value)):
        digits = re.sub(r"^0\.", "", re.sub(r"[^0-9.]", "", text)).replace(".", "")
        assert len(digits) <= 3
        assert len(text) <= 8


@pytest.mark.parametrize(
    ("metric", "neurons", "share", "text"),
    [
        (SUPPORTING, 35, 0.71, "these 35 neurons carry 71 % of the margin"),
        (SUPPORTING, 1, 0.034, "this neuron carries 3.4 % of the margin"),
        (SUPPORTING, 35, 1.0, "these 35 neurons carry 100 % of the margin"),
        (SUPPORTING, 35, 1.004, "these 35 neurons carry 100 % of the margin"),
        (SUPPORTING, 35, 2.04, "these 35 neurons carry more than the whole margin (204 %)"),
        (SUPPORTING, 35, 25.0, "these 35 neurons carry more than the whole margin (>999 %)"),
        (SUPPORTING, 35, -0.1, "without these 35 neurons the margin would be 10 % larger"),
        (SUPPORTING, 35, math.nan, "without these 35 neurons P(person) would be 0.12"),
        (SUPPORTING, 0, 0.0, "no neuron supports the decision"),
        (OPPOSING, 35, -0.23, "without these 35 neurons the margin would be 23 % larger"),
        (OPPOSING, 1, -0.23, "without this neuron the margin would be 23 % larger"),
        (OPPOSING, 35, 0.05, "without these 35 neurons the margin would be 5.0 % smaller"),
        (OPPOSING, 35, 1.5, "without these 35 neurons P(person) would be 0.12"),
        (OPPOSING, 35, 0.0, "without these 35 neurons the margin would be the same"),
        (OPPOSING, 35, math.nan, "without these 35 neurons P(person) would be 0.12"),
        (OPPOSING, 0, 0.0, "no neuron opposes the decision"),
    ],
)
def test_proof_text(metric, neurons, share, text):
    assert proof_text(proof(metric, neurons, share)) == text


def test_proof_that_disagrees_has_a_warning():
    assert proof_warning(proof()) == ""
    warning = proof_warning(proof(error=0.42, disagrees=True))
    assert warning == "predicted and measured change differ by 42 %: do not rely on it"


def test_sentences_about_a_proof_say_what_the_decision_would_be():
    e = explanation()
    beginning = "The 35 strongest neurons carry 71 % of the margin."
    assert proof_sentences(e, proof(probability=0.6)) == f"{beginning} P(person) would be 0.60 without them."
    other = "The decision would be the other one without them: P(person) 0.12."
    assert proof_sentences(e, proof()) == f"{beginning} {other}"
    larger = "Without the 35 strongest neurons the margin would be 23 % larger."
    assert proof_sentences(e, proof(OPPOSING, share=-0.23, probability=0.99)) == larger
    unsure = proof(share=math.nan, probability=0.6)
    assert proof_sentences(e, unsure) == "Without the 35 strongest neurons P(person) would be 0.60."
    flipped = "Without the 35 strongest neurons P(person) would be 0.12, and the decision would be the other one."
    assert proof_sentences(e, proof(share=math.nan)) == flipped
    assert proof_sentences(e, proof(neurons=1, share=0.5, probability=0.9)).startswith("This neuron carries 50 %")
    assert proof_sentences(e, proof(OPPOSING, neurons=0)) == "No neuron opposes the decision."


def test_details_of_a_proof_need_measured_neurons():
    assert proof_details(proof(error=0.13)) == (
        "Proof, neuron by neuron: 35 of 35 change the output in the predicted direction, by amounts "
        "that differ by 13 %."
    )
    assert proof_details(proof(error=math.nan)) == ""


@pytest.mark.parametrize(
    ("output", "person", "settings", "texts"),
    [
        (4.0, True, {}, ("25 %", "-2.5 %", "of the margin")),
        (-4.0, False, {}, ("-25 %", "2.5 %", "of the margin")),
        # The margin is on the person's side, but not enough for the threshold.
        (1.0, False, {}, ("P 0.50", "P 0.75", "without it")),
        (0.9, True, {"output": "probability"}, ("P <0.001", "P >0.999", "without it")),
        (-900.0, True, {}, ("P <0.001", "P <0.001", "without it")),
    ],
)
def test_effect_of_a_neuron_is_a_share_of_the_margin_that_argues_for_the_decision(output, person, settings, texts):
    region = dataclasses.replace(REGION, probability=0.97 if person else 0.4)
    e = dataclasses.replace(explanation(region=region, **settings), output=output)
    assert (effect_text(e, 1.0), effect_text(e, -0.1), effect_unit(e)) == texts
    assert ("Percentages" in effect_meaning(e)) == (texts[2] == "of the margin")
    assert ("Margin:" in margin_text(e)) == (texts[2] == "of the margin")


def test_heading_of_arguments_fits_the_decision():
    assert argument_title(True, SUPPORTING) == "What speaks for a person"
    assert argument_title(True, OPPOSING) == "What speaks against a person, and is too weak"
    assert argument_title(False, SUPPORTING) == "What speaks against a person"
    assert argument_title(False, OPPOSING) == "What speaks for a person, and is too weak"


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
