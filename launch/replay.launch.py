"""Starts the node, plays a recording to it, and optionally starts RViz.

ros2 launch explain_cnn_ros replay.launch.py bag:=/path/to/bag image:=/camera/image_raw rviz:=true
"""

from launch.actions import DeclareLaunchArgument, EmitEvent, IncludeLaunchDescription, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Return the launch arguments, the player, the node and RViz."""
    share = FindPackageShare("explain_cnn_ros")
    player = Node(
        package="explain_cnn_ros",
        executable="play_bag",
        output="screen",
        arguments=[
            LaunchConfiguration("bag"),
            "--rate",
            LaunchConfiguration("rate"),
            "--wait-for-subscribers",
            "30",
            "--clock",
        ],
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 recording: a folder, or an .mcap or .db3 file."),
            DeclareLaunchArgument("rate", default_value="1.0", description="Speed; 1 is as recorded."),
            DeclareLaunchArgument(
                "image", default_value="/camera/image_raw", description="Image topic, without /compressed."
            ),
            DeclareLaunchArgument(
                "image_transport",
                default_value="compressed",
                choices=["raw", "compressed"],
                description="Whether the recording contains the topic itself, or with the suffix /compressed.",
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([share, "config", "explain.yaml"]),
                description="YAML file with the parameters of the node.",
            ),
            DeclareLaunchArgument(
                "rviz", default_value="false", choices=["true", "false"], description="Whether RViz is started."
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource([PathJoinSubstitution([share, "launch", "explain.launch.py"])]),
                launch_arguments={
                    "image": LaunchConfiguration("image"),
                    "image_transport": LaunchConfiguration("image_transport"),
                    "params_file": LaunchConfiguration("params_file"),
                    "use_sim_time": "true",
                }.items(),
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", PathJoinSubstitution([share, "rviz", "explain.rviz"])],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
            player,
            RegisterEventHandler(
                OnProcessExit(
                    target_action=player, on_exit=[EmitEvent(event=Shutdown(reason="the recording has ended"))]
                )
            ),
        ]
    )
