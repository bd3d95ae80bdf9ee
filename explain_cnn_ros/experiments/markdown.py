"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table. Underscores in cells become spaces, except in code (`like_this`).

    Args:
        header: Titles of the columns.
        rows: Cells of each row; they are converted by `str`.
    """
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    text = str(value)
    return text if text.startswith("`") else text.replace("_", " ")
