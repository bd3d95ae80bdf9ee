"""Self-contained HTML pages: a template with style, script and data."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "pages"


def render(name: str, title: str, data: dict[str, Any]) -> str:
    """Return a page: pages/page.html around <name>.html, with its script and its data.

    Args:
        name: "report" or "compare".
        title: Title of the page.
        data: Data for the script, as plain values for JSON.
    """
    # Without "<", the data cannot end the element that it is in.
    safe = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
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
