"""Results of an analysis as the messages that the node would have published."""

from __future__ import annotations

import math

from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from explain_cnn_ros.analysis.engine import Decision
from explain_cnn_ros.analysis.sources import Frame
from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.explanation import Explanation
from explain_cnn_ros.overlay import draw_overlay
from explain_cnn_ros.ros.boxes import annotations, outlines
from explain_cnn_ros.ros.images import to_compressed
from explain_cnn_ros.ros.messages import classification_message, explanation_message

#: Topics, as the node has them by default: what is set up for the node shows the recording.
NODE = "/explain_node"


class MessageEncoder:
    """Makes classification, explanation, overlay and annotations; stamps and frame_id are those of the image.

    Args:
        metric: whose patches the overlay shows; the explanation's first when it lacks this one.
    """

    def __init__(self, classifier: PersonClassifier, metric: str = "activation_precision") -> None:
        self._model, self._metric = classifier.model_hash, metric

    def encode(
        self, frame: Frame, decision: Decision, explanation: Explanation | None, trigger: str
    ) -> list[tuple[str, str, bytes]]:
        """(topic, type, CDR) of each message."""
        assert frame.image is not None
        header = Header(stamp=Time(sec=frame.stamp // 10**9, nanosec=frame.stamp % 10**9), frame_id=frame.frame_id)
        size = frame.image.shape[1::-1]
        # How long a decision takes is not known of single frames: they go through the network together.
        messages = [
            (
                "classification",
                "explain_cnn_ros/msg/Classification",
                classification_message(
                    header, decision.regions, size, decision.threshold, decision.doubtful, math.nan, self._model
                ),
            )
        ]
        if explanation is not None:
            metrics = explanation.settings.metrics
            metric = self._metric if self._metric in metrics else metrics[0]
            overlay = draw_overlay(
                frame.image, explanation, metric, regions=decision.regions, trigger=trigger, keep_size=True
            )
            messages += [
                ("explanation", "explain_cnn_ros/msg/Explanation", explanation_message(header, explanation, trigger)),
                ("overlay/compressed", "sensor_msgs/msg/CompressedImage", to_compressed(overlay, header)),
                (
                    "annotations",
                    "visualization_msgs/msg/ImageMarker",
                    annotations(header, outlines(explanation, metric)),
                ),
            ]
        return [(f"{NODE}/{topic}", kind, bytes(serialize_message(message))) for topic, kind, message in messages]
