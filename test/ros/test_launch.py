"""The launch files, where launch is installed; what they refer to, everywhere."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib.util
import re
import struct
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.bags.reader import BagReader

ROOT = Path(__file__).parents[2]

#: The module and class names that the launch files import.
LAUNCH_MODULES = (
    "launch",
    "launch.actions",
    "launch.conditions",
    "launch.event_handlers",
    "launch.events",
    "launch.launch_description_sources",
    "launch.substitutions",
    "launch_ros",
    "launch_ros.actions",
    "launch_ros.parameter_descriptions",
    "launch_ros.substitutions",
)

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


def test_rviz_shows_the_overlay_large():
    """The stored layout has the panels of the configuration, and the overlay has most of the window."""
    configuration = yaml.safe_load((ROOT / "rviz/explain.rviz").read_text())
    geometry = configuration["Window Geometry"]
    state = bytes.fromhex(geometry["QMainWindow State"])
    # Qt's format: a version, 0xfd, the number of areas with panels, and for each area its side and its size.
    magic, version, marker, areas = struct.unpack_from(">IIBI", state)
    assert (magic, version, marker, areas) == (0xFF, 0, 0xFD, 2)
    side, width, height = struct.unpack_from(">III", state, 13)
    assert side == 0, "left"
    assert width > 0.6 * geometry["Width"]
    assert height > 0.8 * geometry["Height"]
    # A panel is 0xfb, the length of its name in bytes, and its name; the first one is on the left.
    names = [
        state[match.end() : match.end() + int.from_bytes(match.group(1), "big")].decode("utf-16-be")
        for match in re.finditer(rb"\xfb(\x00\x00\x00[\x02-\xff])", state, re.DOTALL)
    ]
    displays = [display["Name"] for display in configuration["Visualization Manager"]["Displays"]]
    assert names[0] == displays[0] == "Explanation"
    panels = [panel["Name"] for panel in configuration["Panels"]]
    assert {*names} == {"Explanation", "Camera", "Displays"} <= {*displays, *panels} & {*geometry}
    # RViz leaves these undefined if they are missing.
    assert geometry["Hide Left Dock"] is geometry["Hide Right Dock"] is False


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_launch_accepts_the_file(path):
    pytest.importorskip("launch_ros", reason="launch and launch_ros come with ROS 2 from apt only")
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchContext

    description = PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())
    assert {argument.name for argument in description.get_launch_arguments()}


@dataclasses.dataclass
class Call:
    """A call of a class of launch, in a description that is loaded without launch."""

    kind: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Description:
    """The description of a launch file, and the values of its arguments.

    launch itself is replaced by classes that record their arguments, so that the description can be looked at where it
    is not installed. Substitutions are evaluated as launch documents them.
    """

    def __init__(self, path: Path, given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        for name in LAUNCH_MODULES:
            module = types.ModuleType(name)
            module.__getattr__ = lambda kind: lambda *args, **kwargs: Call(kind, args, kwargs)
            monkeypatch.setitem(sys.modules, name, module)
        spec = importlib.util.spec_from_file_location("launch_file", path)
        assert spec is not None
        assert spec.loader is not None
        file = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(file)
        self.actions: list[Call] = file.generate_launch_description().args[0]
        self.values: dict[str, str] = {}
        for action in self.actions:
            if action.kind == "DeclareLaunchArgument":
                (name,) = action.args
                self.values[name] = given.get(name) or self.text(action.kwargs.get("default_value", ""))

    def of(self, kind: str) -> list[Call]:
        return [action for action in self.actions if action.kind == kind]

    def text(self, value: Any) -> str:
        """Evaluate substitutions."""
        if isinstance(value, list | tuple):
            return "".join(map(self.text, value))
        if not isinstance(value, Call):
            return str(value)
        evaluate: dict[str, Callable[..., str]] = {
            "LaunchConfiguration": lambda name: self.values[name],
            "PythonExpression": lambda parts: str(builtins.eval(self.text(parts), {})),
            "PathJoinSubstitution": lambda parts: "/".join(map(self.text, parts)),
            "FindPackageShare": lambda package: f"share/{package}",
            "EnvironmentVariable": lambda name: "",
        }
        return evaluate[value.kind](*value.args)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "camera_info"),
        ({"image": "image_raw"}, "camera_info"),
        ({"image": "/image_raw"}, "/camera_info"),
        ({"image": "/camera/image_raw"}, "/camera/camera_info"),
        ({"image": "camera/color/image_raw"}, "camera/color/camera_info"),
        ({"image": "~/image"}, "~/camera_info"),
        ({"image": "/camera/image_raw", "camera_info": "/calibration"}, "/calibration"),
    ],
)
def test_the_calibration_is_beside_the_image(given, expected, monkeypatch):
    description = Description(ROOT / "launch/explain.launch.py", given, monkeypatch)
    (node,) = description.of("Node")
    remappings = {name: description.text(topic) for name, topic in node.kwargs["remappings"]}
    image = given.get("image", "image")
    assert remappings == {"image": image, "image/compressed": f"{image}/compressed", "camera_info": expected}


def test_a_replay_of_the_sample_has_images_and_their_calibration(monkeypatch):
    """Without arguments besides the recording, the node listens to topics that the recording has."""
    replay = Description(ROOT / "launch/replay.launch.py", {"bag": "sample/street"}, monkeypatch)
    (include,) = replay.of("IncludeLaunchDescription")
    passed = {name: replay.text(value) for name, value in include.kwargs["launch_arguments"]}
    assert "camera_info" not in passed
    description = Description(ROOT / "launch/explain.launch.py", passed, monkeypatch)
    (node,) = description.of("Node")
    remappings = {name: description.text(topic) for name, topic in node.kwargs["remappings"]}
    assert passed["image_transport"] == "compressed"
    with BagReader(ROOT / "sample/street") as bag:
        types_of = {topic.name: topic.type for topic in bag.topics}
    assert types_of[remappings["image/compressed"]] == "sensor_msgs/msg/CompressedImage"
    assert types_of[remappings["camera_info"]] == "sensor_msgs/msg/CameraInfo"
    # The player plays all of them.
    assert not any("--topics" in call.kwargs["arguments"] for call in replay.of("Node") if "arguments" in call.kwargs)
