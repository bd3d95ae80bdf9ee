"""Starts the node for a camera.

ros2 launch explain_cnn_ros explain.launch.py image:=/camera/image_raw
"""

from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

COMPRESSED = "/compressed"


def node(context: LaunchContext) -> list[Any]:
    """Return the node. Arguments that are not given leave the values of the parameter file alone."""

    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    image = value("image").removesuffix(COMPRESSED)
    transport = value("image_transport") or ("compressed" if value("image").endswith(COMPRESSED) else "")
    given: dict[str, Any] = {"image_transport": transport} if transport else {}
    if value("detections"):
        given["regions"] = "detections"
    if value("live"):
        given["live"] = value("live")
    given |= {name: value(name) == "true" for name in ("use_sim_time", "autostart") if value(name)}
    # RViz and image_transport look for the calibration there as well: beside the image, in its namespace.
    camera_info = value("camera_info") or "/".join([*image.split("/")[:-1], "camera_info"])
    config = PathJoinSubstitution([FindPackageShare("explain_cnn_ros"), "config", "explain.yaml"])
    return [
        Node(
            package="explain_cnn_ros",
            executable="explain_node",
            namespace=value("namespace"),
            name=value("name"),
            output="screen",
            respawn=value("respawn") == "true",
            respawn_delay=2.0,
            parameters=[value("params_file") or config, *([given] if given else [])],
            # The remapping of a topic does not apply to topics below it: the compressed one has its own rule.
            remappings=[
                ("image", image),
                ("image/compressed", image + COMPRESSED),
                ("camera_info", camera_info),
                *([("detections", value("detections"))] if value("detections") else []),
            ],
            arguments=["--ros-args", "--log-level", value("log_level")],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the launch arguments and the node."""
    profile = PathJoinSubstitution([FindPackageShare("explain_cnn_ros"), "config", "fastdds.xml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("image", default_value="image", description="Image topic."),
            DeclareLaunchArgument(
                "image_transport",
                default_value="",
                choices=["", "raw", "compressed"],
                description="Whether the node subscribes to the topic itself, or with the suffix /compressed. Default: "
                "compressed if `image` has this suffix, otherwise the value in params_file.",
            ),
            DeclareLaunchArgument(
                "camera_info",
                default_value="",
                description="CameraInfo topic, which the markers need. Default: camera_info beside the image topic.",
            ),
            DeclareLaunchArgument(
                "detections",
                default_value="",
                description="Topic of a detector's boxes. If it is given, the parameter regions is detections: the "
                "node decides and explains in these boxes. Default: the value of regions in params_file.",
            ),
            DeclareLaunchArgument(
                "live",
                default_value="",
                choices=["", "none", "influence"],
                description="Whether every decision is explained live. Default: the value in params_file.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
            DeclareLaunchArgument("name", default_value="explain_node", description="Name of the node."),
            DeclareLaunchArgument(
                "params_file",
                default_value="",
                description="YAML file with parameters of the node. Default: config/explain.yaml of this package.",
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="",
                choices=["", "true", "false"],
                description="Whether the node takes the time from /clock. Default: the value in params_file.",
            ),
            DeclareLaunchArgument(
                "autostart",
                default_value="",
                choices=["", "true", "false"],
                description="Whether the node configures and activates itself at the start. Default: the value in "
                "params_file.",
            ),
            DeclareLaunchArgument(
                "respawn",
                default_value="false",
                choices=["true", "false"],
                description="Whether the node is started again, after 2 s, if its process ends.",
            ),
            DeclareLaunchArgument(
                "dds_profile",
                default_value=EnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", default_value=profile),
                description="Fast DDS profile with enough memory for images. The camera's process needs it as well.",
            ),
            SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", LaunchConfiguration("dds_profile")),
            DeclareLaunchArgument(
                "log_level",
                default_value="info",
                choices=["debug", "info", "warn", "error", "fatal"],
                description="Log level of the node.",
            ),
            OpaqueFunction(function=node),
        ]
    )
