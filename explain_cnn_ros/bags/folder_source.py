"""The frames of a folder of images, or of one image."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from explain_cnn_ros.bags.frame_source import Entry, Frame, Place, SourceError, SourceSettings
from explain_cnn_ros.bags.image_files import ImageError, decode_image
from explain_cnn_ros.bags.limits import MIB
from explain_cnn_ros.bags.names import is_hidden, natural, printable

#: Names of image files end in one of these, in upper or lower case.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


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
        files = sorted((p for p in path.iterdir() if _is_image(p)), key=natural) if path.is_dir() else [path]
        if not files:
            recordings = sorted(file.parent for file in path.glob("*/metadata.yaml"))
            hint = f". Did you mean {printable(recordings[0])}?" if recordings else ""
            raise SourceError(
                f"{self.name}: neither a rosbag2 recording nor a folder with images ({', '.join(IMAGE_SUFFIXES)}){hint}"
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
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path) and path.is_file()


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
