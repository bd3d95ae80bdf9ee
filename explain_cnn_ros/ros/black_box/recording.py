"""One recording: an MCAP file that appears in its folder when it is complete; without ROS.

While it is written, the file lies in a hidden folder beside its final place. What has been flushed there survives the
end of the process, and is recovered at the next start.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from explain_cnn_ros.ros.black_box.buffer import RecordedChannel

#: End of the name of the hidden folder of a recording that is being written, and of one that is being recovered.
PARTIAL, RECOVERED = ".partial", ".recovered.partial"


class Definition(NamedTuple):
    """A message type as recordings define it.

    Attributes:
        text: The definition, with those of the types in it (ros2msg).
        digest: The hash of the type (RIHS01).
    """

    text: str
    digest: str


#: File in the hidden folder with the metadata as they are known before the end.
NOTE = "about.json"

#: Returns the definition of a message type, and raises a LookupError if there is none.
Define = Callable[[str], Definition]


@dataclass(frozen=True)
class Finished:
    """A recording that is complete.

    Attributes:
        path: The file.
        messages: Number of its messages.
        size: Number of its bytes.
        text: Description in one line: the events, and what is missing.
    """

    path: Path
    messages: int
    size: int
    text: str


class RecordingFile:
    """Writes one recording.

    Args:
        folder: Folder of the recordings.
        name: Name of the file without its suffix.
        define: Returns the definitions of message types.
        compress: Whether the messages are compressed.
        recovered: Whether the recording is recovered from another hidden folder.

    Attributes:
        name: Name of the file without its suffix.
        messages: Number of messages.

    Raises:
        OSError: The recording cannot be written. This applies to all methods except `abort`.
    """

    def __init__(self, folder: Path, name: str, define: Define, compress: bool = True, recovered: bool = False) -> None:
        self.name, self.messages = name, 0
        self._folder, self._define = folder, define
        self._partial = partial_folder(folder, name, recovered)
        self._connections: dict[RecordedChannel, Any] = {}
        self._unflushed = False
        self._partial.mkdir()
        # The writer names the file after its folder, so the folder has the final name.
        self._writer = Writer(self._partial / name, version=9, storage_plugin=StoragePlugin.MCAP)
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        try:
            self._writer.open()
        except BaseException:
            self.abort()
            raise

    @property
    def _storage(self) -> Any:
        return self._writer.storage

    @property
    def size(self) -> int:
        """Approximate number of bytes of the file."""
        return int(self._storage.bio.tell() + self._storage.chunk.bio.tell())

    def write(self, channel: RecordedChannel, stamp: int, data: bytes) -> None:
        """Write a message.

        Args:
            channel: Its topic.
            stamp: Its log time, in nanoseconds.
            data: The serialized message.

        Raises:
            LookupError: The type of the message has no definition.
        """
        connection = self._connections.get(channel)
        if connection is None:
            definition = self._define(channel.type)
            connection = self._writer.add_connection(
                channel.topic,
                channel.type,
                msgdef=definition.text,
                rihs01=definition.digest,
                offered_qos_profiles=channel.qos,
            )
            self._connections[channel] = connection
        self._writer.write(connection, stamp, data)
        self.messages += 1
        self._unflushed = True

    def flush(self) -> None:
        """Write everything to the disk, so that it survives a loss of power."""
        if self._unflushed:
            if self._storage.chunk.bio.tell():
                self._storage.close_chunk()
            self._storage.bio.flush()
            os.fdatasync(self._storage.bio.fileno())
            self._unflushed = False

    def note(self, about: dict[str, str]) -> None:
        """Store the metadata as they are known now, for the case that the recording has to be recovered."""
        (self._partial / NOTE).write_text(json.dumps(about), encoding="utf-8")

    def close(self, about: dict[str, str]) -> Path:
        """Complete the file, and let it appear in the folder.

        Args:
            about: Further metadata; they become `custom_data` of the metadata of rosbag2 in the file.

        Returns:
            The file.
        """
        for key, value in about.items():
            self._writer.set_custom_data(key, value)
        self._writer.close()
        written = self._partial / self.name / f"{self.name}.mcap"
        sync(written)
        final = self._folder / written.name
        os.replace(written, final)
        sync(self._folder)
        shutil.rmtree(self._partial, ignore_errors=True)
        return final

    def abort(self) -> None:
        """Remove what was written. This never fails."""
        with suppress(Exception):
            self._writer.abort()
        shutil.rmtree(self._partial, ignore_errors=True)


def partial_folder(folder: Path, name: str, recovered: bool = False) -> Path:
    """Return the hidden folder of a recording that is being written."""
    return folder / f".{name}{RECOVERED if recovered else PARTIAL}"


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk. Some file systems cannot do this for folders.

    Raises:
        OSError: The file cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
