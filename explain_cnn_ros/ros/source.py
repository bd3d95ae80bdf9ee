"""The subscriptions to the image and to the camera's calibration, and the diagnosis of missing images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.statistics import Statistics
from explain_cnn_ros.ros.transport import cure, profile_in_force

#: Seconds without an image after which a problem is reported.
SILENCE = 5.0

#: Minimum time between two equal log messages, in seconds.
REPEAT = 20.0

#: Maximum share of lost frames that is not reported as a problem.
LOST_MAX = 0.05

#: Number of calibrations that are stored, for images whose explanation is under way.
CALIBRATIONS = 100


def steady_seconds() -> float:
    """Return the time of a clock that never jumps, in seconds."""
    return Clock(clock_type=ClockType.STEADY_TIME).now().nanoseconds / 1e9


def nanoseconds(header: Header) -> int:
    """Return the stamp of a header in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


class ImageSource:
    """Subscribes to the image topic once the reliability of its publishers is known, and watches it.

    Args:
        node: The node that subscribes.
        active: Returns whether images are wanted now.
        parameters: Returns the parameters in force.
        statistics: Statistics that the images are counted in.
        received: Called with each image that is wanted, in the executor's thread.

    Attributes:
        reliability: Reliability of the image subscription: "reliable" or "best_effort"; "" before it is subscribed.
    """

    def __init__(
        self,
        node: LifecycleNode,
        active: Callable[[], bool],
        parameters: Callable[[], NodeParameters],
        statistics: Statistics,
        received: Callable[[Image | CompressedImage], None],
    ) -> None:
        self._node, self._active, self._parameters = node, active, parameters
        self._statistics, self._received = statistics, received
        self.reliability = ""
        self._subscription: Subscription | None = None
        self._calibrations: OrderedDict[int, CameraInfo] = OrderedDict()
        self._heard = steady_seconds()
        node.create_subscription(CameraInfo, "camera_info", self._on_camera_info, qos_profile_sensor_data)

    def reset(self) -> None:
        """Count the time without an image from now."""
        self._heard = steady_seconds()

    @property
    def active(self) -> bool:
        """Whether images are wanted now."""
        return self._active()

    @property
    def _raw(self) -> bool:
        return self._parameters().image_transport == "raw"

    @property
    def topic(self) -> str:
        """Name of the image topic, after remapping."""
        return self._node.resolve_topic_name("image" if self._raw else "image/compressed")

    @property
    def silence(self) -> float:
        """Time since the last image, or since `reset`, in seconds."""
        return steady_seconds() - self._heard

    def watch(self) -> None:
        """Subscribe once that is possible, and log problems. Call this several times a second."""
        if not self.active:
            return
        if self._subscription is None:
            self._subscribe()
        problem = self.problem
        if problem:
            self._node.get_logger().warning(problem, throttle_duration_sec=REPEAT)

    @property
    def problem(self) -> str:
        """The problem with the images and its remedy; "" if there is none."""
        if not self.active:
            return ""
        if self.silence > SILENCE:
            return f"no image on {self.topic} for {self.silence:.0f} s; {self._silence_hint()}"
        lost = self._statistics.lost
        if lost > LOST_MAX:
            return f"{lost:.0%} of the frames on {self.topic} are lost on the way here; {self._loss_hint()}"
        return ""

    def _silence_hint(self) -> str:
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        if not publishers:
            return "it has no publisher: remap `image`, or set the parameter image_transport"
        expected = "sensor_msgs/msg/Image" if self._raw else "sensor_msgs/msg/CompressedImage"
        others = sorted({p.topic_type for p in publishers} - {expected})
        if others:
            return (
                f"its type is {', '.join(others)}, not {expected}: set the parameter image_transport, or remap `image`"
            )
        offered = ", ".join(f"{p.node_name} {p.qos_profile.reliability.name.lower()}" for p in publishers)
        if self.reliability == "reliable" and any(
            p.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for p in publishers
        ):
            return (
                f"its publishers' QoS does not match: the node requests reliable, the publishers offer: {offered}; set "
                "the parameter reliability to best_effort"
            )
        return f"its publishers are silent ({offered}): check that the camera is running"

    def _loss_hint(self) -> str:
        if not profile_in_force():
            return cure()
        if self.reliability == "best_effort":
            return "the machine may be too busy; use a reliable publisher, which loses none (parameter reliability)"
        return "the machine may be too busy, or the camera's process may lack the Fast DDS profile"

    def _subscribe(self) -> None:
        wanted = self._parameters().reliability
        if wanted == "auto":
            publishers = self._node.get_publishers_info_by_topic(self.topic)
            if not publishers:
                return
            # A best-effort subscription loses large frames. A reliable one receives from reliable publishers only.
            reliable = all(p.qos_profile.reliability == ReliabilityPolicy.RELIABLE for p in publishers)
            wanted = "reliable" if reliable else "best_effort"
        policy = ReliabilityPolicy.RELIABLE if wanted == "reliable" else ReliabilityPolicy.BEST_EFFORT
        self._subscription = self._node.create_subscription(
            Image if self._raw else CompressedImage,
            "image" if self._raw else "image/compressed",
            self._on_image,
            QoSProfile(depth=1, reliability=policy),
        )
        self.reliability = wanted
        self._node.get_logger().info(f"subscribed to {self.topic}, {wanted}")

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._heard = steady_seconds()
        if not self.active:
            return
        self._statistics.add("received", self._age(message.header))
        self._statistics.stamp(nanoseconds(message.header))
        self._received(message)

    def _age(self, header: Header) -> float:
        """Return the time since the stamp by the node's clock, in seconds."""
        return (self._node.get_clock().now().nanoseconds - nanoseconds(header)) / 1e9

    def _on_camera_info(self, info: CameraInfo) -> None:
        stamp = nanoseconds(info.header)
        self._calibrations[stamp] = info
        self._calibrations.move_to_end(stamp)
        while len(self._calibrations) > CALIBRATIONS:
            self._calibrations.popitem(last=False)

    def camera_info(self, header: Header) -> CameraInfo | None:
        """Return the calibration with an image's stamp, or else the newest of its camera; None if there is none."""
        exact = self._calibrations.get(nanoseconds(header))
        if exact is not None and exact.header.frame_id == header.frame_id:
            return exact
        of_camera = [info for info in list(self._calibrations.values()) if info.header.frame_id == header.frame_id]
        return of_camera[-1] if of_camera else None
