"""Colours, line widths and text sizes that all pictures share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from explain_cnn_ros.draw.canvas import Colour, Image

#: The outline of the explained window.
EXPLAINED_COLOUR: Colour = (255, 255, 255)

#: Outlines of the other regions, at or above the threshold and below it. They differ in lightness as well as in hue.
PERSON_COLOUR: Colour = (255, 214, 64)
NO_PERSON_COLOUR: Colour = (205, 211, 220)

#: Texts about unstable rankings.
UNSTABLE_COLOUR: Colour = (255, 164, 84)

#: A frame that is smaller than this width and height, in pixels, is enlarged until it fills one of them.
READABLE_WIDTH, READABLE_HEIGHT = 960, 720

#: Lines become one pixel wider with every LINE_UNIT_HEIGHT pixels of the picture's height.
LINE_UNIT_HEIGHT = 720

#: Minimum and maximum of the text size, in pixels, and the shares of the picture's height and width that it follows.
TEXT_SIZE_MIN, TEXT_SIZE_MAX = 9, 30
TEXT_SIZE_OF_HEIGHT, TEXT_SIZE_OF_WIDTH = 1 / 36, 1 / 48


@dataclass(frozen=True)
class LayerStyle:
    """The style of the boxes of a group of layers.

    Groups differ in colour and in line width, so that they can be told apart without colour vision.

    Attributes:
        first: First layer of the group, counted from 1.
        last: Last layer of the group.
        colour: Colour of the lines.
        width: Width of the lines, in pixels.
    """

    first: int
    last: int
    colour: Colour
    width: int


#: Layers 3 to 9 have the colours of Figure 4 of the paper. The layers before and after them continue the spectrum.
LAYER_STYLES = (
    LayerStyle(1, 2, (255, 150, 190), 1),
    LayerStyle(3, 4, (255, 70, 60), 1),
    LayerStyle(5, 7, (60, 215, 95), 2),
    LayerStyle(8, 9, (70, 140, 255), 3),
    LayerStyle(10, 10**9, (190, 115, 255), 3),
)

#: Number of convolutions of the largest VGG, VGG-19.
VGG_LAYERS = 16


#: Names of the layers of a VGG, whose styles go by their numbers.
_VGG_NAME = re.compile(r"conv\d_\d")


def layer_styles(names: Mapping[int, str]) -> tuple[LayerStyle, ...]:
    """Return the styles of the explained layers, in ascending order of the layers.

    Args:
        names: Names of all explained layers by their numbers.

    Returns:
        LAYER_STYLES if all layers are those of a VGG. Otherwise the layers share the same colours in the order of
        their depth: up to five layers differ, and more are divided into five groups. Every layer has a style.
    """
    if all(layer <= VGG_LAYERS and _VGG_NAME.fullmatch(name) for layer, name in names.items()):
        return LAYER_STYLES
    layers, count = sorted(names), len(LAYER_STYLES)
    # The first colour, that of the lightest style, is used for five groups only.
    styles = LAYER_STYLES if len(layers) >= count else LAYER_STYLES[1 : 1 + len(layers)]
    groups = [rank * len(styles) // len(layers) for rank in range(len(layers))]
    firsts = [1, *(layers[groups.index(group)] for group in range(1, len(styles)))]
    lasts = [*(first - 1 for first in firsts[1:]), LAYER_STYLES[-1].last]
    return tuple(
        replace(style, first=first, last=last) for style, first, last in zip(styles, firsts, lasts, strict=True)
    )


def layer_style(layer: int, styles: Sequence[LayerStyle] = LAYER_STYLES) -> LayerStyle:
    """Return the style of a layer.

    Args:
        layer: Number of the layer, counted from 1.
        styles: The styles of the explained layers, from `layer_styles`; by default those of a VGG.

    Raises:
        ValueError: The number is less than 1.
    """
    for style in styles:
        if style.first <= layer <= style.last:
            return style
    raise ValueError(f"layer {layer} does not exist: layers are counted from 1")


def line_unit(canvas: Image) -> int:
    """Return the width of a thin line on a picture of this size, in pixels."""
    return max(1, canvas.shape[0] // LINE_UNIT_HEIGHT)


def text_size(canvas: Image) -> int:
    """Return the size of text that lies on a picture of this size, in pixels."""
    size = min(canvas.shape[0] * TEXT_SIZE_OF_HEIGHT, canvas.shape[1] * TEXT_SIZE_OF_WIDTH)
    return round(min(max(size, TEXT_SIZE_MIN), TEXT_SIZE_MAX))
