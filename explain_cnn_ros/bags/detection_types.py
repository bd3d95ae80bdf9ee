"""The types of messages with the boxes of a detector, and their definitions for recordings that do not hold them."""

from __future__ import annotations

#: The types of messages with detections. Those with a stamp come first.
VISION, OWN, ROI = (
    "vision_msgs/msg/Detection2DArray",
    "explain_cnn_ros/msg/Detections",
    "sensor_msgs/msg/RegionOfInterest",
)
DETECTION_TYPES = (VISION, OWN, ROI)

#: Definitions by type, without those of ROS's common interfaces. The definitions of vision_msgs are those of version 4
#: (ROS 2 Humble and later); messages of version 3 have the same bytes.
DEFINITIONS = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\n"
    "geometry_msgs/PoseWithCovariance pose",
    "vision_msgs/msg/Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
    "vision_msgs/BoundingBox2D bbox\nstring id",
    VISION: "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    "explain_cnn_ros/msg/Detection": "float64 x\nfloat64 y\nfloat64 width\nfloat64 height\nstring label\nfloat64 score",
    OWN: "std_msgs/Header header\nexplain_cnn_ros/Detection[] detections",
}
