"""SROS 2: the policies allow what the commands do and nothing else; what a command prints without security."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explain_cnn_ros.files import MISLEADING
from explain_cnn_ros.ros import doctor, security

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "config/security/explain_cnn_ros.policy.xml"

#: The rights of a policy, and the names of its elements: schema 0.2.0 of sros2, policy.xsd.
RIGHTS = {"topics": {"publish", "subscribe"}, "services": {"reply", "request"}, "actions": {"call", "execute"}}


def enclaves() -> dict[str, ElementTree.Element]:
    """The enclaves of the policy by their names within the package."""
    prefix = "/explain_cnn_ros/"
    found = {enclave.attrib["path"]: enclave for enclave in ElementTree.parse(POLICY).iter("enclave")}
    assert all(path.startswith(prefix) for path in found)
    return {path.removeprefix(prefix): enclave for path, enclave in found.items()}


def allowed(enclave: str, right: str) -> set[str]:
    """Full names that an enclave allows: ~ belongs to the node, as in sros2's permissions.xsl."""
    return {
        f"/{profile.attrib['node']}{name[1:]}" if name.startswith("~") else name
        for profile in enclaves()[enclave].iter("profile")
        for rule in profile
        if rule.attrib.get(right) == "ALLOW"
        for name in [str(entry.text) for entry in rule]
    }


# The file.


def test_the_policy_follows_the_schema_of_sros2() -> None:
    policy = ElementTree.parse(POLICY).getroot()
    assert (policy.tag, policy.attrib) == ("policy", {"version": "0.2.0"})
    assert [child.tag for child in policy] == ["enclaves"]
    for enclave in policy[0]:
        assert (enclave.tag, set(enclave.attrib)) == ("enclave", {"path"})
        assert [child.tag for child in enclave] == ["profiles"]
        assert len(enclave[0])
        for profile in enclave[0]:
            assert (profile.tag, profile.attrib["ns"], set(profile.attrib)) == ("profile", "/", {"ns", "node"})
            for rule in profile:
                assert set(rule.attrib) <= RIGHTS[rule.tag]
                assert rule.attrib
                assert set(rule.attrib.values()) <= {"ALLOW", "DENY"}
                assert len(rule)
                for entry in rule:
                    assert (entry.tag, entry.attrib, len(entry)) == (rule.tag.removesuffix("s"), {}, 0)
                    # Names without / or ~ would be relative to the namespace of the profile.
                    assert entry.text and entry.text[0] in "/~" and entry.text == entry.text.strip()


def test_each_command_of_ros_has_an_enclave() -> None:
    """Scripts that start a module of the ros room have an enclave of the same name."""
    scripts = {path.name for path in (ROOT / "scripts").iterdir() if "ros.signals import start" in path.read_text()}
    assert scripts
    assert scripts | {"doctor"} <= set(enclaves())


def test_only_the_player_may_publish_everything() -> None:
    rights = [right for found in RIGHTS.values() for right in found]
    wide = {(name, right) for name in enclaves() for right in rights for entry in allowed(name, right) if "*" in entry}
    assert wide == {("play_bag", "publish")}


def test_every_output_of_the_node_is_allowed() -> None:
    outputs = pytest.importorskip("explain_cnn_ros.ros.outputs")
    assert {f"/explain_node{output.topic[1:]}" for output in outputs.OUTPUTS} <= allowed("explain_node", "publish")


# The graph.


def rights_of(partner: Any, node: str) -> dict[str, set[str]]:
    """What a node publishes, subscribes to, offers and calls at the moment."""
    functions = {
        "publish": partner.node.get_publisher_names_and_types_by_node,
        "subscribe": partner.node.get_subscriber_names_and_types_by_node,
        "reply": partner.node.get_service_names_and_types_by_node,
        "request": partner.node.get_client_names_and_types_by_node,
    }
    return {right: {name for name, _ in function(node, "/")} for right, function in functions.items()}


