"""The subscriptions to the image and to the camera's calibration, and the diagnosis of missing images."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from explain_cnn_ros.ros import problems
from explain_cnn_ros.ros.boxes import calibrated_size, fits, is_calibrated
from explain_cnn_ros.ros.offers import offered, profile
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.problems import COMPRESSED, IMAGES, RAW, Problem, WatchedTopic
from explain_cnn_ros.ros.statistics import Statistics
from explain_cnn_ros.ros.transport import loss_hint
from explain_cnn_ros.scan.decider import DETECTIONS

#: Seconds without an image after which a problem is reported.
SILENCE = 5.0

#: Maximum share of lost frames that is not reported as a problem.
LOST_MAX = 0.05

#: Number of images that wait to be taken, and the same if each of them may have detections.
DEPTH, DEPTH_WITH_DETECTIONS = 1, 10

#: Number of changes from one camera to the other within TURNS_TIME seconds that two cameras on one topic cause.
TURNS, TURNS_TIME = 3, 10.0

#: Step back of the stamps that shows another camera, or a recording that begins again, in nanoseconds.
STEP_BACK = 500_000_000

#: Type of calibrations, and the number of them that wait to be taken.
CALIBRATION, CALIBRATION_DEPTH = "sensor_msgs/msg/CameraInfo", 5

#: Number of calibrations that are stored, for images whose explanation is under way.
CALIBRATIONS = 100


def steady_seconds() -> float:
    """Return the time of a clock that never jumps, in seconds."""
    return Clock(clock_type=ClockType.STEADY_TIME).now().nanoseconds / 1e9


def nanoseconds(header: Header) -> int:
    """Return the stamp of a header in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


