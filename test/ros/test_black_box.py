"""The black box over DDS: what it records and why, and that nothing ends it."""

from __future__ import annotations

import array
import json
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from action_msgs.msg import GoalInfo, GoalStatus, GoalStatusArray
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from mcap.reader import make_reader
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.serialization import deserialize_message, serialize_message
from ruamel.yaml import YAML
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Bool, Empty, String
from std_srvs.srv import Trigger

from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.msg import Classification, ModelInfo
from explain_cnn_ros.ros.black_box.definitions import Definitions, definition_text

pytestmark = [pytest.mark.ros, pytest.mark.timeout(300)]

BLACK_BOX = "explain_cnn_ros.ros.black_box.node"
IMAGE, DECISION = "/image/compressed", "/explain_node/classification"
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Robot:
    """A camera and the decisions of a node, as the partner of a graph publishes them."""

    def __init__(self, graph, folder: Path) -> None:
        self.graph, self.folder = graph, folder
        self.recorded = graph.collect(String, "/black_box/recorded", LATCHED)
        self.events = graph.collect(String, "/black_box/event")
        self.reports = graph.collect(DiagnosticArray, "/diagnostics")
        self._camera = graph.node.create_publisher(CompressedImage, IMAGE, qos_profile_sensor_data)
        self._decisions = graph.node.create_publisher(Classification, DECISION, 10)
        self.person, self.low_confidence = False, False
        self.sent: list[bytes] = []
        self.process = None

    def start(self, *arguments: str, **parameters: object) -> None:
        """Start the black box, and wait until it receives."""
        given = {"folder": self.folder, "image_transport": "compressed", "before": 2.0, "after": 1.0} | parameters
        flags = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
        self.process = self.graph.start("--ros-args", *flags, *arguments, module=BLACK_BOX)
        self.graph.wait_for(lambda: self._camera.get_subscription_count(), "the subscription to the images")
        self.graph.wait_for(lambda: self._decisions.get_subscription_count(), "the subscription to the decisions")
        self.graph.wait_for(lambda: self.graph.node.count_publishers("/black_box/recorded"), "the black box")
        self.graph.wait_for(lambda: self.own, "a report of the black box")

    def frame(self) -> None:
        """Publish an image and its decision."""
        stamp = self.graph.node.get_clock().now().to_msg()
        image = CompressedImage(format="jpeg", data=array.array("B", bytes(range(200)) * 10))
        image.header.stamp, image.header.frame_id = stamp, "camera"
        decision = Classification(person=self.person, probability=0.6, threshold=0.5)
        decision.header, decision.low_confidence = image.header, self.low_confidence
        self.sent.append(serialize_message(image))
        self._camera.publish(self.sent[-1])  # with the same padding
        self._decisions.publish(decision)

    def run(self, seconds: float) -> None:
        """Publish twenty frames per second."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.frame()
            pause = time.monotonic() + 0.05
            while (left := pause - time.monotonic()) > 0:
                self.graph.spin(left)

    def wait(self, count: int) -> list[Path]:
        """Go on until there are recordings; return them."""

        def ready() -> bool:
            self.run(0.1)
            return len(self.paths) >= count

        self.graph.wait_for(ready, f"recording {count}")
        return self.paths

    @property
    def paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.mcap"), key=lambda path: path.stem[-4:])

    @property
    def own(self) -> DiagnosticStatus | None:
        """The newest status of the black box."""
        found = [s for report in self.reports for s in report.status if s.name == "/black_box: recordings"]
        return found[-1] if found else None


@pytest.fixture
def robot(graph, tmp_path):
    return Robot(graph, tmp_path / "out")


def contents(path: Path) -> dict[str, list[bytes]]:
    """The messages by topic. Both readers find the file whole, and the same in it."""
    with BagReader(path) as bag:
        messages = list(bag.messages())
        assert bag.problems == []
    with path.open("rb") as file:
        assert [m.data for _, _, m in make_reader(file, validate_crcs=True).iter_messages()] == [
            m.data for m in messages
        ]
    found: dict[str, list[bytes]] = {}
    for message in messages:
        found.setdefault(message.topic, []).append(message.data)
    return found


def about(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        (metadata,) = make_reader(file).iter_metadata()
    return YAML(typ="safe").load(metadata.metadata["serialized_metadata"])["custom_data"]


def cause(path: Path) -> str:
    return path.stem.split("_")[1]


def test_a_request_records_the_images_as_they_came(robot):
    robot.start("-r", "__ns:=/")
    latched = robot.graph.node.create_publisher(ModelInfo, "/explain_node/model", LATCHED)
    latched.publish(ModelInfo(architecture="VGG-16"))
    robot.run(5.0)
    answer = robot.graph.call(Trigger, "/black_box/save", Trigger.Request())
    assert answer.success and answer.message.endswith("_request_0001.mcap will be there in about 1 s")
    (path,) = robot.wait(1)
    assert str(path) in answer.message
    found = contents(path)
    # Byte for byte, in order, without gaps.
    first = robot.sent.index(found[IMAGE][0])
    assert found[IMAGE] == robot.sent[first : first + len(found[IMAGE])]
    with BagReader(path) as bag:
        assert 2.5 < (bag.end - bag.start) / 1e9 < 4.5
        qos = {topic.name: topic.qos for topic in bag.topics}
    assert qos[IMAGE][0].reliability.name == "BEST_EFFORT" and qos[DECISION][0].reliability.name == "RELIABLE"
    assert len(found["/explain_node/model"]) == 1, "latched long before"
    assert abs(len(found[DECISION]) - len(found[IMAGE])) <= 2
    assert len(found["/black_box/event"]) == 1
    robot.graph.wait_for(lambda: robot.recorded, "the path")
    assert robot.recorded[0].data == str(path) and robot.events[0].data == "request: requested by ~/save"
    assert about(path)["causes"] == "request"
    assert f"recorded {path}" in robot.graph.log
    assert robot.graph.stop(robot.process) == 0


def test_each_cause_is_recorded_once(robot):
    graph = robot.graph
    button = graph.node.create_publisher(Bool, "/bumper", 10)
    remark = graph.node.create_publisher(Empty, "/remark", 10)
    errors = graph.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    goals = graph.node.create_publisher(GoalStatusArray, "/navigate/_action/status", LATCHED)
    robot.start(
        *("-p", "trigger_topics:=/bumper, remark", "-p", "actions:=/navigate"),
        **{"before": 1.0, "after": 0.5, "change_stable": 0.5},
    )
    for publisher in (button, remark, goals):
        graph.wait_for(lambda publisher=publisher: publisher.get_subscription_count(), "a subscription")
    robot.run(1.5)

    def error(level: bytes) -> None:
        errors.publish(DiagnosticArray(status=[DiagnosticStatus(name="lidar: scan", level=level, message="no data")]))

    def goal(status: int, number: int) -> None:
        info = GoalInfo(stamp=graph.node.get_clock().now().to_msg())
        info.goal_id.uuid[0] = number
        goals.publish(GoalStatusArray(status_list=[GoalStatus(goal_info=info, status=status)]))

    def flicker() -> None:
        for _ in range(6):
            robot.person = not robot.person
            robot.run(0.2)

    steps = {
        "doubt": lambda: setattr(robot, "low_confidence", True),
        "change": lambda: setattr(robot, "person", True),
        "topic": lambda: [button.publish(Bool(data=value)) for value in (False, True, True)],
        "error": lambda: [error(level) for level in (DiagnosticStatus.WARN, DiagnosticStatus.ERROR)],
        "abort": lambda: [goal(s, 1) for s in (GoalStatus.STATUS_EXECUTING, GoalStatus.STATUS_ABORTED)],
    }
    for count, (name, act) in enumerate(steps.items(), 1):
        act()
        assert cause(robot.wait(count)[-1]) == name
    # The same again is no event: doubt goes on, the button is pressed, the error stays, the goal stays aborted.
    flicker()
    button.publish(Bool(data=True))
    error(DiagnosticStatus.ERROR)
    goal(GoalStatus.STATUS_ABORTED, 1)
    robot.run(2.0)
    assert len(robot.paths) == len(steps)
    remark.publish(Empty())
    assert cause(robot.wait(6)[-1]) == "topic"
    texts = [json.loads(about(path)["events"])[0]["text"] for path in robot.paths]
    assert texts == [
        "P(person) 0.60, threshold 0.50",
        "no person, then a person: P(person) 0.60, threshold 0.50",
        "/bumper has become true",
        "lidar: scan: no data",
        "/navigate has aborted the goal 01000000",
        "/remark",
    ]
    for path in robot.paths:
        assert {IMAGE, DECISION} <= set(contents(path))
    assert b"lidar: scan" in b"".join(contents(robot.paths[3])["/diagnostics"])


def test_causes_can_be_switched_off_and_ranges_are_checked(robot):
    robot.start(doubt="false", change="false", error="false", change_stable=0.0)
    robot.run(0.5)
    robot.low_confidence = robot.person = True
    robot.run(3.0)
    assert robot.paths == [] and robot.events == []
    results = robot.graph.set_parameters("/black_box", change=True, before=1e9, folder="/elsewhere")
    assert [result.successful for result in results] == [True, False, False]
    robot.person = False
    assert cause(robot.wait(1)[0]) == "change"


def test_a_killed_black_box_recovers_its_recording_and_a_second_one_is_refused(robot):
    robot.start(after=60.0, error="false")  # the other one will report an error
    robot.run(3.0)
    assert robot.graph.call(Trigger, "/black_box/save", Trigger.Request()).success
    robot.run(3.0)
    other = robot.graph.start(*("--ros-args", "-r", "__node:=other", "-p", f"folder:={robot.folder}"), module=BLACK_BOX)
    robot.graph.wait_for(lambda: robot.graph.node.count_publishers("/other/event"), "the other black box")
    answer = robot.graph.call(Trigger, "/other/save", Trigger.Request())
    assert not answer.success and "another black box uses" in answer.message
    assert robot.graph.stop(other) == 0
    robot.process.send_signal(signal.SIGKILL)
    robot.process.wait()
    assert robot.paths == []
    robot.reports.clear()
    robot.start()
    (path,) = robot.wait(1)
    assert len(contents(path)[IMAGE]) > 60
    assert about(path)["missing"].startswith("recovered") and about(path)["causes"] == "request"
    assert json.loads(about(path)["events"])[0]["text"] == "requested by ~/save"
    robot.graph.wait_for(lambda: not list(robot.folder.glob(".2*")), "the end of the recovery")


def test_publishers_that_come_back_with_another_qos_and_odd_topics(robot):
    graph = robot.graph
    robot.start("-p", "topics:=/extra,/image/compressed,/nothing", "-p", "trigger_topics:=/wrong")
    reliable = graph.node.create_publisher(String, "/extra", 10)
    wrong = graph.node.create_publisher(String, "/wrong", 10)
    graph.wait_for(reliable.get_subscription_count, "the subscription")
    graph.node.destroy_publisher(reliable)
    best_effort = graph.node.create_publisher(
        String, "/extra", QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    graph.wait_for(best_effort.get_subscription_count, "the new subscription")
    best_effort.publish(String(data="after the change"))
    robot.run(1.5)
    assert robot.own.level == DiagnosticStatus.WARN
    assert "/wrong has the type std_msgs/msg/String, not std_msgs/msg/Empty or std_msgs/msg/Bool" in robot.own.message
    graph.node.destroy_publisher(wrong)
    assert graph.call(Trigger, "/black_box/save", Trigger.Request()).success
    (path,) = robot.wait(1)
    found = contents(path)
    assert [deserialize_message(data, String).data for data in found["/extra"]] == ["after the change"]
    assert len(found[IMAGE]) == len(set(found[IMAGE])), "a topic that is named twice is recorded once"


def test_a_folder_that_cannot_be_used_is_reported_and_used_later(robot, tmp_path):
    robot.folder.write_text("a file")
    robot.start()
    assert robot.own.level == DiagnosticStatus.ERROR and str(robot.folder) in robot.own.message
    answer = robot.graph.call(Trigger, "/black_box/save", Trigger.Request())
    assert not answer.success and "File exists" in answer.message
    robot.folder.unlink()
    robot.run(2.5)
    robot.graph.wait_for(lambda: robot.own.level == DiagnosticStatus.OK, "a report that all is well")
    assert robot.graph.call(Trigger, "/black_box/save", Trigger.Request()).success
    assert len(robot.wait(1)) == 1


def test_without_images_the_report_says_so(graph, tmp_path):
    reports = graph.collect(DiagnosticArray, "/diagnostics")
    process = graph.start("--ros-args", "-p", f"folder:={tmp_path}/out", module=BLACK_BOX)
    graph.wait_for(
        lambda: [r for r in reports if "no image on /image for" in r.status[0].message], "a report without images"
    )
    status = reports[-1].status[0]
    assert status.level == DiagnosticStatus.WARN and "set image_transport to compressed" in status.message
    assert graph.stop(process) == 0


def test_simulated_time_without_a_clock_is_reported(graph, tmp_path):
    """A recording ends although the time stands still, and the log says why."""
    reports, parameters = graph.collect(DiagnosticArray, "/diagnostics"), (f"folder:={tmp_path}/out", "after:=0.5")
    flags = [part for parameter in (*parameters, "use_sim_time:=true") for part in ("-p", parameter)]
    process = graph.start("--ros-args", *flags, module=BLACK_BOX)
    graph.wait_for(lambda: [r for r in reports if "/clock has no publisher" in r.status[0].message], "the report")
    assert graph.call(Trigger, "/black_box/save", Trigger.Request()).success
    graph.wait_for(lambda: "it ends early, since /clock stands still" in graph.log, "the recording")
    assert len([*(tmp_path / "out").glob("*.mcap")]) == 1
    assert graph.stop(process) == 0


def test_a_parameter_out_of_range_ends_the_start_with_one_line(graph, tmp_path):
    process = graph.start("--ros-args", "-p", "after:=-1.0", "-p", f"folder:={tmp_path}/out", module=BLACK_BOX)
    assert process.wait(60) == 1
    assert "Traceback" not in graph.log and "after" in graph.log


@pytest.mark.parametrize("kind", ["black_box.node.BlackBox", "node.ExplainNode"])
def test_a_node_whose_parameters_are_refused_can_be_destroyed(graph, tmp_path, kind):
    """In Kilted, rclpy destroys such a node when it is shut down."""
    module, _, name = kind.rpartition(".")
    code = f"""
