"""Starts the node, plays a recording to it, and optionally starts RViz.

ros2 launch explain_cnn_ros replay.launch.py bag:=/path/to/bag rviz:=true
"""

from pathlib import Path
from typing import Any

import yaml
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

COMPRESSED = "/compressed"

#: Image topic of a recording that cannot be read here. The player says what is wrong with it.
IMAGE = "/camera/image_raw"

#: Topics of the node that rviz/explain.rviz shows, and the calibration that its Camera display looks for beside them.
SHOWN = ("overlay", "overlay/compressed", "camera_info", "markers")


def file_value(path: str, parameter: str) -> str:
    """Return the value of a parameter in a parameter file, for any node; "" if it has none or cannot be read."""
    try:
        nodes = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        found = [node["ros__parameters"][parameter] for node in nodes.values() if parameter in node["ros__parameters"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError):
        return ""  # the node names the fault of the file
    return str(found[-1]).lower() if found else ""


def recorded_images(bag: str, image: str) -> tuple[str, str]:
    """Return the image topic that a recording is replayed from, without /compressed, and its transport.

    Args:
        bag: Path of the recording.
        image: The image topic; "" for the one that `analyze` prefers as well.

    Returns:
        The topic, and "raw" or "compressed". If the recording does not tell, the transport is "compressed".
    """
    unknown = (image or IMAGE).removesuffix(COMPRESSED), "compressed"
    try:
        from explain_cnn_ros.bags.reader import BagError, BagReader
    except ImportError:  # the packages that read recordings are installed by pip
        return unknown
    try:
        with BagReader(bag) as reader:
            topics = [topic.name for topic in reader.image_topics]
            chosen = image or reader.image_topic().name
    except (BagError, OSError):
        return unknown
    name = "/" + chosen.lstrip("/")  # as a launch argument, it may be relative
    raw = name in topics and name + COMPRESSED not in topics and not name.endswith(COMPRESSED)
    return chosen.removesuffix(COMPRESSED), "raw" if raw else "compressed"


def replay(context: LaunchContext) -> list[Any]:
    """Return the node, the player and RViz. Arguments that are not given leave the values of params_file alone."""

    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    def chosen(name: str, default: str) -> str:
        return value(name) or file_value(value("params_file"), name) or default

    share = FindPackageShare("explain_cnn_ros")
    simulated = chosen("use_sim_time", "true")
    image, transport = value("image").removesuffix(COMPRESSED), chosen("image_transport", "")
    if not (image and transport):
        image, recorded = recorded_images(value("bag"), value("image"))
        transport = transport or recorded
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource([PathJoinSubstitution([share, "launch", "explain.launch.py"])]),
        launch_arguments={
            "image": image,
            "image_transport": transport,
            "use_sim_time": simulated,
        }.items(),
    )
    player = Node(
        package="explain_cnn_ros",
        executable="play_bag",
        output="screen",
        arguments=[
            value("bag"),
            *("--rate", value("rate")),
            *("--wait-for-subscribers", "30"),
            *(["--clock"] if simulated == "true" else []),
        ],
    )
    full_name = "".join(f"/{part}" for part in (value("namespace").strip("/"), value("name")) if part)
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([share, "rviz", "explain.rviz"])],
        parameters=[{"use_sim_time": simulated == "true"}],
        # The configuration names the topics of a node with the default name.
        remappings=[(f"/explain_node/{topic}", f"{full_name}/{topic}") for topic in SHOWN],
    )

    def on_exit(event: ProcessExited, context: LaunchContext) -> Any:
        if context.is_shutdown or (value("rviz") == "true" and event.action is rviz):
            return None
        if event.action is player and event.returncode == 0:
            ended = "the recording has ended"
            return [LogInfo(msg=ended), EmitEvent(event=Shutdown(reason=ended))]
        # Launch itself then shuts everything down, and its exit status is 1.
        raise RuntimeError(
            f"the replay failed: {event.process_name} ended with status {event.returncode}, see its messages above"
        )

    return [
        LogInfo(msg=f"the node takes the {transport} images of {image}"),
        node,
        *([rviz] if value("rviz") == "true" else []),
        player,
        RegisterEventHandler(OnProcessExit(on_exit=on_exit)),
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the launch arguments, the player, the node and RViz."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 recording: a folder, or an .mcap or .db3 file."),
            DeclareLaunchArgument("rate", default_value="1.0", description="Speed; 1 is as recorded."),
            DeclareLaunchArgument(
                "image",
                default_value="",
                description="Image topic. Default: an image topic of the recording; colour is preferred to grey and "
                "depth.",
            ),
            DeclareLaunchArgument(
                "image_transport",
                default_value="",
                choices=["", "raw", "compressed"],
                description="Whether the node takes the topic itself, or with the suffix /compressed. Default: the "
                "value in params_file, or what the recording contains.",
            ),
            DeclareLaunchArgument(
                "detections",
                default_value="",
                description="Topic of a detector's boxes in the recording. If it is given, the parameter regions is "
                "detections. Default: the value of regions in params_file.",
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
                description="Whether the node and RViz take the time from the recording, by /clock. Default: the value "
                "in params_file, or true.",
            ),
            DeclareLaunchArgument(
                "rviz", default_value="false", choices=["true", "false"], description="Whether RViz is started."
            ),
            OpaqueFunction(function=replay),
        ]
    )
