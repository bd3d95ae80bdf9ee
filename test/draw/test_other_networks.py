"""Explanations of other networks and of other targets: colours of layers, long names, and words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from draw_kit import DENSENET, EFFICIENTNET, REGION, RESNET, argued, everything, of_network, picture, plain, proof

import explain_cnn_ros.draw.canvas as drawing
from explain_cnn_ros.draw.boxes import region_colour
from explain_cnn_ros.draw.captions import (
    argument_title,
    decision_text,
    decision_title,
    effect_meaning,
    headlines,
    margin_text,
    proof_sentences,
    proof_text,
    target_probability,
    target_text,
)
from explain_cnn_ros.draw.contact_sheet import contact_sheet
from explain_cnn_ros.draw.legend import layer_entries, legend_entries
from explain_cnn_ros.draw.live import draw_live, live_legend
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.draw.slide import slide
from explain_cnn_ros.draw.style import LAYER_STYLES, NO_PERSON_COLOUR, PERSON_COLOUR, layer_style, layer_styles
from explain_cnn_ros.explain.explanation import Silencing
from explain_cnn_ros.explain.live import LiveExplanation
from explain_cnn_ros.explain.metrics import OPPOSING, PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.model.windows import Region

BOTH = (SUPPORTING, OPPOSING)
ELEPHANTS = "African elephant,Indian elephant,tusker"
SMALL = Region(400, 200, 50, 100, 0.97)
NETWORKS = {"resnet": RESNET, "densenet": DENSENET, "efficientnet": EFFICIENTNET}


def made(layers: dict[int, str], target: str = "person", **more: Any) -> Any:
    return of_network(argued(layers=range(1, len(layers) + 1), **more), layers, target)


def live(layers: dict[int, str], target: str = "person", region: Region = SMALL) -> Any:
    e = made(layers, target, region=region, supporting=1, opposing=1, silenced=False, metrics=BOTH)
    shown = {
        name: tuple(Neuron(n.layer, n.channel) for r in e.rankings if r.metric == name for n in r.neurons)
        for name in BOTH
    }
    return LiveExplanation(e, shown, 3.5, 4, 1.0, 2)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Record the written texts as (text, whether it is written whole and inside of its canvas)."""
    written: list[tuple[str, bool]] = []

    def recording(
        canvas: Any, text: str, x: int, y: int, size: int, colour: Any = drawing.TEXT, bold: bool = False,
        max_width: int | None = None,
    ) -> int:  # fmt: skip
        room = canvas.shape[1] - x if max_width is None else min(max_width, canvas.shape[1] - x)
        inside = drawing.text_width(text, size, bold) <= room and y + drawing.line_height(size) <= canvas.shape[0]
        written.append((text, inside))
        return drawing.put_text(canvas, text, x, y, size, colour, bold, max_width)

    for name in ("slide", "page", "contact_sheet", "panel", "strips"):
        monkeypatch.setattr(f"explain_cnn_ros.draw.{name}.put_text", recording)
    return written


class TestColours:
    """VGG's layers have the colours of their numbers; others those of their rank."""

    def test_vgg(self) -> None:
        names = {3: "conv2_1", 9: "conv4_2", 13: "conv5_3", 16: "conv5_4"}
        assert layer_styles(names) is LAYER_STYLES
        assert layer_styles({}) is LAYER_STYLES

    @pytest.mark.parametrize("count", range(1, 6))
    def test_up_to_five_layers_differ(self, count: int) -> None:
        names = {5 * k: f"layer{k}.conv" for k in range(1, count + 1)}
        styles = layer_styles(names)
        chosen = [layer_style(layer, styles) for layer in names]
        assert len({style.colour for style in chosen}) == count
        assert [style.width for style in chosen] == sorted(style.width for style in chosen)

    def test_four_layers_of_a_resnet(self) -> None:
        styles = layer_styles(RESNET)
        assert [(s.first, s.last) for s in styles] == [(1, 9), (10, 14), (15, 19), (20, 10**9)]
        assert [s.colour for s in styles] == [s.colour for s in LAYER_STYLES[1:]]

    @pytest.mark.parametrize("count", [6, 7, 13, 52])
    def test_more_layers_are_five_groups_of_neighbours(self, count: int) -> None:
        names = {3 * k + 2: f"features.{k}" for k in range(count)}
        styles = layer_styles(names)
        groups = [styles.index(layer_style(layer, styles)) for layer in names]
        assert groups == sorted(groups) and set(groups) == set(range(5))
        sizes = [groups.count(group) for group in range(5)]
        assert max(sizes) - min(sizes) <= 1
        for layer in range(1, 300):
            layer_style(layer, styles)

    def test_networks_whose_layers_have_low_numbers(self) -> None:
        """torchvision's VGG-11: the layers 1 and 2 have one colour in a VGG of this package."""
        styles = layer_styles({1: "features.0", 2: "features.4", 4: "features.11"})
        assert len({layer_style(layer, styles).colour for layer in (1, 2, 4)}) == 3

    @pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
    def test_all_pictures_use_them(self, layers: dict[int, str]) -> None:
        e = made(layers)
        styles = layer_styles(layers)
        colours = {layer_style(layer, styles).colour for layer in layers}
        sheet = contact_sheet(plain(), e)
        assert all((sheet == colour).all(2).any() for colour in colours)
        overlay = draw_overlay(plain(), of_network(everything(layers=range(1, len(layers) + 1)), layers))
        assert all((overlay == colour).all(2).any() for colour in colours)
        deepest = layer_style(max(layers), styles).colour
        assert (slide(plain(), e) == deepest).all(2).any()
        shown = draw_live(plain(), live(layers))
        assert all((shown == colour).all(2).any() for colour in colours)

    def test_the_legend_has_an_entry_for_each(self) -> None:
        entries = list(layer_entries(made(RESNET, metrics=BOTH, unstable=False).rankings))
        styles = layer_styles(RESNET)
        assert [(entry.text, entry.colour) for entry in entries] == [
            (name, layer_style(layer, styles).colour) for layer, name in RESNET.items()
        ]
        of_live = list(live_legend(live(RESNET)))[3:]
        assert [entry.text for entry in of_live] == list(RESNET.values())
        assert [entry.short for entry in of_live] == ["layer 5", "layer 10", "layer 15", "layer 20"]


