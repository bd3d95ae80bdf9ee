"""Where frames come from: the image subscription, the camera's calibration, and what is wrong when nothing comes."""

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

#: Seconds without an image after which something is wrong.
SILENCE = 5.0

#: Seconds between two log lines that say the same.
REPEAT = 20.0

#: Share of lost frames from which on something is wrong.
LOST_MAX = 0.05

#: Calibrations that are kept for images that are still being explained.
CALIBRATIONS = 100


def steady_seconds() -> float:
    """Seconds of a clock that only goes forward."""
    return Clock(clock_type=ClockType.STEADY_TIME).now().nanoseconds / 1e9


def nanoseconds(header: Header) -> int:
    """A stamp as one number."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


class ImageSource:
    """Subscribes to the image once it is known what reliability its publishers offer, and watches what comes.

    Args:
        received: called with each image while `active`, in the executor's thread.
    """

    def __init__(
        self,
        node: LifecycleNode,
        parameters: Callable[[], NodeParameters],
        statistics: Statistics,
        received: Callable[[Image | CompressedImage], None],
    ) -> None:
        self._node, self._parameters, self._statistics, self._received = node, parameters, statistics, received
        self.active = False
        self.reliability = ""
        self._subscription: Subscription | None = None
        self._calibrations: OrderedDict[int, CameraInfo] = OrderedDict()
        self._heard = steady_seconds()
        node.create_subscription(CameraInfo, "camera_info", self._on_camera_info, qos_profile_sensor_data)

    def activate(self) -> None:
        """Images are taken from now on."""
        self._heard = steady_seconds()
        self.active = True

    @property
    def _raw(self) -> bool:
        return self._parameters().image_transport == "raw"

    @property
    def topic(self) -> str:
        """The image topic as it is after remapping."""
        return self._node.resolve_topic_name("image" if self._raw else "image/compressed")

    @property
    def silence(self) -> float:
        """Seconds since the last image, or since there should be some."""
        return steady_seconds() - self._heard

    def watch(self) -> None:
        """To be called several times a second: subscribes when it is time to, and logs what is wrong."""
        if not self.active:
            return
        if self._subscription is None:
            self._subscribe()
        problem = self.problem
        if problem:
            self._node.get_logger().warning(problem, throttle_duration_sec=REPEAT)

    @property
    def problem(self) -> str:
        """What is wrong with the images, and what to do; "" when nothing is."""
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
            return "nobody publishes it: remap `image`, or set the parameter image_transport"
        expected = "sensor_msgs/msg/Image" if self._raw else "sensor_msgs/msg/CompressedImage"
        others = sorted({p.topic_type for p in publishers} - {expected})
        if others:
            return (
                f"it carries {', '.join(others)}, not {expected}: set the parameter image_transport, or remap `image`"
            )
        offered = ", ".join(f"{p.node_name} {p.qos_profile.reliability.name.lower()}" for p in publishers)
        if self.reliability == "reliable" and any(
            p.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for p in publishers
        ):
            return (
                f"its publishers' QoS does not match: the node asks for reliable, offered are: {offered}; set the "
                "parameter reliability to best_effort"
            )
        return f"its publishers are silent ({offered}): is the camera running?"

    def _loss_hint(self) -> str:
        if not profile_in_force():
            return cure()
        if self.reliability == "best_effort":
            return "is the machine too busy? A reliable publisher loses none (parameter reliability)"
        return "is the machine too busy, or does the camera's process lack the Fast DDS profile?"

    def _subscribe(self) -> None:
        wanted = self._parameters().reliability
        if wanted == "auto":
            publishers = self._node.get_publishers_info_by_topic(self.topic)
            if not publishers:
                return
            # Large frames are lost on a best-effort subscription; a reliable one matches reliable publishers only.
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
        """Seconds between the stamp and now, by the node's clock."""
        return (self._node.get_clock().now().nanoseconds - nanoseconds(header)) / 1e9

    def _on_camera_info(self, info: CameraInfo) -> None:
        stamp = nanoseconds(info.header)
        self._calibrations[stamp] = info
        self._calibrations.move_to_end(stamp)
        while len(self._calibrations) > CALIBRATIONS:
            self._calibrations.popitem(last=False)

    def camera_info(self, header: Header) -> CameraInfo | None:
        """The calibration that came with an image, or else the newest of its camera; None when there is none."""
        exact = self._calibrations.get(nanoseconds(header))
        if exact is not None and exact.header.frame_id == header.frame_id:
            return exact
        of_camera = [info for info in list(self._calibrations.values()) if info.header.frame_id == header.frame_id]
        return of_camera[-1] if of_camera else None
