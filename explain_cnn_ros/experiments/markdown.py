"""Tables as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown; underscores of names become spaces."""
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [f"| {' | '.join(str(cell).replace('_', ' ') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"
