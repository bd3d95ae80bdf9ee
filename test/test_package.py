"""What is written down in more than one place is the same everywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import explain_cnn_ros

ROOT = Path(__file__).parents[1]


def setup_says(what: str) -> str:
    """What setup.py answers to, for instance, --version."""
    # Elsewhere, since setuptools would read this folder's pyproject.toml and leave an egg-info.
    command = [sys.executable, str(ROOT / "setup.py"), "--quiet", what]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]


def test_version_is_the_same_everywhere():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("version") == explain_cnn_ros.__version__
    assert setup_says("--version") == explain_cnn_ros.__version__


def test_name_and_licence_are_the_same_everywhere():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("name") == setup_says("--name") == explain_cnn_ros.__name__
    assert package.findtext("license") == setup_says("--license") == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_cmake_names_every_interface():
    named = set(re.findall(r'"((?:msg|srv)/\w+\.(?:msg|srv))"', (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")))
    there = {f"{path.parent.name}/{path.name}" for path in [*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")]}
    assert named == there


def test_cmake_installs_every_executable():
    programs = re.search(r"install\(\s*PROGRAMS(.+?)DESTINATION", (ROOT / "CMakeLists.txt").read_text("utf-8"), re.S)
    assert programs is not None
    scripts = list((ROOT / "scripts").iterdir())
    assert set(programs[1].split()) == {f"scripts/{path.name}" for path in scripts}
    assert all(os.access(path, os.X_OK) for path in scripts)


def test_requirements_are_pinned():
    for path in (ROOT / "requirements").glob("*.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            requirement = line.split("#")[0].strip()
            assert not requirement or re.match(r"[\w.-]+==[\w.]+(; .+)?$", requirement), f"{path.name}: {line}"
