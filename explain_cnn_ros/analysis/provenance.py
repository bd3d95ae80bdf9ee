"""The data that is needed to repeat an analysis: versions of the packages, and fingerprints of the inputs."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import explain_cnn_ros

#: Files up to this size, in bytes, are hashed completely. Of larger files, the beginning and the end of this size are.
HASHED_MAX = 64 * 1024 * 1024


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of the packages that compute the results."""
    found = {"explain_cnn_ros": explain_cnn_ros.__version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "opencv-python", "pyarrow", "rosbags"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["platform"] = platform.platform()
    return found


def fingerprint(path: Path, output: Path | None = None) -> dict[str, Any]:
    """Return size and SHA-256 of a file, or of the files of a folder in the order of their names.

    Args:
        path: The file or folder.
        output: Folder of the results, which do not belong to the input if they lie within it; None for none.

    Raises:
        OSError: A file cannot be read.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if output is not None and path.resolve() in output.resolve().parents:
        own = path / output.resolve().relative_to(path.resolve())
        files = [file for file in files if own not in file.parents]
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
    return {
        "bytes": size,
        "sha256": digest.hexdigest(),
        "of": "whole files" if whole else "beginning and end of large files",
    }


def fingerprint_or_none(path: Path, output: Path | None = None) -> dict[str, Any] | None:
    """Return the fingerprint of a file or folder; None if it cannot be read. See `fingerprint`."""
    try:
        return fingerprint(path, output)
    except OSError:
        return None
