"""The frames of a folder of images, or of one image."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from explain_cnn_ros.bags.frame_source import Entry, Frame, Place, SourceError, SourceSettings
from explain_cnn_ros.bags.image_files import ImageError, decode_image
from explain_cnn_ros.bags.limits import MIB
from explain_cnn_ros.bags.names import is_hidden, natural, printable

#: Names of image files end in one of these, in upper or lower case.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp")

#: Maximum number of files in inner folders that are looked at for a hint.
SEARCHED = 1000

#: Suffixes of image files that are not read.
_OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".pgm", ".ppm", ".mpo", ".dng", ".exr")


class FolderSource:
    """The images of a folder, in the natural order of their names. Hidden files are left out.

    Args:
        path: The folder, or one image.
        settings: The part of the folder that is read.

    Raises:
        SourceError: There is no image in the folder.
        OSError: The folder cannot be read.
    """

    def __init__(self, path: Path, settings: SourceSettings) -> None:
        self.path, self.name, self.start = path, printable(path), 0
        self.problems, self.notes = list[str](), list[str]()
        self._settings = settings
        inside = [p for p in path.iterdir() if not is_hidden(p)] if path.is_dir() else []
        files = sorted((p for p in inside if _is_image(p)), key=natural) if path.is_dir() else [path]
        others = Counter(suffix for p in inside if (suffix := p.suffix.lower()) in _OTHER_SUFFIXES)
        left_out = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        if left_out:
            self.notes.append(f"images of other kinds are left out ({left_out}): convert them to JPEG or PNG")
        if not files:
            kinds = ", ".join(IMAGE_SUFFIXES) + (f"; it has {left_out}" if left_out else "")
            raise SourceError(
                f"{self.name}: neither a rosbag2 recording nor a folder with images ({kinds}){_hint(path)}"
            )
        times = [round(i * 1e9 / settings.rate) for i in range(len(files))]
        self._files = [(t, p) for t, p in zip(times, files, strict=True) if settings.includes(t)]
        self.end = times[-1]
        self.total = len(self._files)

    def entries(self, first: int = 0, near: Place | None = None) -> Iterator[Entry]:
        """Yield the frames in order; see `Source`."""
        for index, (time, path) in enumerate(self._files[first:], first):
            yield Entry(index, time, partial(self._load, index, time, path))

    def _load(self, index: int, time: int, path: Path) -> Frame:
        name = printable(path.name)
        try:
            image = decode_image(_contents(path, self._settings), megapixels_max=self._settings.megapixels_max)
            return Frame(index, time, time, name, "", image)
        except ImageError as error:
            reason = str(error)
        except OSError as error:
            reason = f"the file cannot be read: {error.strerror or error}"
        return Frame(index, time, time, name, "", None, f"{name} is no image that can be read: {reason}")

    def close(self) -> None:
        """Do nothing: no file is open between two frames."""


def _is_image(path: Path) -> bool:
    """Return whether a path has the name of an image, and is a file or a link to a file that is not there."""
    missing = path.is_symlink() and not path.exists()  # The frame says so, and the others keep their times.
    return path.suffix.lower() in IMAGE_SUFFIXES and (path.is_file() or missing)


def _hint(path: Path) -> str:
    """Return a hint at an inner folder that can be read; "" if there is none."""
    found = (p.parent for p in path.glob("*/*") if p.name == "metadata.yaml" or p.suffix.lower() in IMAGE_SUFFIXES)
    inside = sorted(set(itertools.islice(found, SEARCHED)))
    return f". Did you mean {printable(inside[0])}?" if inside else ""


def _contents(path: Path, settings: SourceSettings) -> bytes:
    """Return the contents of a file.

    Raises:
        ImageError: The file is too large.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    if size > settings.limits.unpacked_bytes:
        raise ImageError("too_large", f"it has {size / MIB:,.0f} MiB, the limit is {settings.unpacked_mib_max:,} MiB")
    return path.read_bytes()
