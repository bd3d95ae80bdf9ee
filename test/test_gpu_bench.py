"""`make bench-gpu`: it needs few packages, every section runs, and it keeps to its time."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import gpu

ROOT = Path(__file__).parents[1]

#: The modules that the script may need, besides Python's own.
NEEDED = ("torch", "torchvision", "numpy", "cv2", "safetensors")

#: PyTorch looks for some optional modules without importing them, so the others are absent rather than broken.
RUN_WITHOUT = """
import pathlib, runpy, sys
absent = {absent!r}
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in absent else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = map(Without, sys.meta_path)
sys.path.insert(0, {root!r})
from explain_cnn_ros.model import device
device.MEMINFO = pathlib.Path({meminfo!r})
sys.argv = ["gpu.py", "--device", "cpu", "--sections", "operations"]
runpy.run_path({script!r}, run_name="__main__")
"""


def unneeded_modules() -> set[str]:
    """Return the modules of all distributions but the needed ones, and those that these require themselves."""
    modules = importlib.metadata.packages_distributions()
    waiting = [name for module in NEEDED for name in modules.get(module, ())]
    allowed: set[str] = set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in allowed:
            continue
        allowed.add(name)
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [re.split(r"[^\w.-]", item)[0] for item in required if "extra ==" not in item]
    return {
        module
        for module, names in modules.items()
        if module != "explain_cnn_ros" and not {re.sub(r"[-_.]+", "-", name).lower() for name in names} & allowed
    }


@pytest.mark.slow
def test_only_the_named_packages_are_needed(tmp_path) -> None:
    """Without a GPU, the script says so in one line, and counts the operations of the shipped network."""
    absent = unneeded_modules()
    assert {"rosbags", "tqdm", "pytest"} <= absent
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable: 100000000 kB\n")
    code = RUN_WITHOUT.format(absent=absent, root=str(ROOT), script=str(ROOT / "bench/gpu.py"), meminfo=str(meminfo))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.splitlines()[0].endswith("only the operations are counted")
    rows = [line for line in done.stdout.splitlines() if line.startswith("| default | batched | 35 |")]
    assert len(rows) == 1 and rows[0].endswith("| 1 | met |")
    assert "NOT met" not in done.stdout and "failed" not in done.stdout


@pytest.mark.slow
def test_every_section_runs(thin_classifier, monkeypatch, capsys) -> None:
    smallest = dataclasses.replace(gpu.Setup.smallest("cpu"), windows=((32, 64),))
    monkeypatch.setattr(gpu.Setup, "smallest", lambda device: smallest)
    monkeypatch.setattr(gpu, "classifier_for", lambda size, device: thin_classifier)
    assert gpu.main(["--quick", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert not re.search("failed|left out", printed)
    tables = re.findall(r"\n(\w+)\n\n\| (.+) \|\n[|-]+\n((?:\|.+\|\n)+)", printed)
    assert [name for name, _, _ in tables] == list(gpu.SECTIONS)
    for _, heads, rows in tables:
        assert {row.count(" | ") for row in rows.splitlines()} == {heads.count(" | ")}


def test_a_section_leaves_out_what_it_has_no_time_for(capsys) -> None:
    def cases(setup: gpu.Setup):
        yield "first", lambda: [("a", 1.0)]
        yield "second", lambda: [("b", float("nan"))]

    section = gpu.Section(1.0, "name | ms", cases)
    assert gpu.run("both", section, gpu.Setup("cpu"), end=float("inf")) == 0
    assert "| a | 1.00 |\n| b | - |\n" in capsys.readouterr().out
    assert gpu.run("neither", section, gpu.Setup("cpu"), end=0.0) == 0
    assert "neither: the time is over; left out: first; second\n" in capsys.readouterr().out


def test_the_rows_after_a_failure_are_printed(capsys) -> None:
    def fail():
        raise RuntimeError("no memory")

    def cases(setup: gpu.Setup):
        yield "first", fail
        yield "second", lambda: [("b", 2)]

    assert gpu.run("one", gpu.Section(1.0, "name | count", cases), gpu.Setup("cpu"), end=float("inf")) == 1
    printed = capsys.readouterr().out
    assert "| b | 2 |" in printed
    assert "one: first failed: RuntimeError: no memory\n" in printed


def test_the_sections_share_the_time() -> None:
    assert sum(section.share for section in gpu.SECTIONS.values()) == pytest.approx(1)


def test_persons_are_in_the_frame(picture) -> None:
    assert gpu.frame_for((1280, 720)).shape == (720, 1280, 3)
    assert (gpu.frame_for((768, 576), 5)[:, 5:] == gpu.frame_for((768, 576))[:, :-5]).all()
