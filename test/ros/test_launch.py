"""The launch files, where launch is installed; what they refer to, everywhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.bags.reader import BagReader

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))


def calls(path: Path, name: str) -> list[ast.Call]:
    """Calls of a name in a Python file."""
    tree = ast.parse(path.read_text())
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_arguments_are_described_and_used(path):
    declared = {call.args[0].value: call for call in calls(path, "DeclareLaunchArgument")}
    used = {call.args[0].value for call in calls(path, "LaunchConfiguration")}
    for name, call in declared.items():
        assert any(keyword.arg == "description" for keyword in call.keywords), name
    conditions = {"rviz"}
    assert used | conditions >= set(declared)
    assert used <= set(declared)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_executables_exist(path):
    for call in calls(path, "Node"):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        if keywords["package"].value == "explain_cnn_ros":
            assert (ROOT / "scripts" / keywords["executable"].value).is_file()


def test_rviz_configuration_shows_what_the_node_publishes():
    configuration = yaml.safe_load((ROOT / "rviz/explain.rviz").read_text())
    displays = configuration["Visualization Manager"]["Displays"]
    topics = {display["Class"].rpartition("/")[2]: display["Topic"] for display in displays}
    assert {kind: topic["Value"] for kind, topic in topics.items()} == {
        "Image": "/explain_node/overlay",
        "Camera": "/explain_node/overlay",
        "MarkerArray": "/explain_node/markers",
    }
    # The node offers reliable; RViz asks for what it is told.
    assert all(topic["Reliability Policy"] == "Reliable" for topic in topics.values())
    # Without TF, RViz shows what is in its fixed frame: the sample's camera's.
    with BagReader(ROOT / "sample/street") as bag:
        message = next(bag.messages(["/camera/camera_info"]))
        frame_id = get_typestore(Stores.ROS2_JAZZY).deserialize_cdr(message.data, message.type).header.frame_id
    assert configuration["Visualization Manager"]["Global Options"]["Fixed Frame"] == frame_id


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_launch_accepts_the_file(path):
    pytest.importorskip("launch_ros", reason="launch and launch_ros come with ROS 2 from apt only")
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchContext

    description = PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())
    assert {argument.name for argument in description.get_launch_arguments()}
