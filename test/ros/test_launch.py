"""The launch files, where launch is installed; what they refer to, everywhere."""

from __future__ import annotations

import ast
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
from explain_cnn_ros.ros import launching

ROOT = Path(__file__).parents[2]

#: The module and class names that the launch files import.
LAUNCH_MODULES = (
    "launch",
    "launch.actions",
    "launch.event_handlers",
    "launch.events",
    "launch.events.process",
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

    def perform(self, context: Description) -> str:
        return context.text(self)


class Description:
    """The description of a launch file, and the values of its arguments.

    launch itself is replaced by classes that record their arguments, so that the description can be looked at where it
    is not installed. Substitutions are evaluated as launch documents them. The description is also the context of its
    functions.
    """

    is_shutdown = False

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
        self.values: dict[str, str] = dict(given)
        self.used: set[str] = set()
        for action in list(self.actions):
            if action.kind == "DeclareLaunchArgument":
                (name,) = action.args
                self.values.setdefault(name, self.text(action.kwargs.get("default_value", "")))
                # An action that includes the file may have set it.
                assert self.values[name] in action.kwargs.get("choices", [self.values[name]]), name
            if action.kind == "OpaqueFunction":
                self.actions += action.kwargs["function"](self)

    def of(self, kind: str) -> list[Call]:
        return [action for action in self.actions if action.kind == kind]

    def text(self, value: Any) -> str:
        """Evaluate substitutions."""
        if isinstance(value, list | tuple):
            return "".join(map(self.text, value))
        if not isinstance(value, Call):
            return str(value)
        evaluate: dict[str, Callable[..., str]] = {
            "LaunchConfiguration": self._value,
            "PathJoinSubstitution": lambda parts: "/".join(map(self.text, parts)),
            "FindPackageShare": lambda package: f"share/{package}",
        }
        return evaluate[value.kind](*value.args)

    def _value(self, name: str) -> str:
        self.used.add(name)
        return self.values[name]


EXPLAIN, REPLAY = ROOT / "launch/explain.launch.py", ROOT / "launch/replay.launch.py"
FIELD_TEST = ROOT / "launch/field_test.launch.py"


def explained(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return the node of explain.launch.py."""
    (node,) = Description(EXPLAIN, given, monkeypatch).of("Node")
    return node


def replayed(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Description:
    return Description(REPLAY, {"bag": "sample/street", **given}, monkeypatch)


def in_the_field(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[Call, Call]:
    """Return the node and the black box of a field test."""
    description = Description(FIELD_TEST, given, monkeypatch)
    (black_box,) = description.of("Node")
    return node_of(description, monkeypatch), black_box


def node_of(replay: Description, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return the node that a replay starts. The included file sees all values of the replay."""
    (include,) = replay.of("IncludeLaunchDescription")
    passed = {name: replay.text(value) for name, value in include.kwargs["launch_arguments"]}
    return explained(replay.values | passed, monkeypatch)


def remappings(node: Call) -> dict[str, str]:
    return dict(node.kwargs["remappings"])


def parameters_of(node: Call) -> list[Any]:
    """Return the parameter files and parameters of a node. launch takes a text for YAML unless its type is given."""

    def value(given: Any) -> Any:
        if isinstance(given, Call):
            assert given.kind == "ParameterValue"
            return given.kwargs["value_type"](given.args[0])
        return yaml.safe_load(given) if isinstance(given, str) else given

    return [
        {name: value(given) for name, given in entry.items()} if isinstance(entry, dict) else entry
        for entry in node.kwargs["parameters"]
    ]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has chosen no transports of Fast DDS."""
    for name in launching.DDS_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of the user, with a parameter file and a profile."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("my.yaml", "my.xml"):
        (tmp_path / name).touch()
    return tmp_path


def test_arguments_are_described_and_used(monkeypatch):
    replay = replayed({"rviz": "true"}, monkeypatch)
    explain = Description(EXPLAIN, replay.values, monkeypatch)
    test = Description(FIELD_TEST, {}, monkeypatch)
    included = Description(EXPLAIN, test.values, monkeypatch)
    for argument in test.of("DeclareLaunchArgument"):
        assert argument.kwargs["description"].endswith("."), argument.args
        assert argument.args[0] in test.used | included.used
    for description in (replay, explain):
        for argument in description.of("DeclareLaunchArgument"):
            assert argument.kwargs["description"].endswith("."), argument.args
            assert argument.args[0] in replay.used | explain.used
    assert explain.used == {argument.args[0] for argument in explain.of("DeclareLaunchArgument")}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "camera_info"),
        ({"image": "image_raw"}, "camera_info"),
        ({"image": "/image_raw"}, "/camera_info"),
        ({"image": "/camera/image_raw"}, "/camera/camera_info"),
        ({"image": "camera/color/image_raw"}, "camera/color/camera_info"),
        ({"image": "~/image"}, "~/camera_info"),
        ({"image": "/camera/image_raw/compressed"}, "/camera/camera_info"),
        ({"image": "/camera/image_raw", "camera_info": "/calibration"}, "/calibration"),
    ],
)
def test_the_calibration_is_beside_the_image(given, expected, monkeypatch):
    image = given.get("image", "image").removesuffix("/compressed")
    assert remappings(explained(given, monkeypatch)) == {
        "image": image,
        "image/compressed": f"{image}/compressed",
        "camera_info": expected,
    }


@pytest.mark.parametrize(
    ("given", "parameters"),
    [
        ({}, ["share/explain_cnn_ros/config/explain.yaml"]),
        ({"params_file": "~/my.yaml"}, ["my.yaml"]),
        ({"params_file": "~/my.yaml", "image_transport": "raw"}, ["my.yaml", {"image_transport": "raw"}]),
        ({"params_file": "~/my.yaml", "autostart": "false"}, ["my.yaml", {"autostart": False}]),
        ({"params_file": "~/my.yaml", "use_sim_time": "true"}, ["my.yaml", {"use_sim_time": True}]),
        ({"params_file": "~/my.yaml", "image": "/a/compressed"}, ["my.yaml", {"image_transport": "compressed"}]),
        ({"params_file": "~/my.yaml", "detections": "/yolo/boxes"}, ["my.yaml", {"regions": "detections"}]),
        ({"params_file": "~/my.yaml", "live": "influence"}, ["my.yaml", {"live": "influence"}]),
    ],
)
def test_arguments_that_are_not_given_leave_the_parameter_file_alone(given, parameters, home, monkeypatch):
    description = Description(EXPLAIN, given, monkeypatch)
    (node,) = description.of("Node")
    found = [p if isinstance(p, dict) else description.text(p) for p in parameters_of(node)]
    assert [p if isinstance(p, dict) else p.removeprefix(f"{home}/") for p in found] == parameters


@pytest.mark.parametrize(
    ("launched", "name"),
    [
        (explained, "params_file"),
        (explained, "dds_profile"),
        (replayed, "params_file"),
        (in_the_field, "params_file"),
        (in_the_field, "black_box_params_file"),
    ],
)
def test_a_file_that_does_not_exist_is_named(launched, name, home, monkeypatch):
    """launch itself starts the node with other parameters: with the defaults in the code."""
    with pytest.raises(FileNotFoundError, match=f"{name}: there is no file {home}/robot.yaml"):
        launched({name: "~/robot.yaml"}, monkeypatch)


def with_profile(description: Description) -> list[str]:
    """Return the Fast DDS profile of each process that a launch file starts; "" for none."""
    environments = [node.kwargs["additional_env"] for node in description.of("Node")]
    return [description.text(environment.get("FASTRTPS_DEFAULT_PROFILES_FILE", "")) for environment in environments]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_profile_of_fast_dds_does_not_replace_the_choice_of_the_user(path, home, monkeypatch):
    """A container without the host's shared memory needs UDP."""

    def profiles(given: dict[str, str]) -> set[str]:
        return {*with_profile(Description(path, {"bag": "", "rviz": "true", **given}, monkeypatch))}

    assert not Description(path, {"bag": ""}, monkeypatch).of("SetEnvironmentVariable"), "it is for all later nodes"
    assert profiles({}) == {"share/explain_cnn_ros/config/fastdds.xml"}
    for name in launching.DDS_VARIABLES:
        with monkeypatch.context() as chosen:
            chosen.setenv(name, "UDPv4")
            assert profiles({}) == {""}
            assert profiles({"dds_profile": "~/my.xml"}) == {f"{home}/my.xml"}


@pytest.mark.parametrize(("word", "value"), [("True", True), ("true", True), ("False", False), ("false", False)])
def test_what_is_true_or_false_may_begin_with_a_capital(word, value, monkeypatch):
    """The launch files of others set use_sim_time to True, also for those that they include."""
    node = explained({"use_sim_time": word, "autostart": word, "respawn": word}, monkeypatch)
    assert parameters_of(node)[1] == {"use_sim_time": value, "autostart": value}
    assert node.kwargs["respawn"] is value
    replay = replayed({"use_sim_time": word, "rviz": word}, monkeypatch)
    assert parameters_of(node_of(replay, monkeypatch))[1]["use_sim_time"] is value
    *_, player = nodes = replay.of("Node")
    assert ("--clock" in player.kwargs["arguments"], len(nodes)) == (value, 1 + value)
    node, black_box = in_the_field({"use_sim_time": word}, monkeypatch)
    assert parameters_of(node)[1]["use_sim_time"] is parameters_of(black_box)[1]["use_sim_time"] is value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_arguments_with_few_values_refuse_others(path, monkeypatch):
    """launch itself compares values with the choices; without them, a node ends with a traceback."""
    arguments = {a.args[0]: a.kwargs for a in Description(path, {"bag": ""}, monkeypatch).of("DeclareLaunchArgument")}
    few = {"image_transport", "use_sim_time", "autostart", "log_level", "rviz", "live", "respawn"}
    for name in few & set(arguments):
        assert arguments[name]["default_value"] in arguments[name]["choices"]
    if path == EXPLAIN:
        assert arguments["log_level"]["choices"] == ["debug", "info", "warn", "error", "fatal"]


@pytest.mark.parametrize(
    "launched",
    [explained, lambda g, m: node_of(replayed(g, m), m), lambda g, m: in_the_field(g, m)[0]],
    ids=["explain", "replay", "field_test"],
)
def test_a_topic_of_detections_is_remapped(launched, monkeypatch):
    assert remappings(launched({"detections": "/yolo/boxes"}, monkeypatch))["detections"] == "/yolo/boxes"
    assert "detections" not in remappings(launched({}, monkeypatch))


def test_a_replay_of_the_sample_has_images_and_their_calibration(monkeypatch):
    """Without arguments besides the recording, the node listens to topics that the recording has."""
    replay = replayed({}, monkeypatch)
    node = node_of(replay, monkeypatch)
    assert parameters_of(node)[1] == {"image_transport": "compressed", "use_sim_time": True}
    with BagReader(ROOT / "sample/street") as bag:
        types_of = {topic.name: topic.type for topic in bag.topics}
    assert types_of[remappings(node)["image/compressed"]] == "sensor_msgs/msg/CompressedImage"
    assert types_of[remappings(node)["camera_info"]] == "sensor_msgs/msg/CameraInfo"
    # The player plays all of them.
    (player,) = replay.of("Node")
    assert player.kwargs["arguments"] == [
        *("sample/street", "--rate", "1.0", "--wait-for-subscribers", "120"),
        *("--wait-for-topics", "/camera/image_raw/compressed", "--clock"),
    ]


@pytest.mark.parametrize(
    ("given", "played", "said"),
    [
        ({}, ["/z/image"], ["the player leaves out 2 topics of /explain_node in the recording"]),
        ({"name": "other"}, [], []),
        ({"namespace": "robot"}, [], []),
    ],
)
def test_a_replay_leaves_out_recorded_results_of_the_node(given, played, said, kit, tmp_path, monkeypatch):
    """The node publishes its own ones, on the same topics and with the same stamps."""
    others = [kit.string(0, topic) for topic in ("/explain_node/classification", "/diagnostics")]
    kit.write(tmp_path / "bag", [kit.raw(0, "/z/image", "rgb8"), *others])
    replay = replayed({"bag": str(tmp_path / "bag"), **given}, monkeypatch)
    (player,) = replay.of("Node")
    arguments = player.kwargs["arguments"]
    assert ("--topics" in arguments) == bool(played)
    if played:
        begin = arguments.index("--topics") + 1
        assert arguments[begin : begin + len(played) + 1] == [*played, "--clock"]
    assert [info.kwargs["msg"] for info in replay.of("LogInfo")][1:] == said


@pytest.mark.parametrize(
    ("given", "awaited"),
    [
        ({}, ["/front/image"]),
        ({"image_transport": "compressed"}, []),
        ({"image": "front/image"}, ["/front/image"]),
        ({"image": "front/image", "namespace": "robot"}, []),
        ({"image": "/elsewhere"}, []),
    ],
)
def test_the_player_waits_for_the_node(given, awaited, kit, tmp_path, monkeypatch):
    """The node subscribes to the images when its network is loaded, and to the calibration before."""
    kit.write(tmp_path / "bag", [kit.raw(0, "/front/image", "rgb8"), kit.string(0)])
    (player,) = replayed({"bag": str(tmp_path / "bag"), **given}, monkeypatch).of("Node")
    arguments = player.kwargs["arguments"]
    assert arguments[5:-1] == (["--wait-for-topics", *awaited] if awaited else [])


def test_a_recording_in_the_home_folder(kit, home, monkeypatch):
    kit.write(home / "bag", [kit.raw(0, "/front/image", "rgb8")])
    replay = replayed({"bag": "~/bag"}, monkeypatch)
    assert remappings(node_of(replay, monkeypatch))["image"] == "/front/image"
    assert replay.of("Node")[0].kwargs["arguments"][0] == f"{home}/bag"


@pytest.mark.parametrize(
    ("topics", "given", "image", "transport"),
    [
        (["/front/image_raw"], {}, "/front/image_raw", "raw"),
        (["/front/image_raw/compressed"], {}, "/front/image_raw", "compressed"),
        (["/front/image", "/rear/image"], {"image": "/rear/image"}, "/rear/image", "raw"),
        (["/front/image", "/rear/image/compressed"], {"image": "/rear/image"}, "/rear/image", "compressed"),
        (["/front/image", "/front/image/compressed"], {"image": "/front/image"}, "/front/image", "compressed"),
        (["/front/image"], {"image_transport": "compressed"}, "/front/image", "compressed"),
        (["/front/image"], {"image": "/elsewhere"}, "/elsewhere", "compressed"),
        (["/front/image"], {"image": "front/image"}, "front/image", "raw"),
        (["/front/image"], {"image": "/front/image/compressed", "image_transport": "raw"}, "/front/image", "raw"),
        (["/z/image", "/explain_node/overlay"], {}, "/z/image", "raw"),
        ([], {}, "/camera/image_raw", "compressed"),
    ],
)
def test_a_replay_takes_the_images_that_the_recording_has(topics, given, image, transport, kit, tmp_path, monkeypatch):
    folder = tmp_path / "bag"
    if topics:
        kit.write(folder, [kit.image(0, t) if t.endswith("/compressed") else kit.raw(0, t, "rgb8") for t in topics])
    replay = replayed({"bag": str(folder), **given}, monkeypatch)
    node = node_of(replay, monkeypatch)
    assert remappings(node)["image"] == image
    assert parameters_of(node)[1]["image_transport"] == transport
    assert replay.of("LogInfo")[0].kwargs["msg"] == f"the node takes the {transport} images of {image}"


FILE = """
/**:
  ros__parameters:
    threshold: 0.5
    image_transport: raw
explain_node:
  ros__parameters:
    use_sim_time: false
"""


@pytest.mark.parametrize(
    ("given", "text", "transport", "simulated"),
    [
        ({}, FILE, "raw", False),
        ({"image_transport": "compressed", "use_sim_time": "true"}, FILE, "compressed", True),
        ({}, "/**: {ros__parameters: {threshold: 0.5}}", "compressed", True),
        ({}, "neither: a parameter file", "compressed", True),
        ({}, "- [", "compressed", True),
    ],
)
def test_a_replay_obeys_its_arguments_then_the_parameter_file(given, text, transport, simulated, tmp_path, monkeypatch):
    """The node, RViz and the player agree on the time."""
    file = tmp_path / "parameters.yaml"
    file.write_text(text)
    replay = replayed({"params_file": str(file), "rviz": "true", **given}, monkeypatch)
    node = node_of(replay, monkeypatch)
    assert parameters_of(node) == [str(file), {"image_transport": transport, "use_sim_time": simulated}]
    rviz, player = replay.of("Node")
    assert rviz.kwargs["package"] == "rviz2"
    assert rviz.kwargs["parameters"] == [{"use_sim_time": simulated}]
    assert ("--clock" in player.kwargs["arguments"]) == simulated


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ({}, "/explain_node"),
        ({"namespace": "front", "name": "eyes"}, "/front/eyes"),
        ({"namespace": "/robot/front"}, "/robot/front/explain_node"),
    ],
)
def test_rviz_shows_the_topics_of_a_node_with_any_name(given, prefix, monkeypatch):
    rviz, _ = replayed({"rviz": "true", **given}, monkeypatch).of("Node")
    configuration = yaml.safe_load((ROOT / "rviz/explain.rviz").read_text())
    shown = {display["Topic"]["Value"] for display in configuration["Visualization Manager"]["Displays"]}
    # The Camera display takes the calibration from beside its picture.
    for topic in {*shown, "/explain_node/camera_info"}:
        assert remappings(rviz)[topic] == topic.replace("/explain_node", prefix)


