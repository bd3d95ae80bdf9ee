"""Unpacking of files that are compressed as a whole (.zstd, .zst)."""

from __future__ import annotations

import shutil
from pathlib import Path

from explain_cnn_ros.bags.compression import unpacked_pieces, zstd
from explain_cnn_ros.bags.limits import GIB, LimitError, plausible_bytes
from explain_cnn_ros.bags.storage import Report

#: Number of bytes of a temporary disk that are left free.
RESERVE = GIB // 4

#: Number of bytes that are unpacked at a time.
PIECE = 4 * 1024**2


def unpack_file(packed: Path, target: Path, limit: int, report: Report) -> None:
    """Unpack a file, or the intact part of a damaged one.

    Args:
        packed: The file.
        target: The unpacked file.
        limit: Maximum number of bytes of the unpacked file.
        report: Called with a sentence if the file is damaged.

    Raises:
        LimitError: The unpacked file is larger than the limit.
        OSError: The file cannot be read, or the disk is full.
    """
    limit = plausible_bytes(packed.stat().st_size, limit)
    too_large = LimitError(f"it unpacks to more than {limit / GIB:,.4g} GiB, its limit (--unpacked-gib-max)")
    with packed.open("rb") as file:
        try:
            declared = zstd.get_frame_info(file.read(32)).decompressed_size
        except zstd.ZstdError:
            declared = None
    if declared is not None:
        if declared > limit:
            raise too_large
        require_space(target.parent, declared, packed)
    size = 0
    with packed.open("rb") as source, target.open("wb") as unpacked:
        try:
            for piece in unpacked_pieces(source, PIECE):
                size += len(piece)
                if size > limit:
                    raise too_large
                require_space(target.parent, len(piece), packed)
                unpacked.write(piece)
        except (EOFError, zstd.ZstdError) as error:
            report(f"{packed.name}: damaged, unpacked only in part: {error}")


def require_space(folder: Path, size: int, source: Path) -> None:
    """Check that a temporary copy fits on its disk.

    Args:
        folder: Folder of the copy.
        size: Number of bytes of the copy.
        source: The file that is copied.

    Raises:
        OSError: It does not fit.
    """
    free = shutil.disk_usage(folder).free
    if size + RESERVE > free:
        raise OSError(
            f"{source.name} needs {size / GIB:.1f} GiB of temporary space, and {folder.parent} has {free / GIB:.1f} "
            "GiB: set TMPDIR to a folder on a larger disk"
        )
