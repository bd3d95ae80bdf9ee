"""Files that are complete or do not exist, texts about files, and JSON for them."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

#: Characters that do not show what a text says: control characters, which a terminal obeys, and those that change the
#: direction of the text after them, for instance U+202E. Tabs and ends of lines are fine.
MISLEADING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file when the body has written the new one. The old file stays until then.

    The folder is created if it does not exist. If the body fails, the new file is removed.

    Args:
        path: The file. If it is a link, the link is replaced, and the file that it names is left as it is.

    Yields:
        Path of an empty file beside it, which the body writes.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    # The mode "x" creates a file and follows no link: somebody else may have left one of this name.
    partial.unlink(missing_ok=True)
    partial.open("xb").close()
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def replace_text(path: Path, text: str) -> None:
    """Replace the contents of a text file. The old file stays until the new one is complete.

    Args:
        path: The file; see `replacing`.
        text: The new contents, written as UTF-8. Bytes of file names in other encodings become escapes.

    Raises:
        OSError: The file cannot be written.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def require_folder(path: Path) -> None:
    """Check that files can be written into a folder. Nothing is created.

    Args:
        path: The folder. It need not exist yet.

    Raises:
        OSError: The folder cannot be created or written. The message names the cause.
    """
    for place in (path, *path.parents, *path.absolute().parents):
        if not os.path.lexists(place):
            continue
        if not place.exists():
            raise FileNotFoundError(f"{visible(place)} is a link to a place that does not exist")
        if not place.is_dir():
            raise NotADirectoryError(f"{visible(place)} is a file: give a folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(f"{visible(place)} cannot be written: permission denied")
        return


def reason(error: OSError) -> str:
    """Return the message of an error of the system without its number: the file, and what is wrong with it."""
    if error.strerror is None:
        return str(error)
    named = isinstance(error.filename, str | bytes)
    return f"{visible(os.fsdecode(error.filename))}: {error.strerror}" if named else error.strerror


def visible(text: str | os.PathLike[str]) -> str:
    r"""Return a text whose control characters and changes of direction are escapes such as \u202e."""
    return MISLEADING.sub(lambda found: f"\\u{ord(found[0]):04x}", os.fspath(text))


def quoted(value: object, length_max: int = 100) -> str:
    """Return a value of a file or a message as Python spells it, cut if it is long, for an error message."""
    text = repr(value)
    return text if len(text) <= length_max else f"{text[:length_max]} ..."


def json_text(value: Any, **more: Any) -> str:
    """Convert plain values to JSON. NaN and infinities become null.

    Args:
        value: The value.
        **more: Further arguments of `json.dumps`.
    """
    try:
        return json.dumps(value, allow_nan=False, **more)
    except ValueError:
        return json.dumps(finite(value), allow_nan=False, **more)


def finite(value: Any) -> Any:
    """Replace NaN and infinities by None in a nested value. Keys become texts, and tuples become lists."""
    if isinstance(value, dict):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