def test_a_failed_replay_is_an_error(monkeypatch):
    replay = replayed({"rviz": "true"}, monkeypatch)
    rviz, player = replay.of("Node")
    (registered,) = replay.of("RegisterEventHandler")
    on_exit = registered.args[0].kwargs["on_exit"]

    def exited(action: Call | None, status: int) -> Any:
        event = types.SimpleNamespace(action=action, returncode=status, process_name="some_process-1")
        return on_exit(event, replay)

    assert [action.kind for action in exited(player, 0)] == ["LogInfo", "EmitEvent"]
    assert exited(rviz, 1) is None, "nobody has to look"
    # launch ends with status 1 after an exception.
    for action, status in ((player, 1), (None, -11), (None, 0)):
        with pytest.raises(RuntimeError, match=f"the replay failed: some_process-1 ended with status {status}"):
            exited(action, status)
    replay.is_shutdown = True
    assert exited(player, 1) is None, "Ctrl-C"


def test_the_node_is_started_again_in_a_field_test_only(monkeypatch):
    node, black_box = in_the_field({}, monkeypatch)
    assert node.kwargs["respawn"] is black_box.kwargs["respawn"] is True
    assert node.kwargs["respawn_delay"] == black_box.kwargs["respawn_delay"] > 0
    assert explained({}, monkeypatch).kwargs["respawn"] is False


