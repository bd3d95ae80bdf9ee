"""Nodes as they are deployed: several of them, remapped, on a recording that starts again, under simulated time."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from explain_cnn_ros.msg import Classification, Explanation
from explain_cnn_ros.srv import Explain

ROOT = Path(__file__).parents[2]
STREET = "/camera/image_raw/compressed"

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]

#: An explanation in a fraction of a second.
QUICK = {"explain__perturbations": 2, "explain__layers": [3], "explain__metrics": ["activation_sum"]}


def seconds(message: Any) -> float:
    return message.header.stamp.sec + message.header.stamp.nanosec / 1e9


def test_two_nodes_in_two_namespaces(graph: Any, raw_image: Any, picture: Any) -> None:
    """Each with a camera of its own, one of them with remapped outputs as well: nobody hears the other."""
    decisions = {
        "front": graph.collect(Classification, "/front/explain_node/classification"),
        "rear": graph.collect(Classification, "/people/behind"),
    }
    reports = graph.collect(DiagnosticArray, "/diagnostics")
    remapped = {"front": (), "rear": ("-r", "~/classification:=/people/behind")}
    for name, more in remapped.items():
        graph.start_node(
            "-r", f"__ns:=/{name}", "-r", f"image:=/cameras/{name}", *more, confidence_threshold=0.0, **QUICK
        )
    cameras = {name: graph.publisher(Image, f"/cameras/{name}") for name in decisions}
    images = {
        "front": raw_image(picture(120, 100), stamp=1, frame_id="front_camera"),
        "rear": raw_image(picture(90, 160), stamp=2, frame_id="rear_camera"),
    }

    def both_decide() -> bool:
        for name, camera in cameras.items():
            camera.publish(images[name])
        graph.spin(0.1)
        return all(len(arrived) >= 3 for arrived in decisions.values())

    graph.wait_for(both_decide, "decisions of both")
    for name, arrived in decisions.items():
        assert all(d.header == images[name].header for d in arrived)
        answer = graph.call(Explain, f"/{name}/explain_node/explain", Explain.Request())
        assert answer.success, answer.message
        assert answer.explanation.header == images[name].header
        assert (answer.explanation.image_width, answer.explanation.image_height) == (
            images[name].width,
            images[name].height,
        )

    def names() -> set[str]:
        return {status.name.partition(":")[0] for report in reports for status in report.status}

    graph.wait_for(lambda: names() == {"/front/explain_node", "/rear/explain_node"}, "reports of both")


def test_a_looped_recording_under_simulated_time(graph: Any) -> None:
    """Time jumps back whenever the recording starts again: the cooldown of an hour does not outlast it."""
    decisions = graph.collect(Classification, "/explain_node/classification")
    explanations = graph.collect(Explanation, "/explain_node/explanation")
    images = graph.collect(CompressedImage, "/replayed")
    graph.start_node(
        *("-r", "image/compressed:=/replayed"),
        use_sim_time=True,
        image_transport="compressed",
        confidence_threshold=1.0,
        explain_cooldown=3600.0,
        **QUICK,
    )
    graph.start(
        *(str(ROOT / "sample/street"), "--loop", "--clock", "100", "--rate", "4"),
        *("--remap", f"{STREET}:=/replayed", "--wait-for-subscribers", "60"),
        module="explain_cnn_ros.ros.player",
    )

    def jumps() -> int:
        stamps = [seconds(d) for d in decisions]
        return sum(later < earlier for earlier, later in itertools.pairwise(stamps))

    graph.wait_for(lambda: jumps() >= 2 and len(explanations) >= 3, "an explanation in each of three rounds", 90)
    assert len(explanations) <= jumps() + 2
    assert {seconds(d) for d in decisions} <= {seconds(i) for i in images}
    assert all(e.trigger == Explanation.TRIGGER_LOW_CONFIDENCE for e in explanations)


def test_a_clock_that_jumps_back(graph: Any, raw_image: Any, picture: Any) -> None:
    """The cooldown is by the node's clock, and starts anew; reports go on, with a clock that stands still as well."""
    explanations = graph.collect(Explanation, "/explain_node/explanation")
    reports = graph.collect(DiagnosticArray, "/diagnostics")
    parameters = QUICK | {"use_sim_time": True, "confidence_threshold": 1.0, "explain_cooldown": 100.0}
    graph.start_node(**parameters)
    clock, camera = graph.publisher(Clock, "/clock"), None

    def show(now: int, count: int) -> None:
        """Frames at a time, until there are as many explanations; and a second more."""
        nonlocal camera
        camera = camera or graph.publisher(Image, "/image")
        message, tick = raw_image(picture(100, 90), stamp=now), Clock()
        tick.clock.sec = now

        def there() -> bool:
            clock.publish(tick)
            graph.spin(0.1)
            camera.publish(message)
            graph.spin(0.1)
            return len(explanations) >= count

        graph.wait_for(there, f"explanation {count}")
        for _ in range(5):
            there()
        assert len(explanations) == count

    show(1000, 1)
    show(1050, 1)
    show(1101, 2)
    show(10, 3)
    show(60, 3)
    show(111, 4)
    before = len(reports)
    graph.wait_for(lambda: len(reports) >= before + 2, "reports")
    assert reports[-1].header.stamp.sec == 111