def watch(partner: Any, node: str, until: dict[str, set[str]], tick: Callable[[], object]) -> dict[str, set[str]]:
    """Collect everything that a node does, until that contains what is expected."""
    from rclpy.node import NodeNameNonExistentError

    seen: dict[str, set[str]] = {right: set() for right in ("publish", "subscribe", "reply", "request")}

    def complete() -> bool:
        tick()
        partner.spin(0.1)
        if (node, "/") in partner.node.get_node_names_and_namespaces():
            with contextlib.suppress(NodeNameNonExistentError):  # it has ended in between
                for right, names in rights_of(partner, node).items():
                    seen[right] |= names
        return all(names <= seen[right] for right, names in until.items())

    partner.wait_for(complete, f"{node}: {until}")
    return seen


def check(enclave: str, seen: dict[str, set[str]]) -> None:
    """The policy allows everything that the node does."""
    for right, names in seen.items():
        assert names <= allowed(enclave, right), f"{enclave} may not {right}"


@pytest.mark.ros
@pytest.mark.timeout(240)
def test_the_policy_of_the_node_is_exact(graph: Any, raw_image: Any, picture: Any) -> None:
    """A node with raw images and detections, then one with compressed images: together they need all of the policy."""
    from builtin_interfaces.msg import Time
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import CompressedImage, Image

    from explain_cnn_ros.msg import Detections

    expected = {right: allowed("explain_node", right) for right in ("publish", "subscribe", "reply")}
    kinds = {"image": Image, "image/compressed": CompressedImage, "detections": Detections, "clock": Clock}
    publishers = {name: graph.node.create_publisher(kind, f"/{name}", 10) for name, kind in kinds.items()}

    def tick() -> None:
        publishers["clock"].publish(Clock(clock=Time(sec=7)))
        publishers["image"].publish(raw_image(picture(20, 10), stamp=7))

    process = graph.start_node(use_sim_time=True, regions="detections")
    wanted = expected | {"subscribe": expected["subscribe"] - {"/image/compressed"}}
    seen = watch(graph, "explain_node", wanted, tick)
    assert {right: seen[right] for right in wanted} == wanted
    assert not seen["request"]
    process.terminate()
    process.wait(60)
    graph.start_node(use_sim_time=True, image_transport="compressed")
    wanted = {"subscribe": expected["subscribe"] - {"/image", "/detections"}}
    check("explain_node", watch(graph, "explain_node", wanted, tick))


@pytest.mark.ros
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("enclave", "arguments", "node", "absent"),
    [
        ("record_explanations", ["--output", "out"], "explanation_recorder", {"/image/compressed"}),
        ("status", [], "explain_status", set()),
    ],
)
def test_the_policies_of_commands_are_exact(
    graph: Any, enclave: str, arguments: list[str], node: str, absent: set[str]
) -> None:
    module = {"record_explanations": "recorder"}.get(enclave, enclave)
    graph.start(*arguments, "--ros-args", "-p", "use_sim_time:=true", module=f"explain_cnn_ros.ros.{module}")
    wanted = {right: allowed(enclave, right) - absent for right in ("publish", "subscribe", "reply")}
    seen = watch(graph, node, wanted, lambda: None)
    assert seen == wanted | {"request": set()}


