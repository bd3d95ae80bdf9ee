"""The folder of the recordings: their names and order, its bounded size, and incomplete recordings; without ROS."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from explain_cnn_ros.bags.recording_folder import BLACK_BOX_NAME
from explain_cnn_ros.ros.black_box.recording import PARTIAL, RECOVERED

#: File that is locked while a black box uses the folder.
LOCK = ".black_box.lock"

#: Maximum share of the disk that is left free.
FREE_SHARE = 1 / 20

#: Bytes of a recording that may be in memory and are not on the disk yet, and bytes of its index.
RESERVE = 2**21


class Stored(NamedTuple):
    """A recording in the folder.

    Attributes:
        number: Its number; a later recording has a higher one.
        path: The file.
        size: Number of its bytes.
    """

    number: int
    path: Path
    size: int


class FolderInUseError(OSError):
    """Another black box uses the folder."""


class RecordingFolder:
    """Keeps the recordings within bounds. Files with other names are never touched, and do not count.

    Args:
        path: The folder.
        bytes_max: Maximum number of bytes of all recordings.
        free: Number of bytes that are left free on the disk, at most FREE_SHARE of it.

    Attributes:
        path: The folder.
        bytes_max: Maximum number of bytes of all recordings.
        free: Number of bytes that are left free on the disk.
        removed: Number of recordings that were removed to make room.
    """

    def __init__(self, path: Path, bytes_max: int, free: int) -> None:
        self.path, self.bytes_max, self.free = path, bytes_max, free
        self.removed = 0
        self._lock: IO[bytes] | None = None
        self._highest = 0
        self._opening = threading.Lock()

    def open(self) -> None:
        """Create the folder if it does not exist, and lock it. Nothing happens if it is locked already.

        Raises:
            FolderInUseError: Another black box uses the folder.
            OSError: The folder cannot be written.
        """
        with self._opening:
            if self._lock is None or not self.path.is_dir():
                self._open()

    def _open(self) -> None:
        self.close()
        self.path.mkdir(parents=True, exist_ok=True)
        lock = (self.path / LOCK).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise FolderInUseError(
                f"another black box uses {self.path}: end it, or give this one another folder"
            ) from error
        except OSError:  # some network file systems have no locks
            pass
        self._lock = lock

    def close(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def stored(self) -> list[Stored]:
        """Return the recordings, the oldest one first. The numbers count, because clocks may be wrong."""
        found = []
        with suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                match = BLACK_BOX_NAME.fullmatch(entry.name)
                with suppress(OSError):  # somebody removes files at the same time
                    if match and entry.is_file(follow_symlinks=False):
                        found.append(Stored(int(match[3]), Path(entry.path), entry.stat().st_size))
        return sorted(found)

    def new_name(self, stamp: int, cause: str) -> str:
        """Return a name for a recording, which no other recording has or had.

        Args:
            stamp: Time of the event, in nanoseconds since 1970.
            cause: Cause of the event.
        """
        highest = max([self._highest, *(stored.number for stored in self.stored()), *map(number_of, self.left())])
        self._highest = highest + 1
        moment = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(max(stamp, 0) // 10**9))
        return f"{moment}_{cause}_{self._highest:04d}"

    # Room.

    def limit(self, recording_max: int) -> int:
        """Return the maximum number of bytes of one recording, such that the one before stays.

        Args:
            recording_max: The result is at most this.

        Raises:
            OSError: The disk cannot be examined.
        """
        usage = shutil.disk_usage(self.path)
        space = usage.free - self._free(usage.total) + sum(stored.size for stored in self.stored())
        return max(0, min(recording_max, self.bytes_max // 2, space // 2 - RESERVE))

    def make_room(self, written: int, needed: int) -> bool:
        """Remove the oldest recordings until there is room. The newest one stays in any case.

        Args:
            written: Number of bytes that the recording has which is being written.
            needed: Number of bytes that are to be written.

        Returns:
            Whether there is room on the disk and in the folder.

        Raises:
            OSError: The disk cannot be examined.
        """
        recordings = self.stored()
        while True:
            usage = shutil.disk_usage(self.path)
            total = sum(stored.size for stored in recordings) + written + needed
            if usage.free >= self._free(usage.total) + needed + RESERVE and total <= self.bytes_max:
                return True
            if len(recordings) <= 1:
                return False
            oldest = recordings.pop(0)
            with suppress(OSError):
                oldest.path.unlink()
                self.removed += 1

    def _free(self, total: int) -> int:
        return min(self.free, int(total * FREE_SHARE))

    # Recordings that a killed process did not complete.

    def left(self) -> list[str]:
        """Return the names of the recordings that a killed process did not complete, the oldest one first."""
        with suppress(OSError):
            names = [p.name[1:].removesuffix(PARTIAL) for p in self.path.glob(f".*{PARTIAL}") if p.is_dir()]
            return sorted((name for name in names if number_of(name)), key=number_of)
        return []

    def remove_recovering(self) -> None:
        """Remove copies that a process did not complete because it was killed while it recovered a recording."""
        for path in self.path.glob(f".*{RECOVERED}"):
            if number_of(path.name[1:].removesuffix(RECOVERED)):
                shutil.rmtree(path, ignore_errors=True)


def number_of(name: str) -> int:
    """Return the number in the name of a recording; 0 if it is not such a name."""
    match = BLACK_BOX_NAME.fullmatch(f"{name}.mcap")
    return int(match[3]) if match else 0
