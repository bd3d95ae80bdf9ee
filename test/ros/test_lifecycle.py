"""States of the node, in its own process: by hand, again and again, after failures, and in the middle of work."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from explain_cnn_ros.msg import Classification
from explain_cnn_ros.srv import Explain

pytestmark = [pytest.mark.ros, pytest.mark.timeout(600)]

UP = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
DOWN = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)

#: Few perturbations and layers, so that the tests take seconds; and so many that an explanation takes an hour.
QUICK = {"explain__perturbations": 4, "explain__layers": [5, 8], "confidence_threshold": 0.0}
ENDLESS = {"explain__perturbations": 100_000, "confidence_threshold": 0.0}

#: Life cycles of the test for leaks; `make soak` asks for more.
CYCLES = int(os.environ.get("LIFECYCLE_CYCLES", "6"))

#: The cycles after which memory may not grow any more, and by how much it may all the same.
SETTLED, GROWTH_MAX_MB = min(10, CYCLES // 2), 20

#: What a process holds goes up and down by some MB: this many cycles are taken together.
TOGETHER = 3

ASK = """
import rclpy, time
from explain_cnn_ros.srv import Explain
rclpy.init()
node = rclpy.create_node("caller")
client = node.create_client(Explain, "/explain_node/explain")
assert client.wait_for_service(60)
client.call_async(Explain.Request())
print("asked", flush=True)
time.sleep(600)
"""


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
    return graph.call(GetState, "/explain_node/get_state", GetState.Request()).current_state.id


def publish_until_decided(graph: Any, camera: Any, message: Any, decisions: list[Any]) -> None:
    before = len(decisions)

    def decided() -> bool:
        camera.publish(message)
        graph.spin(0.1)
        return len(decisions) > before

    graph.wait_for(decided, "a decision")


def resident_mb(pid: int) -> float:
    """Memory of a process that is its own: pages of files come and go."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1000


def test_missing_weights_leave_a_node_that_can_be_configured(graph, tmp_path):
    process = graph.start_node(weights=str(tmp_path / "none.safetensors"))
    assert state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    graph.wait_for(lambda: "configuring failed: no weights at" in graph.log, "the reason in the log")
    answer = graph.call(Explain, "/explain_node/explain", Explain.Request())
    assert "not active" in answer.message
    assert process.poll() is None
    assert not change(graph, Transition.TRANSITION_CONFIGURE)
    # The cure: the file is there now.
    from explain_cnn_ros.classifier import DEFAULT_WEIGHTS

    (tmp_path / "none.safetensors").symlink_to(DEFAULT_WEIGHTS)
    assert change(graph, *UP)
    assert state(graph) == State.PRIMARY_STATE_ACTIVE


def test_life_cycle_by_hand(graph, raw_image, picture):
    """Not started by itself, then configured, activated, cleaned up and brought back."""
    process = graph.start_node(autostart=False, **QUICK)
    for round_ in range(2):
        assert change(graph, *UP)
        request = Explain.Request(image=raw_image(picture(120, 100), stamp=round_), metrics=["activation_sum"])
        assert graph.call(Explain, "/explain_node/explain", request).success
        assert change(graph, *DOWN)
        refusal = graph.call(Explain, "/explain_node/explain", request)
        assert "the node is unconfigured, not active" in refusal.message
    assert graph.stop(process) == 0


def test_cycles_leak_nothing(graph):
    """With frames of a camera flowing all the time."""
    decisions = graph.collect(Classification, "/explain_node/classification", 1)
    process = graph.start_node(autostart=False, **QUICK)
    graph.start("--seconds", str(60 + 10 * CYCLES), module="tools.camera")
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
    settled = statistics.median(memory[SETTLED - TOGETHER : SETTLED])
    assert statistics.median(memory[-TOGETHER:]) - settled < GROWTH_MAX_MB, memory


def test_explanations_are_given_up_when_the_node_stops_working(graph, raw_image, picture):
    """Who waits hears so, in a moment; and the node can be brought back."""
    decisions = graph.collect(Classification, "/explain_node/classification")
    graph.start_node(**ENDLESS)
    camera = graph.publisher(Image, "/image")
    publish_until_decided(graph, camera, raw_image(picture(120, 100)), decisions)
    client = graph.node.create_client(Explain, "/explain_node/explain")
    graph.wait_for(client.service_is_ready, "the service")
    running, waiting = (client.call_async(Explain.Request(top_n=n)) for n in (5, 6))
    for _ in range(10):
        graph.spin(0.1)
    assert not running.done()
    assert change(graph, *DOWN)
    graph.wait_for(lambda: running.done() and waiting.done(), "answers", 10)
    for answer in (running, waiting):
        assert not answer.result().success
        assert answer.result().message == "the node stops working"
    assert change(graph, *UP)
    publish_until_decided(graph, camera, raw_image(picture(120, 100)), decisions)


def test_ends_in_the_middle_of_an_explanation(graph, raw_image, picture):
    decisions = graph.collect(Classification, "/explain_node/classification")
    process = graph.start_node(**ENDLESS)
    camera = graph.publisher(Image, "/image")
    publish_until_decided(graph, camera, raw_image(picture(120, 100)), decisions)
    client = graph.node.create_client(Explain, "/explain_node/explain")
    graph.wait_for(client.service_is_ready, "the service")
    answer = client.call_async(Explain.Request())
    for _ in range(10):
        graph.spin(0.1)
    assert not answer.done()
    start = time.monotonic()
    assert graph.stop(process) == 0, graph.log
    assert time.monotonic() - start < 20, "an explanation of an hour was waited for"
    assert "Traceback" not in graph.log


def test_a_caller_that_goes_away(graph, raw_image, picture):
    """Killed while its explanation is under way: the node goes on, and answers the next one."""
    decisions = graph.collect(Classification, "/explain_node/classification")
    process = graph.start_node(**(QUICK | {"explain__perturbations": 100}))
    camera = graph.publisher(Image, "/image", QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE))
    publish_until_decided(graph, camera, raw_image(picture(120, 100)), decisions)
    for round_ in range(2):
        caller = graph.start(code=ASK)
        graph.wait_for(lambda n=round_: graph.log.count("asked") > n, "a caller")
        caller.kill()
        caller.wait()
    answer = graph.call(Explain, "/explain_node/explain", Explain.Request(metrics=["activation_sum"]))
    assert answer.success, answer.message
    publish_until_decided(graph, camera, raw_image(picture(120, 100)), decisions)
    assert process.poll() is None
    assert "Traceback" not in graph.log