@pytest.mark.ros
@pytest.mark.timeout(240)
def test_the_policy_of_the_black_box_is_exact(graph: Any, tmp_path: Path) -> None:
    """It records raw images. The type of /tf is not installed everywhere."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image

    from explain_cnn_ros.msg import Classification, Explanation, Live, ModelInfo

    kinds = {"/image": Image, "/camera_info": CameraInfo, "/explain_node/overlay/compressed": CompressedImage}
    kinds |= {"/explain_node/classification": Classification, "/explain_node/explanation": Explanation}
    kinds |= {"/explain_node/live": Live, "/explain_node/model": ModelInfo, "/diagnostics": DiagnosticArray}
    publishers = [graph.node.create_publisher(kind, name, 10) for name, kind in kinds.items()]
    graph.start(
        *("--ros-args", "-p", "use_sim_time:=true", "-p", "overlay:=true", "-p", f"folder:={tmp_path / 'box'}"),
        module="explain_cnn_ros.ros.black_box.node",
    )
    wanted = {right: allowed("black_box", right) for right in ("publish", "subscribe", "reply")}
    wanted["subscribe"] -= {"/image/compressed", "/tf", "/tf_static"}
    seen = watch(graph, "black_box", wanted, lambda: None)
    assert len(publishers) == len(kinds)
    assert seen == wanted | {"request": set()}


@pytest.mark.ros
@pytest.mark.timeout(240)
def test_the_policy_of_the_player(graph: Any) -> None:
    """It publishes everything, offers its type descriptions and nothing else."""
    process = graph.start(
        *(str(ROOT / "sample/street"), "--clock", "100", "--loop"), module="explain_cnn_ros.ros.player"
    )
    wanted = {"publish": {"/camera/image_raw/compressed", "/clock"}, "reply": allowed("play_bag", "reply")}
    seen = watch(graph, "play_bag", wanted, lambda: None)
    process.terminate()
    check("play_bag", seen | {"publish": set()})
    assert seen["reply"] == wanted["reply"]


@pytest.mark.ros
@pytest.mark.timeout(240)
def test_the_policy_of_doctor(graph: Any, raw_image: Any, picture: Any) -> None:
    from sensor_msgs.msg import Image

    camera = graph.node.create_publisher(Image, "/image", 10)
    # Its nodes live for some seconds. On a busy machine, they are gone before the partner has seen all of them.
    graph.start(code="from explain_cnn_ros.ros.graph import graph_problems\nwhile True: graph_problems()")
    seen: dict[str, set[str]] = {}
    for node in ("explain_doctor", "explain_doctor_camera_0"):
        wanted = {"reply": {f"/{node}/get_type_description"}}
        if node != "explain_doctor":
            wanted["subscribe"] = {"/image", "/camera_info"}
        seen = watch(graph, node, wanted, lambda: camera.publish(raw_image(picture(20, 10), stamp=7)))
        check("doctor", seen)


# Without security.

#: Modules of the commands.
COMMANDS = {
    "node": "explain_cnn_ros.ros.node",
    "player": "explain_cnn_ros.ros.player",
    "recorder": "explain_cnn_ros.ros.recorder",
    "status": "explain_cnn_ros.ros.status",
    "black box": "explain_cnn_ros.ros.black_box.node",
}


#: A command that fails as rclpy does, and one that fails for another reason.
OF_RCLPY = """
class RCLError(RuntimeError):
    __module__ = "rclpy._rclpy_pybind11"
def main():
    raise RCLError("failed to create publisher: rt/x denied\\n  by the policy, at /ws/participant.cpp:364, at x")
"""
OTHER = OF_RCLPY.replace("rclpy._rclpy_pybind11", "elsewhere")


def run(module: str, *arguments: str, folder: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command with environment variables, and modules of a folder."""
    code = f"import sys; from explain_cnn_ros.ros.signals import start; sys.exit(start({module!r}))"
    if folder:
        variables["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=100,
    )


