"""Pictures: what is where, in which colour, and that nothing is drawn beyond its place."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from explain_cnn_ros import contact_sheet as sheet
from explain_cnn_ros import drawing, overlay
from explain_cnn_ros.contact_sheet import contact_sheet
from explain_cnn_ros.explanation import Explanation, LayerRanking, RankedNeuron, Silencing
from explain_cnn_ros.importance import METRICS, PERTURBATION_METRICS
from explain_cnn_ros.overlay import draw_classification, draw_overlay
from explain_cnn_ros.patches import Patch
from explain_cnn_ros.regions import Region
from explain_cnn_ros.settings import ExplainSettings

CORRELATION, PRECISION = PERTURBATION_METRICS
NAMES = [f"conv{block}_{i}" for block, depth in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, depth + 1)]
REGION = Region(200, 60, 200, 340, 0.97)
PATCH = Patch(280, 180, 30, 20)


def ranking(layer, patches, metric=CORRELATION, unstable=False, first_channel=0):
    stability = None if metric not in PERTURBATION_METRICS else 0.04 if unstable else 1.0
    neurons = tuple(RankedNeuron(layer, first_channel + i, 0.5 - i / 10, patch) for i, patch in enumerate(patches))
    return LayerRanking(metric, layer, NAMES[layer - 1], neurons, stability, unstable, np.zeros(8))


def explanation(rankings=(), size=(640, 480), region=REGION, threshold=0.5, similarity=0.02, **settings):
    layers = tuple(dict.fromkeys(r.layer for r in rankings)) or (3,)
    metrics = tuple(dict.fromkeys(r.metric for r in rankings)) or METRICS
    return Explanation(
        region=region,
        image_size=size,
        threshold=threshold,
        settings=ExplainSettings(layers=layers, metrics=metrics, **settings),
        perturbations=50,
        output=3.5,
        output_mean=3.4,
        output_stddev=0.2,
        rankings=tuple(rankings),
        set_similarity=similarity,
        set_similarity_by_layer=dict.fromkeys(layers, similarity),
        timings={"network": 1.0, "deconvnet": 0.5},
        model_hash="0123456789ab",
        device="cpu",
    )


def everything(size=(640, 480), region=REGION, metrics=METRICS, layers=range(3, 10), top_n=5, unstable=True, **more):
    """Rankings by all metrics of all layers, with patches all over the region, as far as it lies in the frame."""
    random = np.random.default_rng(0)
    left, top = max(0, region.x), max(0, region.y)
    right, bottom = min(size[0], region.x + region.width), min(size[1], region.y + region.height)

    def patch():
        x, y = int(random.integers(left, right)), int(random.integers(top, bottom))
        return Patch(x, y, int(random.integers(1, right - x + 1)), int(random.integers(1, bottom - y + 1)))

    rankings = [
        ranking(layer, [patch() for _ in range(top_n)], metric, unstable and metric == CORRELATION, 10 * layer)
        for metric in metrics
        for layer in layers
    ]
    return explanation(rankings, size, region, top_n=top_n, **more)


def picture(size=(640, 480), seed=0):
    """Noise: whatever is drawn shows."""
    return np.random.default_rng(seed).integers(0, 120, (size[1], size[0], 3), np.uint8)


def plain(size=(640, 480), value=90):
    return np.full((size[1], size[0], 3), value, np.uint8)


def around(patch, distance):
    """The pixels at a distance from a patch's border, 1 is next to it: four slices without the corners."""
    left, top = patch.x - distance, patch.y - distance
    right, bottom = patch.x + patch.width + distance - 1, patch.y + patch.height + distance - 1
    columns, rows = slice(patch.x, patch.x + patch.width), slice(patch.y, patch.y + patch.height)
    return [(top, columns), (bottom, columns), (rows, left), (rows, right)]


def is_colour(image, pixels, colour):
    return all((image[place] == colour).all() for place in pixels)


# Boxes


@pytest.mark.parametrize("layer", range(1, 14))
def test_box_has_its_layers_colour_and_width_and_leaves_its_patch_free(layer):
    frame = plain()
    drawn = draw_overlay(frame, explanation([ranking(layer, [PATCH])]), keep_size=True)
    style = overlay.layer_style(layer)
    for distance in range(1, style.width + 1):
        assert is_colour(drawn, around(PATCH, distance), style.colour)
    inside = slice(PATCH.y, PATCH.y + PATCH.height), slice(PATCH.x, PATCH.x + PATCH.width)
    assert (drawn[inside] == 90).all()
    assert is_colour(drawn, around(PATCH, style.width + 1), 90)


