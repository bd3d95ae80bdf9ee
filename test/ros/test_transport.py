"""Raw camera images from another process, with the Fast DDS profile that ships and without a profile.

How many images arrive depends on the machine, and is measured by bench/node.py. At any speed, the images that arrive
are counted, and the node reports the others as lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from explain_cnn_ros.msg import Classification
from explain_cnn_ros.ros.transport import VARIABLES, loss_hint

ROOT = Path(__file__).parents[2]
PROFILE = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "config/fastdds.xml")}
NO_PROFILE = {"FASTRTPS_DEFAULT_PROFILES_FILE": ""}

#: Arguments of a node that explains nothing without a request.
QUIET = ("--ros-args", "-p", "confidence_threshold:=0.0")

#: Arguments of a camera, by the reliability that it offers.
CAMERAS = {"reliable": (), "best_effort": ("--best-effort",)}

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]


@pytest.fixture(scope="module", params=CAMERAS)
def reliability(request: Any) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def processes(new_processes_of: Callable[[str], Any], reliability: str) -> Any:
    """A node for each reliability: it subscribes as the first publisher offers."""
    found = new_processes_of(reliability)
    found.start(*QUIET, **PROFILE)
    return found


class Reports:
    """The node's reports, and what they say of images and of decisions."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._arrays = graph.collect(DiagnosticArray, "/diagnostics")
        self.next()

    def next(self) -> None:
        """Wait for a report that was made after this call."""
        seen = len(self._arrays)
        # The first one may be on its way already.
        self._graph.wait_for(lambda: len(self._arrays) >= seen + 2, "reports")

    @property
    def problem(self) -> str:
        return str(self._arrays[-1].status[0].message)

    def value(self, name: str) -> str:
        values = {item.key: item.value for status in self._arrays[-1].status[:2] for item in status.values}
        return values[name]

    def counts(self) -> dict[str, int]:
        return {name: int(self.value(name)) for name in ("received", "classified", "dropped, since a newer frame came")}


@pytest.mark.parametrize("size", ["640x480", "1280x720"])
def test_images_of_another_process_are_counted(shared_graph: Any, reliability: str, size: str) -> None:
    """Each image that arrives is decided, or dropped for a newer one."""
    reports = Reports(shared_graph)
    before = reports.counts()
    decisions = shared_graph.collect(Classification, "/explain_node/classification", 1000)
    arguments = ("--size", size, "--seconds", "2", *CAMERAS[reliability])
    camera = shared_graph.start(*arguments, module="tools.camera", **PROFILE)
    shared_graph.wait_for(lambda: camera.poll() is not None, "the camera's end")
    assert camera.returncode == 0, shared_graph.log

    def settled() -> bool:
        reports.next()
        more = {name: count - before[name] for name, count in reports.counts().items()}
        received = more.pop("received")
        return 0 < received <= 60 and received == sum(more.values())

    shared_graph.wait_for(settled, "counts that add up")
    assert reports.value("reliability") == reliability
    width, height = map(int, size.split("x"))
    assert all((d.image_width, d.image_height) == (width, height) for d in decisions)


def publish_one_by_one(graph: Any, stamps: list[float], raw_image: Any, reliability: str) -> None:
    """Publish images with stamps in seconds, each after the decision about the one before: all of them arrive."""
    decisions = graph.collect(Classification, "/explain_node/classification")
    # The node subscribes as its publishers offer.
    policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    camera = graph.publisher(Image, "/image", QoSProfile(depth=10, reliability=policy))
    for stamp in stamps:
        message = raw_image(np.full((90, 60, 3), 127, np.uint8))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(round(stamp * 1e9), 10**9)
        seen = len(decisions)
        # A first image may be lost, since the node discovers the publisher later than the reverse.
        for _ in range(100):
            camera.publish(message)
            end = graph.node.get_clock().now().nanoseconds + 2 * 10**9
            while len(decisions) == seen and graph.node.get_clock().now().nanoseconds < end:
                graph.spin()
            if len(decisions) > seen:
                break
        assert decisions[-1].header == message.header


#: Stamps at a tenth of a second, of which three fifths are missing without any pattern.
WITH_GAPS = [1000 + 0.1 * index for index in sorted(random.Random(1).sample(range(125), 50))]
WITHOUT_GAPS = [2000 + index * 0.1 for index in range(40)]


def check_loss(graph: Any, raw_image: Any, reliability: str) -> str:
    """Three of five images are missing, and then none. Return the problem that is reported at first."""
    publish_one_by_one(graph, WITH_GAPS, raw_image, reliability)
    reports = Reports(graph)
    assert float(reports.value("lost on the way (%)")) == pytest.approx(60, abs=3)
    problem = reports.problem
    assert "of the frames on /image are lost on the way here" in problem
    publish_one_by_one(graph, WITHOUT_GAPS, raw_image, reliability)
    reports.next()
    assert float(reports.value("lost on the way (%)")) == 0
    assert "lost" not in reports.problem
    return problem


def test_loss_is_reported(shared_graph: Any, raw_image: Any, reliability: str) -> None:
    problem = check_loss(shared_graph, raw_image, reliability)
    assert "the machine may be too busy" in problem
    assert ("use a reliable publisher" in problem) == (reliability == "best_effort")
    assert "config/fastdds.xml" not in problem


def test_loss_without_the_profile_is_reported_with_the_remedy(graph: Any, raw_image: Any) -> None:
    graph.start(*QUIET, **NO_PROFILE)
    problem = check_loss(graph, raw_image, "reliable")
    assert "config/fastdds.xml" in problem
    graph.wait_for(lambda: "are lost on the way here" in graph.log, "the same in the log")


@pytest.mark.parametrize("middleware", ["rmw_cyclonedds_cpp", "rmw_zenoh_cpp"])
@pytest.mark.parametrize("profile", ["", "profile.xml"])
def test_another_middleware_needs_no_profile_of_fast_dds(
    monkeypatch: pytest.MonkeyPatch, middleware: str, profile: str
) -> None:
    monkeypatch.setenv(VARIABLES[0], profile)
    for hint in (loss_hint(middleware, "reliable"), loss_hint(middleware, "best_effort")):
        assert "net.core.rmem_max" in hint
        assert middleware in hint
        assert "Fast DDS" not in hint
        assert not any(name in hint for name in VARIABLES)


@pytest.mark.parametrize(("distribution", "name"), [("jazzy", VARIABLES[0]), ("kilted", VARIABLES[1])])
def test_the_variable_that_the_distribution_knows(
    monkeypatch: pytest.MonkeyPatch, distribution: str, name: str
) -> None:
    monkeypatch.setenv("ROS_DISTRO", distribution)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert loss_hint("rmw_fastrtps_cpp", "reliable").startswith(f"set {name}=")
    monkeypatch.setenv(name, "profile.xml")
    assert "the camera's process may lack the Fast DDS profile" in loss_hint("rmw_fastrtps_cpp", "reliable")
    assert "use a reliable publisher" in loss_hint("rmw_fastrtps_cpp", "best_effort")
