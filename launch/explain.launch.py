"""Starts the node for a camera.

ros2 launch explain_cnn_ros explain.launch.py image:=/camera/image_raw
"""

from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Return the launch arguments and the node."""
    image = LaunchConfiguration("image")
    # RViz and image_transport look for the calibration there as well: beside the image, in its namespace.
    camera_info = PythonExpression(["'/'.join([*'", image, "'.split('/')[:-1], 'camera_info'])"])
    config = PathJoinSubstitution([FindPackageShare("explain_cnn_ros"), "config"])
    default_parameters = PathJoinSubstitution([config, "explain.yaml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("image", default_value="image", description="Image topic, without /compressed."),
            DeclareLaunchArgument(
                "image_transport",
                default_value="raw",
                choices=["raw", "compressed"],
                description="Whether the node subscribes to the topic itself, or with the suffix /compressed.",
            ),
            DeclareLaunchArgument(
                "camera_info",
                default_value=camera_info,
                description="CameraInfo topic, which the markers need; by default, camera_info beside the image topic.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
            DeclareLaunchArgument("name", default_value="explain_node", description="Name of the node."),
            DeclareLaunchArgument(
                "params_file",
                default_value=default_parameters,
                description="YAML file with the parameters of the node.",
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="false",
                choices=["true", "false"],
                description="Whether the node takes the time from /clock.",
            ),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                choices=["true", "false"],
                description="Whether the node configures and activates itself at the start.",
            ),
            DeclareLaunchArgument(
                "dds_profile",
                default_value=EnvironmentVariable(
                    "FASTRTPS_DEFAULT_PROFILES_FILE", default_value=PathJoinSubstitution([config, "fastdds.xml"])
                ),
                description="Fast DDS profile with enough memory for images. The camera's process needs it as well.",
            ),
            SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", LaunchConfiguration("dds_profile")),
            DeclareLaunchArgument(
                "log_level", default_value="info", description="Log level: debug, info, warn or error."
            ),
            Node(
                package="explain_cnn_ros",
                executable="explain_node",
                namespace=LaunchConfiguration("namespace"),
                name=LaunchConfiguration("name"),
                output="screen",
                parameters=[
                    LaunchConfiguration("params_file"),
                    {
                        "image_transport": LaunchConfiguration("image_transport"),
                        "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
                        "autostart": ParameterValue(LaunchConfiguration("autostart"), value_type=bool),
                    },
                ],
                # The remapping of a topic does not apply to topics below it: the compressed one has its own rule.
                remappings=[
                    ("image", image),
                    ("image/compressed", [image, "/compressed"]),
                    ("camera_info", LaunchConfiguration("camera_info")),
                ],
                arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            ),
        ]
    )