def test_colours_are_those_of_figure_4_and_all_distinct():
    channel = {layer: int(np.argmax(overlay.layer_style(layer).colour)) for layer in range(3, 10)}
    assert channel == {3: 0, 4: 0, 5: 1, 6: 1, 7: 1, 8: 2, 9: 2}
    assert len({style.colour for style in overlay.LAYER_STYLES}) == len(overlay.LAYER_STYLES)
    assert {overlay.layer_style(layer).width for layer in (3, 5, 8)} == {1, 2, 3}
    with pytest.raises(ValueError, match="layer 0"):
        overlay.layer_style(0)


def test_boxes_of_the_same_patch_nest_with_deeper_layers_outside():
    drawn = draw_overlay(
        plain(), explanation([ranking(layer, [PATCH]) for layer in (3, 5, 8)]), keep_size=True
    )  # fmt: skip
    for distance, layer in enumerate((3, 5, 8), 1):
        assert is_colour(drawn, around(PATCH, distance), overlay.layer_style(layer).colour)


def test_lines_are_thinner_in_a_small_window():
    small = Region(200, 100, 50, 100, 0.9)
    patch = Patch(210, 120, 20, 20)
    drawn = draw_overlay(plain(), explanation([ranking(8, [patch])], region=small), keep_size=True)
    assert is_colour(drawn, around(patch, 1), overlay.layer_style(8).colour)
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


def test_draw_box_touches_nothing_but_its_lines():
    canvas = np.zeros((20, 30, 3), np.uint8)
    drawing.draw_box(canvas, (5, 6, 15, 12), (1, 2, 3), 2)
    expected = np.zeros_like(canvas)
    expected[4:14, 3:17] = (1, 2, 3)
    expected[6:12, 5:15] = 0
    np.testing.assert_array_equal(canvas, expected)


@pytest.mark.parametrize("box", [(-20, 2, -10, 8), (40, 2, 50, 8), (2, -9, 8, -5), (2, 30, 8, 40)])
def test_draw_box_beyond_the_canvas_draws_nothing(box):
    canvas = np.zeros((20, 30, 3), np.uint8)
    drawing.draw_box(canvas, box, (255, 255, 255), 3, dashed=True)
    assert not canvas.any()


def test_dashed_box_has_corners_and_gaps():
    solid, dashed = np.zeros((60, 60, 3), np.uint8), np.zeros((60, 60, 3), np.uint8)
    drawing.draw_box(solid, (10, 10, 50, 50), (255, 255, 255), 1)
    drawing.draw_box(dashed, (10, 10, 50, 50), (255, 255, 255), 1, dashed=True)
    assert not (dashed.any(2) & ~solid.any(2)).any()
    assert dashed[9, 9].all() and dashed[50, 50].all()
    assert 0.4 < dashed.any(2).sum() / solid.any(2).sum() < 0.8


def test_unstable_ranking_is_dashed_and_the_legend_says_so():
    stable = draw_overlay(plain(), explanation([ranking(5, [PATCH])]), keep_size=True)
    unstable = draw_overlay(plain(), explanation([ranking(5, [PATCH], unstable=True)]), keep_size=True)
    colour = overlay.layer_style(5).colour
    ring = np.concatenate([unstable[place] for place in around(PATCH, 1)])
    drawn = (ring == colour).all(1)
    assert drawn.any() and not drawn.all()
    assert is_colour(stable, around(PATCH, 1), colour)
    assert (stable[400:] != unstable[400:]).any()


def test_neuron_of_two_metrics_is_drawn_once_and_dashed_only_if_unstable_by_both():
    rankings = [ranking(5, [PATCH], CORRELATION, unstable=True), ranking(5, [PATCH], PRECISION)]
    colour = overlay.layer_style(5).colour
    both = draw_overlay(plain(), explanation(rankings), [CORRELATION, PRECISION], keep_size=True)
    assert is_colour(both, around(PATCH, 1), colour)
    one = draw_overlay(plain(), explanation(rankings), CORRELATION, keep_size=True)
    assert not is_colour(one, around(PATCH, 1), colour)
    assert len(overlay.neuron_boxes(rankings, None)) == 1


