"""Boxes of patches and outlines of windows: where they are, and in which colour."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from draw_kit import (
    CORRELATION,
    PATCH,
    PRECISION,
    REGION,
    around,
    explanation,
    is_colour,
    outline,
    plain,
    ranking,
)

from explain_cnn_ros.draw.boxes import neuron_boxes
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.draw.style import NO_PERSON_COLOUR, PERSON_COLOUR, layer_style
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.model.windows import Region


@pytest.mark.parametrize("layer", range(1, 14))
def test_box_has_its_layers_colour_and_width_and_leaves_its_patch_free(layer):
    frame = plain()
    drawn = draw_overlay(frame, explanation([ranking(layer, [PATCH])]), keep_size=True)
    style = layer_style(layer)
    for distance in range(1, style.width + 1):
        assert is_colour(drawn, around(PATCH, distance), style.colour)
    inside = slice(PATCH.y, PATCH.y + PATCH.height), slice(PATCH.x, PATCH.x + PATCH.width)
    assert (drawn[inside] == 90).all()
    assert is_colour(drawn, around(PATCH, style.width + 1), 90)


def test_boxes_of_the_same_patch_nest_with_deeper_layers_outside():
    drawn = draw_overlay(plain(), explanation([ranking(layer, [PATCH]) for layer in (3, 5, 8)]), keep_size=True)
    for distance, layer in enumerate((3, 5, 8), 1):
        assert is_colour(drawn, around(PATCH, distance), layer_style(layer).colour)


def test_lines_are_thinner_in_a_small_window():
    small = Region(200, 100, 50, 100, 0.9)
    patch = Patch(210, 120, 20, 20)
    drawn = draw_overlay(plain(), explanation([ranking(8, [patch])], region=small), keep_size=True)
    assert is_colour(drawn, around(patch, 1), layer_style(8).colour)
    assert is_colour(drawn, around(patch, 2), 90)


@pytest.mark.parametrize(
    "patch", [Patch(0, 0, 1, 1), Patch(639, 479, 1, 1), Patch(0, 0, 640, 480), Patch(600, 200, 40, 9)]
)
def test_box_at_the_border_stays_on_the_picture_and_shows(patch):
    whole = Region(0, 0, 640, 480, 0.9)
    with_box = draw_overlay(plain(), explanation([ranking(8, [patch])], region=whole), keep_size=True)
    without = draw_overlay(plain(), explanation([ranking(8, [None])], region=whole), keep_size=True)
    assert with_box.shape == (480, 640, 3)
    assert (with_box != without).any()


def test_neuron_of_two_metrics_is_drawn_once_and_dashed_only_if_unstable_by_both():
    rankings = [ranking(5, [PATCH], CORRELATION, unstable=True), ranking(5, [PATCH], PRECISION)]
    colour = layer_style(5).colour
    both = draw_overlay(plain(), explanation(rankings), [CORRELATION, PRECISION], keep_size=True)
    assert is_colour(both, around(PATCH, 1), colour)
    one = draw_overlay(plain(), explanation(rankings), CORRELATION, keep_size=True)
    assert not is_colour(one, around(PATCH, 1), colour)
    assert len(neuron_boxes(rankings, None)) == 1


def test_first_metric_is_drawn_unless_another_is_requested():
    other = Patch(230, 300, 20, 20)
    e = explanation([ranking(3, [PATCH], CORRELATION), ranking(3, [other], PRECISION)])
    red = layer_style(3).colour
    first = draw_overlay(plain(), e, keep_size=True)
    assert is_colour(first, around(PATCH, 1), red) and is_colour(first, around(other, 1), 90)
    second = draw_overlay(plain(), e, PRECISION, keep_size=True)
    assert is_colour(second, around(other, 1), red) and is_colour(second, around(PATCH, 1), 90)


def test_top_n_leaves_the_lower_ranks_out_and_the_best_lies_on_top():
    patches = [PATCH, Patch(230, 300, 20, 20), None]
    e = explanation([ranking(3, patches)])
    assert [box.neuron.channel for box in neuron_boxes(e.rankings, None)] == [1, 0]
    drawn = draw_overlay(plain(), e, keep_size=True, top_n=1)
    assert is_colour(drawn, around(patches[1], 1), 90)


def test_explained_region_is_outlined_in_white_between_black():
    drawn = draw_overlay(plain(), explanation(), keep_size=True)
    for distance, value in ((0, 90), (1, 0), (2, 255), (3, 255), (4, 0), (5, 90)):
        assert is_colour(drawn, outline(REGION, distance), value)


def test_outline_of_a_region_beyond_the_frame_lies_at_its_border():
    drawn = draw_overlay(plain(), explanation(region=Region(-50, -50, 740, 580, 0.9)), keep_size=True)
    assert (drawn[240, [1, 2, -2, -3]] == 255).all()


def test_other_regions_are_outlined_by_their_decision_and_the_explained_one_only_once():
    person, none = Region(20, 60, 100, 200, 0.8), Region(450, 60, 100, 200, 0.2)
    drawn = draw_overlay(plain(), explanation(), keep_size=True, regions=[REGION, person, none])
    for region, colour in ((person, PERSON_COLOUR), (none, NO_PERSON_COLOUR)):
        assert is_colour(drawn, around(Patch(region.x, region.y, 100, 200), 1), colour)
    same = dataclasses.replace(REGION, probability=0.1)
    alone = draw_overlay(plain(), explanation(), keep_size=True, regions=[same])
    np.testing.assert_array_equal(alone, draw_overlay(plain(), explanation(), keep_size=True))


def test_unknown_metric_is_refused():
    message = r"no ranking by 'weight_sum': choose one of its metrics \(activation_output_correlation\)"
    with pytest.raises(ValueError, match=message):
        draw_overlay(plain(), explanation([ranking(3, [PATCH])]), "weight_sum")


def test_explanation_without_rankings_has_no_metric():
    with pytest.raises(ValueError, match="it has none"):
        draw_overlay(plain(), explanation(), CORRELATION)


def test_label_lies_above_its_box():
    e = explanation([ranking(8, [PATCH])])
    drawn = draw_overlay(plain(), e, keep_size=True, labels=True)
    assert (drawn[PATCH.y - 8, PATCH.x : PATCH.x + 3] == layer_style(8).colour).all()
    without = draw_overlay(plain(), e, keep_size=True)
    assert (drawn != without).any(2)[: PATCH.y].any() and not (drawn != without).any(2)[PATCH.y :].any()


def test_labels_of_the_same_patch_lie_beside_each_other():
    layers = (3, 5, 8)
    e = explanation([ranking(layer, [PATCH]) for layer in layers])
    drawn = draw_overlay(plain(), e, keep_size=True, labels=True)
    for layer in layers:
        alone = draw_overlay(plain(), explanation([ranking(layer, [PATCH])]), keep_size=True, labels=True)
        of_tag = [(image == layer_style(layer).colour).all(2).sum() for image in (drawn, alone)]
        # The label of another layer would hide nearly all of this one's; boxes may cross it.
        assert of_tag[0] > 0.7 * of_tag[1]
