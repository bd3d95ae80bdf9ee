"""Names of files: in natural order, printable, and without those that operating systems leave."""

from __future__ import annotations

import os
import re
from pathlib import Path


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