class TestLongNames:
    """Names from the tree of modules fit where they are written, and their ends are left."""

    @pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
    @pytest.mark.parametrize("target", ["person", "forklift", ELEPHANTS, "x" * 300])
    def test_everything_fits(self, layers: dict[int, str], target: str, texts: list[tuple[str, bool]]) -> None:
        e = made(layers, target)
        silenced = tuple(Silencing(m, 35, 0.2, -1.1, (0.9, 0.7), (2.2, 0.85)) for m in PAPER_METRICS)
        for picture_of in (slide, contact_sheet):
            texts.clear()
            picture_of(plain(), dataclasses.replace(e, silencing=silenced), [REGION])
            assert [text for text, inside in texts if not inside] == []
        texts.clear()
        draw_overlay(plain(), e, labels=True)
        draw_overlay(plain(), e, labels=True, keep_size=True)
        assert [text for text, inside in texts if not inside and target != "x" * 300] == []

    def test_columns_of_a_sheet_name_their_layers(self, texts: list[tuple[str, bool]]) -> None:
        contact_sheet(plain(), made(EFFICIENTNET))
        written = [text for text, _ in texts]
        for stage in range(1, 8):
            at = written.index(f"features.{stage}.1.block.")
            assert written[at + 1] == "2.0"
        assert "features.8.0" in written
        texts.clear()
        contact_sheet(plain(), made(RESNET))
        assert set(RESNET.values()) <= {text for text, _ in texts}

    @pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
    def test_tiles_of_a_slide_keep_the_channel(self, layers: dict[int, str], texts: list[tuple[str, bool]]) -> None:
        slide(plain(), made(layers, metrics=BOTH))
        number = 10 * len(layers)  # of the strongest neuron, which is one of the deepest layer
        end = f"{layers[max(layers)][-9:]}/{number}"
        assert any(text.endswith(end) for text in (t.replace(" / ", "/") for t, _ in texts)), end

    def test_shortening(self) -> None:
        assert drawing.abbreviated("layer4.1.conv2", 14) == "layer4.1.conv2"
        assert drawing.abbreviated("features.denseblock4.denselayer16.conv2", 21) == "featur...ayer16.conv2"
        assert drawing.abbreviated("features.denseblock4.denselayer16.conv2", 18) == "featu...er16.conv2"
        assert drawing.abbreviated("abc", 2) == "..."
        name = DENSENET[120]
        for width in range(0, 400, 7):
            short = drawing.shorten_middle(name, 15, width)
            assert drawing.text_width(short, 15) <= width
            assert short == "" or short == name or "..." in short
        assert drawing.shorten_middle(name, 15, 400) == name

    def test_words_break_after_dots(self) -> None:
        lines = drawing.wrap(DENSENET[120], 16, 170)
        assert lines == ["features.", "denseblock4.", "denselayer16.", "conv2"] or "".join(lines) == DENSENET[120]
        assert all(drawing.text_width(line, 16) <= 170 for line in lines)
        assert drawing.wrap("stability 0.52: unstable", 16, 170) == ["stability 0.52:", "unstable"]


