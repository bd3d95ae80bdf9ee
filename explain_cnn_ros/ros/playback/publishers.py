"""Publishers of recorded topics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.interfaces import QosDurability, QosReliability
from rosgraph_msgs.msg import Clock

from explain_cnn_ros.bags.reader import Message, Topic
from explain_cnn_ros.ros.playback.message_types import message_class
from explain_cnn_ros.ros.signals import interrupted

#: Number of messages that a publisher stores for slow subscribers, or for late ones on latched topics.
DEPTH = 10
LATCHED_DEPTH = 100

#: Maximum time to wait for acknowledgements, in seconds. Fast DDS needs milliseconds if the publisher's queue is full,
#: and up to the 3 s between two heartbeats if it is not.
ACKNOWLEDGE = 10.0

#: Maximum of the seconds in a message, which end in the year 2038.
SECONDS_MAX = 2**31 - 1

#: Maximum time of one call of rclpy that waits, in seconds. Python handles signals between such calls.
SLICE = 0.2


class _TopicPublisher(NamedTuple):
    """A publisher and the class of its messages."""

    publisher: Publisher
    type: Any


class Publishers:
    """Publishes recorded messages byte by byte.

    Args:
        node: The node that publishes.
        topics: The topics. A topic whose type is not installed is skipped.
        remap: Names to publish under, by recorded name.
        clock: Whether there is a publisher of /clock.
        report: Called with a sentence about each topic that is skipped, and each subscriber that is too slow.

    Attributes:
        published: Number of published messages.
        broken: Number of broken messages, which were skipped, by recorded name.
    """

    def __init__(
        self,
        node: Node,
        topics: Sequence[Topic],
        *,
        remap: dict[str, str],
        clock: bool,
        report: Callable[[str], None],
    ) -> None:
        self._report = report
        self._by_key: dict[tuple[str, str], _TopicPublisher] = {}
        self.published = 0
        self.broken: Counter[str] = Counter()
        self._unacknowledged: Counter[str] = Counter()
        self._silent: set[str] = set()
        for name in sorted(remap.keys() - {topic.name for topic in topics}):
            report(f"nothing to remap: {name} is not played")
        for topic in topics:
            try:
                kind = message_class(topic.type)
                name = remap.get(topic.name, topic.name)
                publisher = node.create_publisher(kind, name, playback_qos(topic))
            except Exception as error:  # the package is missing or incomplete, or ROS refuses the name
                report(f"skipping {topic.name} ({topic.count} messages): {error}")
            else:
                self._by_key[topic.name, topic.type] = _TopicPublisher(publisher, kind)
        self._clock = node.create_publisher(Clock, "/clock", DEPTH) if clock else None

    @property
    def recorded_names(self) -> set[str]:
        """Recorded names of the topics that are published."""
        return {name for name, _ in self._by_key}

    @property
    def names(self) -> list[str]:
        """Names that the topics are published under."""
        return [entry.publisher.topic_name for entry in self._by_key.values()]

    def subscribers(self, names: Collection[str] = ()) -> list[int]:
        """Return the number of subscribers of each topic.

        Args:
            names: Recorded names of the topics; empty for all.
        """
        return [
            entry.publisher.get_subscription_count()
            for (name, _), entry in self._by_key.items()
            if not names or name in names
        ]

    @property
    def latched(self) -> dict[tuple[str, str], int]:
        """Number of messages that the publishers of latched topics store, by recorded name and type."""
        depths = {key: latched_depth(entry.publisher.qos_profile) for key, entry in self._by_key.items()}
        return {key: depth for key, depth in depths.items() if depth}

    def publish(self, message: Message) -> Exception | None:
        """Publish a message; return the reason if that is not possible because it is broken."""
        key = message.topic, message.type
        entry = self._by_key.get(key)
        if entry is None:
            return None
        try:
            # This finds messages that no subscriber could deserialize (0.2 ms per megabyte).
            deserialize_message(message.data, entry.type)
            entry.publisher.publish(message.data)
        except Exception as error:  # rclpy raises RCLError, RMWError or MemoryError
            if interrupted():
                raise KeyboardInterrupt from error
            self.broken[message.topic] += 1
            return error
        self.published += 1
        return None

    def publish_clock(self, stamp: int) -> None:
        """Publish a time (ns) on /clock, if there is such a publisher and a message can hold the time."""
        seconds, nanoseconds = divmod(stamp, 10**9)
        if self._clock and seconds <= SECONDS_MAX:
            clock = Clock()
            clock.clock.sec, clock.clock.nanosec = seconds, nanoseconds
            self._clock.publish(clock)

    def hold_back(self, message: Message) -> None:
        """Wait for the acknowledgement of a published message before the publisher's queue overflows."""
        entry = self._by_key.get((message.topic, message.type))
        if entry is None or message.topic in self._silent:
            return
        self._unacknowledged[message.topic] += 1
        if self._unacknowledged[message.topic] >= entry.publisher.qos_profile.depth:
            self._unacknowledged[message.topic] = 0
            if not _wait_for_all_acked(entry.publisher, time.monotonic() + ACKNOWLEDGE):
                self._silent.add(message.topic)
                self._report(
                    f"a subscriber of {entry.publisher.topic_name} has not acknowledged messages for "
                    f"{ACKNOWLEDGE:g} s: playing on, it may miss some"
                )

    def finish(self) -> None:
        """Wait until subscribers have received everything: a destroyed publisher repeats no lost message."""
        deadline = time.monotonic() + ACKNOWLEDGE
        for entry in self._by_key.values():
            _wait_for_all_acked(entry.publisher, deadline)
        time.sleep(0.2)  # for best-effort subscribers, which do not acknowledge


def _wait_for_all_acked(publisher: Publisher, deadline: float) -> bool:
    """Wait until all subscribers have acknowledged everything; return False if that takes until the deadline."""
    while True:
        left = max(deadline - time.monotonic(), 0.0)
        if publisher.wait_for_all_acked(Duration(seconds=min(left, SLICE))):
            return True
        if left <= SLICE:
            return False


def playback_qos(topic: Topic) -> QoSProfile:
    """Return the QoS for publishing a recorded topic.

    Reliability and durability are the recorded ones. If several publishers differed, the weaker value applies, which
    all of them offered. The depth is the recorded one, if there is one. Deadline, lifespan and liveliness are left out,
    because they describe the timing of the robot and not of the replay.
    """
    offers = topic.qos
    reliable = all(offer.reliability != QosReliability.BEST_EFFORT for offer in offers)
    latched = bool(offers) and all(offer.durability == QosDurability.TRANSIENT_LOCAL for offer in offers)
    depth = max((offer.depth for offer in offers), default=0) or DEPTH
    if latched:  # one publisher replaces several, and stores what all of them latched
        depth = max(depth, min(topic.count, LATCHED_DEPTH))
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def latched_depth(profile: QoSProfile) -> int:
    """Return the number of messages that a publisher stores for subscribers that come later; 0 for none."""
    return int(profile.depth) if profile.durability == DurabilityPolicy.TRANSIENT_LOCAL else 0
