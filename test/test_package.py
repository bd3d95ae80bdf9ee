"""Facts that are written in more than one place are the same everywhere."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import setuptools

import explain_cnn_ros

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def declared() -> dict[str, Any]:
    """The arguments that setup.py gives to setuptools."""
    with pytest.MonkeyPatch.context() as patch:
        found: dict[str, Any] = {}
        patch.setattr(setuptools, "setup", lambda **arguments: found.update(arguments))
        patch.chdir(ROOT)
        source = (ROOT / "setup.py").read_text(encoding="utf-8")
        exec(compile(source, "setup.py", "exec"), {"__file__": str(ROOT / "setup.py"), "__name__": "__main__"})
    return found


def test_version_is_the_same_everywhere(declared):
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("version") == explain_cnn_ros.__version__ == declared["version"]
    assert f"## [{explain_cnn_ros.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {explain_cnn_ros.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_name_and_licence_are_the_same_everywhere(declared):
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("name") == declared["name"] == explain_cnn_ros.__name__
    assert package.findtext("license") == declared["license"] == "Apache-2.0"
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


def test_pip_installs_every_file_that_the_package_needs(declared):
    assert {"explain_cnn_ros.explain.vgg", "explain_cnn_ros.draw", "explain_cnn_ros.ros"} <= set(declared["packages"])
    package = ROOT / "explain_cnn_ros"
    data = {path for pattern in declared["package_data"]["explain_cnn_ros"] for path in package.glob(pattern)}
    others = {p for p in package.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert others <= data, "package_data lacks files"
    assert package / "py.typed" in data


def distribution(requirement: str) -> str:
    """Name of a requirement's distribution."""
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return found[0].lower()


def imported(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found


def test_pip_requires_what_the_package_imports(declared):
    """Requirements and extras name every library that a room imports, and nothing else."""
    required = {distribution(r) for r in declared["install_requires"]}
    extras = {name: {distribution(r) for r in needed} for name, needed in declared["extras_require"].items()}
    modules = {"cv2": "opencv-python", "matplotlib": "matplotlib"}
    rooms = {
        "": ("model", "scan", "explain", "draw", "training"),
        "bags": ("bags",),
        "cluster": ("analysis",),
        "experiments": ("experiments",),
    }
    used_by_core = set()
    for extra, names in rooms.items():
        for name in names:
            for path in (ROOT / "explain_cnn_ros" / name).rglob("*.py"):
                for module in imported(path):
                    if module in sys.stdlib_module_names or module in ("explain_cnn_ros", "typing_extensions"):
                        continue
                    # The bags' decompressors come with rosbags.
                    if module in ("lz4", "zstandard", "backports", "compression", "ruamel"):
                        continue
                    library = modules.get(module, module)
                    # Only networks of torchvision need torchvision, which is imported when one is built.
                    offered = required | extras[extra or "networks"]
                    assert library in offered, f"{path.name} imports {module}"
                    if not extra:
                        used_by_core.add(library)
    assert required <= used_by_core | {"numpy", "tqdm"}, "a requirement that nothing imports"


def test_the_console_script_runs_every_command(declared):
    (script,) = declared["entry_points"]["console_scripts"]
    name, _, target = script.partition(" = ")
    module, _, function = target.partition(":")
    assert name == "explain-cnn"
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").iterdir()))
def test_executables_import_what_is_there(script):
    """Each executable only imports a main function, and calls it, or has that done by `start`."""
    text = (ROOT / "scripts" / script).read_text(encoding="utf-8")
    found = re.search(r"from ([\w.]+) import main|start\(\"([\w.]+)\"\)", text)
    assert found is not None
    path = ROOT / Path(*(found[1] or found[2]).split(".")).with_suffix(".py")
    assert re.search(r"^def main\(", path.read_text(encoding="utf-8"), re.M), f"{path} has no main"


def test_version_option_is_answered():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/explain-cnn"), "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"explain-cnn {explain_cnn_ros.__version__}\n"
