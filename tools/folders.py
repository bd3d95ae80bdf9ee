"""Output folders of the tools, which each run begins anew."""

from __future__ import annotations

import shutil
from pathlib import Path


def begin_anew(folder: Path, mark: str) -> None:
    """Create an empty folder, in place of the output of an earlier run.

    Args:
        folder: The folder.
        mark: Name of a file by which the output of an earlier run is recognised.

    Raises:
        FileExistsError: There is something else, which must not be deleted.
    """
    if folder.exists():
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / mark).exists()):
            raise FileExistsError(f"{folder} exists and is not the output of an earlier run: name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
