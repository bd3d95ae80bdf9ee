"""The subscription to the boxes of a detector, and their match with the images."""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest

from explain_cnn_ros import msg
from explain_cnn_ros.bags.detection_types import DETECTION_TYPES, OWN, ROI, VISION
from explain_cnn_ros.ros import detection_problems
from explain_cnn_ros.ros.detection_problems import Matching, WatchedDetections
from explain_cnn_ros.ros.matching import DetectedImage, DetectionMatcher
from explain_cnn_ros.ros.offers import offered, profile
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.problems import Problem
from explain_cnn_ros.ros.source import SILENCE, ImageSource, nanoseconds
from explain_cnn_ros.scan.decider import DETECTIONS
from explain_cnn_ros.scan.detections import boxes_from

#: Number of messages with detections that wait for the executor.
DEPTH = 10

#: Name of the topic before remapping.
TOPIC = "detections"


def installed_types() -> dict[str, type]:
    """Return the installed classes of messages with detections, by type, in the order of DETECTION_TYPES."""
    found: dict[str, type] = {}
    with contextlib.suppress(ImportError, AttributeError):  # the package is optional
        found[VISION] = importlib.import_module("vision_msgs.msg").Detection2DArray
    return found | {OWN: msg.Detections, ROI: RegionOfInterest}


class DetectionSource:
    """Subscribes to detections while the parameter `regions` is detections, and matches them with the images.

    The topic is subscribed with the type and the QoS that its publishers offer, and anew if these change.

    Args:
        node: The node that subscribes.
        images: The source of the images.
        parameters: Returns the parameters in force.
        matched: Called with each image that has detections, in the executor's thread.
    """

    def __init__(
        self,
        node: LifecycleNode,
        images: ImageSource,
        parameters: Callable[[], NodeParameters],
        matched: Callable[[DetectedImage], None],
    ) -> None:
        self._node, self._images, self._parameters, self._matched = node, images, parameters, matched
        self._types = installed_types()
        self._subscription: Subscription | None = None
        self._offer: tuple[str, str, bool] | None = None  # type, reliability and durability of the subscription
        self.matcher = DetectionMatcher(lambda: parameters().detections_wait)
        self._frame_id = self._image_frame_id = ""  # of detections that were matched
        self.reset()

    def reset(self) -> None:
        """Forget images and detections, and count the time without a match from now."""
        self.matcher.reset()
        self._last_match = time.monotonic()
        self._heard = -math.inf

    @property
    def wanted(self) -> bool:
        """Whether the regions come from a detector."""
        return self._parameters().regions == DETECTIONS

    @property
    def subscribed(self) -> bool:
        """Whether there is a subscription, or none is needed."""
        return self._subscription is not None or not self.wanted

    @property
    def topic(self) -> str:
        """Name of the topic, after remapping."""
        return self._node.resolve_topic_name(TOPIC)

    @property
    def type(self) -> str:
        """Type of the messages that the node subscribes to; "" without a subscription."""
        return "" if self._offer is None else self._offer[0]

    def watch(self) -> None:
        """Subscribe or unsubscribe as the parameters and the publishers demand. Call this from time to time."""
        if not self.wanted or not self._images.active:
            if self._subscription is not None and not self.wanted:
                self._node.destroy_subscription(self._subscription)
                self._subscription, self._offer = None, None
                self.reset()
            return
        self.matcher.expire()
        publishers = self._fitting_publishers()
        if not publishers:
            return
        offer = (publishers[0].topic_type, *offered(publishers))
        if offer != self._offer:
            self._subscribe(*offer)

    def _publishers(self) -> Sequence[TopicEndpointInfo]:
        return self._node.get_publishers_info_by_topic(self.topic)

    def _fitting_publishers(self) -> list[TopicEndpointInfo]:
        """Return the publishers of the first type that is installed here."""
        publishers = self._publishers()
        kind = next((kind for kind in self._types if any(p.topic_type == kind for p in publishers)), "")
        return [p for p in publishers if p.topic_type == kind]

    def _subscribe(self, kind: str, reliability: str, latched: bool) -> None:
        again = self._subscription is not None
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        qos = profile(DEPTH, reliability, latched)
        self._subscription = self._node.create_subscription(self._types[kind], TOPIC, self._on_detections, qos)
        self._offer = (kind, reliability, latched)
        self._last_match = time.monotonic()
        self._node.get_logger().info(
            f"subscribed to {self.topic}{' anew, since its publishers have changed' if again else ''}, {kind}, "
            f"{reliability}"
        )

    # Messages.

    def add_image(self, message: Image | CompressedImage) -> None:
        """Let an image wait for its detections."""
        self._pass_on(self.matcher.add_image(nanoseconds(message.header), message, len(message.data)))

    def _on_detections(self, message: Any) -> None:
        self._heard = time.monotonic()
        if not self.wanted or not self._images.active:
            return
        boxes = boxes_from(message)
        if isinstance(message, RegionOfInterest):
            self._pass_on(self.matcher.add_unstamped(boxes))
            return
        self._frame_id = message.header.frame_id
        self._pass_on(self.matcher.add_detections(nanoseconds(message.header), boxes))

    def _pass_on(self, image: DetectedImage | None) -> None:
        if image is not None:
            self._image_frame_id = image.message.header.frame_id
            self._last_match = time.monotonic()
            self._matched(image)

    # Problems.

    def problems(self) -> list[Problem]:
        """Return the problems with the detections, with their remedies."""
        if not self.wanted or not self._images.active:
            return []
        about = self._about()
        found = detection_problems.unavailable(about)
        if found is not None:
            return [found]
        seconds = time.monotonic() - self._last_match
        if seconds > SILENCE:
            # Without images, that is the problem.
            return [] if self._images.silence > SILENCE else [self._unmatched(about, seconds)]
        if self._frame_id and self._image_frame_id and self._frame_id != self._image_frame_id:
            return [detection_problems.other_frame(about, self._frame_id, self._image_frame_id)]
        return []

    def _unmatched(self, about: WatchedDetections, seconds: float) -> Problem:
        matcher = self.matcher
        matching = Matching(
            time.monotonic() - self._heard <= SILENCE,
            self._parameters().detections_wait,
            matcher.lateness,
            matcher.no_memory,
            matcher.newest_detections,
            matcher.newest_image,
        )
        return detection_problems.unmatched(about, matching, seconds)

    def _about(self) -> WatchedDetections:
        topics = {
            name: types
            for name, types in self._node.get_topic_names_and_types()
            if set(DETECTION_TYPES) & set(types) and self._node.count_publishers(name)
        }
        return WatchedDetections(self.topic, self._images.topic, tuple(self._types), self._publishers(), topics)
