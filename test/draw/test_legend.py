"""The entries of the legend."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from draw_kit import CORRELATION, PATCH, PRECISION, REGION, argued, around, explanation, is_colour, plain, ranking

from explain_cnn_ros.draw.legend import LegendEntry, draw_entry, layer_entries, legend_entries
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.draw.strongest import shown_rankings
from explain_cnn_ros.draw.style import (
    EXPLAINED_COLOUR,
    NO_PERSON_COLOUR,
    PERSON_COLOUR,
    UNSTABLE_COLOUR,
    layer_style,
)
from explain_cnn_ros.explain.metrics import SUPPORTING
from explain_cnn_ros.model.windows import Region


def test_unstable_ranking_is_dashed_and_the_legend_says_so():
    stable = draw_overlay(plain(), explanation([ranking(5, [PATCH])]), keep_size=True)
    unstable = draw_overlay(plain(), explanation([ranking(5, [PATCH], unstable=True)]), keep_size=True)
    colour = layer_style(5).colour
    ring = np.concatenate([unstable[place] for place in around(PATCH, 1)])
    drawn = (ring == colour).all(1)
    assert drawn.any() and not drawn.all()
    assert is_colour(stable, around(PATCH, 1), colour)
    assert (stable[400:] != unstable[400:]).any()


def test_legend_names_each_groups_layers_and_the_unstable_ones_apart():
    rankings = [ranking(layer, [PATCH], unstable=layer in (4, 8)) for layer in range(3, 10)]
    lines = [(line.text, line.colour, line.dashed) for line in layer_entries(rankings)]
    red, green, blue = (layer_style(layer).colour for layer in (3, 5, 8))
    assert lines == [
        ("conv2_1", red, False),
        ("conv2_2 (unstable)", red, True),
        ("conv3_1 to conv3_3", green, False),
        ("conv4_2", blue, False),
        ("conv4_1 (unstable)", blue, True),
    ]
    apart = [ranking(layer, [PATCH]) for layer in (5, 7)]
    assert [line.text for line in layer_entries(apart)] == ["conv3_1, conv3_3"]


def test_legend_has_metrics_layers_windows_and_settings_in_this_order():
    rankings = [ranking(3, [PATCH], CORRELATION, unstable=True), ranking(3, [PATCH], PRECISION)]
    regions = [REGION, Region(0, 0, 9, 9, 0.9), Region(9, 9, 9, 9, 0.1)]
    groups = legend_entries(explanation(rankings), rankings, regions, None)
    assert [[entry.text for entry in group] for group in groups] == [
        [
            "top 5 by activation output correlation",
            "stability 0.04: unstable",
            "top 5 by activation precision",
            "stability 1.00: stable",
        ],
        ["conv2_1", "conv2_1 (unstable)"],
        ["explained window", "another person", "below the threshold"],
        ["n 50, sigma 0.1 (white), seed 0"],
    ]
    assert groups[0][1].tone == UNSTABLE_COLOUR != groups[0][3].tone
    assert [entry.colour for entry in groups[2]] == [EXPLAINED_COLOUR, PERSON_COLOUR, NO_PERSON_COLOUR]


def test_legend_counts_the_neurons_that_are_shown():
    rankings = [ranking(3, [PATCH])]
    e = explanation(rankings, top_n=4)
    texts = [legend_entries(e, rankings, None, top_n)[0][0].text for top_n in (None, 2, 9)]
    assert texts == [f"top {count} by activation output correlation" for count in (4, 2, 4)]


def test_legend_has_the_title_of_a_metric_of_another_package(registered_metric):
    rankings = [ranking(3, [PATCH], registered_metric)]
    e = explanation(rankings)
    assert e.settings.metrics == (registered_metric,)
    assert legend_entries(e, rankings, None, None)[0][0].text == "top 5 by dead positions"


def test_metric_that_is_not_registered_is_drawn_with_its_name():
    rankings = [ranking(3, [PATCH], "share_of_zeros")]
    e = dataclasses.replace(explanation(), rankings=tuple(rankings))
    assert legend_entries(e, rankings, None, None)[0][0].text == "top 5 by share of zeros"
    drawn = draw_overlay(plain(), e, keep_size=True)
    assert is_colour(drawn, around(PATCH, 1), layer_style(3).colour)


def texts_of(e, top_n=None):
    rankings = shown_rankings(e, None, top_n)
    return [[entry.text for entry in group] for group in legend_entries(e, rankings, None, top_n)]


def test_legend_of_influence_has_both_styles_the_proofs_and_what_is_drawn():
    e = argued(unstable=False)
    group = legend_entries(e, shown_rankings(e), None, None)[0]
    assert [entry.text for entry in group] == [
        "supports the decision: these 35 neurons carry 71 % of the margin",
        "opposes the decision: without these 35 neurons the margin would be 23 % larger",
        "drawn: the strongest at each place",
    ]
    assert [entry.corners for entry in group] == [False, True, False]
    assert group[0].colour == group[1].colour is not None and group[2].colour is None
    assert [entry.short for entry in group] == ["supports the decision", "opposes the decision", ""]
    assert texts_of(e, 2)[0][2] == "drawn: the top 2 of each layer"
    assert len(texts_of(e, 5)[0]) == 2
    assert texts_of(argued(supporting=1, opposing=0, layers=(5,))) == [
        ["supports the decision: this neuron carries 71 % of the margin", "opposes the decision: no neuron"],
        ["conv3_1"],
        ["explained window"],
        ["n 50, sigma 0.1 (white), seed 0"],
    ]


def test_legend_warns_of_unstable_influence_and_of_a_proof_that_disagrees():
    bad = dataclasses.replace(argued().proofs[0], error=0.42, disagrees=True)
    rankings = [ranking(layer, [PATCH], SUPPORTING, unstable=layer == 4) for layer in (3, 4)]
    e = dataclasses.replace(explanation(rankings), proofs=(bad,))
    entries = legend_entries(e, shown_rankings(e), None, None)[0]
    warned = [entry.text for entry in entries if entry.tone == UNSTABLE_COLOUR]
    assert warned == ["predicted and measured change differ by 42 %: do not rely on it"]
    assert texts_of(e, 5)[1] == ["conv2_1", "conv2_2 (unstable)"]
    quiet = dataclasses.replace(e, proofs=(), rankings=(ranking(3, [PATCH], SUPPORTING),))
    assert texts_of(quiet)[0] == ["supports the decision"]


@pytest.mark.parametrize("size", [9, 16, 30])
def test_samples_of_supporting_and_opposing_lines_differ_without_colour(size):
    samples = []
    for corners, dashed in itertools.product((False, True), repeat=2):
        canvas = np.zeros((60, 200, 3), np.uint8)
        draw_entry(canvas, LegendEntry("", (200, 200, 200), 2, dashed, corners), 2, 2, size)
        samples.append(canvas[:, :, 0] > 0)
    for one, other in itertools.combinations(samples, 2):
        # At least a sixth of what is drawn differs.
        assert (one != other).sum() > (one | other).sum() / 6
