"""The contact sheet: its layout, and what its table has for each metric and layer."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from draw_kit import CORRELATION, PATCH, PRECISION, REGION, everything, explanation, picture, plain, ranking

from explain_cnn_ros.draw import contact_sheet as sheet
from explain_cnn_ros.draw import page
from explain_cnn_ros.draw.canvas import BACKGROUND
from explain_cnn_ros.draw.captions import silencing_text
from explain_cnn_ros.draw.contact_sheet import contact_sheet
from explain_cnn_ros.draw.style import UNSTABLE_COLOUR, layer_style
from explain_cnn_ros.explain.explanation import Silencing
from explain_cnn_ros.explain.metrics import PAPER_METRICS
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.model.windows import Region

DEAD = explanation([ranking(layer, [None] * 5, metric) for metric in PAPER_METRICS for layer in range(3, 10)])
NONE = explanation([ranking(layer, [], metric) for metric in PAPER_METRICS for layer in (3, 9)])
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
    source = "a bag of long name " * 20
    drawn = contact_sheet(picture(e.image_size), e, [REGION], trigger="low_confidence" * 9, source=source)
    assert drawn.shape == (page.HEIGHT, page.WIDTH, 3) and drawn.dtype == np.uint8
    margin = page.MARGIN
    for strip in (drawn[:margin], drawn[-margin:], drawn[:, :margin], drawn[:, -margin:]):
        assert (strip == BACKGROUND).all()
    body = drawn[margin + page.HEADER : -margin - sheet.FOOTER]
    between = margin + sheet.LEFT
    assert (body[:, between : between + page.GAP] == BACKGROUND).all()


def test_contact_sheet_shows_a_grey_frame_in_its_grey():
    drawn = contact_sheet(plain(), DEAD)
    assert (drawn == 90).all(2).any()


def table(drawn):
    left = page.MARGIN + sheet.LEFT + page.GAP
    return drawn[page.MARGIN + page.HEADER : -page.MARGIN - sheet.FOOTER, left : -page.MARGIN]


def test_contact_sheet_shows_each_layers_patches_in_its_column():
    frame = plain(value=60)
    colours, patches = {}, {}
    for i, layer in enumerate(range(3, 10)):
        patches[layer] = Patch(210 + 20 * i, 100 + 30 * i, 18, 24)
        colours[layer] = (20 * i + 100, 50, 250 - 20 * i)
        frame[patches[layer].y :, patches[layer].x :][:24, :18] = colours[layer]
    e = explanation([ranking(layer, [patches[layer]], metric) for metric in PAPER_METRICS for layer in patches])
    cells = table(contact_sheet(frame, e))
    found = []
    for layer, colour in colours.items():
        rows, columns = (cells == colour).all(2).nonzero()
        # Bright in each of the six rows.
        assert len(np.unique(np.floor(rows / cells.shape[0] * len(PAPER_METRICS)))) == len(PAPER_METRICS), layer
        found.append((columns.min(), columns.max()))
        _, frame_columns = (cells == layer_style(layer).colour).all(2).nonzero()
        near = (frame_columns > columns.min() - 60) & (frame_columns < columns.max() + 60)
        assert near.sum() > len(PAPER_METRICS) * 4 * 60
    assert all(before[1] < after[0] for before, after in itertools.pairwise(found))


def test_contact_sheet_marks_unstable_rankings():
    stable, unstable = (table(contact_sheet(plain(), everything(unstable=unstable))) for unstable in (False, True))
    said = [(cells == UNSTABLE_COLOUR).all(2).any() for cells in (stable, unstable)]
    assert said == [False, True]
    row = slice(sheet.COLUMN_HEAD, stable.shape[0] // len(PAPER_METRICS))
    for layer in (3, 5, 8):
        solid, dashed = ((cells[row] == layer_style(layer).colour).all(2).sum() for cells in (stable, unstable))
        assert 0.4 < dashed / solid < 0.8


def test_contact_sheet_writes_the_effect_of_silencing():
    silenced = Silencing(PAPER_METRICS[0], 35, 0.25, -1.1, (0.9, 0.7), (2.2, 0.85))
    assert silencing_text(silenced) == "P(person) without them 0.25, without random neurons 0.80 +-0.10"
    plain_sheet = everything()
    with_it = dataclasses.replace(plain_sheet, silencing=(silenced,))
    without, said = (table(contact_sheet(plain(), one)) for one in (plain_sheet, with_it))
    rows = (without != said).any(2).any(1).nonzero()[0]
    assert len(rows) > 20
    # Only in the head of that metric's row.
    assert rows[-1] < said.shape[0] // len(PAPER_METRICS) + sheet.COLUMN_HEAD
    assert (without != said).any(2).any(0).nonzero()[0][-1] < sheet.ROW_HEAD


def test_contact_sheet_names_the_direction_of_the_weights():
    rankings = [ranking(3, [PATCH], metric) for metric in ("activation_sum", "weight_sum")]
    outgoing, incoming = (
        contact_sheet(plain(), explanation(rankings, weights=weights)) for weights in ("outgoing", "incoming")
    )
    rows, columns = (outgoing != incoming).any(2).nonzero()
    assert len(rows) > 20
    # Only in the head of the second row.
    left, top = page.MARGIN + sheet.LEFT + page.GAP, page.MARGIN + page.HEADER
    assert rows.min() > top + (table(outgoing).shape[0] + sheet.COLUMN_HEAD) / 2
    assert left <= columns.min() and columns.max() < left + sheet.ROW_HEAD


def test_contact_sheet_has_title_and_caption_of_a_metric_of_another_package(registered_metric):
    e = explanation([ranking(3, [PATCH], registered_metric)])
    registered = contact_sheet(plain(), e)
    # Metrics that are not registered: one whose title is the same, and another.
    same, other = (
        contact_sheet(plain(), dataclasses.replace(e, rankings=(ranking(3, [PATCH], name),)))
        for name in ("dead_positions", "live_positions")
    )
    between = page.MARGIN + sheet.LEFT
    # The title is above the window and in the table. The caption is only in the table.
    assert (registered != other)[:, :between].any() and (registered != other)[:, between:].any()
    assert not (registered != same)[:, :between].any() and (registered != same)[:, between:].any()
