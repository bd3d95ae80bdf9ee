"""Recovery of the recordings that a killed process did not complete; without ROS."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.files import reason
from explain_cnn_ros.ros.black_box.buffer import RecordedChannel
from explain_cnn_ros.ros.black_box.folder import RecordingFolder
from explain_cnn_ros.ros.black_box.recording import NOTE, Define, Finished, RecordingFile, partial_folder

#: Note in the metadata of a recovered recording.
ENDED = "recovered: the process ended while it was written"


class Recovery:
    """Recovers incomplete recordings, once, as soon as the folder can be used.

    Args:
        folder: The folder.
        define: Returns the definitions of message types.
        finished: Called with each recording that was recovered.
        failed: Called with the reason if a recording cannot be recovered.
    """

    def __init__(
        self,
        folder: RecordingFolder,
        define: Define,
        finished: Callable[[Finished], None],
        failed: Callable[[str], None],
    ) -> None:
        self._folder, self._define, self._finished, self._failed = folder, define, finished, failed
        self._done = False

    def run(self) -> None:
        """Recover the recordings, unless this was done before or the folder cannot be used."""
        if self._done:
            return
        try:
            self._folder.open()
        except OSError:
            return  # the next recording tries again
        self._done = True
        self._folder.remove_recovering()
        for name in self._folder.left():
            try:
                self._recover(name)
            except OSError as error:
                self._failed(f"{name} of a killed process cannot be recovered now: {reason(error)}")
            except Exception as error:  # damaged bytes raise all kinds
                shutil.rmtree(partial_folder(self._folder.path, name), ignore_errors=True)
                self._failed(f"{name} of a killed process was removed: {type(error).__name__}: {error}")

    def _recover(self, name: str) -> None:
        left = partial_folder(self._folder.path, name)
        size = sum(file.stat().st_size for file in left.rglob("*") if file.is_file())
        if not self._folder.make_room(0, size):
            shutil.rmtree(left, ignore_errors=True)
            self._failed(f"{name} of a killed process was removed: there is no space to complete it")
            return
        about = {"causes": name.split("_")[1]} if not (left / NOTE).exists() else {}
        path, messages = recover(self._folder.path, name, self._define, about | {"missing": ENDED})
        if path is not None:
            self._finished(Finished(path, messages, path.stat().st_size, ENDED))


def recover(folder: Path, name: str, define: Define, about: dict[str, str]) -> tuple[Path | None, int]:
    """Complete a recording that a killed process did not complete, and remove its hidden folder.

    Args:
        folder: Folder of the recordings.
        name: Name of the recording.
        define: Returns the definitions of message types. Messages of others are left out.
        about: Metadata of the recording. They replace those that were noted.

    Returns:
        The recording and the number of its messages; no recording if there was nothing to read.

    Raises:
        OSError: The recording cannot be written. The hidden folder stays.
    """
    left = partial_folder(folder, name)
    file = left / name / f"{name}.mcap"
    path, messages = None, 0
    if file.is_file() and not (folder / file.name).exists():
        recording = RecordingFile(folder, name, define, recovered=True)
        path, messages = _copy(file, recording, _noted(left) | about), recording.messages
    shutil.rmtree(left, ignore_errors=True)
    return path, messages


def _noted(left: Path) -> dict[str, str]:
    try:
        return {str(key): str(value) for key, value in json.loads((left / NOTE).read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError):  # the process was killed before, or while the file was written
        return {}


def _copy(file: Path, recording: RecordingFile, about: dict[str, str]) -> Path | None:
    """Copy the intact messages of a file to a recording, and close it; return None if there are none."""
    try:
        _copy_messages(file, recording)
        if recording.messages:
            return recording.close(about)
    except BaseException:
        recording.abort()
        raise
    recording.abort()
    return None


def _copy_messages(file: Path, recording: RecordingFile) -> None:
    try:
        bag = BagReader(file)
    except Exception:  # damaged bytes raise all kinds
        return
    with bag:
        channels = {
            (topic.name, topic.type): RecordedChannel(topic.name, topic.type, topic.qos) for topic in bag.topics
        }
        unknown: set[str] = set()
        for message in bag.messages():
            if message.type not in unknown:
                try:
                    recording.write(channels[message.topic, message.type], message.stamp, message.data)
                except LookupError:
                    unknown.add(message.type)