def middleware(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands find a library of the middleware with some content."""
    (folder / "lib").mkdir()
    (folder / "lib" / security.LIBRARY).write_bytes(b"\x7fELF" + content + b"\0")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder / "lib"), prepend=os.pathsep)
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)


@pytest.fixture
def insecure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose Fast DDS has no security."""
    middleware(tmp_path, security.NO_SECURITY + b" Please compile", monkeypatch)
    return tmp_path


@pytest.fixture
def secure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose Fast DDS has security, and security is requested."""
    middleware(tmp_path, b"could not find all security files", monkeypatch)
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    monkeypatch.delenv("ROS_SECURITY_KEYSTORE", raising=False)
    monkeypatch.delenv("ROS_SECURITY_STRATEGY", raising=False)
    return tmp_path


@pytest.mark.parametrize("module", COMMANDS.values(), ids=COMMANDS)
def test_without_security_each_command_ends_with_one_line(insecure: Path, module: str) -> None:
    done = run(module, ROS_SECURITY_ENABLE="true")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{module.rpartition('.')[2]}: ROS_SECURITY_ENABLE is true, but Fast DDS was built without")
    assert line.endswith("use ROS 2 from apt, or unset ROS_SECURITY_ENABLE; see docs/security.md")


def test_help_needs_no_security(insecure: Path) -> None:
    pytest.importorskip("rclpy")
    done = run("explain_cnn_ros.ros.status", "--help", ROS_SECURITY_ENABLE="true")
    assert done.stdout.startswith("usage: status"), done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("value", ["", "false", "True", "1"])
def test_other_values_do_not_request_security(insecure: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """As in rcl."""
    monkeypatch.setenv("ROS_SECURITY_ENABLE", value)
    assert security.refusal() == ""
    assert security.failure(RuntimeError("any")) == ""


def test_another_middleware_is_not_judged(insecure: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    assert security.refusal()
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert security.refusal() == ""


def test_a_keystore_is_needed_to_enforce_security(secure: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert security.refusal() == "", "rcl runs without security if it is not enforced"
    monkeypatch.setenv("ROS_SECURITY_STRATEGY", "Enforce")
    assert "ROS_SECURITY_KEYSTORE is not set: set it to the folder of the keystore" in security.refusal()
    monkeypatch.setenv("ROS_SECURITY_KEYSTORE", str(secure))
    assert f"{str(secure)!r} is not a keystore: create one with `ros2 security create_keystore`" in security.refusal()
    (secure / "enclaves").mkdir()
    assert security.refusal() == ""


def test_an_error_of_rclpy_becomes_one_line(secure: Path) -> None:
    (secure / "a_command.py").write_text(OF_RCLPY)
    done = run("a_command", folder=secure)
    assert done.returncode == 1
    assert done.stderr == (
        "a_command: ROS cannot be used with ROS_SECURITY_ENABLE: failed to create publisher: rt/x denied by the "
        "policy, at x. Check that the keystore has the enclave of --enclave, and that its policy allows the topic or "
        "service; see docs/security.md\n"
    )


def test_other_errors_keep_their_traceback(secure: Path) -> None:
    (secure / "a_command.py").write_text(OTHER)
    done = run("a_command", folder=secure)
    assert "Traceback" in done.stderr
    (secure / "a_command.py").write_text(OF_RCLPY)
    done = run("a_command", folder=secure, ROS_SECURITY_ENABLE="false")
    assert "Traceback" in done.stderr


def test_doctor_names_the_cause(insecure: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    found = doctor.check_security()
    assert (found.level, found.cure.split(";")[0]) == ("missing", "use ROS 2 from apt, or unset ROS_SECURITY_ENABLE")
    (graph,) = doctor.check_graph()
    assert (graph.level, graph.cure) == ("warning", "install what is missing above")
    monkeypatch.delenv("ROS_SECURITY_ENABLE")
    assert doctor.check_security().level == "ok"


# Texts of others on the terminal.

#: It clears the screen, sets the title, and changes the direction of writing.
ESCAPES = "\x1b[2J\x1b]0;title\x07\u202egpj"


def test_reports_of_others_are_texts_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any node can publish any text on the topics that status and doctor show, and any recording has any names."""
    pytest.importorskip("rclpy")
    from types import SimpleNamespace

    from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

    from explain_cnn_ros.msg import Explanation
    from explain_cnn_ros.ros.playback.progress import say
    from explain_cnn_ros.ros.status import BOLD, LEVELS, PLAIN, RED, screen

    values = [KeyValue(key=key, value=ESCAPES) for key in ("last", "received", "state", "rate")]
    report = DiagnosticStatus(level=b"\2", name=f"/explain_node: {ESCAPES}", message=ESCAPES, values=values)
    images = DiagnosticStatus(level=b"\0", name="/explain_node: images", message=ESCAPES, values=values)
    watcher = SimpleNamespace(
        watched="/explain_node",
        alive=True,
        report=[report, images],
        classification=None,
        explanation=Explanation(trigger=ESCAPES, target=ESCAPES),
        summary=[ESCAPES],
    )
    shown: Any = screen(watcher, colour=False)
    assert MISLEADING.findall("\n".join(shown)) == []
    assert sum("\\u001b[2J" in line for line in shown) >= 4
    coloured: Any = screen(watcher, colour=True)
    assert set(re.findall("\x1b[^m]*m", "\n".join(coloured))) <= {
        PLAIN,
        BOLD,
        RED,
        *(code for code, _ in LEVELS.values()),
    }

    say(f"playing /{ESCAPES}")
    monkeypatch.setattr(doctor, "CHECKS", {"graph": lambda: doctor.Finding("warning", ESCAPES, ESCAPES)})
    doctor.main([])
    printed = "".join(capsys.readouterr())
    assert MISLEADING.findall(printed) == []
    assert printed.count("\\u001b[2J") == 3