def test_first_metric_is_drawn_unless_another_is_asked_for():
    other = Patch(230, 300, 20, 20)
    e = explanation([ranking(3, [PATCH], CORRELATION), ranking(3, [other], PRECISION)])
    red = overlay.layer_style(3).colour
    first = draw_overlay(plain(), e, keep_size=True)
    assert is_colour(first, around(PATCH, 1), red) and is_colour(first, around(other, 1), 90)
    second = draw_overlay(plain(), e, PRECISION, keep_size=True)
    assert is_colour(second, around(other, 1), red) and is_colour(second, around(PATCH, 1), 90)


def test_top_n_leaves_the_lower_ranks_out_and_the_best_lies_on_top():
    patches = [PATCH, Patch(230, 300, 20, 20), None]
    e = explanation([ranking(3, patches)])
    assert [box.neuron.channel for box in overlay.neuron_boxes(e.rankings, None)] == [1, 0]
    drawn = draw_overlay(plain(), e, keep_size=True, top_n=1)
    assert is_colour(drawn, around(patches[1], 1), 90)


# The frame, its size and its regions


@pytest.mark.parametrize("size", [(640, 480), (64, 128), (1920, 1080), (1, 1), (17, 300), (300, 17)])
def test_kept_size_is_the_frames(size):
    region = Region(0, 0, *size, 0.4)
    frame = picture(size)
    e = everything(size, region)
    drawn = draw_overlay(frame, e, METRICS, keep_size=True, regions=[region], trigger="service", labels=True)
    assert drawn.shape == frame.shape and drawn.dtype == np.uint8 and drawn.flags.c_contiguous
    assert draw_classification(frame, [region], 0.5).shape == frame.shape


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (960, 720)), ((64, 128), (360, 720)), ((1920, 1080), (1920, 1080)), ((240, 241), (717, 720))],
)
def test_small_frame_is_enlarged_and_has_a_panel_beside_it(size, expected):
    frame = picture(size)
    region = Region(0, 0, *size, 0.9)
    drawn = draw_overlay(frame, explanation(size=size, region=region))
    unit = expected[1] / overlay.READABLE_HEIGHT
    assert drawn.shape == (expected[1], expected[0] + round(overlay.PANEL_WIDTH * unit), 3)
    margin = overlay.OUTLINE_GAP + 10
    shown = drawing.resized(frame, *expected)[margin:-margin, margin:-margin]
    np.testing.assert_array_equal(drawn[margin : expected[1] - margin, margin : expected[0] - margin], shown)


def test_input_is_not_modified_and_may_be_a_view_or_read_only():
    frame = picture()
    e = everything()
    original = frame.copy()
    flipped = np.ascontiguousarray(frame[:, :, ::-1])[:, :, ::-1]
    frame.flags.writeable = False
    for draw in (
        lambda f: draw_overlay(f, e, keep_size=True, regions=[REGION]),
        lambda f: draw_overlay(f, e, regions=[REGION]),
        lambda f: draw_classification(f, [REGION], 0.5),
        lambda f: contact_sheet(f, e, [REGION]),
    ):
        drawn = draw(frame)
        np.testing.assert_array_equal(frame, original)
        assert not np.shares_memory(drawn, frame)
        np.testing.assert_array_equal(drawn, draw(flipped))


def outline(region, distance):
    return around(Patch(region.x, region.y, region.width, region.height), overlay.OUTLINE_GAP + distance)


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
    for region, colour in ((person, overlay.PERSON), (none, overlay.NO_PERSON)):
        assert is_colour(drawn, around(Patch(region.x, region.y, 100, 200), 1), colour)
    same = dataclasses.replace(REGION, probability=0.1)
    alone = draw_overlay(plain(), explanation(), keep_size=True, regions=[same])
    np.testing.assert_array_equal(alone, draw_overlay(plain(), explanation(), keep_size=True))


def test_classification_tells_persons_from_the_rest():
    person, none = Region(60, 100, 100, 200, 0.8), Region(350, 100, 100, 200, 0.2)
    drawn = draw_classification(plain(), [person, none], 0.5)
    for region, colour, width in ((person, overlay.PERSON, 2), (none, overlay.NO_PERSON, 1)):
        box = Patch(region.x, region.y, region.width, region.height)
        _, *sides = around(box, width)
        assert is_colour(drawn, sides, colour)
        assert is_colour(drawn, around(box, width + 1)[1:], 90)
        # The tag above it.
        assert (drawn[region.y - 8, region.x : region.x + 3] == colour).all()


