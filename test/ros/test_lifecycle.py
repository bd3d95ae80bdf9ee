"""States of the node in a process of its own: by hand, again and again, after failures, and in the middle of work."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from explain_cnn_ros.msg import Classification, Explanation
from explain_cnn_ros.ros.node import DEACTIVATED
from explain_cnn_ros.srv import Explain

pytestmark = [pytest.mark.ros, pytest.mark.timeout(600)]

UP = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
DOWN = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)

#: Few perturbations and layers, so that the tests take seconds; and so many that an explanation takes an hour.
QUICK = {"explain__perturbations": 4, "explain__layers": [5, 8], "confidence_threshold": 0.0}
ENDLESS = {"explain__perturbations": 100_000, "explain__layers": [3, 4, 5, 6, 7, 8, 9]}

#: Life cycles of the test for leaks; `make soak` asks for more.
CYCLES = int(os.environ.get("LIFECYCLE_CYCLES", "6"))

#: The cycles after which memory may not grow any more, and by how much it may all the same.
SETTLED, GROWTH_MAX_MB = min(10, CYCLES // 2), 20

#: The memory of a process varies by some MB, so this many cycles are averaged.
TOGETHER = 3

ASK = """
import rclpy, time
from explain_cnn_ros.ros.node import DEACTIVATED
from explain_cnn_ros.srv import Explain
rclpy.init()
node = rclpy.create_node("caller")
client = node.create_client(Explain, "/explain_node/explain")
assert client.wait_for_service(60)
client.call_async(Explain.Request())
print("asked", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def processes(new_processes: Any) -> Any:
    """The node that tests share. Each leaves it unconfigured."""
    new_processes.start_node(autostart=False, **QUICK)
    return new_processes


def change(graph: Any, *transitions: int) -> bool:
    """Whether all of these succeeded."""
    results = [
        graph.call(
            ChangeState, "/explain_node/change_state", ChangeState.Request(transition=Transition(id=transition))
        ).success
        for transition in transitions
    ]
    return all(results)


def state(graph: Any) -> int:
    return graph.call(GetState, "/explain_node/get_state", GetState.Request(), read_only=True).current_state.id


def publish_until_decided(
    graph: Any, camera: Any, message: Any, decisions: list[Any], stamp: int | None = None
) -> None:
    """Publish a frame until there is one more decision, or one with a stamp."""
    before = len(decisions)

    def decided() -> bool:
        camera.publish(message)
        graph.spin(0.1)
        return any(stamp in (None, decision.header.stamp.sec) for decision in decisions[before:])

    graph.wait_for(decided, "a decision")


def resident_mb(pid: int) -> float:
    """Memory of a process that is its own: pages of files come and go."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1000


def classification_status(graph: Any) -> Any:
    """Return the status of the classification in the next report."""
    reports = graph.collect(DiagnosticArray, "/diagnostics")
    graph.wait_for(lambda: reports, "a report")
    return reports[-1].status[1]


def status_once(graph: Any) -> int:
    """Return the exit status of the command that shows one screen."""
    process = graph.start("--once", module="explain_cnn_ros.ros.status")
    graph.wait_for(lambda: process.poll() is not None, "a screen")
    return int(process.returncode)


def test_missing_weights_leave_a_node_that_can_be_configured(graph, tmp_path):
    """The node reports an error until it is configured."""
    process = graph.start_node(weights=str(tmp_path / "none.safetensors"))
    assert state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    graph.wait_for(lambda: "configuring failed: no weights at" in graph.log, "the reason in the log")
    status = classification_status(graph)
    assert status.level == DiagnosticStatus.ERROR
    assert status.message.startswith("configuring failed: no weights at ")
    assert status.message.endswith("; the node is unconfigured: remove the cause, and repeat the transition")
    assert status_once(graph) == 1
    answer = graph.call(Explain, "/explain_node/explain", Explain.Request())
    assert "not active" in answer.message
    assert process.poll() is None
    assert not change(graph, Transition.TRANSITION_CONFIGURE)
    # The cure: the file is there now.
    from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS

    (tmp_path / "none.safetensors").symlink_to(DEFAULT_WEIGHTS)
    assert change(graph, Transition.TRANSITION_CONFIGURE)
    status = classification_status(graph)
    assert (status.level, status.message) == (DiagnosticStatus.OK, "the node is inactive")
    assert status_once(graph) == 0
    assert change(graph, Transition.TRANSITION_ACTIVATE)
    assert state(graph) == State.PRIMARY_STATE_ACTIVE


def test_life_cycle_by_hand(shared_graph, raw_image, picture):
    """Configured, activated, cleaned up and brought back."""
    for round_ in range(2):
        assert change(shared_graph, *UP)
        request = Explain.Request(image=raw_image(picture(120, 100), stamp=round_), metrics=["activation_sum"])
        assert shared_graph.call(Explain, "/explain_node/explain", request).success
        assert change(shared_graph, *DOWN)
        refusal = shared_graph.call(Explain, "/explain_node/explain", request)
        assert "the node is unconfigured, not active" in refusal.message


def test_transitions_that_the_state_does_not_allow(shared_graph):
    """They are refused, and the node goes on."""
    assert not change(shared_graph, Transition.TRANSITION_ACTIVATE)
    assert not change(shared_graph, Transition.TRANSITION_CLEANUP)
    assert state(shared_graph) == State.PRIMARY_STATE_UNCONFIGURED
    assert change(shared_graph, *UP)
    assert not change(shared_graph, Transition.TRANSITION_CONFIGURE)
    assert state(shared_graph) == State.PRIMARY_STATE_ACTIVE
    assert change(shared_graph, *DOWN)


@pytest.mark.slow
def test_cycles_leak_nothing(graph):
    """With frames of a camera flowing all the time."""
    decisions = graph.collect(Classification, "/explain_node/classification", 1)
    process = graph.start_node(autostart=False, **QUICK)
    # It ends with the graph. A busy machine takes its time for the cycles.
    graph.start("--seconds", "100000", module="tools.camera")
    memory = []
    for _ in range(CYCLES):
        assert change(graph, *UP)
        before = len(decisions)
        graph.wait_for(lambda seen=before: len(decisions) >= seen + 3, "decisions")
        answer = graph.call(Explain, "/explain_node/explain", Explain.Request())
        assert answer.success, answer.message
        assert change(graph, *DOWN)
        memory.append(resident_mb(process.pid))
    print("MB after each cycle:", *(f"{m:.0f}" for m in memory))
    # Memory that the allocator keeps for later varies from cycle to cycle. A leak also raises the minimum.
    settled = min(memory[SETTLED - TOGETHER : SETTLED])
    assert min(memory[-TOGETHER:]) - settled < GROWTH_MAX_MB, memory
    assert graph.stop(process) == 0


def request_endless(graph: Any, camera: Any, message: Any, decisions: list[Any]) -> list[Any]:
    """Request two explanations that take an hour; return the answers to come once one runs and the other waits."""
    assert all(result.successful for result in graph.set_parameters("/explain_node", **ENDLESS))
    publish_until_decided(graph, camera, message, decisions)
    reports = graph.collect(DiagnosticArray, "/diagnostics")
    client = graph.client(Explain, "/explain_node/explain")
    answers = [client.call_async(Explain.Request(top_n=n)) for n in (5, 6)]

    def under_way() -> bool:
        return bool(reports) and {v.key: v.value for v in reports[-1].status[2].values}["waiting"] == "1"

    graph.wait_for(under_way, "one explanation that runs and one that waits")
    assert not any(answer.done() for answer in answers)
    return answers


def check_cancelled(graph: Any, answers: list[Any], reason: str) -> None:
    graph.wait_for(lambda: all(answer.done() for answer in answers), "answers")
    for answer in answers:
        assert not answer.result().success
        assert answer.result().message == reason


def test_nothing_is_published_after_deactivation(shared_graph, raw_image, picture):
    """Neither decisions nor the explanation that is under way; its caller, and the one that waits, get the reason."""
    decisions = shared_graph.collect(Classification, "/explain_node/classification")
    explanations = shared_graph.collect(Explanation, "/explain_node/explanation")
    overlays = shared_graph.collect(Image, "/explain_node/overlay")
    assert change(shared_graph, *UP)
    camera = shared_graph.publisher(Image, "/image")
    answers = request_endless(shared_graph, camera, raw_image(picture(120, 100), stamp=1), decisions)
    assert change(shared_graph, Transition.TRANSITION_DEACTIVATE)
    check_cancelled(shared_graph, answers, DEACTIVATED)
    assert all(result.successful for result in shared_graph.set_parameters("/explain_node", **QUICK))
    refusal = shared_graph.call(Explain, "/explain_node/explain", Explain.Request())
    assert refusal.message == "the node is inactive, not active: activate it"
    for _ in range(10):
        camera.publish(raw_image(picture(120, 100), stamp=2))
        shared_graph.spin(0.1)
    # Messages arrive in order: what had been published meanwhile would arrive before what follows.
    assert change(shared_graph, Transition.TRANSITION_ACTIVATE)
    publish_until_decided(shared_graph, camera, raw_image(picture(120, 100), stamp=3), decisions, stamp=3)
    assert shared_graph.call(Explain, "/explain_node/explain", Explain.Request()).success
    shared_graph.wait_for(lambda: explanations and overlays, "the explanation after activation")
    assert {m.header.stamp.sec for m in decisions} == {1, 3}
    assert [m.header.stamp.sec for m in explanations] == [3]
    assert [m.header.stamp.sec for m in overlays] == [3]
    assert change(shared_graph, *DOWN)


def test_an_unconfigured_node_receives_no_images(shared_graph, raw_image, picture):
    """Images would take time and memory. After the next activation, they arrive again."""
    decisions = shared_graph.collect(Classification, "/explain_node/classification")
    camera = shared_graph.node.create_publisher(Image, "/image", 10)
    for stamp in (60, 61):
        assert change(shared_graph, *UP)
        publish_until_decided(shared_graph, camera, raw_image(picture(120, 100), stamp=stamp), decisions, stamp=stamp)
        assert camera.get_subscription_count() == 1
        assert change(shared_graph, *DOWN)
        shared_graph.wait_for(lambda: camera.get_subscription_count() == 0, "the end of the subscription")


def test_a_latched_image_is_decided_when_the_node_wants_images_again(shared_graph, raw_image, picture):
    """It was published once, while the node was inactive or disabled; and a new network decides it again."""
    decisions = shared_graph.collect(Classification, "/explain_node/classification")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    camera = shared_graph.node.create_publisher(Image, "/image", latched)
    camera.publish(raw_image(picture(120, 100), stamp=50))

    def stamps() -> list[int]:
        return [decision.header.stamp.sec for decision in decisions]

    def spin(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shared_graph.spin()

    assert change(shared_graph, *UP)
    shared_graph.wait_for(lambda: stamps() == [50], "the image from before the activation")
    assert change(shared_graph, Transition.TRANSITION_DEACTIVATE)
    camera.publish(raw_image(picture(120, 100), stamp=51))
    spin(0.5)  # the node takes it, and ignores it
    assert change(shared_graph, Transition.TRANSITION_ACTIVATE)
    shared_graph.wait_for(lambda: stamps() == [50, 51], "the image from before the second activation")
    assert shared_graph.call(SetBool, "/explain_node/set_enabled", SetBool.Request(data=False)).success
    camera.publish(raw_image(picture(120, 100), stamp=52))
    spin(0.5)
    assert shared_graph.call(SetBool, "/explain_node/set_enabled", SetBool.Request(data=True)).success
    shared_graph.wait_for(lambda: stamps() == [50, 51, 52], "the image from the time when it was disabled")
    assert change(shared_graph, *DOWN, *UP)
    shared_graph.wait_for(lambda: stamps() == [50, 51, 52, 52], "the decision of the new network")
    spin(1.5)  # until after another report, which watches the publishers
    assert stamps() == [50, 51, 52, 52], "each once"
    assert change(shared_graph, *DOWN)


def test_explanations_are_given_up_when_the_node_is_cleaned_up(shared_graph, raw_image, picture):
    """Whoever waits gets the reason, in a moment; and the node can be brought back."""
    decisions = shared_graph.collect(Classification, "/explain_node/classification")
    assert change(shared_graph, *UP)
    camera = shared_graph.publisher(Image, "/image")
    answers = request_endless(shared_graph, camera, raw_image(picture(120, 100)), decisions)
    assert change(shared_graph, *DOWN)
    check_cancelled(shared_graph, answers, DEACTIVATED)
    assert all(result.successful for result in shared_graph.set_parameters("/explain_node", **QUICK))
    assert change(shared_graph, *UP)
    publish_until_decided(shared_graph, camera, raw_image(picture(120, 100)), decisions)
    assert change(shared_graph, *DOWN)


def test_explanations_are_given_up_when_the_node_is_shut_down(graph, raw_image, picture):
    """Whoever waits gets the reason, in a moment; the node is finalized, and ends by Ctrl-C."""
    decisions = graph.collect(Classification, "/explain_node/classification")
    process = graph.start_node(**QUICK)
    camera = graph.publisher(Image, "/image")
    answers = request_endless(graph, camera, raw_image(picture(120, 100)), decisions)
    assert change(graph, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    check_cancelled(graph, answers, "the node stops working: the explanation was cancelled")
    assert state(graph) == State.PRIMARY_STATE_FINALIZED
    refusal = graph.call(Explain, "/explain_node/explain", Explain.Request())
    assert refusal.message == "the node is finalized, not active: start the node again"
    assert graph.stop(process) == 0
    assert "Traceback" not in graph.log


def test_ends_in_the_middle_of_an_explanation(graph, raw_image, picture):
    """The process ends within the time that `stop` waits, which is a minute: the explanation would take an hour."""
    decisions = graph.collect(Classification, "/explain_node/classification")
    process = graph.start_node(**QUICK)
    camera = graph.publisher(Image, "/image")
    request_endless(graph, camera, raw_image(picture(120, 100)), decisions)
    assert graph.stop(process) == 0, graph.log
    assert "Traceback" not in graph.log


def test_a_caller_that_goes_away(shared_graph, raw_image, picture):
    """Killed while its explanation is under way: the node goes on, and answers the next one."""
    decisions = shared_graph.collect(Classification, "/explain_node/classification")
    assert change(shared_graph, *UP)
    assert all(r.successful for r in shared_graph.set_parameters("/explain_node", explain__perturbations=30))
    camera = shared_graph.publisher(Image, "/image", QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE))
    publish_until_decided(shared_graph, camera, raw_image(picture(120, 100)), decisions)
    for round_ in range(2):
        caller = shared_graph.start(code=ASK)
        shared_graph.wait_for(lambda n=round_: shared_graph.log.count("asked") > n, "a caller")
        caller.kill()
        caller.wait()
    answer = shared_graph.call(Explain, "/explain_node/explain", Explain.Request(metrics=["activation_sum"]))
    assert answer.success, answer.message
    publish_until_decided(shared_graph, camera, raw_image(picture(120, 100)), decisions)
    assert change(shared_graph, *DOWN)
    assert "Traceback" not in shared_graph.log