class ImageSource:
    """Subscribes to the image topic as its publishers offer it, and watches it.

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
        node: Node,
        active: Callable[[], bool],
        parameters: Callable[[], NodeParameters],
        statistics: Statistics,
        received: Callable[[Image | CompressedImage], None],
    ) -> None:
        self._node, self._active, self._parameters = node, active, parameters
        self._statistics, self._received = statistics, received
        self.reliability = ""
        self._depth = 0
        self._latched = False  # whether the subscription receives an image that was published before
        self._subscription: Subscription | None = None
        self._calibrations: OrderedDict[int, CameraInfo] = OrderedDict()
        self._heard = steady_seconds()
        self._newest: Header | None = None  # of the newest image since `reset`
        self._number: int | None = None  # of this image among those of its publisher, if the middleware counts them
        self._turns: deque[tuple[float, str]] = deque(maxlen=TURNS)
        # Best effort and volatile: until the publishers are known, this receives from every publisher.
        self._calibration_offer = ("best_effort", False)
        self._info = self._subscribe_calibration()

    def reset(self) -> None:
        """Count the time without an image from now, and forget the images before. A latched image arrives again."""
        self._heard = steady_seconds()
        self._newest = self._number = None
        self._turns.clear()
        self.receive_again()

    def receive_again(self) -> None:
        """Let an image that is latched arrive again, because it may not have been wanted when it arrived."""
        if self._latched:
            self.unsubscribe()

    def unsubscribe(self) -> None:
        """Receive no more images until the next call of `watch`.

        The middleware returns the memory into which it has received images. It has as many places as ever were in use
        at the same time.
        """
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
            self.reliability, self._latched = "", False

    @property
    def active(self) -> bool:
        """Whether images are wanted now."""
        return self._active()

    @property
    def subscribed(self) -> bool:
        """Whether there is a subscription to the image topic."""
        return self._subscription is not None

    @property
    def _raw(self) -> bool:
        return self._parameters().image_transport == "raw"

    @property
    def _name(self) -> str:
        return "image" if self._raw else "image/compressed"

    @property
    def topic(self) -> str:
        """Name of the image topic, after remapping."""
        return self._node.resolve_topic_name(self._name)

    @property
    def silence(self) -> float:
        """Time since the last image, or since `reset`, in seconds."""
        return steady_seconds() - self._heard

    # The subscription.

    def watch(self) -> None:
        """Subscribe if that is possible, and anew if the publishers have changed. Call this from time to time."""
        self._watch_calibration()
        if not self.active:
            return
        reliability, latched = self._wanted()
        depth = DEPTH_WITH_DETECTIONS if self._parameters().regions == DETECTIONS else DEPTH
        if reliability and (reliability, latched, depth) != (self.reliability, self._latched, self._depth):
            self._subscribe(reliability, latched, depth)

    def _wanted(self) -> tuple[str, bool]:
        """Return the reliability and whether an image from before is wanted; the present ones without a publisher."""
        required = self._parameters().reliability
        publishers = self._fitting_publishers()
        if not publishers:
            return self.reliability or ("" if required == "auto" else required), self._latched
        reliability, latched = offered(publishers)
        return reliability if required == "auto" else required, latched

    def _fitting_publishers(self) -> list[TopicEndpointInfo]:
        wanted = RAW if self._raw else COMPRESSED
        return [p for p in self._node.get_publishers_info_by_topic(self.topic) if p.topic_type == wanted]

    def _subscribe(self, reliability: str, latched: bool, depth: int) -> None:
        again = self._subscription is not None
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._node.create_subscription(
            Image if self._raw else CompressedImage,
            self._name,
            self._on_image,
            profile(depth, reliability, latched),
        )
        changed = (reliability, latched) != (self.reliability, self._latched)
        self.reliability, self._latched, self._depth = reliability, latched, depth
        self._node.get_logger().info(
            f"subscribed to {self.topic}{' anew' if again else ''}"
            f"{', since its publishers have changed' if again and changed else ''}, {reliability}"
            + (", with the image that its publisher has latched" if latched else "")
        )

    def _watch_calibration(self) -> None:
        """Subscribe to the calibration anew if its publishers offer another QoS, for instance because they latch it."""
        publishers = self._node.get_publishers_info_by_topic(self._info.topic_name)
        fitting = [p for p in publishers if p.topic_type == CALIBRATION]
        if fitting and (offer := offered(fitting)) != self._calibration_offer:
            self._calibration_offer = offer
            self._node.destroy_subscription(self._info)
            self._info = self._subscribe_calibration()

    def _subscribe_calibration(self) -> Subscription:
        qos = profile(CALIBRATION_DEPTH, *self._calibration_offer)
        return self._node.create_subscription(CameraInfo, "camera_info", self._on_camera_info, qos)

    # Problems.

    def problems(self) -> list[Problem]:
        """Return the problems with the images, with their remedies."""
        if not self.active:
            return []
        silence = self.silence
        if silence > SILENCE:
            return [problems.silence(self._about(), silence)]
        found = [self._loss(), self._stamps(), self._several_cameras()]
        return [problem for problem in found if problem is not None]

    def _about(self) -> WatchedTopic:
        own = self._node.get_fully_qualified_name() + "/"
        topics = {
            name: types
            for name, types in self._node.get_topic_names_and_types()
            if not name.startswith(own) and {RAW, COMPRESSED} & set(types) and self._node.count_publishers(name)
        }
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        received = self._newest is not None
        return WatchedTopic(self.topic, self._name, self._raw, self.reliability, publishers, received, topics)

    def _loss(self) -> Problem | None:
        lost = self._statistics.lost
        if lost <= LOST_MAX:
            return None
        hint = loss_hint(rclpy.get_rmw_implementation_identifier(), self.reliability)
        return Problem(IMAGES, "lost", f"{lost:.0%} of the frames on {self.topic} are lost on the way here; {hint}")

    def _stamps(self) -> Problem | None:
        age, clock = self._statistics.percentile("received", 0.5), self._node.get_clock()
        simulated = clock.ros_time_is_active
        if self._newest is None or math.isnan(age) or (simulated and clock.now().nanoseconds == 0):
            return None
        # An image that was published before the subscription may be old.
        late = math.inf if self._latched else problems.LATE
        return problems.stamps(self.topic, nanoseconds(self._newest), age, simulated, late)

    def _several_cameras(self) -> Problem | None:
        turns = [frame_id for heard, frame_id in self._turns if steady_seconds() - heard < TURNS_TIME]
        if len(turns) < TURNS:
            return None
        publishers, frame_ids = self._fitting_publishers(), sorted(set(turns))
        if len(frame_ids) == 1 and len(publishers) < 2:  # a recording in a loop
            return None
        return problems.several_cameras(self.topic, frame_ids, sorted({problems.node_name(p) for p in publishers}))

    def calibration_problem(self, decided: Header | None = None, size: tuple[int, int] = (0, 0)) -> Problem | None:
        """Return the reason why the newest image has no calibration for markers, or None.

        Args:
            decided: Header of the newest decided image; None before the first one.
            size: Size (width, height) of this image, in pixels.
        """
        if self._newest is None:
            return None
        info = None if decided is None else self.camera_info(decided)
        if info is not None and is_calibrated(info) and not fits(info, size):
            return problems.other_shape(self._info.topic_name, calibrated_size(info), size)
        calibrated = {info.header.frame_id: is_calibrated(info) for info in self._calibrations.values()}
        return problems.calibration(self._info.topic_name, self.topic, self._newest.frame_id, calibrated)

    # Messages.

    def _on_image(self, message: Image | CompressedImage, info: Mapping[str, Any]) -> None:
        self._heard = steady_seconds()
        if not self.active:
            return
        number = info.get("publication_sequence_number")
        if self._is_of_another_camera(message.header, number):
            self._turns.append((self._heard, message.header.frame_id))
        self._newest, self._number = message.header, number
        self._statistics.add("received", self._age(message.header))
        self._statistics.stamp(nanoseconds(message.header))
        self._received(message)

    def _is_of_another_camera(self, header: Header, number: int | None) -> bool:
        """Return whether an image cannot follow the newest one of the same camera.

        Args:
            header: Header of the image.
            number: Number of the image among those of its publisher; None if it is not known.
        """
        if self._newest is None:
            return False
        if header.frame_id != self._newest.frame_id:
            return True
        if number is not None and self._number is not None:
            return number <= self._number
        return nanoseconds(header) < nanoseconds(self._newest) - STEP_BACK

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