def test_classification_without_regions_is_the_frame():
    np.testing.assert_array_equal(draw_classification(plain(), [], 0.5), plain())


def test_decision_trigger_and_threshold_show_in_the_headline():
    high, low = explanation(), explanation(threshold=0.99)
    pictures = [
        draw_overlay(plain(), high, keep_size=True),
        draw_overlay(plain(), low, keep_size=True),
        draw_overlay(plain(), high, keep_size=True, trigger="low_confidence"),
        draw_overlay(plain(), high, keep_size=True, trigger="service"),
    ]
    tops = {drawn[:25].tobytes() for drawn in pictures}
    assert len(tops) == len(pictures)


# Text stays where it belongs


def test_kept_size_draws_only_on_strips_and_in_the_region():
    frame = picture()
    drawn = draw_overlay(frame, everything(), METRICS, keep_size=True, trigger="x" * 500)
    changed = (drawn != frame).any(2)
    rows = np.flatnonzero(changed[:, 10:150].any(1))
    above, below = rows[rows < 240], rows[rows >= 240]
    assert above.max() + 1 <= overlay.STRIP_SHARE_MAX * 480 and above.size == above.max() + 1
    assert below.min() >= 480 - overlay.STRIP_SHARE_MAX * 480


@pytest.mark.parametrize("size", [(64, 128), (200, 100), (640, 480), (1920, 1080)])
@pytest.mark.parametrize("metric", [CORRELATION, METRICS])
def test_panel_keeps_its_margins(size, metric):
    region = Region(0, 0, *size, 0.5)
    trigger = "somebody asked for it who had much to say, \N{GREEK SMALL LETTER SIGMA} and all\nover two lines"
    drawn = draw_overlay(picture(size), everything(size, region), metric, trigger=trigger, regions=[region])
    scale = max(1.0, min(960 / size[0], 720 / size[1]))
    width = drawn.shape[1] - round(size[0] * scale)
    margin = round(overlay.PANEL_MARGIN * width / overlay.PANEL_WIDTH)
    panel = drawn[:, -width:]
    for strip in (panel[:, : margin - 1], panel[:, -margin:], panel[:margin], panel[-margin:]):
        assert (strip == drawing.BACKGROUND).all()
    assert (panel != drawing.BACKGROUND).any()


def test_window_is_shown_enlarged_in_the_panel_where_that_helps():
    small = Region(300, 200, 40, 80, 0.9)
    frame = plain()
    frame[200:280, 300:340] = (10, 200, 30)
    drawn = draw_overlay(frame, explanation(region=small))
    panel = drawn[:, 960:]
    inset = (panel == (10, 200, 30)).all(2)
    assert inset.sum() > 4 * 40 * 80 * 1.5**2
    assert (
        not (draw_overlay(frame, explanation(region=Region(0, 0, 640, 480, 0.9)))[:, 960:] == (10, 200, 30))
        .all(2)
        .any()
    )


@pytest.mark.parametrize("size", [9, 16, 40])
def test_text_that_does_not_fit_is_cut(size):
    canvas = np.zeros((60, 400, 3), np.uint8)
    used = drawing.put_text(canvas, "activation_output_correlation " * 5, 10, 2, size, max_width=200)
    assert 150 < used <= 200
    assert not canvas[:, :10].any() and not canvas[:, 210:].any()
    assert not canvas[2 + drawing.line_height(size) :].any()


@pytest.mark.parametrize(("x", "y"), [(-5, -5), (95, 18), (-500, 0), (500, 0), (0, -500), (0, 500)])
def test_text_beyond_the_canvas_is_clipped(x, y):
    canvas = np.zeros((20, 100, 3), np.uint8)
    drawing.put_text(canvas, "gone", x, y, 16)
    assert canvas.shape == (20, 100, 3)


@pytest.mark.parametrize("text", ["activation_output_correlation by name", "a " * 40, "x" * 200])
def test_wrapped_text_fits_and_is_complete(text):
    lines = drawing.wrap(text, 16, 150)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(drawing.text_width(line, 16) <= 150 for line in lines) or text.startswith("xxx")


@pytest.mark.parametrize(
    ("text", "ascii_"),
    [
        ("Straße, café…", "Stra?e, cafe..."),
        ("a\tb\nc", "a b c"),
        ("\N{GREEK SMALL LETTER SIGMA} = 0.1", "? = 0.1"),
        ("plain", "plain"),
    ],
)
def test_text_is_turned_into_ascii(text, ascii_):
    assert drawing.to_ascii(text) == ascii_


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
def test_decision_text_has_as_many_digits_as_it_takes(probability, threshold, text):
    assert overlay.decision_text(probability, threshold) == text


