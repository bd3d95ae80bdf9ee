"""The QoS of a subscription that loses least of what the publishers of a topic offer."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo


def offered(publishers: Sequence[TopicEndpointInfo]) -> tuple[str, bool]:
    """Return the reliability, and whether earlier messages are received, of a subscription that loses least.

    A best-effort subscription loses large messages. A reliable one receives from reliable publishers only, and one that
    receives earlier messages only from publishers that store them.

    Args:
        publishers: The publishers; at least one.
    """
    reliable = all(p.qos_profile.reliability == ReliabilityPolicy.RELIABLE for p in publishers)
    latched = all(p.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in publishers)
    return "reliable" if reliable else "best_effort", latched


def profile(depth: int, reliability: str, latched: bool) -> QoSProfile:
    """Return the QoS of a subscription.

    Args:
        depth: Number of messages that wait.
        reliability: "reliable" or "best_effort".
        latched: Whether messages are received that were published before.
    """
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
