"""The ROS node of the black box. It needs neither PyTorch nor the node that explains, and runs in its own process.

ros2 run explain_cnn_ros black_box --ros-args -r image:=/camera/image_raw -p folder:=~/field
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from std_msgs.msg import String
from std_srvs.srv import Trigger

from explain_cnn_ros.files import reason
from explain_cnn_ros.ros.black_box.buffer import MessageBuffer, RecordedChannel, StoredMessage
from explain_cnn_ros.ros.black_box.definitions import Definitions
from explain_cnn_ros.ros.black_box.events import REQUEST, TriggerEvent
from explain_cnn_ros.ros.black_box.folder import RecordingFolder
from explain_cnn_ros.ros.black_box.parameters import BlackBoxParameters
from explain_cnn_ros.ros.black_box.report import PART, problems, report
from explain_cnn_ros.ros.black_box.settings import MIB, SPARE, BlackBoxSettings, names
from explain_cnn_ros.ros.black_box.subscriptions import Subscriptions
from explain_cnn_ros.ros.black_box.triggers import (
    BOOL,
    CLASSIFICATION,
    DIAGNOSTICS,
    EMPTY,
    STATUS,
    STATUS_TOPIC,
    Triggers,
)
from explain_cnn_ros.ros.black_box.writing import Finished, RecordingWriter
from explain_cnn_ros.ros.enduring import guard_services
from explain_cnn_ros.ros.problems import COMPRESSED, RAW, Announcer, clock
from explain_cnn_ros.ros.spinning import run_node

#: Period in which the graph is watched for publishers, and period of the reports on /diagnostics, in seconds.
WATCH_PERIOD, REPORT_PERIOD = 0.5, 1.0

#: Time that recordings have to end when the node is stopped, in seconds.
STOP = 2.0

#: Topics of the recorded node, besides its decisions, with their types.
RESULTS = {
    "live": "explain_cnn_ros/msg/Live",
    "explanation": "explain_cnn_ros/msg/Explanation",
    "model": "explain_cnn_ros/msg/ModelInfo",
}


class OnwardClock:
    """The time of the messages in memory, in seconds: it never jumps back.

    It is a steady clock, or, with simulated time, the clock of the node without its jumps back.

    Args:
        node: The node.
    """

    def __init__(self, node: Node) -> None:
        self._clock = node.get_clock()
        self._lock = threading.Lock()
        self._simulated: int | None = None
        self._seconds = 0.0
        self._steady = time.monotonic()

    def __call__(self) -> float:
        """Return the time."""
        with self._lock:
            steady, before = time.monotonic(), self._simulated
            now = self._clock.now().nanoseconds if self._clock.ros_time_is_active else None
            if now is None or before is None:
                self._seconds += 0.0 if now is not None else steady - self._steady
            else:
                self._seconds += max(0, now - before) / 1e9
            self._simulated, self._steady = now, steady
            return self._seconds


class BlackBox(Node):
    """Stores the newest messages in memory, and records the seconds before and after events.

    Raises:
        ValueError: A parameter is out of range.
    """

    # rclpy also destroys a node whose parameters were refused.
    _writer: RecordingWriter | None = None

    def __init__(self) -> None:
        super().__init__("black_box")
        self.parameters = BlackBoxParameters(self, self._on_changed)
        settings = self.parameters.current
        self._now = OnwardClock(self)
        self._begin = self._now()
        self._buffer = MessageBuffer(settings.memory_mib * MIB, _seconds(settings))
        folder = Path(settings.folder).expanduser().absolute()
        self._folder = RecordingFolder(folder, settings.folder_mib * MIB, settings.free_mib * MIB)
        self._writer = RecordingWriter(
            self._buffer,
            self._folder,
            lambda: self.parameters.current,
            self._now,
            Definitions(),
            self._on_finished,
            self._on_failed,
        )
        self._unusable = self._open()
        self._triggers = Triggers(
            lambda: self.parameters.current, self._moment, f"{self.get_fully_qualified_name()}: ", self._on_event
        )
        self._watched = Subscriptions(self, self._now)
        self._add_topics(settings)
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._event_publisher = self.create_publisher(String, "~/event", 10)
        self._recorded_publisher = self.create_publisher(String, "~/recorded", latched)
        self._event_channel = RecordedChannel(self._event_publisher.topic_name, "std_msgs/msg/String")
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(Trigger, "~/save", self._on_save)
        # With simulated time, timers of the node's clock would not fire before /clock is published.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._announcer = Announcer(self.get_logger().warning, self.get_logger().info)
        self.create_timer(WATCH_PERIOD, self._watched.watch, clock=steady)
        self.create_timer(REPORT_PERIOD, self._report, clock=steady)
        guard_services(self)
        self._writer.start()

    def _add_topics(self, settings: BlackBoxSettings) -> None:
        add, node, triggers = self._watched.add, settings.node.rstrip("/"), self._triggers
        raw = settings.image_transport == "raw"
        self._image = add("image" if raw else "image/compressed", self._on_message, [RAW if raw else COMPRESSED])
        add("camera_info", self._on_message, ["sensor_msgs/msg/CameraInfo"])
        add(f"{node}/classification", self._on_message, [CLASSIFICATION])
        add(f"{node}/classification", triggers.on_classification)
        for name, kind in RESULTS.items():
            add(f"{node}/{name}", self._on_message, [kind])
        if settings.overlay:
            add(f"{node}/overlay/compressed", self._on_message, [COMPRESSED])
        add("/diagnostics", self._on_message, [DIAGNOSTICS])
        add("/diagnostics", triggers.on_diagnostics)
        for name in ("/tf", "/tf_static") if settings.tf else ():
            add(name, self._on_message, ["tf2_msgs/msg/TFMessage"])
        for action in names(settings.actions):
            add(f"{action.rstrip('/')}{STATUS_TOPIC}", self._on_message, [STATUS])
            add(f"{action.rstrip('/')}{STATUS_TOPIC}", triggers.on_goal_status)
        for topic in names(settings.trigger_topics):
            add(topic, self._on_message, [EMPTY, BOOL])
            add(topic, triggers.on_topic)
        for topic in names(settings.topics):
            add(topic, self._on_message)

    def _open(self) -> str:
        """Open the folder; return why it cannot be used, or ""."""
        try:
            self._folder.open()
        except OSError as error:
            return f"{self._folder.path} cannot be used: {reason(error)}"
        return ""

    def _moment(self) -> tuple[float, int]:
        return self._now(), self.get_clock().now().nanoseconds

    def _on_changed(self) -> None:
        settings = self.parameters.current
        self._buffer.resize(settings.memory_mib * MIB, _seconds(settings))

    # Messages and events.

    def _on_message(self, channel: RecordedChannel, data: bytes) -> None:
        self._buffer.add(StoredMessage(*self._moment(), channel, data))

    def _on_event(self, event: TriggerEvent) -> str:
        """Record the time around an event; return the name of the recording, or raise an OSError."""
        self.get_logger().info(f"event: {event.cause}: {event.text}")
        message = String(data=f"{event.cause}: {event.text}")
        self._on_message(self._event_channel, serialize_message(message))
        self._event_publisher.publish(message)
        try:
            return self._writer.add(event)
        except OSError as error:
            self._unusable = f"no recording of the last event: {reason(error)}"
            self.get_logger().error(self._unusable)
            return ""

    def _on_save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Record now."""
        name = self._on_event(TriggerEvent(REQUEST, *self._moment(), "requested by ~/save"))
        response.success = bool(name)
        after = self.parameters.current.after
        response.message = (
            f"{self._folder.path / name}.mcap will be there in about {after:.0f} s" if name else self._unusable
        )
        return response

    # Called in the writer's thread.

    def _on_finished(self, finished: Finished) -> None:
        size = finished.size / MIB
        self.get_logger().info(
            f"recorded {finished.path}: {finished.messages} messages, {size:.1f} MiB; {finished.text}"
        )
        if rclpy.ok(context=self.context):
            self._recorded_publisher.publish(String(data=str(finished.path)))

    def _on_failed(self, why: str) -> None:
        self.get_logger().error(f"{why}; the next event is tried again")

    # Diagnostics.

    def _report(self) -> None:
        if self._unusable:
            self._unusable = self._open()
        topics, settings = list(self._watched.topics.values()), self.parameters.current
        silence = self._now() - (self._begin if self._image.heard is None else self._image.heard)
        found = problems(settings, self._buffer, self._writer, self._image, topics, silence)
        now = self.get_clock()
        consequence = "a recording contains everything that is in memory"
        still = clock(now.ros_time_is_active, now.now().nanoseconds, self.count_publishers("/clock"), PART, consequence)
        found += [still] if still is not None else []
        self._announcer.announce(found)
        self._diagnostics.publish(
            report(
                self.get_fully_qualified_name(),
                self.get_clock().now(),
                settings,
                self._buffer,
                self._folder,
                self._writer,
                topics,
                found,
                self._unusable,
            )
        )

    def destroy_node(self) -> None:
        """Complete the recordings under way, and destroy the node."""
        if self._writer is not None:
            self._writer.stop(STOP)
        super().destroy_node()


def _seconds(settings: BlackBoxSettings) -> float:
    return settings.before + settings.change_stable + SPARE


def main(args: list[str] | None = None) -> int:
    """Run the black box until it is stopped; return the exit status."""
    return run_node("black_box", BlackBox, args)


if __name__ == "__main__":
    sys.exit(main())