def test_stability_text():
    stable, unstable = ranking(3, [PATCH]), ranking(4, [PATCH], unstable=True)
    assert overlay.stability_text([unstable]) == "stability 0.04: unstable"
    assert overlay.stability_text([stable]) == "stability 1.00: stable"
    assert overlay.stability_text([stable, unstable]) == "stability 0.52: unstable in 1 of 2 layers"
    assert overlay.stability_text([ranking(3, [PATCH], "weight_sum")]) == ""
    unknown = dataclasses.replace(unstable, stability=float("nan"))
    assert overlay.stability_text([unknown]) == "stability unknown: unstable"


def test_legend_names_each_groups_layers_and_the_unstable_ones_apart():
    rankings = [ranking(layer, [PATCH], unstable=layer in (4, 8)) for layer in range(3, 10)]
    lines = [(line.text, line.colour, line.dashed) for line in overlay.group_legend(rankings)]
    red, green, blue = (overlay.layer_style(layer).colour for layer in (3, 5, 8))
    assert lines == [
        ("conv2_1", red, False),
        ("conv2_2 (unstable)", red, True),
        ("conv3_1 to conv3_3", green, False),
        ("conv4_2", blue, False),
        ("conv4_1 (unstable)", blue, True),
    ]
    apart = [ranking(layer, [PATCH]) for layer in (5, 7)]
    assert [line.text for line in overlay.group_legend(apart)] == ["conv3_1, conv3_3"]


# The contact sheet

DEAD = explanation([ranking(layer, [None] * 5, metric) for metric in METRICS for layer in range(3, 10)])
NONE = explanation([ranking(layer, [], metric) for metric in METRICS for layer in (3, 9)])
TINY = explanation([ranking(5, [Patch(0, 0, 1, 1), Patch(639, 479, 1, 1), Patch(320, 200, 1, 1)])])
CASES = {
    "all": everything(),
    "one metric, one layer": everything(metrics=(PRECISION,), layers=(5,)),
    "one neuron": everything(metrics=(CORRELATION,), layers=(9,), top_n=1),
    "many neurons": everything(top_n=50),
    "all layers": everything(layers=range(1, 14)),
    "dead neurons": DEAD,
    "no neuron has a value": NONE,
    "no rankings": explanation(),
    "tiny patches at the border": TINY,
    "no set similarity": everything(similarity=float("nan")),
    "tiny frame": everything((64, 128), Region(0, 0, 64, 128, 0.2)),
    "large frame": everything((1920, 1080), Region(900, 300, 200, 400, 0.6)),
    "one pixel": everything((1, 1), Region(0, 0, 1, 1, 0.5)),
    "a strip": everything((900, 20), Region(0, 0, 900, 20, 0.5)),
    "window beyond the frame": everything(region=Region(-60, -80, 200, 400, 0.9)),
    "window larger than the frame": everything(region=Region(-100, -500, 900, 1800, 0.9)),
}


@pytest.mark.parametrize("case", CASES)
def test_contact_sheet_has_its_size_and_keeps_its_margins(case):
    e = CASES[case]
    drawn = contact_sheet(
        picture(e.image_size), e, [REGION], trigger="low_confidence" * 9, source="a bag of long name " * 20
    )  # fmt: skip
    assert drawn.shape == (sheet.HEIGHT, sheet.WIDTH, 3) and drawn.dtype == np.uint8
    margin = sheet.MARGIN
    for strip in (drawn[:margin], drawn[-margin:], drawn[:, :margin], drawn[:, -margin:]):
        assert (strip == drawing.BACKGROUND).all()
    body = drawn[margin + sheet.HEADER : -margin - sheet.FOOTER]
    between = margin + sheet.LEFT
    assert (body[:, between : between + sheet.GAP] == drawing.BACKGROUND).all()


def test_contact_sheet_of_a_grey_frame_is_grey_but_for_its_lines():
    drawn = contact_sheet(plain(), DEAD)
    assert (drawn == 90).all(2).any()


def table(drawn):
    left = sheet.MARGIN + sheet.LEFT + sheet.GAP
    return drawn[sheet.MARGIN + sheet.HEADER : -sheet.MARGIN - sheet.FOOTER, left : -sheet.MARGIN]


