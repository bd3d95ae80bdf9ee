"""The rooms of the package: who may import whom, and one way of importing."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1] / "explain_cnn_ros"

#: Modules in the package's root that every room may import.
SHARED = {"options", "files", "__init__"}

#: Room -> rooms that it may import, besides itself and the shared modules.
ALLOWED: dict[str, set[str]] = {
    "options": set(),
    "files": set(),
    "__init__": {"scan", "explain"},  # for type checkers; at run time the names are imported on first use
    "model": set(),
    "scan": {"model"},
    "explain": {"model"},
    "draw": {"model", "explain"},
    "bags": set(),
    "training": {"model", "scan"},
    "analysis": {"model", "scan", "explain", "draw", "bags", "training"},
    "experiments": {"model", "scan", "explain", "draw", "bags", "training"},
    "ros": {"model", "scan", "explain", "draw", "bags"},
    "cli": {"model", "analysis", "ros", "scan"},
}

#: Distributions of ROS begin with this; so do modules of the generated messages of this package.
ROS_DISTRIBUTIONS = "ros-"
OWN_MESSAGES = ("explain_cnn_ros.msg", "explain_cnn_ros.srv")


class Import(NamedTuple):
    """An import statement: where it stands, and the module that it imports."""

    line: int
    at_top: bool
    module: str


def room_of(module: str) -> str:
    """The room, or the module in the root, that a dotted name of this package is in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def dotted(path: Path) -> str:
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    return ".".join(part for part in relative.parts if part != "__init__")


@functools.cache
def sources() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name."""
    return {dotted(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def imports(module: str) -> list[Import]:
    """Every import of a module, at any depth."""
    found = []
    for node in ast.walk(sources()[module]):
        top = getattr(node, "col_offset", 1) == 0
        if isinstance(node, ast.Import):
            found += [Import(node.lineno, top, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                # `from package import module` imports the module.
                child = f"{node.module}.{alias.name}"
                is_module = child in sources() or child in OWN_MESSAGES
                found.append(Import(node.lineno, top, child if is_module else str(node.module)))
    return found


def ros_modules() -> set[str]:
    """Top-level names of the Python modules that ROS brings."""
    known = {
        "rclpy",
        "ament_index_python",
        "launch",
        "launch_ros",
        "cv_bridge",
        "builtin_interfaces",
        "rosidl_runtime_py",
    }
    known |= {f"{name}_msgs" for name in ("std", "sensor", "geometry", "visualization", "diagnostic", "lifecycle")}
    known |= {"rcl_interfaces", "rosgraph_msgs", "std_srvs", "rosbag2_py"}
    for name, distributions in importlib.metadata.packages_distributions().items():
        if any(distribution.startswith(ROS_DISTRIBUTIONS) for distribution in distributions):
            known.add(name)
    return known


def test_the_root_has_at_most_a_dozen_entries():
    # Python's own markers do not count, nor does what is not part of the sources.
    markers = {"__init__.py", "py.typed", "__pycache__"}
    entries = {path.name for path in PACKAGE.iterdir()} - markers
    assert len(entries) <= 12, sorted(entries)


def test_modules_import_only_the_rooms_below_them():
    wrong = []
    for module in sources():
        room = room_of(module)
        assert room in ALLOWED, f"{room} is a new room: say in ALLOWED which rooms it may import"
        permitted = ALLOWED[room] | SHARED | {room} | ({"msg", "srv"} if room == "ros" else set())
        wrong += [
            f"{module}, line {found.line}: {found.module}"
            for found in imports(module)
            if found.module.split(".")[0] == "explain_cnn_ros" and room_of(found.module) not in permitted
        ]
    assert not wrong


def test_rooms_have_no_cycle():
    """ALLOWED itself is an order: a room may not come back to itself over others."""
    above: dict[str, set[str]] = defaultdict(set)
    for room, below in ALLOWED.items():
        above[room] |= below

    def reachable(room: str) -> set[str]:
        found, waiting = set(), list(above[room])
        while waiting:
            nxt = waiting.pop()
            if nxt not in found:
                found.add(nxt)
                waiting += above[nxt]
        return found

    assert all(room not in reachable(room) for room in ALLOWED)


def test_modules_have_no_cycle():
    """Modules that import each other at their top work in a lucky order only."""
    graph = {
        module: {found.module for found in imports(module) if found.at_top and found.module in sources()} - {module}
        for module in sources()
    }
    state: dict[str, str] = {}

    def visit(module: str, path: list[str]) -> None:
        assert state.get(module) != "open", f"a cycle: {' -> '.join([*path[path.index(module) :], module])}"
        if module in state:
            return
        state[module] = "open"
        for below in sorted(graph[module]):
            visit(below, [*path, module])
        state[module] = "done"

    for module in graph:
        visit(module, [])


def test_only_the_ros_room_imports_ros():
    ros = ros_modules()
    wrong = [
        f"{module}, line {found.line}: {found.module}"
        for module in sources()
        if room_of(module) != "ros"
        for found in imports(module)
        if found.module.split(".")[0] in ros or found.module.startswith(OWN_MESSAGES)
    ]
    assert not wrong


def test_rclpy_and_torch_meet_in_few_places():
    """In the node's worker, and in what reports on the device."""
    both = set()
    for module in sources():
        names = {found.module.split(".")[0] for found in imports(module)}
        if "torch" in names and names & {"rclpy", "sensor_msgs", "std_msgs", "diagnostic_msgs"}:
            both.add(module)
    assert both <= {"explain_cnn_ros.ros.worker", "explain_cnn_ros.ros.diagnostics"}


