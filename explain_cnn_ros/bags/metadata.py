"""metadata.yaml of a recording, as all distributions of ROS 2 write it, and as people edit it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rosbags.interfaces import Qos

from explain_cnn_ros.bags.qos import parse_qos
from explain_cnn_ros.bags.yaml_text import read_yaml

#: Files of more bytes than this are no metadata.
SIZE_MAX = 4 * 1024**2


@dataclass(frozen=True)
class Metadata:
    """The entries of metadata.yaml that are used.

    Attributes:
        files: Names of the storage files.
        qos: QoS by topic.
        counts: Number of messages by topic.
    """

    files: tuple[str, ...] = ()
    qos: dict[str, tuple[Qos, ...]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def read_metadata(file: Path) -> Metadata:
    """Read a metadata.yaml. Entries of other kinds than expected are left out.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is no metadata.
    """
    if file.stat().st_size > SIZE_MAX:
        raise ValueError("it is too large")
    text = file.read_bytes().decode("utf-8-sig", "replace")
    content = read_yaml(text)
    information = content.get("rosbag2_bagfile_information") if isinstance(content, dict) else None
    if not isinstance(information, dict):
        raise ValueError("it has no entry rosbag2_bagfile_information")
    return _metadata(information)


def _metadata(information: dict[str, Any]) -> Metadata:
    qos: dict[str, tuple[Qos, ...]] = {}
    counts: dict[str, int] = {}
    for entry in _list(information.get("topics_with_message_count")):
        topic = entry.get("topic_metadata") if isinstance(entry, dict) else None
        if not isinstance(topic, dict) or not isinstance(topic.get("name"), str):
            continue
        name, count = topic["name"], entry.get("message_count")
        qos[name] = parse_qos(topic.get("offered_qos_profiles"))
        if isinstance(count, int) and 0 < count < 2**63:
            counts[name] = counts.get(name, 0) + count
    # Older versions write a path, which may be that of Windows.
    files = [re.split(r"[/\\]", name)[-1] for name in _list(information.get("relative_file_paths")) if _is_text(name)]
    return Metadata(tuple(dict.fromkeys(name for name in files if name)), qos, counts)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
