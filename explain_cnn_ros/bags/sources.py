"""Sources of frames: a rosbag2 recording, a folder of images, an image, or a video file."""

from __future__ import annotations

from pathlib import Path

from explain_cnn_ros.bags.bag_source import BagSource
from explain_cnn_ros.bags.folder_source import IMAGE_SUFFIXES, FolderSource
from explain_cnn_ros.bags.frame_source import Entry, Frame, Place, Source, SourceError, SourceSettings
from explain_cnn_ros.bags.image_headers import image_head
from explain_cnn_ros.bags.names import is_hidden, printable
from explain_cnn_ros.bags.storage_files import is_storage, is_storage_name
from explain_cnn_ros.bags.video_source import VideoSource

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "BagSource",
    "Entry",
    "FolderSource",
    "Frame",
    "Place",
    "Source",
    "SourceError",
    "SourceSettings",
    "VideoSource",
    "open_source",
]

#: Names of video files end in one of these, in upper or lower case. Common containers are recognised by their contents.
VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".asf", ".flv",
    ".f4v", ".3gp", ".3g2", ".ogv", ".ogg", ".nut", ".mxf", ".vob", ".h264", ".264", ".h265", ".265", ".hevc", ".mjpeg",
    ".mjpg", ".y4m", ".ivf", ".gif",
)  # fmt: skip

#: Names of videos that are a series of JPEG files.
_JPEG_STREAMS = (".mjpeg", ".mjpg")

#: Kinds of photos whose files begin as those of MP4 videos do.
_PHOTO_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")

#: First bytes of video files, and their position.
_VIDEO_MAGICS = ((b"ftyp", 4), (b"AVI ", 8), (b"\x1a\x45\xdf\xa3", 0), (b"OggS", 0), (b"FLV\x01", 0), (b"GIF8", 0))


def open_source(path: Path, settings: SourceSettings | None = None) -> Source:
    """Open the source at a path.

    Args:
        path: A rosbag2 recording, a folder of images, an image, or a video file.
        settings: The part of the source that is read; None for all frames.

    Raises:
        SourceError: There is no source at the path, or it cannot be read.
        OSError: The path cannot be read.
    """
    settings = settings or SourceSettings()
    if not path.exists():
        raise SourceError(
            f"{printable(path)}: no such file or directory; give a rosbag2 recording, a folder of images, or a video"
        )
    if path.is_dir():
        return BagSource(path, settings) if _is_recording(path) else FolderSource(path, settings)
    if not path.is_file():
        raise SourceError(f"{printable(path)}: neither a file nor a directory")
    if is_storage(path):
        return BagSource(path, settings)
    with path.open("rb") as file:
        first = file.read(64 * 1024)
    suffix = path.suffix.lower()
    if first[4:8] == b"ftyp" and first[8:12] in _PHOTO_BRANDS:
        raise SourceError(f"{printable(path)}: a photo in HEIC or AVIF, which is not read: convert it to JPEG or PNG")
    # OpenCV reads images as videos as well, but without a look at their sizes. Streams of JPEG begin as an image does.
    head = image_head(first)
    if head is not None and (suffix not in _JPEG_STREAMS or path.stat().st_size < head.least or first[:1] != b"\xff"):
        return FolderSource(path, settings)
    if suffix in VIDEO_SUFFIXES or any(first[at : at + len(magic)] == magic for magic, at in _VIDEO_MAGICS):
        return VideoSource(path, settings)
    if suffix in IMAGE_SUFFIXES:
        return FolderSource(path, settings)
    # This explains what a recording is.
    return BagSource(path, settings)


def _is_recording(folder: Path) -> bool:
    """Whether a folder is a recording. Other programs write a metadata.yaml beside their images as well."""
    files = [file for file in folder.iterdir() if not is_hidden(file)]
    if any(is_storage_name(file) for file in files):
        return True
    images = any(file.suffix.lower() in IMAGE_SUFFIXES for file in files)
    return (folder / "metadata.yaml").exists() and not images
