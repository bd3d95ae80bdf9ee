"""The storage files of a recording: which files belong to it, and of which kind they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from explain_cnn_ros.bags.metadata import Metadata, read_metadata
from explain_cnn_ros.bags.names import is_hidden, listed, natural, printable

WHAT_TO_GIVE = "Give a rosbag2 directory or a .mcap or .db3 file."

#: First bytes of files, and their suffixes.
_MAGICS = {b"\x89MCAP0\r\n": ".mcap", b"SQLite format 3\0": ".db3"}
_SUFFIXES = (".mcap", ".db3")

#: Suffixes of files that are compressed as a whole: those of rosbag2 and of the command `zstd`.
_PACKED = (".zstd", ".zst")

#: First bytes of the small files that Git LFS leaves in place of large ones.
_POINTER = b"version https://git-lfs"

#: Maximum number of bytes of a file's name.
NAME_MAX = 255


class BagError(Exception):
    """A recording cannot be read, or lacks a topic. The message names the cause and the cure."""


def is_packed(path: Path) -> bool:
    """Whether a file is compressed as a whole, by its name."""
    return path.name.lower().endswith(_PACKED)


def is_sqlite(path: Path) -> bool:
    """Whether a file is a sqlite3 database, by its first bytes; if they are damaged or packed, by its name."""
    return _kind(path) == ".db3"


def is_storage(path: Path) -> bool:
    """Whether a file is a storage file, by its name or by its first bytes."""
    return _kind(path) != "" and path.is_file()


def _kind(path: Path) -> str:
    """Return the suffix of a storage file of this kind; "" for other files."""
    name = path.name.lower()
    named = next((suffix for suffix in _SUFFIXES if name.endswith(_packed_too(suffix))), "")
    if is_packed(path):
        return named
    try:
        with path.open("rb") as file:
            first = file.read(16)
    except OSError:
        return named
    return next((kind for magic, kind in _MAGICS.items() if first.startswith(magic)), named)


def _packed_too(name: str) -> tuple[str, ...]:
    """Return the name of a file, or its end, and the names that it has when it is packed."""
    return name, *(name + suffix for suffix in _PACKED)


def is_storage_name(path: Path) -> bool:
    """Whether a file that is not hidden has the name of a storage file."""
    return not is_hidden(path) and any(path.name.lower().endswith(_packed_too(suffix)) for suffix in _SUFFIXES)


def require_contents(path: Path) -> None:
    """Check that a file is the storage file itself.

    Raises:
        ValueError: It is a pointer of Git LFS.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ValueError(
                "it is a pointer of Git LFS and not the recording itself: run `git lfs pull` in its repository"
            )


def storage_files(
    path: Path, report: Callable[[str], None], note: Callable[[str], None]
) -> tuple[Metadata, list[Path]]:
    """Return the metadata of a recording, and its storage files in order.

    Args:
        path: A rosbag2 directory, or a storage file.
        report: Called with a sentence for each fault.
        note: Called with a sentence for what is unusual and no fault.

    Raises:
        BagError: There is no recording.
        OSError: The directory cannot be read.
    """
    if not path.exists():
        raise BagError(f"{printable(path)}: no such file or directory. {WHAT_TO_GIVE}")
    if not path.is_dir():
        if not is_storage(path):
            cure = (
                "It seems to be of ROS 1: convert it with `rosbags-convert --src <it> --dst <new directory>`."
                if path.suffix == ".bag"
                else WHAT_TO_GIVE
            )
            raise BagError(f"{printable(path)}: not a rosbag2 recording. {cure}")
        return Metadata(), [path]
    metadata = _metadata_of(path, report)
    present = _without_copies(sorted((p for p in path.iterdir() if _belongs(p)), key=natural), note)
    names = [name for name in metadata.files if _is_name(name)] if metadata else []
    expected = [_present(path / _file_name(name)) for name in names]
    found = [file for file in expected if file.is_file()]
    known = set(found)
    if found and metadata:
        for file in expected:
            if file not in known:
                report(f"{printable(file.name)}, which metadata.yaml lists, is missing, and with it its messages")
        for file in present:
            if file not in known:
                note(f"{printable(file.name)} is left out: metadata.yaml does not list it")
        return metadata, found
    if not present:
        inside = sorted(file.parent for file in path.glob("*/metadata.yaml"))
        cure = f"Did you mean {printable(inside[0])}?" if inside else WHAT_TO_GIVE
        missing = listed([printable(file.name) for file in expected])
        lost = f", but metadata.yaml lists {missing}" if missing else ""
        raise BagError(f"{printable(path)}: not a rosbag2 recording: no .mcap or .db3 file in it{lost}. {cure}")
    if expected:
        report("the files that metadata.yaml lists are missing: those beside it are read")
    elif metadata is None and not (path / "metadata.yaml").exists():
        report(
            "no metadata.yaml: the recording was not closed. "
            f"`ros2 bag reindex {printable(path)}` writes a new one, if ROS 2's own tools are to read it"
        )
    return metadata or Metadata(), present


def _metadata_of(path: Path, report: Callable[[str], None]) -> Metadata | None:
    """Return the contents of metadata.yaml; None if there is none that can be read."""
    file = path / "metadata.yaml"
    if not file.exists():
        return None
    try:
        return read_metadata(file)
    except (OSError, ValueError) as error:
        report(f"metadata.yaml cannot be read ({error}): the files beside it are read")
        return None


def _belongs(path: Path) -> bool:
    return is_storage_name(path) and path.is_file()


def _is_name(name: str) -> bool:
    """Return whether a name in metadata.yaml can be that of a file, packed or not."""
    return name not in (".", "..") and len(name.encode("utf-8", "replace")) <= NAME_MAX - max(map(len, _PACKED))


def _file_name(name: str) -> str:
    """Return a name in metadata.yaml, which is UTF-8, as the file system's encoding spells it."""
    try:
        return os.fsdecode(name.encode("utf-8", "surrogateescape"))
    except UnicodeError:  # no file has such a name
        return name


def _present(path: Path) -> Path:
    """Return a listed file, or the same file packed or unpacked if only that is there."""
    plain = path.with_suffix("") if is_packed(path) else path
    names = [path, *(path.with_name(name) for name in _packed_too(plain.name))]
    return next((other for other in names if other.exists()), path)


def _without_copies(files: list[Path], note: Callable[[str], None]) -> list[Path]:
    """Leave out packed files whose unpacked copies, or copies that are packed too, lie beside them."""
    kept: dict[Path, Path] = {}
    for file in files:
        plain = file.with_suffix("") if is_packed(file) else file
        first = kept.setdefault(plain, file)
        if first is not file:
            note(f"{printable(file.name)} is left out: {printable(first.name)} beside it is the same")
    return list(kept.values())
