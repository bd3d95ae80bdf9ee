"""What it takes to do an analysis again: settings, versions, hashes."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import explain_cnn_ros

#: Files up to this size are hashed as a whole; of larger ones, as much of the beginning and of the end.
HASHED_MAX = 64 * 1024 * 1024


def versions() -> dict[str, str]:
    """Of this package and of what it calculates with."""
    found = {"explain_cnn_ros": explain_cnn_ros.__version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "opencv-python", "pyarrow", "rosbags"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["platform"] = platform.platform()
    return found


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, or of a folder's files in the order of their names."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest, size, whole = hashlib.sha256(), 0, True
    for file in files:
        length = file.stat().st_size
        size += length
        with file.open("rb") as opened:
            digest.update(opened.read(HASHED_MAX))
            if length > HASHED_MAX:
                whole = False
                opened.seek(max(HASHED_MAX, length - HASHED_MAX), os.SEEK_SET)
                digest.update(opened.read(HASHED_MAX))
    return {"bytes": size, "sha256": digest.hexdigest(), "of": "all of it" if whole else "its beginning and end"}
