"""Starts the node, plays a recording to it, and optionally starts RViz.

ros2 launch explain_cnn_ros replay.launch.py bag:=/path/to/bag rviz:=true
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

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

from explain_cnn_ros.ros.launching import BOOLEANS, dds_environment, existing_file, is_true
from launch import LaunchContext, LaunchDescription

COMPRESSED = "/compressed"

#: Image topic of a recording that cannot be read here. The player says what is wrong with it.
IMAGE = "/camera/image_raw"

#: Maximum time that the player waits for a subscriber, in seconds. The node subscribes when its network is loaded.
PATIENCE = 120

#: Topic of the diagnostics. The other topics of the node begin with its name.
DIAGNOSTICS = "/diagnostics"

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


class Recorded(NamedTuple):
    """The topics of a recording, and the image topic that is replayed.

    Attributes:
        image: The image topic that is replayed, without /compressed.
        transport: "raw" or "compressed". If the recording does not tell, it is "compressed".
        topics: Names of all topics; empty if the recording cannot be read here.
    """

    image: str
    transport: str
    topics: list[str]


def read_recording(bag: str, image: str) -> Recorded:
    """Read which topics a recording has.

    Args:
        bag: Path of the recording.
        image: The image topic; "" for the one that `analyze` prefers as well.
    """
    unknown = Recorded((image or IMAGE).removesuffix(COMPRESSED), "compressed", [])
    try:
        from explain_cnn_ros.bags.reader import BagError, BagReader
    except ImportError:  # the packages that read recordings are installed by pip
        return unknown
    try:
        with BagReader(bag) as reader:
            every = sorted({topic.name for topic in reader.topics if topic.count})
            unknown = unknown._replace(topics=every)
            topics = [topic.name for topic in reader.image_topics]
            chosen = image or reader.image_topic().name
    except (BagError, OSError):
        return unknown
    name = "/" + chosen.lstrip("/")  # as a launch argument, it may be relative
    raw = name in topics and name + COMPRESSED not in topics and not name.endswith(COMPRESSED)
    return Recorded(chosen.removesuffix(COMPRESSED), "raw" if raw else "compressed", every)


def played_topics(recorded: list[str], full_name: str) -> list[str]:
    """Return the topics to play if the recording has results of the node, which it publishes anew; otherwise none.

    Args:
        recorded: Names of all topics of the recording.
        full_name: Name of the node, with its namespace.
    """
    others = [topic for topic in recorded if not topic.startswith(f"{full_name}/")]
    return [topic for topic in others if topic != DIAGNOSTICS] if len(others) < len(recorded) else []


def replay(context: LaunchContext) -> list[Any]:
    """Return the node, the player and RViz. Arguments that are not given leave the values of params_file alone."""

    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    params_file = existing_file("params_file", value("params_file"))

    def chosen(name: str, default: str) -> str:
        return value(name) or file_value(params_file, name) or default

    share = FindPackageShare("explain_cnn_ros")
    environment = dds_environment(value("dds_profile"), PathJoinSubstitution([share, "config", "fastdds.xml"]))
    simulated = is_true(chosen("use_sim_time", "true"))
    bag = os.path.expanduser(value("bag"))
    recorded = read_recording(bag, value("image"))
    image, transport = recorded.image, chosen("image_transport", recorded.transport)
    namespace = f"/{value('namespace').strip('/')}".rstrip("/")
    full_name = f"{namespace}/{value('name')}"
    topics = played_topics(recorded.topics, full_name)
    # The player does not wait for a topic that it does not play, for instance of a recording that cannot be read here.
    images = (image if image.startswith("/") else f"{namespace}/{image}") + (COMPRESSED if transport != "raw" else "")
    awaited = [images] if images in (topics or recorded.topics) else []
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource([PathJoinSubstitution([share, "launch", "explain.launch.py"])]),
        launch_arguments={
            "image": image,
            "image_transport": transport,
            "use_sim_time": str(simulated).lower(),
        }.items(),
    )
    player = Node(
        package="explain_cnn_ros",
        executable="play_bag",
        output="screen",
        additional_env=environment,
        arguments=[
            bag,
            *("--rate", value("rate")),
            *("--wait-for-subscribers", str(PATIENCE)),
            *(["--wait-for-topics", *awaited] if awaited else []),
            *(["--topics", *topics] if topics else []),
            *(["--clock"] if simulated else []),
        ],
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        additional_env=environment,
        arguments=["-d", PathJoinSubstitution([share, "rviz", "explain.rviz"])],
        parameters=[{"use_sim_time": simulated}],
        # The configuration names the topics of a node with the default name.
        remappings=[(f"/explain_node/{topic}", f"{full_name}/{topic}") for topic in SHOWN],
    )

    def on_exit(event: ProcessExited, context: LaunchContext) -> Any:
        if context.is_shutdown or (is_true(value("rviz")) and event.action is rviz):
            return None
        if event.action is player and event.returncode == 0:
            ended = "the recording has ended"
            return [LogInfo(msg=ended), EmitEvent(event=Shutdown(reason=ended))]
        # Launch itself then shuts everything down, and its exit status is 1.
        raise RuntimeError(
            f"the replay failed: {event.process_name} ended with status {event.returncode}, see its messages above"
        )

    said = [f"the node takes the {transport} images of {image}"]
    if topics:
        left_out = len(recorded.topics) - len(topics)
        said.append(f"the player leaves out {left_out} topics of {full_name} in the recording")
    return [
        *(LogInfo(msg=text) for text in said),
        node,
        *([rviz] if is_true(value("rviz")) else []),
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
                choices=["", *BOOLEANS],
                description="Whether the node and RViz take the time from the recording, by /clock. Default: the value "
                "in params_file, or true.",
            ),
            DeclareLaunchArgument(
                "dds_profile",
                default_value="",
                description="Fast DDS profile with enough memory for images, for all of them. Default: "
                "config/fastdds.xml of this package, or what the environment chooses.",
            ),
            DeclareLaunchArgument(
                "rviz", default_value="false", choices=[*BOOLEANS], description="Whether RViz is started."
            ),
            OpaqueFunction(function=replay),
        ]
    )
