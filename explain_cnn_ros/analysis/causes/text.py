"""Causes in words."""

from __future__ import annotations

from typing import Any

from explain_cnn_ros.analysis.wrong_way import FALSE_ALARM, MISSED
from explain_cnn_ros.files import visible

#: Kinds of wrong decisions in words.
KINDS = {MISSED: "missed persons", FALSE_ALARM: "false alarms"}


def line_of(number: int, cause: dict[str, Any]) -> str:
    """Return a line about a cause.

    Args:
        number: Its number, counted from 1.
        cause: The cause, as plain values.
    """
    silenced = cause["silenced"]
    name = f", {visible(cause['name'])}" if cause["name"] else ""
    carried = "more than the whole margin" if cause["carried"] > 1 else f"{cause['carried']:.0%} of the margin"
    return (
        f"group {number}{name}: {len(cause['windows'])} {KINDS[cause['kind']]} in {cause['frames']} frames; "
        f"{len(cause['neurons'])} neurons carry {carried} and push {cause['place']}; "
        f"silencing them turns {silenced['turned_right']} of {silenced['wrong']} right, and "
        f"{silenced['turned_wrong']} of {silenced['right']} right decisions wrong"
    )
