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