import rclpy
from explain_cnn_ros.ros.{module} import {name}

class Refused({name}):
    def __init__(self):
        try:
            super().__init__()
        except Exception as error:
            print(type(error).__name__)

rclpy.init(args=["--ros-args", "-p", "after:=-1.0", "-p", "explain_queue:=-1", "-p", "folder:={tmp_path}/out"])
node = Refused()
node.destroy_node()
rclpy.try_shutdown()
"""
    assert graph.start(code=code).wait(60) == 0, graph.log
    assert graph.log.split() == ["InvalidParameterValueException"]


def test_the_black_box_loads_no_network(graph, tmp_path):
    """PyTorch takes hundreds of megabytes, and the black box stays alive when they are missing."""
    code = f"import sys, {BLACK_BOX}; print(sorted({{'torch', 'cv2', 'scipy'}} & set(sys.modules)))"
    assert graph.start(code=code).wait(60) == 0
    assert graph.log.strip() == "[]"


def test_definitions_are_those_of_the_installed_packages():
    define = Definitions()
    own = define("explain_cnn_ros/msg/Live")
    assert "float32 probability" in own.text and "MSG: explain_cnn_ros/LiveNeuron" in own.text
    assert define("sensor_msgs/msg/CompressedImage").digest == (
        "RIHS01_15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a"
    )
    with pytest.raises(LookupError, match="nowhere_msgs"):
        define("nowhere_msgs/msg/Thing")


def test_a_type_without_a_file_is_described_from_its_class(monkeypatch):
    """For instance the feedback of an action."""
    from sensor_msgs.msg import CameraInfo

    expected = Definitions()("sensor_msgs/msg/CameraInfo")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    text = definition_text("sensor_msgs/msg/CameraInfo")
    assert [line.split()[1] for line in text.splitlines()] == list(CameraInfo.get_fields_and_field_types())
    assert Definitions()("sensor_msgs/msg/CameraInfo").digest == expected.digest
