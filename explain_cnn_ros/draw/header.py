"""The header of the sheets: the decision, and the origin of the explanation."""

from __future__ import annotations

from explain_cnn_ros.draw.canvas import MUTED, TEXT, Image, put_text
from explain_cnn_ros.draw.captions import decision_text, trigger_text
from explain_cnn_ros.draw.style import PERSON_COLOUR
from explain_cnn_ros.explain.explanation import Explanation

#: Text sizes of the decision and of the line below it, in pixels.
TITLE, SUBTITLE = 40, 22


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
    title = "Person" if explanation.person else "No person"
    x = 26 + put_text(canvas, title, 26, 0, TITLE, accent if explanation.person else TEXT, True)
    decision = decision_text(explanation.region.probability, explanation.threshold)
    put_text(canvas, decision, x + 22, 0, TITLE, TEXT, max_width=width - x - 22)
    size = f"frame of {explanation.image_size[0]} x {explanation.image_size[1]} pixels"
    parts = [f"trigger: {trigger_text(trigger)}" if trigger else "", source, size]
    put_text(canvas, "  |  ".join(filter(None, parts)), 26, 54, SUBTITLE, MUTED, max_width=width - 26)
