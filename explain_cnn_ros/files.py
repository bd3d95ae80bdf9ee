"""Files that are complete or do not exist."""

from __future__ import annotations

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Replace the contents of a text file. The old file stays until the new one is complete.

    Args:
        path: The file; its folder is created if it does not exist.
        text: The new contents, written as UTF-8. Bytes of file names in other encodings become escapes.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(partial, path)
