"""Names of files and topics: in natural order, printable, and without those that operating systems leave."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from explain_cnn_ros.files import visible

#: Maximum number of names in a sentence, and of the characters of each.
NAMED, NAME_LENGTH = 12, 100


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Return a key that sorts street_2 before street_10."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(0, int(part)) if index % 2 else (1, part) for index, part in enumerate(parts)]


def printable(path: str | os.PathLike[str]) -> str:
    r"""Return a path as text that can be written as UTF-8. Other bytes become escapes such as \xe9."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_hidden(path: Path) -> bool:
    """Whether a file is one that systems and programs leave beside others, such as `._photo.jpg` of macOS."""
    return path.name.startswith(".")


def listed(names: Sequence[str], most: int = NAMED, length: int = NAME_LENGTH, between: str = ", ") -> str:
    """Return the first names of a list, cut if they are long, and how many there are besides.

    Args:
        names: The names.
        most: Maximum number of names.
        length: Maximum number of characters of each.
        between: Separates the names.
    """
    shown = [visible(name) for name in names[:most]]
    shown = [name if len(name) <= length else f"{name[:length]} ..." for name in shown]
    return between.join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
