"""The sentences about problems: each has a cause and a remedy that can be followed; and how often the log has them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

import rclpy.logging
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from explain_cnn_ros.ros import problems
from explain_cnn_ros.ros.problems import COMPRESSED, RAW, Announcer, Problem, WatchedTopic

NOW = 1_750_000_000 * 10**9


def publisher(kind: str = RAW, reliable: bool = True, latched: bool = False) -> Any:
    profile = SimpleNamespace(
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
    return SimpleNamespace(node_name="camera", topic_type=kind, qos_profile=profile)


def topic(*publishers: Any, raw: bool = True, **changes: Any) -> WatchedTopic:
    name = "image" if raw else "image/compressed"
    values = {
        "topic": f"/{name}",
        "remapped": name,
        "raw": raw,
        "reliability": "reliable",
        "publishers": publishers,
        "received": False,
        "topics": {},
    }
    return WatchedTopic(**(values | changes))


@pytest.mark.parametrize(
    ("about", "kind", "text"),
    [
        (topic(), "no publisher", "it has no publisher, and no other topic has images: start the camera"),
        (
            topic(raw=False, topics={"/cam/image_raw/compressed": [COMPRESSED], "/cam/image_raw": [RAW]}),
            "no publisher",
            "it has no publisher, /cam/image_raw/compressed has: start the node with "
            "-r image/compressed:=/cam/image_raw/compressed",
        ),
        (
            topic(topics={"/a": [RAW], "/b": [RAW]}),
            "no publisher",
            "it has no publisher, /a, /b has: start the node with -r image:=TOPIC",
        ),
        (
            topic(raw=False, topics={"/cam/image_raw": [RAW]}),
            "no publisher",
            "/cam/image_raw has the type sensor_msgs/msg/Image: start the node with -p image_transport:=raw "
            "-r image:=/cam/image_raw",
        ),
        (
            topic(publisher(COMPRESSED)),
            "type",
            "its type is sensor_msgs/msg/CompressedImage, not sensor_msgs/msg/Image: start the node with -r "
            "image:=TOPIC for another topic, or with -p image_transport:=compressed -r image/compressed:=/image",
        ),
        (topic(publisher("std_msgs/msg/String")), "type", "start the node with -r image:=TOPIC for another topic"),
        (
            topic(publisher(reliable=False)),
            "qos",
            "the node requests reliable, the publishers offer: camera best_effort; the parameter reliability is "
            "read-only: start the node with -p reliability:=auto",
        ),
        (topic(publisher()), "silent", "its publishers are silent (camera reliable): check that the camera is running"),
        (topic(publisher(latched=True)), "silent", "its publishers are silent"),
        # Discovery needs no shared memory, so that nothing else tells this case apart.
        (topic(publisher()), "silent", "in another container or as another user, let both share memory"),
        (topic(publisher(latched=True), received=True), "latched", "latches its last image, which has arrived"),
    ],
)
def test_silence(about: WatchedTopic, kind: str, text: str) -> None:
    problem = problems.silence(about, 7.2)
    assert problem.kind == kind
    assert problem.text.startswith(f"no image on {about.topic} for 7 s; ")
    assert text in problem.text
    assert problem.note == (kind == "latched")


@pytest.mark.parametrize(
    ("stamp", "age", "simulated", "kind"),
    [
        (NOW, 0.1, False, ""),
        (NOW, -0.2, False, ""),
        (0, 1.75e9, False, "stamps of 0"),
        (5 * 10**9, 1.75e9, False, "stamps since boot"),
        (5 * 10**9, 0.1, True, ""),  # a recording of a simulation, whose clock begins at 0
        (NOW, 12.0, False, "stamps behind"),
        (NOW, -300.0, False, "stamps ahead"),
        (NOW, 3e7, False, "recorded stamps"),
        (NOW, 3e7, True, "stamps behind"),
    ],
)
def test_stamps(stamp: int, age: float, simulated: bool, kind: str) -> None:
    problem = problems.stamps("/image", stamp, age, simulated)
    assert (problem.kind if problem else "") == kind
    if problem:
        assert problem.text.startswith("the stamps of the images on /image are ") or kind == "stamps since boot"
        assert problem.note == (kind == "recorded stamps"), "an ordinary recording is no fault"


def test_an_image_that_was_latched_may_be_old() -> None:
    assert problems.stamps("/image", NOW, 3600.0, False, late=math.inf) is None


@pytest.mark.parametrize(
    ("calibrated", "kind", "text"),
    [
        ({"camera": True}, "", ""),
        ({"camera": True, "left": False}, "", ""),
        (
            {},
            "no calibration",
            "no markers, since nothing has arrived on /camera_info: start the node with -r camera_info",
        ),
        ({"left": True}, "frame_ids differ", "frame_ids differ: 'camera' on /image, 'left' on /camera_info"),
        ({"camera": False}, "not calibrated", "has no projection (P is zero): calibrate the camera"),
    ],
)
def test_calibrations(calibrated: dict[str, bool], kind: str, text: str) -> None:
    problem = problems.calibration("/camera_info", "/image", "camera", calibrated)
    assert (problem.kind if problem else "") == kind
    assert text in (problem.text if problem else "")


def test_the_node_in_the_graph() -> None:
    assert problems.namesakes("/explain_node", 1) is None
    two = problems.namesakes("/explain_node", 2)
    assert two is not None and two.text.startswith("2 nodes have the name /explain_node")
    assert problems.clock(False, 0, 0) is problems.clock(True, 1, 0) is None
    still = problems.clock(True, 0, 0)
    assert still is not None and "use_sim_time is true, but /clock has no publisher" in still.text
    silent = problems.clock(True, 0, 1)
    assert silent is not None and "/clock has not had a message" in silent.text
    other = problems.clock(True, 0, 0, "recordings", "nothing ends")
    assert other is not None and other.part == "recordings" and "stays 0, and nothing ends; play" in other.text
    mixed = problems.several_cameras("/image", ["left", "right"], ["one", "two"])
    assert "'left', 'right' arrive in turn on /image, from one, two" in mixed.text
    alike = problems.several_cameras("/image", ["camera"], ["two", "one"])
    assert "of several publishers with the frame_id 'camera' arrive in turn on /image, from one, two" in alike.text


def test_problems_are_logged_at_once_and_repeated_after_a_while() -> None:
    now, said = [0.0], []
    announcer = Announcer(lambda text: said.append(f"W {text}"), lambda text: said.append(f"I {text}"), lambda: now[0])

    def tick(seconds: float, *found: Problem) -> list[str]:
        now[0] += seconds
        said.clear()
        announcer.announce(found)
        return list(said)

    silent, lost = Problem("images", "silent", "silent for 5 s"), Problem("images", "lost", "lost")
    note = Problem("images", "latched", "latched", note=True)
    assert tick(0, silent) == ["W silent for 5 s"]
    later = Problem("images", "silent", "silent for 6 s")
    assert tick(1, later, lost, note) == ["W lost", "I latched"]
    assert tick(18, later, lost, note) == []
    assert tick(1, later, lost, note) == ["W silent for 6 s"]
    assert tick(problems.REPEAT, lost, note) == ["W lost"], "a note is logged once"
    assert tick(problems.REPEAT) == []
    assert tick(1, note, silent) == ["I latched", "W silent for 5 s"], "they have been away meanwhile"


def test_problems_and_notes_go_through_one_logger_of_rclpy() -> None:
    """A logger refuses another severity from the same line of code."""
    logger = rclpy.logging.get_logger("test_problems")
    announcer = Announcer(logger.warning, logger.info)
    announcer.announce([Problem("images", "silent", "silent"), Problem("images", "latched", "latched", note=True)])
