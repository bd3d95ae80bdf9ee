"""The report of `doctor` about this machine, and about one that lacks something."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from explain_cnn_ros.ros import doctor


def test_a_machine_that_passes_the_tests_lacks_nothing_that_they_need() -> None:
    assert doctor.check_weights().level in ("ok", "warning")
    assert "weights" in doctor.check_weights().text
    for name in ("numpy", "opencv", "torch", "torchvision", "safetensors", "pyarrow", "device", "detections"):
        assert doctor.CHECKS[name]().level == "ok", name


def test_what_is_missing_is_named_with_its_cure(monkeypatch, capsys) -> None:
    def refuse(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert doctor.main([]) == 1
    said = capsys.readouterr().out
    assert "missing  rclpy          rclpy: ImportError: No module named 'rclpy'" in said
    name = os.environ.get("ROS_DISTRO") or "jazzy"
    assert f"-> install ROS 2 {name.title()} and source /opt/ros/{name}/setup.bash" in said
    # A library that only some commands need is no reason to fail.
    assert "warning  rosbags" in said
    assert "warning  torchvision" in said
    assert "ok  detections     vision_msgs is not installed" in said


def test_a_check_that_fails_does_not_end_the_others(monkeypatch, capsys) -> None:
    def fail() -> doctor.Finding:
        raise OSError("no such device")

    monkeypatch.setattr(doctor, "CHECKS", {"one": fail, "other": doctor.check_python})
    assert doctor.main([]) == 0
    said = capsys.readouterr().out
    assert "the check itself failed: OSError: no such device" in said
    assert "Python 3" in said


@pytest.mark.parametrize(("there", "level"), [(True, "ok"), (False, "missing")])
def test_the_middlewares_profile(monkeypatch, tmp_path: Path, there: bool, level: str) -> None:
    profile = tmp_path / "profile.xml"
    if there:
        profile.write_text("<dds/>")
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))
    assert doctor.check_middleware().level == level
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE")
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)
    assert "config/fastdds.xml" in doctor.check_middleware().cure


@pytest.mark.parametrize(("distribution", "level"), [("jazzy", "warning"), ("kilted", "ok"), ("rolling", "ok")])
def test_a_profile_that_fast_dds_2_does_not_load(monkeypatch, tmp_path: Path, distribution: str, level: str) -> None:
    (tmp_path / "profile.xml").write_text("<dds/>")
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    monkeypatch.setenv("ROS_DISTRO", distribution)
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "")
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(tmp_path / "profile.xml"))
    finding = doctor.check_middleware()
    assert finding.level == level
    if level != "ok":
        assert "Fast DDS of ROS 2 Jazzy does not know FASTDDS_DEFAULT_PROFILES_FILE" in finding.text
        assert finding.cure.startswith("set FASTRTPS_DEFAULT_PROFILES_FILE=")


BUILTIN = "<dds><participant><useBuiltinTransports>{}</useBuiltinTransports></participant></dds>"
SHIPPED = (Path(__file__).parents[2] / "config/fastdds.xml").read_text()


@pytest.mark.parametrize(
    ("content", "transports", "level"),
    [
        (SHIPPED, "LARGE_DATA", "warning"),
        (SHIPPED, "", "ok"),
        (BUILTIN.format("\n false "), "UDPv4", "warning"),
        (BUILTIN.format("true"), "UDPv4", "ok"),
        (f"<!-- {BUILTIN.format('false')}\n--><dds/>", "UDPv4", "ok"),
    ],
)
def test_transports_that_the_profile_replaces(
    monkeypatch, tmp_path: Path, content: str, transports: str, level: str
) -> None:
    (tmp_path / "profile.xml").write_text(content)
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(tmp_path / "profile.xml"))
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", transports)
    finding = doctor.check_middleware()
    assert finding.level == level
    assert (f"FASTDDS_BUILTIN_TRANSPORTS={transports} has no effect" in finding.text) == (level == "warning")


@pytest.mark.parametrize("name", ["rmw_cyclonedds_cpp", "rmw_zenoh_cpp"])
def test_another_middleware_needs_no_profile(monkeypatch, name: str) -> None:
    monkeypatch.setenv("RMW_IMPLEMENTATION", name)
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/nowhere")
    finding = doctor.check_middleware()
    assert (finding.level, finding.cure) == ("ok", "")
    assert name in finding.text


@pytest.mark.parametrize(
    ("reach", "local", "level", "text"),
    [
        ("", "", "ok", "discovery SUBNET"),
        ("SUBNET", "0", "ok", "discovery SUBNET"),
        ("LOCALHOST", "", "ok", "discovery LOCALHOST"),
        ("SYSTEM_DEFAULT", "", "ok", "discovery SYSTEM_DEFAULT"),
        ("", "1", "ok", "discovery LOCALHOST (by ROS_LOCALHOST_ONLY)"),
        ("LOCALHOST", "1", "ok", "discovery LOCALHOST"),
        ("SUBNET", "1", "warning", "ROS_LOCALHOST_ONLY=1 replaces ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET"),
        ("subnet", "", "warning", "ROS_AUTOMATIC_DISCOVERY_RANGE=subnet is unknown and counts as LOCALHOST"),
        ("OFF", "", "warning", "ROS_AUTOMATIC_DISCOVERY_RANGE=OFF: no node finds another one"),
    ],
)
def test_the_range_of_the_discovery(monkeypatch, reach: str, local: str, level: str, text: str) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", reach)
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", local)
    finding = doctor.check_domain()
    assert finding.level == level
    assert text in finding.text
    assert bool(finding.cure) == (level == "warning")


@pytest.mark.parametrize(
    ("domain", "level"), [("0", "ok"), ("", "ok"), ("101", "ok"), ("many", "missing"), ("999", "missing")]
)
def test_the_domain(monkeypatch, domain: str, level: str) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    assert doctor.check_domain().level == level


WITHOUT = """
import sys

for name in ("rclpy", "torch", "numpy", "cv2"):
    sys.modules[name] = None
from explain_cnn_ros.ros.doctor import main

sys.exit(main([]))
"""


def test_runs_with_nothing_but_python() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    for name in ("rclpy", "torch", "numpy", "opencv", "weights"):
        assert re.search(rf"^ missing  {name} ", done.stdout, re.M), name
    assert "Traceback" not in done.stderr
