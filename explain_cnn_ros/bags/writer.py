"""Writer of a rosbag2 recording (MCAP) with serialized messages, also of this package's types; without ROS."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from explain_cnn_ros.bags.storage import Message


def message_definitions() -> Path | None:
    """Return the folder with this package's .msg files, in the checkout or where it is installed; None without one."""
    places = [Path(__file__).resolve().parents[2] / "msg"]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    places += [Path(prefix) / "share/explain_cnn_ros/msg" for prefix in prefixes if prefix]
    return next((place for place in places if (place / "Explanation.msg").is_file()), None)


def write_recording(messages: Iterable[Message], folder: Path) -> int:
    """Write messages to a recording in their order; an existing recording stays until the new one is complete.

    Args:
        messages: Serialized messages of ROS's own types or of this package's; `stamp` is the log time.
        folder: Directory of the recording.

    Returns:
        The number of messages; 0 if there are none, or if the definitions of this package's messages are not
        installed. Nothing is written then.

    Raises:
        OSError: The recording cannot be written.
    """
    definitions, remaining = message_definitions(), iter(messages)
    first = next(remaining, None)
    if definitions is None or first is None:
        return 0
    partial = partial_folder(folder)
    shutil.rmtree(partial, ignore_errors=True)
    # The writer names the file after its folder, so the folder has its final name, inside of a temporary one.
    partial.mkdir()
    writer = Writer(partial / folder.name, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        count = _write(writer, itertools.chain([first], remaining), _types(definitions))
    shutil.rmtree(folder, ignore_errors=True)
    (partial / folder.name).rename(folder)
    partial.rmdir()
    return count


def partial_folder(folder: Path) -> Path:
    """Return the folder in which `write_recording` collects a recording until it is complete."""
    return folder.with_name(f"{folder.name}.partial")


def _types(definitions: Path) -> Typestore:
    """Return ROS's types and those that are defined in a folder of .msg files."""
    types = get_typestore(Stores.ROS2_JAZZY)
    own: dict[str, Any] = {}
    for path in sorted(definitions.glob("*.msg")):
        own.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"explain_cnn_ros/msg/{path.stem}"))
    types.register(own)
    return types


def _write(writer: Writer, messages: Iterable[Message], types: Typestore) -> int:
    connections: dict[str, Any] = {}
    count = 0
    for message in messages:
        if message.topic not in connections:
            connections[message.topic] = writer.add_connection(message.topic, message.type, typestore=types)
        writer.write(connections[message.topic], message.stamp, message.data)
        count += 1
    return count
