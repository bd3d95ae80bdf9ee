"""The thread that writes recordings, so that the disk never delays a subscription; without ROS."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from explain_cnn_ros import __version__
from explain_cnn_ros.files import reason
from explain_cnn_ros.ros.black_box.buffer import MessageBuffer, RecordedChannel
from explain_cnn_ros.ros.black_box.events import TriggerEvent
from explain_cnn_ros.ros.black_box.folder import RecordingFolder
from explain_cnn_ros.ros.black_box.recording import Define, Finished, RecordingFile
from explain_cnn_ros.ros.black_box.recovery import Recovery
from explain_cnn_ros.ros.black_box.settings import MIB, BlackBoxSettings
from explain_cnn_ros.ros.black_box.windows import EventWindow, EventWindows

#: Number of bytes that are taken from the buffer at once.
BATCH = MIB

#: Period in which the thread looks for new messages, and in which it writes everything to the disk, in seconds.
POLL, FLUSH = 0.1, 1.0

#: Time after the end of a window at which it is closed, in seconds: messages may be on their way to the buffer.
MARGIN = 0.2

#: Minimum time for which the clock must stand still until a recording ends early, in seconds.
STILL = 5.0

#: Errors of a disk, a quota or a file that is full.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class Progress:
    """The state of the thread, which other threads read for reports.

    Attributes:
        name: Name of the recording that is being written; "" if there is none.
        written: Number of recordings that were completed.
        recovered: Number of recordings that were recovered.
        last: Description of the last recording; "" if there is none.
        failure: Why the last recording was not written; "" if it was.
    """

    name: str = ""
    written: int = 0
    recovered: int = 0
    last: str = ""
    failure: str = ""


class RecordingWriter:
    """Writes the windows of the events from the buffer to the folder, in a thread of its own.

    Args:
        buffer: The messages.
        folder: The folder.
        settings: Returns the settings in force.
        clock: Returns the time in seconds, by the clock of the buffer.
        define: Returns the definitions of message types.
        finished: Called in the thread with each recording.
        failed: Called in the thread with the reason if a recording cannot be written.

    Attributes:
        progress: The state of the thread.
    """

    def __init__(
        self,
        buffer: MessageBuffer,
        folder: RecordingFolder,
        settings: Callable[[], BlackBoxSettings],
        clock: Callable[[], float],
        define: Define,
        finished: Callable[[Finished], None],
        failed: Callable[[str], None],
    ) -> None:
        self._buffer, self._folder, self._settings, self._clock = buffer, folder, settings, clock
        self._define, self._finished, self._failed = define, finished, failed
        self._windows = EventWindows()
        self._adding = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._undefined: dict[str, str] = {}
        self.progress = Progress()
        self._recovery = Recovery(folder, define, self._on_recovered, failed)
        self._thread = threading.Thread(target=self._run, name="black box", daemon=True)

    def start(self) -> None:
        """Start the thread. It recovers recordings that a killed process has left."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End the recordings under way with what has arrived, and wait for the end of the thread.

        Args:
            seconds: Maximum time to wait.
        """
        self._stopping = True
        self._windows.close_all(self._clock())
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        self._folder.close()

    def add(self, event: TriggerEvent) -> str:
        """Record the time around an event.

        Returns:
            Name of the recording, which other events may have begun.

        Raises:
            OSError: There will be no recording; the message says why.
        """
        settings = self._settings()
        self._folder.open()
        with self._adding:
            window, new = self._windows.add(event, settings.before, settings.after, settings.length_max)
            if window is None:
                raise OSError("too many recordings wait for the disk")
            if new:
                window.name = self._folder.new_name(event.stamp, event.cause)
                window.number = self._buffer.first_since(window.begin)
                if self._windows.first is window:
                    self._buffer.need(window.number)
        self._wake.set()
        return window.name

    @property
    def undefined(self) -> dict[str, str]:
        """The topics that are not recorded because their types have no definition, with the reason."""
        return dict(self._undefined)

    def _run(self) -> None:
        self._recovery.run()
        while True:
            with self._adding:  # a window that is being added has no name yet
                window = self._windows.first
            if window is None:
                if self._stopping:
                    return
                self._wake.wait()
                self._wake.clear()
                continue
            try:
                self._record(window)
            finally:
                with self._adding:
                    following = self._windows.remove(window)
                    self._buffer.need(following.number if following is not None else None)

    def _on_recovered(self, finished: Finished) -> None:
        self.progress.recovered += 1
        self._finished(finished)

    # One recording.

    def _record(self, window: EventWindow) -> None:
        self.progress.name = window.name
        recording = None
        lost_before = self._buffer.lost
        try:
            self._folder.open()
            self._recovery.run()
            self._folder.bytes_max = self._settings().folder_mib * MIB
            self._folder.free = self._settings().free_mib * MIB
            recording = RecordingFile(self._folder.path, window.name, self._define, self._settings().compress)
            missing = self._copy(window, recording)
            if lost := self._buffer.lost - lost_before:
                missing.append(f"{lost} messages lost, since the disk or the machine was too slow")
            messages = recording.messages
            path = recording.close(_metadata(window, missing))
            self._folder.make_room(0, 0)
            self._finish(window, path, messages, missing)
        except Exception as error:  # a disk can fail in any way, and the next recording may succeed
            self._fail(window, recording, error)
        finally:
            self.progress.name = ""

    def _finish(self, window: EventWindow, path: Path, messages: int, missing: list[str]) -> None:
        size = path.stat().st_size
        text = "; ".join([*(f"{event.cause}: {event.text}" for event in window.events), *missing])
        self.progress.written += 1
        self.progress.last, self.progress.failure = f"{path.name}: {text}", ""
        self._finished(Finished(path, messages, size, text))

    def _fail(self, window: EventWindow, recording: RecordingFile | None, error: Exception) -> None:
        self._windows.cut(window, self._clock())
        if recording is not None:
            recording.abort()
        why = reason(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.errno in FULL:
            with suppress(OSError):
                self._folder.make_room(0, self._folder.limit(BATCH))
        self.progress.failure = f"{window.name} was not written: {why}"
        self._failed(self.progress.failure)

    def _copy(self, window: EventWindow, recording: RecordingFile) -> list[str]:
        """Copy the messages of a window until its end; return what is missing, a sentence each."""
        settings, missing = self._settings(), list[str]()
        limit = self._folder.limit(settings.recording_mib * MIB)
        if limit <= 0:
            raise OSError(errno.ENOSPC, "there is no space for a recording")
        share = settings.before / ((settings.before + settings.after) or 1.0)
        number, left_out = self._buffer.fitting(window.number, window.events[0].time, int(limit * share))
        if (late := self._buffer.gone - window.begin) > 0:
            missing.append(f"the first {late:.1f} s are missing, since they had left the memory: see memory_mib")
        if left_out:
            missing.append("the first seconds are missing, since they need more bytes than a recording may have")
        self._write_latched(recording, number, window)
        flushed, noted = 0.0, 0  # the seconds before the event are on the disk soon
        moved = self._clock(), time.monotonic()
        while True:
            if (now := self._clock()) != moved[0]:
                moved = now, time.monotonic()
            entries, following = self._buffer.take(number, window.end, BATCH)
            if entries:
                size = sum(entry.size for entry in entries)
                full = recording.size + size > limit
                if full or not self._folder.make_room(recording.size, size):
                    self._windows.cut(window, entries[0].time)
                    missing.append(f"it ends early, since {'its size is limited' if full else 'the disk is full'}")
                    return missing
                for entry in entries:
                    self._write(recording, entry.channel, entry.stamp, entry.data)
                number = following
                self._buffer.need(number)
            elif self._windows.finish(window, now - MARGIN):
                return missing
            elif time.monotonic() - moved[1] > max(settings.after, STILL):
                self._windows.cut(window, now)
                missing.append("it ends early, since /clock stands still")
                return missing
            else:
                time.sleep(POLL)
            if time.monotonic() - flushed > FLUSH:
                recording.flush()
                flushed = time.monotonic()
                if noted != (noted := len(window.events)):
                    recording.note(_metadata(window, missing))

    def _write_latched(self, recording: RecordingFile, number: int, window: EventWindow) -> None:
        """Write latched messages from before the window at its beginning, such as /tf_static."""
        first, _ = self._buffer.take(number, window.end, 1)
        stamp = first[0].stamp if first else window.events[0].stamp
        for entry in self._buffer.latched_before(number):
            self._write(recording, entry.channel, stamp, entry.data)

    def _write(self, recording: RecordingFile, channel: RecordedChannel, stamp: int, data: bytes) -> None:
        if channel.topic in self._undefined:
            return
        try:
            recording.write(channel, stamp, data)
        except LookupError as error:
            self._undefined[channel.topic] = str(error)
            self._failed(f"{channel.topic} is not recorded: {error}")


def _metadata(window: EventWindow, missing: list[str]) -> dict[str, str]:
    """Return the metadata of a recording.

    Args:
        window: The window with its events.
        missing: What is missing, a sentence each.
    """
    events = [{"cause": event.cause, "stamp": event.stamp, "text": event.text} for event in list(window.events)]
    return {
        "writer": f"explain_cnn_ros {__version__} black_box",
        "causes": ", ".join(window.causes),
        "events": json.dumps(events, ensure_ascii=False),
        "further_events": str(window.more),
        "missing": "; ".join(missing),
    }
