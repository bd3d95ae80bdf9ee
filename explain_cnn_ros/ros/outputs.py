"""Everything that the node publishes about frames, and how it becomes messages."""

from __future__ import annotations

import copy

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from visualization_msgs.msg import ImageMarker, MarkerArray

from explain_cnn_ros import msg
from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.explanation import Explanation
from explain_cnn_ros.overlay import draw_overlay
from explain_cnn_ros.ros.boxes import annotations, is_calibrated, markers, outlines
from explain_cnn_ros.ros.images import to_compressed, to_message
from explain_cnn_ros.ros.messages import classification_message, explanation_message, model_message
from explain_cnn_ros.ros.requests import ClassifiedFrame


class Outputs:
    """The node's publishers. Pictures and markers are made only if someone listens."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._classification = node.create_publisher(msg.Classification, "~/classification", 10)
        self._explanation = node.create_publisher(msg.Explanation, "~/explanation", 10)
        self._overlay = node.create_publisher(Image, "~/overlay", 2)
        self._overlay_compressed = node.create_publisher(CompressedImage, "~/overlay/compressed", 2)
        self._camera_info = node.create_publisher(CameraInfo, "~/camera_info", 2)
        self._markers = node.create_publisher(MarkerArray, "~/markers", 2)
        self._annotations = node.create_publisher(ImageMarker, "~/annotations", 2)
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._model = node.create_publisher(msg.ModelInfo, "~/model", kept)

    def publish_model(self, classifier: PersonClassifier) -> None:
        """Which network decides, for everyone who comes from now on."""
        message = model_message(classifier)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._model.publish(message)

    def publish_classification(self, frame: ClassifiedFrame, low_confidence: bool, model: str) -> None:
        """A frame's decision."""
        self._classification.publish(
            classification_message(
                frame.header,
                frame.regions,
                frame.image.shape[1::-1],
                frame.threshold,
                low_confidence,
                frame.seconds,
                model,
            )
        )

    def publish_explanation(
        self, explanation: Explanation, frame: ClassifiedFrame, trigger: str, metric: str, info: CameraInfo | None
    ) -> msg.Explanation:
        """An explanation and what is drawn of it.

        Args:
            metric: whose patches are drawn; the explanation's first when it lacks this one.
            info: the camera's calibration, if there is one.
        """
        message = explanation_message(frame.header, explanation, trigger)
        self._explanation.publish(message)
        if metric not in explanation.settings.metrics:
            metric = explanation.settings.metrics[0]
        self._draw(explanation, frame, trigger, metric, info)
        boxes = outlines(explanation, metric)
        if self._annotations.get_subscription_count():
            self._annotations.publish(annotations(frame.header, boxes))
        if info is not None and is_calibrated(info) and self._markers.get_subscription_count():
            self._markers.publish(markers(frame.header, boxes, info, explanation.image_size))
        return message

    def _draw(
        self, explanation: Explanation, frame: ClassifiedFrame, trigger: str, metric: str, info: CameraInfo | None
    ) -> None:
        raw = self._overlay.get_subscription_count() > 0
        compressed = self._overlay_compressed.get_subscription_count() > 0
        if not (raw or compressed):
            return
        # The frame's own size: RViz's Camera display lays it over the camera's view.
        image = draw_overlay(frame.image, explanation, metric, regions=frame.regions, trigger=trigger, keep_size=True)
        if info is not None:
            beside = copy.copy(info)
            beside.header = frame.header
            self._camera_info.publish(beside)
        if raw:
            self._overlay.publish(to_message(image, frame.header))
        if compressed:
            self._overlay_compressed.publish(to_compressed(image, frame.header))
