"""The strongest neurons, each at a place of its own, and which neurons an overlay shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from draw_kit import CORRELATION, PATCH, argued, around, everything, explanation, is_colour, plain, ranking

from explain_cnn_ros.draw.boxes import shown_metrics
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.draw.strongest import SHOWN, shown_rankings, strongest
from explain_cnn_ros.draw.style import layer_style
from explain_cnn_ros.explain.metrics import OPPOSING, PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.patches import Patch


def scored(of_layer, scores):
    """Replace the scores of a ranking."""
    neurons = zip(of_layer.neurons, scores, strict=True)
    return dataclasses.replace(of_layer, neurons=tuple(dataclasses.replace(n, score=s) for n, s in neurons))


def test_neurons_of_all_layers_are_sorted_by_the_size_of_their_score():
    apart = [Patch(200 + 40 * i, 100, 20, 20) for i in range(4)]
    rankings = [
        scored(ranking(3, apart[:2], OPPOSING), [-0.1, -0.4]),
        scored(ranking(8, apart[2:], OPPOSING, unstable=True, first_channel=7), [-0.3, -0.05]),
    ]
    found = strongest(explanation(rankings), OPPOSING, 3)
    assert [(s.layer_name, s.neuron.channel, s.unstable, s.opposing) for s in found] == [
        ("conv2_1", 1, False, True),
        ("conv4_1", 7, True, True),
        ("conv2_1", 0, False, True),
    ]
    assert strongest(explanation(rankings), SUPPORTING, 3) == []


def test_weaker_neurons_at_the_same_place_are_counted():
    # A quarter of 30 x 20 = 600 pixels is 150: a shift by 18 columns shares 240 of 960, no more than a quarter.
    same, apart = Patch(PATCH.x + 17, PATCH.y, 30, 20), Patch(PATCH.x + 18, PATCH.y, 30, 20)
    rankings = [
        scored(ranking(3, [PATCH, same], SUPPORTING), [0.5, 0.4]),
        scored(ranking(4, [apart, None, None], SUPPORTING), [0.3, 0.2, 0.1]),
    ]
    found = strongest(explanation(rankings), SUPPORTING, 9)
    # The third patch is near the second one, but not at the place of the first. Neurons without a patch are alone.
    assert [(s.neuron.layer, s.neuron.channel, s.others) for s in found] == [(3, 0, 1), (4, 0, 0), (4, 1, 0), (4, 2, 0)]
    assert [s.box is None for s in found] == [False, False, True, True]
    assert [s.others for s in strongest(explanation(rankings), SUPPORTING, 1)] == [1]


def test_influence_is_shown_with_both_sides_and_before_all_others():
    e = argued()
    assert shown_metrics(e) == shown_metrics(e, SUPPORTING) == (SUPPORTING, OPPOSING)
    assert shown_metrics(e, OPPOSING) == (OPPOSING,)
    assert shown_metrics(e, CORRELATION) == (CORRELATION,)
    assert shown_metrics(argued(metrics=(CORRELATION, SUPPORTING))) == (SUPPORTING,)
    assert shown_metrics(everything()) == PAPER_METRICS[:1]
    assert shown_metrics(explanation()) == ()


def test_overlay_shows_the_strongest_neurons_of_influence_and_all_of_other_metrics():
    e = argued()
    counts = {}
    for of_layer in shown_rankings(e):
        counts[of_layer.metric] = counts.get(of_layer.metric, 0) + len(of_layer.neurons)
    chosen = [len(strongest(e, metric, SHOWN)) for metric in (SUPPORTING, OPPOSING)]
    assert counts == dict(zip((SUPPORTING, OPPOSING), chosen, strict=True))
    assert sum(len(r.neurons) for r in shown_rankings(e, CORRELATION)) == 35
    assert [len(r.neurons) for r in shown_rankings(e, [SUPPORTING, CORRELATION], 2)] == [2] * 14


@pytest.mark.parametrize("metric", [None, SUPPORTING, (SUPPORTING, OPPOSING)])
def test_opposing_neurons_are_drawn_beside_the_supporting_ones_unless_one_metric_is_requested(metric):
    other = Patch(230, 300, 40, 40)
    e = explanation([ranking(3, [PATCH], SUPPORTING), ranking(3, [other], OPPOSING, first_channel=9)])
    drawn = draw_overlay(plain(), e, metric, keep_size=True)
    colour = layer_style(3).colour
    assert is_colour(drawn, around(PATCH, 1), colour)
    ring = np.concatenate([drawn[place] for place in around(other, 1)])
    assert (ring == colour).all(1).any() == (metric != SUPPORTING)
