"""Self-contained HTML pages: a template with style, script and data."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explain_cnn_ros.files import MISLEADING, json_text, visible

#: The data in a page, between its tags.
_DATA = re.compile(r'(<script type="application/json" id="data">)([^<]*)(</script>)')

_FOLDER = Path(__file__).parent / "pages"


def render(name: str, title: str, data: dict[str, Any], scripts: Sequence[str] = ()) -> str:
    """Return a page: pages/page.html around <name>.html, with its script and its data.

    In all texts, control characters and changes of the direction of writing become escapes.

    Args:
        name: "report", "compare" or "repair".
        title: Title of the page.
        data: Data for the script, as plain values for JSON.
        scripts: Names of further scripts, which run before that of the page.
    """
    title = visible(title)
    parts = {
        "title": html.escape(title),
        "body": (_FOLDER / f"{name}.html").read_text(encoding="utf-8").replace("{{title}}", html.escape(title)),
        "style": (_FOLDER / "style.css").read_text(encoding="utf-8"),
        "common": (_FOLDER / "common.js").read_text(encoding="utf-8"),
        "script": "\n".join((_FOLDER / f"{one}.js").read_text(encoding="utf-8") for one in (*scripts, name)),
        "data": _safe(data),
    }
    page = (_FOLDER / "page.html").read_text(encoding="utf-8")
    before, *pieces = page.split("{{")
    for piece in pieces:
        key, _, text = piece.partition("}}")
        before += parts[key] + text
    return before


def page_data(page: str) -> dict[str, Any]:
    """Return the data of a page that `render` has returned.

    Raises:
        ValueError: The page has no such data.
    """
    found = _DATA.search(page)
    if found is None:
        raise ValueError("the report has no data of this package: analyse the recording again")
    try:
        data: dict[str, Any] = json.loads(found[2])
    except RecursionError as error:
        raise ValueError("the data of the report are nested too deeply") from error
    if not isinstance(data, dict):
        raise ValueError("the data of the report are no list of entries")
    return data


def with_data(page: str, data: dict[str, Any]) -> str:
    """Return a page with other data.

    Args:
        page: A page that `render` has returned.
        data: Data for the script, as plain values for JSON.
    """
    return _DATA.sub(lambda found: found[1] + _safe(data) + found[3], page, count=1)


def _safe(data: dict[str, Any]) -> str:
    """Return data as JSON that can stand in a page."""
    # Without "<", the data cannot end the element that it is in.
    safe = json_text(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    # In JSON, such a character is part of a text. Two backslashes are the escape of one.
    return re.sub(MISLEADING, lambda found: f"\\\\u{ord(found[0]):04x}", safe)
