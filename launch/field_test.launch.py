"""Starts the node and the black box for a field test. Each is started again if its process ends.

ros2 launch explain_cnn_ros field_test.launch.py image:=/camera/image_raw/compressed folder:=~/field_test
"""

from typing import Any

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from explain_cnn_ros.ros.launching import BOOLEANS, dds_environment, existing_file, is_true
from launch import LaunchContext, LaunchDescription

COMPRESSED = "/compressed"

#: Arguments that are parameters of the black box of the same name: texts, and numbers of seconds.
TEXTS = ("folder", "topics", "trigger_topics", "actions")
SECONDS = ("before", "after")


def field_test(context: LaunchContext) -> list[Any]:
    """Return the node and the black box. Arguments that are not given leave the values of the parameter files alone."""

    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    share = FindPackageShare("explain_cnn_ros")
    image = value("image").removesuffix(COMPRESSED)
    transport = value("image_transport") or ("compressed" if value("image").endswith(COMPRESSED) else "")
    texts = {"node": value("name"), "image_transport": transport} | {name: value(name) for name in TEXTS}
    # Without a type, launch would convert some texts to numbers, dates or lists.
    given: dict[str, Any] = {name: ParameterValue(text, value_type=str) for name, text in texts.items() if text}
    given |= {"use_sim_time": is_true(value("use_sim_time"))} if value("use_sim_time") else {}
    given |= {name: float(value(name)) for name in SECONDS if value(name)}
    return [
        # The arguments that both files have need not be passed on.
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource([PathJoinSubstitution([share, "launch", "explain.launch.py"])]),
            launch_arguments={"image_transport": transport, "respawn": "true"}.items(),
        ),
        Node(
            package="explain_cnn_ros",
            executable="black_box",
            namespace=value("namespace"),
            name="black_box",
            output="screen",
            respawn=True,
            respawn_delay=2.0,
            additional_env=dds_environment(
                value("dds_profile"), PathJoinSubstitution([share, "config", "fastdds.xml"])
            ),
            parameters=[
                existing_file("black_box_params_file", value("black_box_params_file"))
                or PathJoinSubstitution([share, "config", "black_box.yaml"]),
                given,
            ],
            remappings=[
                ("image", image),
                ("image/compressed", image + COMPRESSED),
                ("camera_info", value("camera_info") or "/".join([*image.split("/")[:-1], "camera_info"])),
            ],
            arguments=["--ros-args", "--log-level", value("log_level")],
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the launch arguments, the node and the black box."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("image", default_value="image", description="Image topic."),
            DeclareLaunchArgument(
                "image_transport",
                default_value="",
                choices=["", "raw", "compressed"],
                description="Whether node and black box subscribe to the topic itself, or with the suffix /compressed. "
                "Default: compressed if `image` has this suffix, otherwise the values in the parameter files.",
            ),
            DeclareLaunchArgument(
                "camera_info",
                default_value="",
                description="CameraInfo topic. Default: camera_info beside the image topic.",
            ),
            DeclareLaunchArgument(
                "detections",
                default_value="",
                description="Topic of a detector's boxes. If it is given, the node decides in these boxes. Default: "
                "the value of regions in params_file.",
            ),
            DeclareLaunchArgument(
                "live",
                default_value="",
                choices=["", "none", "influence"],
                description="Whether every decision is explained live. Default: the value in params_file.",
            ),
            DeclareLaunchArgument(
                "folder",
                default_value="",
                description="Folder of the recordings. Default: the value in black_box_params_file.",
            ),
            DeclareLaunchArgument(
                "before",
                default_value="",
                description="Seconds before an event to record. Default: the value in black_box_params_file.",
            ),
            DeclareLaunchArgument(
                "after",
                default_value="",
                description="Seconds after an event to record. Default: the value in black_box_params_file.",
            ),
            DeclareLaunchArgument(
                "topics",
                default_value="",
                description="Further topics to record, separated by commas or spaces. Default: the value in "
                "black_box_params_file.",
            ),
            DeclareLaunchArgument(
                "trigger_topics",
                default_value="",
                description="Topics of std_msgs/Empty and std_msgs/Bool that trigger recordings, separated by commas "
                "or spaces. Default: the value in black_box_params_file.",
            ),
            DeclareLaunchArgument(
                "actions",
                default_value="",
                description="Actions that trigger recordings when they abort a goal, separated by commas or spaces. "
                "Default: the value in black_box_params_file.",
            ),
            DeclareLaunchArgument(
                "namespace", default_value="", description="Namespace of the node and the black box."
            ),
            DeclareLaunchArgument("name", default_value="explain_node", description="Name of the node."),
            DeclareLaunchArgument(
                "params_file",
                default_value="",
                description="YAML file with parameters of the node. Default: config/explain.yaml of this package.",
            ),
            DeclareLaunchArgument(
                "black_box_params_file",
                default_value="",
                description="YAML file with parameters of the black box. Default: config/black_box.yaml of this "
                "package.",
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="",
                choices=["", *BOOLEANS],
                description="Whether node and black box take the time from /clock. Default: the values in the "
                "parameter files.",
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
                description="Log level of the node and the black box.",
            ),
            OpaqueFunction(function=field_test),
        ]
    )
