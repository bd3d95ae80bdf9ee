"""The subscriptions of the black box: serialized messages, with the types and the QoS that the publishers offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rclpy.validate_topic_name import validate_topic_name
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from explain_cnn_ros.ros.black_box.buffer import RecordedChannel
from explain_cnn_ros.ros.offers import offered, profile
from explain_cnn_ros.ros.playback.message_types import message_class
from explain_cnn_ros.ros.problems import COMPRESSED, RAW

#: Number of messages that wait for the executor, of images and of other types. The latter are small.
IMAGES_DEPTH, DEPTH = 10, 100

#: Called with the channel and the serialized message.
Received = Callable[[RecordedChannel, bytes], None]


@dataclass
class RecordedTopic:
    """A topic, and its subscription if there is one.

    Attributes:
        topic: Full name of the topic.
        types: The types that are subscribed; empty for any.
        received: Called with each message.
        channel: The topic with its type; None before it is subscribed.
        count: Number of messages that have arrived.
        heard: Time of the last message, in seconds of the clock of `Subscriptions`; None before the first.
        problem: Why the topic cannot be subscribed; "" if it can, or has no publisher.
    """

    topic: str
    types: tuple[str, ...]
    received: list[Received]
    channel: RecordedChannel | None = None
    count: int = 0
    heard: float | None = None
    problem: str = ""
    _subscription: Subscription | None = field(default=None, repr=False)
    _offer: tuple[str, str, bool] | None = None

    def watch(self, node: Node, clock: Callable[[], float]) -> None:
        """Subscribe if there is a publisher, and anew if the type or the QoS of the publishers has changed."""
        publishers = node.get_publishers_info_by_topic(self.topic)
        fitting = [p for p in publishers if not self.types or p.topic_type in self.types]
        if not fitting:
            types = ", ".join(sorted({p.topic_type for p in publishers}))
            self.problem = f"{self.topic} has the type {types}, not {' or '.join(self.types)}" if types else ""
            return
        kind = min(p.topic_type for p in fitting)
        fitting = [p for p in fitting if p.topic_type == kind]
        reliability, latched = offered(fitting)
        if (kind, reliability, latched) != self._offer:
            self._subscribe(node, clock, kind, reliability, latched)
        if self._offer is not None and not self.problem:
            self.channel = RecordedChannel(self.topic, kind, tuple(map(recorded_qos, fitting)), latched)

    def _subscribe(self, node: Node, clock: Callable[[], float], kind: str, reliability: str, latched: bool) -> None:
        self._offer, self.problem = (kind, reliability, latched), ""
        if self._subscription is not None:
            node.destroy_subscription(self._subscription)
            self._subscription = None
        try:
            message_type = message_class(kind)
        except LookupError as error:
            self.problem = f"{self.topic} is not recorded: {error}"
            return

        def on_message(data: bytes) -> None:
            self.count += 1
            self.heard = clock()
            if self.channel is not None:
                for received in self.received:
                    received(self.channel, data)

        depth = IMAGES_DEPTH if kind in (RAW, COMPRESSED) else DEPTH
        self._subscription = node.create_subscription(
            message_type, self.topic, on_message, profile(depth, reliability, latched), raw=True
        )
        node.get_logger().info(f"recording {self.topic} ({kind}, {reliability}{', latched' if latched else ''})")


class Subscriptions:
    """Subscribes to topics as soon as they have publishers.

    Args:
        node: The node that subscribes.
        clock: Returns the time in seconds.
    """

    def __init__(self, node: Node, clock: Callable[[], float]) -> None:
        self._node, self._clock = node, clock
        self.topics: dict[str, RecordedTopic] = {}

    def add(self, name: str, received: Received, types: Sequence[str] = ()) -> RecordedTopic:
        """Add a topic, or another receiver of the messages of a topic that was added before.

        Args:
            name: Name of the topic, before remapping.
            received: Called with each message.
            types: The types that are possible; empty for any.

        Raises:
            InvalidTopicNameException: It is no name of a topic.
        """
        validate_topic_name(name)  # its message has the name
        topic = self._node.resolve_topic_name(name)
        if topic in self.topics:
            watched = self.topics[topic]
            watched.types = watched.types or tuple(types)
            if received not in watched.received:
                watched.received.append(received)
        else:
            watched = self.topics[topic] = RecordedTopic(topic, tuple(types), [received])
        return watched

    def watch(self) -> None:
        """Subscribe to the topics that have publishers. Call this from time to time."""
        for watched in self.topics.values():
            watched.watch(self._node, self._clock)


def recorded_qos(publisher: TopicEndpointInfo) -> Qos:
    """Return the QoS of a publisher as recordings contain it."""
    qos = publisher.qos_profile
    return Qos(
        _policy(QosHistory, qos.history),
        int(qos.depth),
        _policy(QosReliability, qos.reliability),
        _policy(QosDurability, qos.durability),
        _time(qos.deadline),
        _time(qos.lifespan),
        _policy(QosLiveliness, qos.liveliness),
        _time(qos.liveliness_lease_duration),
        bool(qos.avoid_ros_namespace_conventions),
    )


def _policy(kind: Any, value: Any) -> Any:
    return kind.__members__.get(value.name, kind.UNKNOWN)


def _time(duration: Duration) -> QosTime:
    return QosTime(*divmod(duration.nanoseconds, 10**9))
