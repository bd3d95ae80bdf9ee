"""Parts -> a rosbag2 recording (MCAP) of the decisions and explanations, to be opened beside the original."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from explain_cnn_ros.analysis.parts import PartStore

#: Where it lies in the output.
FOLDER = "explanations"


def message_definitions() -> Path | None:
    """The folder with this package's .msg files: of the checkout, or of what was installed."""
    places = [Path(__file__).resolve().parents[2] / "msg"]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    places += [Path(prefix) / "share/explain_cnn_ros/msg" for prefix in prefixes if prefix]
    return next((place for place in places if (place / "Explanation.msg").is_file()), None)


def write_recording(store: PartStore, output: Path) -> int:
    """Write the messages in the order of the recordings; their number, 0 when there are none and nothing is written."""
    definitions = message_definitions()
    if definitions is None:
        return 0
    types = get_typestore(Stores.ROS2_JAZZY)
    own: dict[str, Any] = {}
    for path in sorted(definitions.glob("*.msg")):
        own.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"explain_cnn_ros/msg/{path.stem}"))
    types.register(own)
    final, partial = output / FOLDER, output / f"{FOLDER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    # Its file is called after the folder: the right name, in a place of its own until it is whole.
    partial.mkdir()
    writer = Writer(partial / FOLDER, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    connections: dict[str, Any] = {}
    count = 0
    with writer:
        for table in store.tables("messages"):
            for message in table.to_pylist():
                topic = message["topic"]
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, message["type"], typestore=types)
                writer.write(connections[topic], message["log_time"], message["data"])
                count += 1
    if not count:
        shutil.rmtree(partial)
        return 0
    shutil.rmtree(final, ignore_errors=True)
    (partial / FOLDER).rename(final)
    partial.rmdir()
    return count
