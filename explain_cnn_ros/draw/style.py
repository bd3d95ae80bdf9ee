"""Colours, line widths and text sizes that all pictures share."""

from __future__ import annotations

from dataclasses import dataclass

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


def layer_style(layer: int) -> LayerStyle:
    """Return the style of a layer.

    Args:
        layer: Number of the layer, counted from 1.

    Raises:
        ValueError: The number is less than 1.
    """
    for style in LAYER_STYLES:
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
