"""The sheets about an explanation: what can be drawn of it, each with a name for its file."""

from __future__ import annotations

from collections.abc import Sequence

from explain_cnn_ros.draw.boxes import metrics_of
from explain_cnn_ros.draw.canvas import Image
from explain_cnn_ros.draw.contact_sheet import contact_sheet
from explain_cnn_ros.draw.slide import slide
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.model.windows import Region


def sheets(
    frame: Image,
    explanation: Explanation,
    regions: Sequence[Region] | None = None,
    *,
    trigger: str = "",
    source: str = "",
) -> dict[str, Image]:
    """Draw the sheets that an explanation has data for.

    Args:
        frame: The explained frame, uint8 [H, W, 3], RGB; not modified.
        explanation: The explanation.
        regions: All regions of the frame. Those that are not explained are outlined thinly.
        trigger: Cause of the explanation: "service", "low_confidence" or any text; "" for none.
        source: Origin of the frame, for instance a recording and a time; "" for none.

    Returns:
        "slide" if the explanation has influence, and "sheet" (the contact sheet) if it has any other metrics, or none
        at all: uint8 [1080, 1920, 3], RGB.

    Raises:
        ValueError: The frame is not uint8 [H, W, 3], or its size is not that of the explained frame.
    """
    metrics, influence = set(metrics_of(explanation)), {SUPPORTING, OPPOSING}
    pictures = {}
    if metrics & influence:
        pictures["slide"] = slide(frame, explanation, regions, trigger=trigger, source=source)
    if metrics - influence or not metrics:
        pictures["sheet"] = contact_sheet(frame, explanation, regions, trigger=trigger, source=source)
    return pictures