def test_the_black_box_has_the_topics_of_the_node(monkeypatch):
    given = {"image": "/front/image_raw/compressed", "name": "eyes", "namespace": "robot", "use_sim_time": "true"}
    node, black_box = in_the_field(given, monkeypatch)
    assert remappings(black_box) == remappings(node)
    assert (black_box.kwargs["namespace"], black_box.kwargs["name"]) == ("robot", "black_box")
    assert parameters_of(node)[1] == {"image_transport": "compressed", "use_sim_time": True}
    assert parameters_of(black_box)[1] == {
        "node": "eyes", "image_transport": "compressed", "use_sim_time": True
    }  # fmt: skip


def test_the_black_box_gets_the_arguments_that_are_given(home, monkeypatch):
    _, black_box = in_the_field({}, monkeypatch)
    description = Description(FIELD_TEST, {}, monkeypatch)
    assert description.text(black_box.kwargs["parameters"][0]) == "share/explain_cnn_ros/config/black_box.yaml"
    assert parameters_of(black_box)[1] == {"node": "explain_node"}
    given = {
        "black_box_params_file": "~/my.yaml", "folder": "/data", "before": "20", "after": "2.5", "topics": "/odom",
        "trigger_topics": "/bumper,/stop", "actions": "navigate_to_pose",
    }  # fmt: skip
    _, black_box = in_the_field(given, monkeypatch)
    parameters = parameters_of(black_box)
    assert parameters[0] == f"{home}/my.yaml"
    assert parameters[1] == {
        "node": "explain_node", "folder": "/data", "before": 20.0, "after": 2.5, "topics": "/odom",
        "trigger_topics": "/bumper,/stop", "actions": "navigate_to_pose",
    }  # fmt: skip
    # ROS refuses a whole number for a parameter that is a real one.
    assert all(isinstance(parameters[1][name], float) for name in ("before", "after"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("folder", "20261127"),
        ("folder", "2026-11-27"),
        ("folder", "~"),
        ("topics", "[/odom, /tf]"),
        ("actions", "yes"),
        ("name", "007"),
    ],
)
def test_texts_of_the_black_box_stay_texts(name, text, monkeypatch):
    """launch would take them for a number, a date, nothing, a list and a boolean."""
    _, black_box = in_the_field({name: text}, monkeypatch)
    assert parameters_of(black_box)[1][{"name": "node"}.get(name, name)] == text


def test_parameter_files_name_every_parameter_with_a_value_of_its_type():
    declared = importlib.import_module("explain_cnn_ros.ros.black_box.parameters").declared()
    (node,) = yaml.safe_load((ROOT / "config/black_box.yaml").read_text()).values()
    assert {name: (type(value), value) for name, value in node["ros__parameters"].items()} == {
        name: (type(default), default) for name, (default, _) in declared.items()
    }
