"""Folders with several recordings of one file each, such as that of the black box."""

from __future__ import annotations

import re
from pathlib import Path

from explain_cnn_ros.bags.names import natural
from explain_cnn_ros.bags.storage_files import is_storage_name

#: Name of a recording of the black box: time (UTC), cause and number. The number is the order of the recordings.
BLACK_BOX_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2})_([a-z]+)_([0-9]{4,9})\.mcap")


def recordings_in(path: Path) -> list[Path]:
    """Return the recordings that a path stands for.

    A folder of the black box stands for the recordings in it, each of which is a file. Any other path stands for
    itself, also a folder whose files are parts of one recording.

    Args:
        path: A recording, or a folder of recordings of the black box. Other storage files in this folder, for instance
            renamed recordings, are recordings of their own as well.
    """
    try:
        if not path.is_dir() or (path / "metadata.yaml").exists():
            return [path]
        files = sorted((file for file in path.iterdir() if is_storage_name(file) and file.is_file()), key=natural)
    except OSError:
        return [path]  # who opens it names the cause
    return files if any(BLACK_BOX_NAME.fullmatch(file.name) for file in files) else [path]