def test_contact_sheet_shows_each_layers_patches_in_its_column():
    frame = plain(value=60)
    colours, patches = {}, {}
    for i, layer in enumerate(range(3, 10)):
        patches[layer] = Patch(210 + 20 * i, 100 + 30 * i, 18, 24)
        colours[layer] = (20 * i + 100, 50, 250 - 20 * i)
        frame[patches[layer].y :, patches[layer].x :][:24, :18] = colours[layer]
    e = explanation([ranking(layer, [patches[layer]], metric) for metric in METRICS for layer in patches])
    cells = table(contact_sheet(frame, e))
    found = []
    for layer, colour in colours.items():
        rows, columns = (cells == colour).all(2).nonzero()
        # Bright in each of the six rows.
        assert len(np.unique(np.floor(rows / cells.shape[0] * len(METRICS)))) == len(METRICS), layer
        found.append((columns.min(), columns.max()))
        _, frame_columns = (cells == overlay.layer_style(layer).colour).all(2).nonzero()
        near = (frame_columns > columns.min() - 60) & (frame_columns < columns.max() + 60)
        assert near.sum() > len(METRICS) * 4 * 60
    assert all(before[1] < after[0] for before, after in itertools.pairwise(found))


def test_contact_sheet_marks_unstable_rankings():
    stable, unstable = (table(contact_sheet(plain(), everything(unstable=unstable))) for unstable in (False, True))
    said = [(cells == overlay.UNSTABLE).all(2).any() for cells in (stable, unstable)]
    assert said == [False, True]
    row = slice(sheet.COLUMN_HEAD, stable.shape[0] // len(METRICS))
    for layer in (3, 5, 8):
        solid, dashed = ((cells[row] == overlay.layer_style(layer).colour).all(2).sum() for cells in (stable, unstable))
        assert 0.4 < dashed / solid < 0.8


def test_contact_sheet_says_what_silencing_does():
    silenced = Silencing(METRICS[0], 35, 0.25, -1.1, (0.9, 0.7), (2.2, 0.85))
    assert overlay.silencing_text(silenced) == "P(person) without them 0.25, without random neurons 0.80 +- 0.10"
    plain_sheet = everything()
    with_it = dataclasses.replace(plain_sheet, silencing=(silenced,))
    without, said = (table(contact_sheet(plain(), one)) for one in (plain_sheet, with_it))
    rows = (without != said).any(2).any(1).nonzero()[0]
    assert len(rows) > 20
    # Only in the head of that metric's row.
    assert rows[-1] < said.shape[0] // len(METRICS) + sheet.COLUMN_HEAD
    assert (without != said).any(2).any(0).nonzero()[0][-1] < sheet.ROW_HEAD


@pytest.mark.parametrize("count", [1, 2, 5, 7])
@pytest.mark.parametrize(("width", "height"), [(140, 125), (1000, 800), (60, 700), (20, 20)])
def test_tiles_fit_their_cell(count, width, height):
    columns, rows, side = sheet._grid(count, width, height)
    label = drawing.line_height(sheet.SMALL) + 4
    assert columns * rows >= count and 1 <= side <= sheet.TILE_MAX
    if side > 1:
        assert columns * (side + sheet.CELL_GAP) - sheet.CELL_GAP <= width
        assert rows * (side + label + sheet.CELL_GAP) - sheet.CELL_GAP <= height


# What cannot be drawn


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((480, 640), np.uint8),
        np.zeros((480, 640, 4), np.uint8),
        np.zeros((480, 640, 3), np.float32),
        np.zeros((0, 640, 3), np.uint8),
        [[0]],
    ],
)
@pytest.mark.parametrize(
    "draw",
    [
        lambda frame: draw_overlay(frame, explanation()),
        lambda frame: draw_classification(frame, [REGION], 0.5),
        lambda frame: contact_sheet(frame, explanation()),
    ],
)
def test_what_is_no_picture_is_refused(draw, frame):
    with pytest.raises(ValueError, match="the image is"):
        draw(frame)


@pytest.mark.parametrize("draw", [draw_overlay, contact_sheet])
def test_another_frames_explanation_is_refused(draw):
    with pytest.raises(ValueError, match="640 x 360 pixels, but the explanation is of one of 640 x 480"):
        draw(plain((640, 360)), explanation())


def test_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="no ranking by 'weight_sum': it has activation_output_correlation"):
        draw_overlay(plain(), explanation([ranking(3, [PATCH])]), "weight_sum")
