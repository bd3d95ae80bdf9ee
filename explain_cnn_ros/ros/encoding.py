"""Results of an analysis as the messages that the node would have published."""

from __future__ import annotations

import math

from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from explain_cnn_ros.bags.sources import Frame
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import SUPPORTING
from explain_cnn_ros.ros.outputs import OUTPUTS, ExplainedFrame
from explain_cnn_ros.ros.requests import ClassifiedFrame
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decision

#: Default name of the node. Viewers that are set up for its topics show the recording as well.
NODE = "/explain_node"

#: The outputs of the node that are recorded.
RECORDED = ("~/classification", "~/explanation", "~/overlay/compressed", "~/annotations")


class MessageEncoder:
    """Makes the messages of a frame, with the stamp and frame_id of its image.

    Args:
        classifier: The classifier that decided.
        metric: Metric whose patches are drawn: see `ExplainedFrame.drawn_metric`.
    """

    def __init__(self, classifier: PersonClassifier, metric: str = SUPPORTING) -> None:
        self._model, self._metric = classifier.model_hash, metric

    def encode(
        self, frame: Frame, decision: Decision, explanation: Explanation | None, trigger: str
    ) -> list[tuple[str, str, bytes]]:
        """Encode the results of a frame.

        A frame without an explanation has empty annotations. A viewer that synchronises annotations with images shows
        it, and one that does not removes older annotations from it.

        Args:
            frame: The frame; it must have an image.
            decision: Its decision.
            explanation: Its explanation; None if it has none.
            trigger: Cause of the explanation.

        Returns:
            The topic, type and CDR of each message.
        """
        assert frame.image is not None
        header = Header(stamp=Time(sec=frame.stamp // 10**9, nanosec=frame.stamp % 10**9), frame_id=frame.frame_id)
        # The duration is not known of single frames, because many go through the network together.
        classified = ClassifiedFrame(header, frame.image, decision, self._model, math.nan)
        results: list[ClassifiedFrame | ExplainedFrame] = [classified]
        if explanation is not None:
            results.append(ExplainedFrame(classified, explanation, trigger, self._metric))
        messages = [
            (output, output.convert(result))
            for result in results
            for output in OUTPUTS
            if output.topic in RECORDED and isinstance(result, output.of)
        ]
        if explanation is None:
            messages += [
                (output, output.clear(classified))
                for output in OUTPUTS
                if output.topic in RECORDED and output.clear is not None
            ]
        return [
            (output.topic.replace("~", NODE), type_name(output.type), bytes(serialize_message(message)))
            for output, message in messages
        ]


def type_name(message: type) -> str:
    """Return the ROS name of a message class, for instance "sensor_msgs/msg/Image"."""
    package, _, _ = message.__module__.partition(".")
    return f"{package}/msg/{message.__name__}"