def test_imports_are_absolute():
    relative = [
        f"{module}, line {node.lineno}"
        for module, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def test_no_two_classes_share_a_name():
    places: dict[str, list[str]] = defaultdict(list)
    for module, tree in sources().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_nothing_above_the_adapter_knows_the_network():
    """VGG is known to model, to explain/vgg, to the choice of the adapter, and to training, which builds networks."""
    names = {"VGGClassifier", "convolution_layers", "fold_batch_norm", "receptive_field", "vgg_features"}
    wrong = []
    knows = ("explain_cnn_ros.model", "explain_cnn_ros.training", "explain_cnn_ros.explain.vgg")
    for module, tree in sources().items():
        if module.startswith(knows) or module == "explain_cnn_ros.explain.adapters":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} & names:
                wrong.append(f"{module}, line {node.lineno}")
            if isinstance(node, ast.Attribute) and node.attr == "features":
                wrong.append(f"{module}, line {node.lineno}: .features")
    assert not wrong


CORE_WITHOUT_ROS = """
import importlib, pkgutil, sys
blocked = {blocked!r}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocker())
import explain_cnn_ros
for room in ("model", "scan", "explain", "draw", "bags", "training", "analysis", "experiments"):
    package = importlib.import_module("explain_cnn_ros." + room)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
importlib.import_module("explain_cnn_ros.ros.doctor")
importlib.import_module("explain_cnn_ros.cli")
"""


def test_everything_but_the_ros_room_is_importable_without_ros():
    code = CORE_WITHOUT_ROS.format(blocked=ros_modules())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_itself_is_imported_quickly():
    """The names are there, and PyTorch is not imported before one of them is used."""
    code = (
        "import sys, explain_cnn_ros; assert 'torch' not in sys.modules; "
        "from explain_cnn_ros import Explainer, ExplainSettings, PersonClassifier; assert 'torch' in sys.modules; "
        "assert {'Explainer', 'ExplainSettings', 'PersonClassifier'} <= set(dir(explain_cnn_ros))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tests_with_a_graph_are_in_one_folder() -> None:
    """`tools/test.sh` runs the tests with a ROS graph from the folder test/ros only."""
    tests = Path(__file__).parent
    marked = {path.relative_to(tests) for path in tests.rglob("test_*.py") if "pytest.mark.ros" in path.read_text()}
    marked.discard(Path(__file__).relative_to(tests))
    assert marked and {path.parts[0] for path in marked} == {"ros"}
