"""The picture of a live explanation: what is outlined, what is enlarged, and what the legend says."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from draw_kit import PATCH, argued, picture, plain, proof

from explain_cnn_ros.draw.live import INSET_HEIGHT, draw_live, live_legend, smoothing_text
from explain_cnn_ros.draw.style import EXPLAINED_COLOUR, NO_PERSON_COLOUR, PERSON_COLOUR, layer_style
from explain_cnn_ros.explain.explanation import RankedNeuron
from explain_cnn_ros.explain.live import LiveExplanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.model.windows import Region

BOTH = (SUPPORTING, OPPOSING)

#: A small window, whose enlargement is shown, and one that is as tall as the picture.
SMALL, LARGE = Region(400, 200, 50, 100, 0.97), Region(200, 60, 200, 400, 0.97)


def live(region: Region = SMALL, size: tuple[int, int] = (640, 480), **changes: Any) -> LiveExplanation:
    """Make a live explanation whose patches are all shown."""
    explanation = argued(size, region, 1, 1, silenced=False, metrics=BOTH, layers=(3, 5, 8))
    shown = {
        name: tuple(Neuron(n.layer, n.channel) for r in explanation.rankings if r.metric == name for n in r.neurons)
        for name in BOTH
    }
    return dataclasses.replace(LiveExplanation(explanation, shown, 3.5, 4, 1.0, 2), **changes)


def one_neuron(layer: int, patch: Patch, metric: str = SUPPORTING, region: Region = SMALL) -> LiveExplanation:
    """Make a live explanation that shows one neuron."""
    made = live(region)
    neuron = RankedNeuron(layer, 0, 1.0 if metric == SUPPORTING else -1.0, patch)
    rankings = tuple(
        dataclasses.replace(r, neurons=(neuron,) if (r.metric, r.layer) == (metric, layer) else ())
        for r in made.explanation.rankings
    )
    shown = {name: (Neuron(layer, 0),) if name == metric else () for name in BOTH}
    return dataclasses.replace(made, explanation=dataclasses.replace(made.explanation, rankings=rankings), shown=shown)


def has(canvas: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (canvas == colour).all(-1)


@pytest.mark.parametrize("size", [(640, 480), (64, 128), (1920, 1080), (1, 1), (17, 300)])
def test_the_picture_has_the_size_of_the_frame(size: tuple[int, int]) -> None:
    region = Region(0, 0, *size, 0.4)
    frame = picture(size)
    before = frame.copy()
    frame.flags.writeable = False
    drawn = draw_live(frame, live(region, size), [region])
    assert drawn.shape == frame.shape and drawn.dtype == np.uint8
    np.testing.assert_array_equal(frame, before)
    assert size == (1, 1) or (drawn != frame).any()


def test_another_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="the frame has 640 x 481 pixels"):
        draw_live(picture((640, 481)), live())


def test_all_regions_are_outlined() -> None:
    """The explained window as a whole; of the others, the persons in them."""
    other, unsure = Region(60, 240, 40, 80, 0.95), Region(160, 240, 40, 80, 0.2)
    drawn = draw_live(plain(), live(), [other, SMALL, unsure])
    assert has(drawn, EXPLAINED_COLOUR)[200:300, 398:400].all()
    assert has(drawn, EXPLAINED_COLOUR)[300:302, 400:450].all()
    for region, colour in ((other, PERSON_COLOUR), (unsure, NO_PERSON_COLOUR)):
        x, y, width, height = map(round, region.person_box)
        assert has(drawn, colour)[y : y + height, x - 1].all()
        assert has(drawn, colour)[y - 1, x : x + width].all()
        assert not has(drawn, colour)[y + 5 : y + height - 5, x : x + width].any()
    alone = draw_live(plain(), live(), None)
    assert not has(alone, PERSON_COLOUR)[200:].any(), "the headline alone has this colour"


@pytest.mark.parametrize("metric", BOTH)
def test_patches_that_are_shown_are_drawn(metric: str) -> None:
    patch = Patch(410, 220, 20, 24)
    colour = layer_style(5).colour
    drawn = has(draw_live(plain(), one_neuron(5, patch, metric)), colour)
    assert drawn[219, 410:414].all(), "a corner"
    assert drawn[219, 410:430].all() == (metric == SUPPORTING), "of opposing neurons, the corners only"
    hidden = dataclasses.replace(one_neuron(5, patch, metric), shown={SUPPORTING: (), OPPOSING: ()})
    assert not has(draw_live(plain(), hidden), colour)[150:350].any(), "except in the legend"


def test_a_small_window_is_enlarged_where_it_hides_nobody() -> None:
    """The window is on the right, so its enlargement is at the lower left, unless somebody is there."""
    height = round(INSET_HEIGHT * 480)
    width = height // 2
    frame = plain()
    frame[200:300, 400:450] = (200, 40, 40)
    shown = one_neuron(5, Patch(410, 220, 20, 24))
    red = [tuple(value) for value in ((200, 40, 40), (130, 26, 26))]

    def enlarged(drawn: np.ndarray) -> np.ndarray:
        found = has(drawn, red[0]) | has(drawn, red[1])
        found[195:305, 395:455] = False
        return found

    rows, columns = enlarged(draw_live(frame, shown, [SMALL])).nonzero()
    assert columns.min() == 2 and columns.max() <= 2 + width
    assert rows.max() - rows.min() == height - 1
    assert rows.min() > 150
    below = Region(0, 300, 100, 200, 0.9)
    rows, columns = enlarged(draw_live(frame, shown, [SMALL, below])).nonzero()
    assert rows.max() < 300 or columns.min() > 400
    # Patches of supporting neurons are bright, and everything else is dimmed.
    bright = has(draw_live(frame, shown, [SMALL]), red[0])
    bright[195:305, 395:455] = False
    scale = height / 100
    rows, columns = bright.nonzero()
    assert (rows.max() - rows.min() + 1) == pytest.approx(24 * scale, abs=3)
    assert (columns.max() - columns.min() + 1) == pytest.approx(20 * scale, abs=3)


@pytest.mark.parametrize("region", [Region(0, 24, 8, 16, 0.9), Region(4, 2, 4, 8, 0.9), Region(1, 1, 1, 16, 0.9)])
@pytest.mark.parametrize("width", [8, 17, 40, 80, 200])
def test_frames_of_any_height_are_drawn(width: int, region: Region) -> None:
    """The enlarged window may find no room beside the text of a low frame, and may be less than a pixel wide."""
    for height in range(max(8, region.y + region.height), 140, 4):
        frame = picture((width, height))
        assert draw_live(frame, live(region, (width, height)), [region]).shape == frame.shape


def test_a_large_window_is_not_enlarged() -> None:
    drawn = draw_live(plain(), one_neuron(5, PATCH, region=LARGE), [LARGE])
    assert (drawn[60:400, :190] == 90).all()
    assert (drawn[60:400, 410:] == 90).all()


def test_the_legend_says_what_is_drawn_and_that_it_is_smoothed() -> None:
    made = live()
    entries = list(live_legend(made))
    assert [entry.text for entry in entries] == [
        "for it: 3 neurons carry 71 % of the margin",
        "influence, smoothed over 1 s",
        "against it: without 3 neurons the margin would be 23 % larger",
        "layer 3",
        "layer 5",
        "layer 8",
    ]
    assert [entry.corners for entry in entries] == [False, False, True, False, False, False]
    assert [entry.colour for entry in entries[3:]] == [layer_style(layer).colour for layer in (3, 5, 8)]
    assert smoothing_text(dataclasses.replace(made, smoothing=0.25)) == "smoothed over 0.25 s"
    assert smoothing_text(dataclasses.replace(made, smoothing=0.0)) == "of this image alone"
    one = dataclasses.replace(made.explanation, proofs=(proof(SUPPORTING, 1), proof(OPPOSING, 0)))
    texts = [entry.text for entry in live_legend(dataclasses.replace(made, explanation=one))]
    assert texts[0] == "for it: 1 neuron carries 71 % of the margin"
    assert texts[2] == "against it: no neuron opposes the decision"


def test_the_legend_does_not_depend_on_which_layers_are_shown() -> None:
    """It would jump from frame to frame."""
    made = live()
    few = dataclasses.replace(made, shown={SUPPORTING: made.shown[SUPPORTING][:1], OPPOSING: ()})
    assert list(live_legend(few)) == list(live_legend(made))
