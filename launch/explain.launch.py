"""Starts the node for a camera.

ros2 launch explain_cnn_ros explain.launch.py image:=/camera/image_raw
"""

from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from explain_cnn_ros.ros.launching import BOOLEANS, dds_environment, existing_file, is_true
from launch import LaunchContext, LaunchDescription

COMPRESSED = "/compressed"


def node(context: LaunchContext) -> list[Any]:
    """Return the node. Arguments that are not given leave the values of the parameter file alone."""

    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    image = value("image").removesuffix(COMPRESSED)
    transport = value("image_transport") or ("compressed" if value("image").endswith(COMPRESSED) else "")
    texts = {
        "image_transport": transport,
        "regions": "detections" if value("detections") else "",
        "live": value("live"),
    }
    # Without a type, launch would convert some texts to numbers, dates or lists.
    given: dict[str, Any] = {name: ParameterValue(text, value_type=str) for name, text in texts.items() if text}
    given |= {name: is_true(value(name)) for name in ("use_sim_time", "autostart") if value(name)}
    # RViz and image_transport look for the calibration there as well: beside the image, in its namespace.
    camera_info = value("camera_info") or "/".join([*image.split("/")[:-1], "camera_info"])
    config = PathJoinSubstitution([FindPackageShare("explain_cnn_ros"), "config"])
    return [
        Node(
            package="explain_cnn_ros",
            executable="explain_node",
            namespace=value("namespace"),
            name=value("name"),
            output="screen",
            respawn=is_true(value("respawn")),
            respawn_delay=2.0,
            # The variable is set for this node only, because other launch files may include this one.
            additional_env=dds_environment(value("dds_profile"), PathJoinSubstitution([config, "fastdds.xml"])),
            parameters=[
                existing_file("params_file", value("params_file")) or PathJoinSubstitution([config, "explain.yaml"]),
                *([given] if given else []),
            ],
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
                choices=["", *BOOLEANS],
                description="Whether the node takes the time from /clock. Default: the value in params_file.",
            ),
            DeclareLaunchArgument(
                "autostart",
                default_value="",
                choices=["", *BOOLEANS],
                description="Whether the node configures and activates itself at the start. Default: the value in "
                "params_file.",
            ),
            DeclareLaunchArgument(
                "respawn",
                default_value="false",
                choices=[*BOOLEANS],
                description="Whether the node is started again, after 2 s, if its process ends.",
            ),
            DeclareLaunchArgument(
                "dds_profile",
                default_value="",
                description="Fast DDS profile with enough memory for images. The camera's process needs it as well. "
                "Default: config/fastdds.xml of this package, or what the environment chooses.",
            ),
            DeclareLaunchArgument(
                "log_level",
                default_value="info",
                choices=["debug", "info", "warn", "error", "fatal"],
                description="Log level of the node.",
            ),
            OpaqueFunction(function=node),
        ]
    )
