"""QoS in recordings, as all distributions of ROS 2 write it."""

from __future__ import annotations

import functools
from enum import Enum
from typing import Any, TypeVar

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from explain_cnn_ros.bags.yaml_text import read_yaml

#: Maximum depth that is believed. Recorders write numbers up to 2^64 - 1 where there is no depth.
DEPTH_MAX = 10_000

#: Maximum length of the QoS of a topic, as text. That of one publisher has 300 characters.
TEXT_MAX = 30_000

#: Maximum number of profiles of a topic that are read. Each publisher has one.
PROFILES_MAX = 1000

_Policy = TypeVar("_Policy", bound=Enum)


def parse_qos(profiles: Any) -> tuple[Qos, ...]:
    """Parse the QoS of a topic's publishers.

    Args:
        profiles: A list of profiles, or the same as YAML. Policies are names or numbers; missing ones are unknown.

    Returns:
        A QoS for each publisher; none if the profiles are malformed.
    """
    if isinstance(profiles, str):
        return _of_text(profiles)
    if not isinstance(profiles, list):
        return ()
    return tuple(_qos(item) for item in profiles[:PROFILES_MAX] if isinstance(item, dict))


@functools.lru_cache(1024)
def _of_text(text: str) -> tuple[Qos, ...]:
    # Many topics have the same QoS, and reading YAML takes milliseconds.
    try:
        items = read_yaml(text) if len(text) <= TEXT_MAX else None
    except ValueError:
        return ()
    return parse_qos(items) if isinstance(items, list) else ()


def _qos(item: dict[str, Any]) -> Qos:
    depth = item.get("depth")
    return Qos(
        _policy(QosHistory, item.get("history")),
        min(max(0, depth), DEPTH_MAX) if isinstance(depth, int) else 0,
        _policy(QosReliability, item.get("reliability")),
        _policy(QosDurability, item.get("durability")),
        _time(item.get("deadline")),
        _time(item.get("lifespan")),
        _policy(QosLiveliness, item.get("liveliness")),
        _time(item.get("liveliness_lease_duration")),
        item.get("avoid_ros_namespace_conventions") is True,
    )


def _policy(kind: type[_Policy], value: Any) -> _Policy:
    try:
        return kind[value.upper()] if isinstance(value, str) else kind(value)
    except (KeyError, ValueError):
        return kind["UNKNOWN"]


def _time(value: Any) -> QosTime:
    parts = value if isinstance(value, dict) else {}
    sec, nsec = parts.get("sec", 0), parts.get("nsec", 0)
    return QosTime(sec if isinstance(sec, int) else 0, nsec if isinstance(nsec, int) else 0)
