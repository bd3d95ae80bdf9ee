"""Malformed input: inputs that once failed, a short run of each kind, and the watch over a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.fuzz import __main__ as command
from tools.fuzz import registry
from tools.fuzz.kind import CORPUS, check_text, contents, keep
from tools.fuzz.mutation import Mutation
from tools.fuzz.worker import Figures, Limits, Reader

ROOT = Path(__file__).parents[1]

#: Limits that do not depend on the speed of the machine: these runs look for wrong errors and wrong results.
GENEROUS = Limits(60.0, 4096.0)

#: Number of mutated inputs by kind, where it is not MUTATED: inputs that take milliseconds.
MUTATED, FEWER = 120, {"weights": 5, "checkpoint": 60, "metadata": 40, "manifest": 40, "stream": 100, "page": 60}

#: Kinds whose harmful inputs take seconds. The corpus has the small ones among them.
SLOW = ("mcap", "sqlite", "packed", "metadata", "file", "weights", "checkpoint")


def faults(figures: Figures) -> list[tuple[str, str]]:
    return [(failure.place, failure.text) for failure in figures.failures]


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_inputs_that_once_failed(path: Path, tmp_path: Path) -> None:
    kind, figures = registry.load(path.name.partition("-")[0]), Figures()
    Reader(kind, GENEROUS, tmp_path).read(kind.valid_count, contents(path), figures)
    assert faults(figures) == []


@pytest.mark.parametrize("name", registry.ENTRIES)
def test_a_short_run(name: str, tmp_path: Path) -> None:
    """Valid inputs are read, and mutated ones are read or refused."""
    kind = registry.load(name)
    reader = Reader(kind, GENEROUS, tmp_path)
    seeds = kind.valid_count if name in SLOW else len(kind.seeds)
    figures = reader.run(7, range(seeds))
    first = len(kind.seeds)
    figures.add(reader.run(7, range(first, first + FEWER.get(name, MUTATED))))
    assert faults(figures) == []
    assert figures.read >= kind.valid_count


@pytest.mark.parametrize("name", ["image", "compressed", "mcap", "labels"])
def test_the_same_seed_gives_the_same_inputs(name: str) -> None:
    kind = registry.load(name)
    numbers = range(len(kind.seeds), len(kind.seeds) + 20)
    assert [kind.input(3, n) for n in numbers] == [kind.input(3, n) for n in numbers]
    assert [kind.input(3, n) for n in numbers] != [kind.input(4, n) for n in numbers]


def test_mutations_of_values_are_copies() -> None:
    value = {"a": [1, {"b": "text"}], "c": 0.5}
    before = json.dumps(value)
    changed = [Mutation(seed).value(value) for seed in range(50)]
    assert json.dumps(value) == before
    assert sum(one != value for one in changed) > 40


def test_stored_inputs_are_read_back(tmp_path: Path) -> None:
    for data in (b"", b"\x1f\x8b\x08 no gzip", os.urandom(5000)):
        assert contents(keep(tmp_path, "image-1-2", data)) == data


def test_texts() -> None:
    check_text("fine\nand two lines\tlong")
    for text in ("a" * 2001, "\u202e", "\x1b[2J"):
        with pytest.raises(AssertionError):
            check_text(text)


# Runs, in processes of their own; see fuzz_kit.py.


def run_python(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_a_run_notices_everything(tmp_path: Path) -> None:
    done = run_python("test/fuzz_kit.py", tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["tried"], figures["read"], figures["refused"]) == (8, 2, {"because": 1})
    found = figures["failures"]
    assert set(found) == {"error", "crash", "slow", "endless", "memory"}
    assert found["error"]["text"] == "KeyError: 'a wrong error'"
    assert found["error"]["place"].startswith("KeyError at test/fuzz_kit.py:")
    assert found["crash"]["text"] == "the process died: SIGSEGV"
    assert "s of processor time" in found["slow"]["text"]
    assert found["endless"]["text"].startswith("it was killed after")
    assert found["memory"]["text"].endswith("MiB of memory") and figures["memory"] >= 80


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    """Figures of a run, its results as JSON, and the input of a failure repeated by its file."""
    output = tmp_path / "output"
    command = ("-m", "tools.fuzz", "--jobs", 1, "--output", output)
    # The limits are those of the other tests: they do not depend on the speed of the machine.
    generous = ("--seconds-max", 60, "--mib-max", 4096)
    done = run_python(*command, *generous, "--kinds", "annotations", "--count", 40)
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stdout.splitlines() if line.startswith(("kind", "annotations"))]
    assert shown[0].split()[:5] == ["kind", "tried", "read", "refused", "failed"]
    assert shown[1].split()[:2] == ["annotations", "40"]
    results = json.loads((output / "fuzz.json").read_text())
    assert results["kinds"]["annotations"]["tried"] == 40 and results["failures"] == []
    path = keep(tmp_path, "annotations-1-9", b"Objects with ground truth : 1")
    other = keep(tmp_path, "annotations-1-10", b"Objects with ground truth : 2")
    done = run_python(*command, "--repeat", path, other, "--mib-max", -1)
    assert done.returncode == 1, done.stderr
    assert next(line for line in done.stdout.splitlines() if line.startswith("annotations")).split()[1] == "2"
    assert f"--repeat {output / 'failures' / 'annotations-1'}" in done.stdout


def test_wrong_arguments(tmp_path: Path) -> None:
    for arguments in (["--kinds", "nothing"], ["--repeat", str(tmp_path / "nothing-1")]):
        with pytest.raises(SystemExit) as ended:
            command.main([*arguments, "--output", str(tmp_path / "output")])
        assert ended.value.code == 2
