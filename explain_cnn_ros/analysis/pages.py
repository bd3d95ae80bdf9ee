"""Self-contained HTML pages: a template with style, script and data."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from explain_cnn_ros.analysis.json_text import json_text
from explain_cnn_ros.files import MISLEADING, visible

_FOLDER = Path(__file__).parent / "pages"


def render(name: str, title: str, data: dict[str, Any]) -> str:
    """Return a page: pages/page.html around <name>.html, with its script and its data.

    In all texts, control characters and changes of the direction of writing become escapes.

    Args:
        name: "report" or "compare".
        title: Title of the page.
        data: Data for the script, as plain values for JSON.
    """
    # Without "<", the data cannot end the element that it is in.
    safe = json_text(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    # In JSON, such a character is part of a text. Two backslashes are the escape of one.
    safe = re.sub(MISLEADING, lambda found: f"\\\\u{ord(found[0]):04x}", safe)
    title = visible(title)
    parts = {
        "title": html.escape(title),
        "body": (_FOLDER / f"{name}.html").read_text(encoding="utf-8").replace("{{title}}", html.escape(title)),
        "style": (_FOLDER / "style.css").read_text(encoding="utf-8"),
        "common": (_FOLDER / "common.js").read_text(encoding="utf-8"),
        "script": (_FOLDER / f"{name}.js").read_text(encoding="utf-8"),
        "data": safe,
    }
    page = (_FOLDER / "page.html").read_text(encoding="utf-8")
    before, *pieces = page.split("{{")
    for piece in pieces:
        key, _, text = piece.partition("}}")
        before += parts[key] + text
    return before
