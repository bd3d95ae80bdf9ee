"""A soak of a real node that lasts some seconds."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Parameters of the node with which explanations are fast.
QUICK = ("regions:=whole", "explain.perturbations:=2", "explain.layers:=[5, 8]")


@pytest.mark.ros
@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_soak_of_seconds(tmp_path: Path) -> None:
    """An interrupted soak gives a verdict about the time until then. It has sent frames, requests and transitions."""
    pytest.importorskip("rclpy")
    flags = [part for value in QUICK for part in ("-p", value)]
    command = [sys.executable, str(ROOT / "tools/soak.py"), "--minutes", "60", "--rate", "5", "--pace", "20", *flags]
    process = subprocess.Popen([*command, "--output", str(tmp_path)], stdout=subprocess.PIPE, text=True)

    def cycles() -> int:
        figures = tmp_path / "soak.json"
        return int(json.loads(figures.read_text())["cycles of transitions"]) if figures.exists() else 0

    end = time.monotonic() + 400
    while cycles() < 2 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=150)
    log = (tmp_path / "soak_node.log").read_text()
    assert "interrupted: the verdict is about the time until now" in printed, log
    figures = json.loads((tmp_path / "soak.json").read_text())
    passed = {name: finding["passed"] for name, finding in figures["verdict"].items()}
    assert passed["alive"] and passed["answers"] and passed["tracebacks"], printed
    assert figures["verdict"]["end"]["text"].startswith("status 0"), printed
    assert figures["counts"]["classified"] > 0
    assert figures["counts"]["rejected"] > 0
    assert sum(figures["asked"].values()) > 50
    assert figures["granted"]["transition: 3"] >= 2
    with (tmp_path / "soak.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 10
    assert float(rows[-1]["rss"]) > float(rows[-1]["own"]) > 100