class TestWords:
    """Whatever says "person" about an explanation says the classes of its target."""

    def test_targets(self) -> None:
        assert target_text("person") == "person"
        assert target_text("forklift,crane") == "forklift or crane"
        assert target_text(ELEPHANTS) == "African elephant or 2 others"
        assert target_text("African elephant of the savanna,African elephant of the forest").endswith(" or 1 other")
        assert len(target_text("x" * 300)) == 40
        assert target_probability("person") == "P(person)"
        assert target_probability("forklift,crane") == "P(forklift or crane)"
        assert target_probability(ELEPHANTS) == "P"
        assert decision_text(0.31, 0.5, "forklift") == "P(forklift) 0.31, threshold 0.50"

    @pytest.mark.parametrize(("probability", "title"), [(0.97, "Forklift"), (0.2, "No forklift")])
    def test_decisions(self, probability: float, title: str) -> None:
        e = made(RESNET, "forklift", region=dataclasses.replace(REGION, probability=probability))
        assert decision_title(e) == title
        said = f"P(forklift) {probability:.2f}, threshold 0.50"
        assert headlines(e, "live") == [f"{title}: {said}   live", f"{title}: {said}", said, f"P {probability:.2f}",
                                        f"{probability:.2f}", ""]  # fmt: skip

    def test_sentences(self) -> None:
        e = made(RESNET, "forklift")
        assert argument_title(True, SUPPORTING, "forklift") == 'What speaks for "forklift"'
        assert argument_title(True, SUPPORTING, ELEPHANTS) == "What speaks for it"
        assert argument_title(False, OPPOSING, "forklift") == 'What speaks for "forklift", and is too weak'
        assert proof_text(proof(share=1.7), target="forklift").startswith("these 35 neurons carry more than")
        assert proof_text(proof(OPPOSING, share=1.7), target="forklift") == (
            "without these 35 neurons P(forklift) would be 0.12"
        )
        assert proof_sentences(e, proof(probability=0.6)).endswith(". P(forklift) would be 0.60 without them.")
        assert proof_sentences(e, proof()).endswith("without them: P(forklift) 0.12.")
        of_many = dataclasses.replace(e, target=ELEPHANTS)
        assert proof_sentences(of_many, proof(OPPOSING, share=1.7, probability=0.6)) == (
            "Without the 35 strongest neurons P would be 0.60."
        )
        unsure = dataclasses.replace(e, output=-1.0)
        assert effect_meaning(unsure) == "P: P(forklift) when this neuron alone is switched off."
        assert margin_text(unsure) == 'The network leans against "forklift", but the threshold is low.'
        about = dataclasses.replace(e, settings=dataclasses.replace(e.settings, output="probability"))
        assert margin_text(about) == "The explanation is about P(forklift) itself."

    def test_no_picture_says_person(self, texts: list[tuple[str, bool]]) -> None:
        """Neither of the decision that is explained, nor of the other regions, whose P(person) is not comparable."""
        other = Region(20, 240, 40, 80, 0.95)
        silenced = tuple(Silencing(m, 35, 0.2, -1.1, (0.9, 0.7), (2.2, 0.85)) for m in PAPER_METRICS)
        e = dataclasses.replace(made(RESNET, "forklift"), silencing=silenced)
        drawn: list[Callable[[], Any]] = [
            lambda: slide(plain(), e, [REGION, other]),
            lambda: contact_sheet(plain(), e, [REGION, other]),
            lambda: draw_overlay(plain(), e, regions=[REGION, other]),
            lambda: draw_overlay(plain(), e, regions=[REGION, other], keep_size=True),
            lambda: draw_live(plain(), live(RESNET, "forklift"), [other]),
        ]
        for draw in drawn:
            texts.clear()
            draw()
            written = " ".join(text for text, _ in texts).lower()
            assert "forklift" in written
            assert "person" not in written
        entries = [entry.text for group in legend_entries(e, e.rankings, [REGION, other], None) for entry in group]
        assert "another region" in entries and not any("person" in entry for entry in entries)

    def test_other_regions_have_the_neutral_colour(self) -> None:
        other = Region(20, 240, 40, 80, 0.95)
        assert region_colour(made(RESNET), other) == PERSON_COLOUR
        assert region_colour(made(RESNET, "forklift"), other) == NO_PERSON_COLOUR
        drawn = draw_overlay(picture(), made(RESNET, "forklift"), regions=[other], keep_size=True)
        assert (drawn[240:320, 19] == NO_PERSON_COLOUR).all()

    def test_live_tags_are_of_the_explained_window_alone(self) -> None:
        """P(person) of the others would look like P of the target."""
        other = Region(20, 240, 40, 80, 0.95)
        with_tag, without = (draw_live(plain(), live(RESNET, target), [other]) for target in ("person", "forklift"))
        above = np.s_[220:237, 20:60]
        assert (with_tag[above] != plain()[above]).any()
        assert (without[above] == plain()[above]).all()
