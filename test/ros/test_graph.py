"""The problems that `doctor` finds in the ROS graph, in the words of the node."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image

from explain_cnn_ros.ros import doctor, problems, source
from explain_cnn_ros.ros import graph as examined
from explain_cnn_ros.ros.problems import COMPRESSED, RAW, Problem
from explain_cnn_ros.srv import Explain

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras that are silent for half as long as usual have a problem."""
    for module in (source, examined):
        monkeypatch.setattr(module, "SILENCE", 2.5)


def node_of_the_package(partner: Any, name: str) -> Node:
    """Create a node that is recognised as one of this package."""
    node = Node(name, context=partner.context, start_parameter_services=False)
    node.create_service(Explain, "~/explain", lambda request, response: response)
    partner.add(node)
    return node


def found(partner: Any, tick: Any = lambda: None) -> list[Problem]:
    """Examine the graph while the partner spins, and calls `tick` about ten times a second."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(examined.graph_problems, partner.context.get_domain_id())
        while not result.done():
            tick()
            partner.spin(0.1)
        return result.result()


def test_nothing_is_there(graph: Any) -> None:
    assert found(graph) == [problems.no_node({})]


def test_cameras_without_a_node(graph: Any, raw_image: Any) -> None:
    """One sets no stamps, two share a topic, one is silent, one has latched its image. There is a fifth topic."""
    partner, picture = graph, np.full((9, 6, 3), 127, np.uint8)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    unset, shared = (partner.node.create_publisher(Image, name, 10) for name in ("/unset", "/shared"))
    for name in ("/silent", "/unused"):
        partner.node.create_publisher(Image, name, 10)
    still = partner.node.create_publisher(Image, "/still", latched)
    still.publish(raw_image(picture, int(partner.node.get_clock().now().nanoseconds / 1e9)))
    count = 0

    def tick() -> None:
        nonlocal count
        message = raw_image(picture, 0)
        message.header.stamp.nanosec = 0
        unset.publish(message)
        now = int(partner.node.get_clock().now().nanoseconds / 1e9)
        shared.publish(raw_image(picture, now, ("left", "right")[count % 2]))
        count += 1

    texts = {problem.kind: problem for problem in found(partner, tick)}
    assert set(texts) == {"no node", "stamps of 0", "several cameras", "silent", "latched", "not examined"}
    assert texts["not examined"].text == "not examined: /unused"
    assert "for /shared, /silent, /still with -r image:=TOPIC" in texts["no node"].text
    assert texts["several cameras"] == problems.several_cameras("/shared", ["left", "right"], ["partner"])
    assert "/unset are 0: results cannot be assigned" in texts["stamps of 0"].text
    assert "/silent" in texts["silent"].text and "its publishers are silent (partner reliable)" in texts["silent"].text
    assert "/still" in texts["latched"].text and texts["latched"].note


def test_cameras_of_one_frame_id(graph: Any, raw_image: Any) -> None:
    """Two of them share a topic, and their stamps rise. A third one begins again and again."""
    partner, picture = graph, np.full((9, 6, 3), 127, np.uint8)
    shared = [partner.node.create_publisher(Image, "/shared", 10) for _ in range(2)]
    looping = partner.node.create_publisher(Image, "/looping", 10)
    count = 0

    def tick() -> None:
        nonlocal count
        now = int(partner.node.get_clock().now().nanoseconds / 1e9)
        shared[count % 2].publish(raw_image(picture, now))
        looping.publish(raw_image(picture, now - (count % 2)))
        count += 1

    texts = [problem.text for problem in found(partner, tick) if problem.kind == "several cameras"]
    assert texts == [problems.several_cameras("/shared", ["camera"], ["partner"]).text]


def test_nodes_and_what_they_report(graph: Any) -> None:
    """One reports a problem, and two of one name report nothing."""
    partner = graph
    node_of_the_package(partner, "well")
    for _ in range(2):
        node_of_the_package(partner, "mute")
    diagnostics = partner.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    clock = problems.clock(True, 0, 0)
    assert clock is not None
    statuses = [
        DiagnosticStatus(name="/well: images", level=DiagnosticStatus.OK, message="10 frames/s"),
        DiagnosticStatus(name="/well: classification", level=DiagnosticStatus.WARN, message=clock.text),
        DiagnosticStatus(name="/other: images", level=DiagnosticStatus.WARN, message="not of this package"),
    ]
    result = found(partner, lambda: diagnostics.publish(DiagnosticArray(status=statuses)))
    assert [problem.text for problem in result] == [
        problems.namesakes("/mute", 2).text,
        problems.no_report("/mute").text,
        f"/well: classification: {clock.text}",
    ]


def test_how_to_start_the_node() -> None:
    topics = {"/cam": [RAW], "/cam/compressed": [COMPRESSED]}
    assert problems.no_node(topics).text == (
        "no node of this package is running: start it for /cam with -r image:=/cam, or for /cam/compressed with "
        "-p image_transport:=compressed -r image/compressed:=/cam/compressed"
    )
    assert "no topic has images: start the camera" in problems.no_node({}).text


def test_the_lines_of_doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {"graph": doctor.check_graph})
    monkeypatch.setattr(
        examined,
        "graph_problems",
        lambda: [Problem("images", "one", "first"), Problem("images", "two", "second", True)],
    )
    assert doctor.main([]) == 0
    lines = [" warning  graph          first", "      ok  graph          second", "0 missing, 1 warnings", ""]
    assert capsys.readouterr().out == "\n".join(lines)
    monkeypatch.setattr(examined, "graph_problems", list)
    doctor.main([])
    assert "ok  graph          the nodes and cameras that are running report no problem" in capsys.readouterr().out
