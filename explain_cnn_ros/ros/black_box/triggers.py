"""The events in messages: doubt, changes of the decision, errors, aborted goals, and topics that trigger."""

from __future__ import annotations

from collections.abc import Callable

from action_msgs.msg import GoalStatus, GoalStatusArray
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.serialization import deserialize_message
from std_msgs.msg import Bool

from explain_cnn_ros import msg
from explain_cnn_ros.ros.black_box.buffer import RecordedChannel
from explain_cnn_ros.ros.black_box.events import (
    ABORT,
    CHANGE,
    DOUBT,
    ERROR,
    TOPIC,
    AbortedGoals,
    Edge,
    StableChange,
    TriggerEvent,
)
from explain_cnn_ros.ros.black_box.settings import BlackBoxSettings

#: Types of the topics that trigger.
EMPTY, BOOL = "std_msgs/msg/Empty", "std_msgs/msg/Bool"

#: Types of the topics whose contents are read.
CLASSIFICATION, DIAGNOSTICS = "explain_cnn_ros/msg/Classification", "diagnostic_msgs/msg/DiagnosticArray"
STATUS = "action_msgs/msg/GoalStatusArray"

#: End of the name of an action's topic with the status of its goals.
STATUS_TOPIC = "/_action/status"

#: Maximum length of a text from a message in the description of an event.
TEXT_MAX = 200


class Triggers:
    """Reads messages, and reports events. The methods are receivers of serialized messages.

    Args:
        settings: Returns the settings in force.
        now: Returns the time in seconds, and by the clock of the recordings in nanoseconds.
        own: Beginning of the names of the black box's own statuses on /diagnostics, which trigger nothing.
        emit: Called with each event.
    """

    def __init__(
        self,
        settings: Callable[[], BlackBoxSettings],
        now: Callable[[], tuple[float, int]],
        own: str,
        emit: Callable[[TriggerEvent], None],
    ) -> None:
        self._settings, self._now, self._own, self._emit = settings, now, own, emit
        self._doubt, self._errors, self._topics = Edge[str](), Edge[str](), Edge[str]()
        self._decision = StableChange()
        self._goals = AbortedGoals(now()[1])

    def on_classification(self, channel: RecordedChannel, data: bytes) -> None:
        """Read a decision. It says itself whether its confidence is low."""
        decision, settings = deserialize_message(data, msg.Classification), self._settings()
        time, stamp = self._now()
        text = f"P(person) {decision.probability:.2f}, threshold {decision.threshold:.2f}"
        if self._doubt.update("", decision.low_confidence, time, settings.doubt_holdoff, settings.doubt):
            self._emit(TriggerEvent(DOUBT, time, stamp, text))
        began = self._decision.update(
            decision.person, time, stamp, settings.change_stable, settings.change_holdoff, settings.change
        )
        if began is not None:
            change = "no person, then a person" if decision.person else "a person, then no person"
            self._emit(TriggerEvent(CHANGE, *began, f"{change}: {text}"))

    def on_diagnostics(self, channel: RecordedChannel, data: bytes) -> None:
        """Read a report."""
        settings = self._settings()
        time, stamp = self._now()
        for status in deserialize_message(data, DiagnosticArray).status:
            if status.name.startswith(self._own):
                continue
            failed = status.level == DiagnosticStatus.ERROR
            if self._errors.update(status.name, failed, time, settings.error_holdoff, settings.error):
                self._emit(TriggerEvent(ERROR, time, stamp, _short(f"{status.name}: {status.message}")))

    def on_goal_status(self, channel: RecordedChannel, data: bytes) -> None:
        """Read the status of all goals of an action."""
        action = channel.topic.removesuffix(STATUS_TOPIC)
        time, stamp = self._now()
        aborted = [
            (bytes(status.goal_info.goal_id.uuid), status.goal_info.stamp.sec * 10**9 + status.goal_info.stamp.nanosec)
            for status in deserialize_message(data, GoalStatusArray).status_list
            if status.status == GoalStatus.STATUS_ABORTED
        ]
        for goal in self._goals.update(action, aborted):
            self._emit(TriggerEvent(ABORT, time, stamp, f"{action} has aborted the goal {goal.hex()[:8]}"))

    def on_topic(self, channel: RecordedChannel, data: bytes) -> None:
        """Read a message of a topic that triggers."""
        time, stamp = self._now()
        if channel.type == EMPTY:
            self._emit(TriggerEvent(TOPIC, time, stamp, channel.topic))
        elif channel.type == BOOL and self._topics.update(channel.topic, deserialize_message(data, Bool).data, time):
            self._emit(TriggerEvent(TOPIC, time, stamp, f"{channel.topic} has become true"))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 3] + "..."
