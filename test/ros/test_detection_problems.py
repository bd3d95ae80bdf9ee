"""The problems with detections: each cause has its own sentence, with its remedy."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from explain_cnn_ros.bags.detection_types import OWN, ROI, VISION
from explain_cnn_ros.ros.detection_problems import (
    Matching,
    WatchedDetections,
    other_frame,
    refused,
    unavailable,
    unmatched,
)
from explain_cnn_ros.ros.problems import IMAGES, Problem

ABOUT = WatchedDetections("/detections", "/image", (VISION, OWN, ROI), (), {})
MATCHING = Matching(True, 1.0, 0.0, False, 5_000_001_000, 8_000_000_123)


def publishers(*types: str) -> list[Any]:
    return [SimpleNamespace(topic_type=kind, node_name="yolo") for kind in types]


def about(*types: str, **changes: Any) -> WatchedDetections:
    return dataclasses.replace(ABOUT, publishers=publishers(*types), **changes)


def text(problem: Problem | None) -> str:
    assert problem is not None
    assert problem.part == IMAGES
    return problem.text


@pytest.mark.parametrize(
    ("topics", "remedy"),
    [
        ({"/yolo": [VISION]}, "has no publisher, /yolo has: start the node with -r detections:=/yolo"),
        ({"/b": [ROI], "/a": [OWN]}, "has no publisher, /a, /b have: start the node with -r detections:=TOPIC"),
        ({"/image": ["sensor_msgs/msg/Image"]}, "no other topic has detections: start the detector"),
    ],
)
def test_no_publisher(topics: dict[str, list[str]], remedy: str) -> None:
    found = text(unavailable(dataclasses.replace(ABOUT, topics=topics)))
    assert found.startswith("regions is detections, but /detections has no publisher")
    assert remedy in found


@pytest.mark.parametrize(("distribution", "named"), [("", "jazzy"), ("jazzy", "jazzy"), ("kilted", "kilted")])
def test_a_type_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, distribution: str, named: str) -> None:
    """The remedy names the package of the ROS distribution that is in use."""
    monkeypatch.setenv("ROS_DISTRO", distribution)
    without = text(unavailable(about(VISION, installed=(OWN, ROI))))
    assert f"which is not installed here: install the package vision_msgs (ros-{named}-vision-msgs)" in without


def test_types() -> None:
    assert unavailable(about(OWN)) is None
    assert unavailable(about("std_msgs/msg/String", OWN)) is None
    assert unavailable(about(VISION, OWN, installed=(OWN, ROI))) is None
    other = text(unavailable(about("std_msgs/msg/String", "std_msgs/msg/Bool")))
    assert f"has the type std_msgs/msg/Bool, std_msgs/msg/String: publish {VISION} or {OWN}" in other


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        (
            {"arrived": False},
            "yolo publishes nothing on /detections: check that the detector runs, that it receives /image",
        ),
        ({"stamp": 0}, "the stamps on /detections are 0: let the detector copy the header"),
        ({"lateness": 1.44}, "arrive 1.4 s after their images, which wait for 1 s: raise the parameter "),
        ({"lateness": 1.44, "no_memory": True}, "the images need too much memory"),
        ({}, "the newest detections have 5.000001000, the newest image on /image has 8.000000123"),
    ],
)
def test_no_match(changes: dict[str, Any], cause: str) -> None:
    found = text(unmatched(about(OWN), dataclasses.replace(MATCHING, **changes), 7.2))
    assert found.startswith("no image has had detections for 7 s, so that none is decided; ")
    assert cause in found


def test_kinds_differ() -> None:
    cases = ({"arrived": False}, {"stamp": 0}, {"lateness": 1.0}, {})
    kinds = {unmatched(about(OWN), dataclasses.replace(MATCHING, **case), 7).kind for case in cases}
    assert len(kinds) == len(cases)


def test_another_frame_id_is_a_note() -> None:
    found = other_frame(about(OWN), "right", "left")
    assert found.note and "'right', that of the images 'left'" in found.text


def test_refused_boxes() -> None:
    found = text(refused("/detections", 12, "only 0.0% of the box"))
    assert found.startswith("boxes on /detections are refused (12 in total): only 0.0% of the box; check")
