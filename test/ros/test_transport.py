"""Raw camera images from another process, through the Fast DDS profile that ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray

ROOT = Path(__file__).parents[2]
PROFILE = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "config/fastdds.xml")}

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]


def images(reports: list[Any]) -> dict[str, str]:
    """What the node's newest report says of its images."""
    if not reports:
        return {}
    return {item.key: item.value for item in reports[-1].status[0].values}


@pytest.mark.parametrize("size", ["640x480", "1280x720"])
@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_every_image_arrives(graph, size: str, reliability: str) -> None:
    """At 30 Hz. What does not is not counted as received."""
    reports = graph.collect(DiagnosticArray, "/diagnostics")
    graph.start("--ros-args", "-p", "confidence_threshold:=0.0", **PROFILE)
    flags = ["--best-effort"] if reliability == "best_effort" else []
    camera = graph.start("--size", size, "--seconds", "3", *flags, module="tools.camera", **PROFILE)
    graph.wait_for(lambda: camera.poll() is not None, "the camera's end")
    assert camera.returncode == 0, graph.log
    graph.wait_for(lambda: int(images(reports).get("received", 0)) >= 90, f"90 images, {images(reports)}", 5)
    assert images(reports)["reliability"] == reliability
    assert images(reports)["received"] == "90"
    assert float(images(reports)["lost on the way (%)"]) == 0


def test_loss_without_the_profile_is_noticed(graph) -> None:
    """As Fast DDS comes, most large best-effort images are lost: the node says so, and what to do."""
    reports = graph.collect(DiagnosticArray, "/diagnostics")
    bare = {"FASTRTPS_DEFAULT_PROFILES_FILE": ""}
    graph.start("--ros-args", "-p", "confidence_threshold:=0.0", **bare)
    said: set[str] = set()
    camera = graph.start("--size", "1280x720", "--seconds", "5", "--best-effort", module="tools.camera", **bare)

    def ended() -> bool:
        said.update(status.message for report in reports for status in report.status[:1])
        return camera.poll() is not None

    graph.wait_for(ended, "the camera's end")
    assert camera.returncode == 0, graph.log
    received = int(images(reports)["received"])
    if received < 0.8 * 150:
        (problem, *_) = [text for text in said if "are lost on the way here" in text]
        assert "config/fastdds.xml" in problem
    else:
        assert not [text for text in said if "are lost on the way here" in text]
