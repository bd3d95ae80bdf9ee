"""The slide: its layout, and what it shows of the neurons that support and oppose a decision."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from draw_kit import REGION, argued, everything, picture, plain, proof, ranking
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explain_cnn_ros.draw import canvas as drawing
from explain_cnn_ros.draw import page
from explain_cnn_ros.draw import slide as module
from explain_cnn_ros.draw.canvas import BACKGROUND, RULE
from explain_cnn_ros.draw.contact_sheet import contact_sheet
from explain_cnn_ros.draw.sheets import sheets
from explain_cnn_ros.draw.slide import slide
from explain_cnn_ros.draw.strongest import SHOWN
from explain_cnn_ros.draw.style import UNSTABLE_COLOUR, layer_style
from explain_cnn_ros.explain.explanation import Silencing
from explain_cnn_ros.explain.metrics import OPPOSING, PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.model.windows import Region

LOW = Region(200, 60, 200, 340, 0.1)
CASES = {
    "person": argued(),
    "no person": argued(region=LOW),
    "margin against the decision": dataclasses.replace(argued(region=LOW), output=1.2),
    "probability": argued(output="probability"),
    "nothing opposes": argued(opposing=0),
    "nothing supports": argued(supporting=0),
    "one neuron": argued(supporting=1, opposing=1, layers=(5,)),
    "many neurons": argued(supporting=50, opposing=50),
    "no neurons": argued(supporting=0, opposing=0),
    "supporting only": argued(metrics=(SUPPORTING,)),
    "opposing only": argued(metrics=(OPPOSING,)),
    "proved together": argued(silenced=False),
    "not proved": dataclasses.replace(argued(), proofs=()),
    "all layers": argued(layers=range(1, 14)),
    "tiny frame": argued((64, 128), Region(0, 0, 64, 128, 0.2)),
    "one pixel": argued((1, 1), Region(0, 0, 1, 1, 0.5)),
    "a strip": argued((900, 20), Region(0, 0, 900, 20, 0.5)),
    "a pole": argued((20, 900), Region(0, 0, 20, 900, 0.5)),
    "large frame": argued((1920, 1080), Region(900, 300, 200, 400, 0.6)),
    "window beyond the frame": argued(region=Region(-60, -80, 200, 400, 0.9)),
    "window larger than the frame": argued(region=Region(-100, -500, 900, 1800, 0.9)),
}


@pytest.mark.parametrize("case", CASES)
def test_slide_has_its_size_and_keeps_its_margins(case):
    e = CASES[case]
    drawn = slide(picture(e.image_size), e, [REGION], trigger="low_confidence" * 9, source="a bag of long name " * 20)
    assert drawn.shape == (page.HEIGHT, page.WIDTH, 3) and drawn.dtype == np.uint8
    margin = page.MARGIN
    for strip in (drawn[:margin], drawn[-margin:], drawn[:, :margin], drawn[:, -margin:]):
        assert (strip == BACKGROUND).all()
    body = drawn[margin + page.HEADER : -margin - module.FOOTER]
    between = margin + module.LEFT
    assert (body[:, between : between + page.GAP] == BACKGROUND).all()
    assert (body[body.shape[0] // 2, between + page.GAP : -margin] == RULE).all()


@pytest.fixture
def texts(monkeypatch):
    """Record the written texts as (text, whether it is written whole and inside of its canvas)."""
    written = []

    def recording(canvas, text, x, y, size, colour=drawing.TEXT, bold=False, max_width=None):
        width = drawing.text_width(text, size, bold)
        room = canvas.shape[1] - x if max_width is None else min(max_width, canvas.shape[1] - x)
        inside = width <= room and y >= 0 and y + drawing.line_height(size) <= canvas.shape[0]
        written.append((text, inside))
        return drawing.put_text(canvas, text, x, y, size, colour, bold, max_width)

    for name in ("slide", "page", "contact_sheet"):
        monkeypatch.setattr(f"explain_cnn_ros.draw.{name}.put_text", recording)
    return written


shares = st.floats(-30, 30) | st.just(math.nan)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    probability=st.floats(0, 1),
    threshold=st.floats(0, 0.999),
    output=st.floats(-80, 80),
    share=shares,
    opposed=shares,
    error=shares.map(abs),
    supporting=st.integers(0, 9),
    opposing=st.integers(0, 9),
    unstable=st.booleans(),
)
def test_all_texts_of_a_slide_fit(
    texts, probability, threshold, output, share, opposed, error, supporting, opposing, unstable
):
    texts.clear()
    region = dataclasses.replace(REGION, probability=probability)
    e = argued(
        region=region, supporting=supporting, opposing=opposing, threshold=threshold, metrics=(SUPPORTING, OPPOSING)
    )
    proofs = tuple(
        proof(metric, 7 * count, value, error=error, disagrees=error > 0.25, probability=1 - probability)
        for metric, count, value in ((SUPPORTING, supporting, share), (OPPOSING, opposing, opposed))
    )
    rankings = tuple(dataclasses.replace(of_layer, unstable=unstable) for of_layer in e.rankings)
    slide(plain(), dataclasses.replace(e, output=output or 1e-3, proofs=proofs, rankings=rankings), [REGION])
    assert len(texts) > 10
    assert [text for text, inside in texts if not inside] == []


def test_slide_says_what_speaks_for_and_against(texts):
    slide(plain(), argued())
    written = [text for text, _ in texts]
    assert "What speaks for a person" in written
    assert "What speaks against a person, and is too weak" in written
    assert any(text.startswith("The 35 strongest neurons carry 71 % of the margin.") for text in written)
    assert any(text.startswith("Without the 35 strongest neurons the margin would be 23 % larger.") for text in written)
    # The strongest neuron of layer 9, whose score is 0.9 of an output of 3.5, and 0.99 measured.
    assert {"26 %", "-26 %", "measured 28 %", "measured -28 %", "conv4_2 / 90", "conv4_2 / 290"} <= set(written)


def test_slide_says_that_nothing_opposes(texts):
    slide(plain(), argued(opposing=0))
    assert "No neuron opposes the decision." in [text for text, _ in texts]
    texts.clear()
    slide(plain(), dataclasses.replace(argued(opposing=0), proofs=()))
    assert "No neuron of the explained layers does." in [text for text, _ in texts]
    texts.clear()
    slide(plain(), argued(metrics=(SUPPORTING,)))
    assert "Not computed: request the metric counter_influence." in [text for text, _ in texts]


def test_slide_marks_a_proof_that_disagrees():
    e = argued(unstable=False)
    bad = dataclasses.replace(e, proofs=(dataclasses.replace(e.proofs[0], error=0.6, disagrees=True), e.proofs[1]))
    marked = [(slide(plain(), one) == UNSTABLE_COLOUR).all(2) for one in (e, bad)]
    assert not marked[0].any() and marked[1].any()
    # Only in the row of the supporting neurons.
    assert marked[1].any(1).nonzero()[0].max() < page.HEIGHT // 2


def tiles(drawn):
    """Return the tiles of the supporting row: the pixels of the right part below its texts."""
    return drawn[page.MARGIN + page.HEADER : page.HEIGHT // 2, page.MARGIN + module.LEFT + page.GAP :]


def test_tiles_show_the_strongest_places_in_order():
    frame = plain(value=60)
    colours = [(20 * i + 100, 50, 250 - 20 * i) for i in range(SHOWN + 2)]
    patches = [Patch(205 + 22 * i, 80 + 35 * i, 18, 24) for i in range(len(colours))]
    for patch, colour in zip(patches, colours, strict=True):
        frame[patch.y :, patch.x :][:24, :18] = colour
    neurons = ranking(5, patches, SUPPORTING).neurons
    scores = [0.1 * (len(patches) - i) for i in range(len(patches))]
    scored = tuple(dataclasses.replace(n, score=score) for n, score in zip(neurons, scores, strict=True))
    e = argued(metrics=(SUPPORTING,), layers=(5,))
    e = dataclasses.replace(e, rankings=(dataclasses.replace(e.rankings[0], neurons=scored[::-1]),))
    right = tiles(slide(frame, e))
    # Tiles are to the right of the window, which shows all patches.
    window = round(REGION.width * right.shape[0] / REGION.height)
    lefts = []
    for colour in colours:
        columns = (right[:, window + page.GAP // 2 :] == colour).all(2).any(0).nonzero()[0]
        lefts.append(columns.min() if len(columns) else None)
    assert lefts[SHOWN:] == [None, None]
    assert lefts[:SHOWN] == sorted(lefts[:SHOWN]) and len(set(lefts[:SHOWN])) == SHOWN


def test_opposing_tiles_have_corners_and_supporting_ones_whole_frames():
    drawn = slide(plain(), argued(layers=(5,), unstable=False))
    counts = [(half == layer_style(5).colour).all(2).sum() for half in np.split(drawn, 2)]
    assert 0.3 < counts[1] / counts[0] < 0.75


def test_explanation_without_influence_has_no_slide():
    with pytest.raises(ValueError, match="has no influence: request the metrics influence and counter_influence"):
        slide(plain(), everything())


@pytest.mark.parametrize(
    ("e", "names"),
    [
        (argued(), ["slide", "sheet"]),
        (argued(metrics=(SUPPORTING, OPPOSING)), ["slide"]),
        (everything(), ["sheet"]),
    ],
)
def test_sheets_are_those_that_the_explanation_has_data_for(e, names):
    drawn = sheets(plain(), e, [REGION], trigger="service", source="a bag")
    assert list(drawn) == names
    for name, draw in (("slide", slide), ("sheet", contact_sheet)):
        if name in names:
            np.testing.assert_array_equal(drawn[name], draw(plain(), e, [REGION], trigger="service", source="a bag"))


def test_contact_sheet_has_no_influence_unless_there_is_nothing_else():
    both = argued()
    paper = dataclasses.replace(both, rankings=tuple(r for r in both.rankings if r.metric in PAPER_METRICS))
    np.testing.assert_array_equal(contact_sheet(plain(), both), contact_sheet(plain(), paper))
    only = argued(metrics=(SUPPORTING, OPPOSING))
    assert (contact_sheet(plain(), only) == layer_style(5).colour).all(2).any()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 6),
    silenced=st.floats(0, 1),
    spread=st.floats(0, 0.5),
    stability=st.floats(0, 1) | st.just(math.nan),
    long=st.booleans(),
)
def test_row_heads_of_a_contact_sheet_are_not_cut(texts, count, silenced, spread, stability, long):
    texts.clear()
    names = (
        (*PAPER_METRICS[: count - 1], "a_metric_of_another_package_with_a_long_name") if long else PAPER_METRICS[:count]
    )
    e = everything(metrics=PAPER_METRICS[:count])
    rankings = tuple(
        dataclasses.replace(r, metric=names[PAPER_METRICS.index(r.metric)], stability=stability, unstable=r.layer == 3)
        for r in e.rankings
    )
    effects = tuple(
        Silencing(name, 35, silenced, -1.1, (silenced + spread, silenced - spread), (2.2, 0.85)) for name in names
    )
    contact_sheet(plain(), dataclasses.replace(e, rankings=rankings, silencing=effects))
    assert [text for text, inside in texts if not inside] == []
    said = " ".join(text for text, _ in texts)
    assert said.count("without random neurons") == count
    assert said.count("unstable in 1 of 7 layers") == count
    assert ("steady under noise" in said) == ("activation_precision" in names)
