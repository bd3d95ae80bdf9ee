"""The page that both sheets share: its size, its header, and the frame with its regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from explain_cnn_ros.draw.boxes import View, draw_regions, other_regions, region_colour
from explain_cnn_ros.draw.canvas import BACKGROUND, MUTED, TEXT, Image, line_height, put_text, resized, text_width
from explain_cnn_ros.draw.captions import decision_title, headlines, trigger_text
from explain_cnn_ros.draw.style import PERSON_COLOUR
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.model.windows import Region

#: Size of a page, its margins, the distance between its parts, and the height of its header, in pixels.
WIDTH, HEIGHT = 1920, 1080
MARGIN, GAP = 40, 30
HEADER = 100

#: Text sizes of the decision and of the line below it, in pixels.
TITLE, SUBTITLE = 40, 22


def blank_page() -> Image:
    """Return an empty page, uint8 [HEIGHT, WIDTH, 3]."""
    page = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    page[:] = BACKGROUND
    return page


def draw_header(canvas: Image, explanation: Explanation, trigger: str, source: str, width: int) -> None:
    """Write the decision and the origin of the explanation.

    Args:
        canvas: uint8 [H, W, 3]; modified.
        explanation: The explanation.
        trigger: Cause of the explanation; "" for none.
        source: Origin of the frame; "" for none.
        width: Maximum width of the texts, in pixels.
    """
    accent = PERSON_COLOUR if explanation.person else MUTED
    canvas[4:78, :8] = accent
    x = 26 + put_text(canvas, decision_title(explanation), 26, 0, TITLE, accent if explanation.person else TEXT, True)
    room = width - x - 22
    decision = next(text for text in headlines(explanation, "")[1:] if text_width(text, TITLE) <= room)
    put_text(canvas, decision, x + 22, 0, TITLE, TEXT)
    size = f"frame of {explanation.image_size[0]} x {explanation.image_size[1]} pixels"
    parts = [f"trigger: {trigger_text(trigger)}" if trigger else "", source, size]
    put_text(canvas, "  |  ".join(filter(None, parts)), 26, 54, SUBTITLE, MUTED, max_width=width - 26)


def draw_frame(
    canvas: Image,
    frame: Image,
    explanation: Explanation,
    regions: Sequence[Region] | None,
    height_max: float,
    text: int,
) -> int:
    """Draw a caption, and below it the frame with its regions, at the top of a canvas.

    Args:
        canvas: uint8 [H, W, 3]; modified.
        frame: The explained frame, uint8 [H, W, 3], RGB.
        explanation: The explanation.
        regions: All regions of the frame; None counts as none.
        height_max: Maximum height of the frame, in pixels of the canvas.
        text: Text size of the caption, in pixels.

    Returns:
        The height of the caption and the frame together, in pixels.
    """
    width = canvas.shape[1]
    others = other_regions(explanation, regions)
    note = "; yellow: another person" if any(region_colour(explanation, r) == PERSON_COLOUR for r in others) else ""
    put_text(canvas, f"white: the explained window{note}", 0, 0, text, MUTED, max_width=width)
    scale = min(width / frame.shape[1], height_max / frame.shape[0])
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    top = line_height(text) + 4
    picture = canvas[top : top + size[1], : size[0]]
    picture[:] = resized(frame, *size)
    draw_regions(View(picture, 0, 0, size[0] / frame.shape[1], size[1] / frame.shape[0]), explanation, regions)
    return top + size[1]
