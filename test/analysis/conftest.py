"""Quick analyses of recordings, by a small network."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
from bag_kit import ROOT, Studio

from explain_cnn_ros.analysis import run as run_module
from explain_cnn_ros.analysis.job import Job, Outcome, ProgressReporter
from explain_cnn_ros.analysis.run import run
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.weights_file import write_weights
from explain_cnn_ros.scan.classifier import PersonClassifier

#: An explanation in a few milliseconds, and the arguments of the command for the same settings.
QUICK = ExplainSettings(perturbations=2, layers=(3, 5), metrics=("activation_precision", "activation_sum"), top_n=3)
QUICK_FLAGS = (
    "--regions",
    "whole",
    "--explain-every",
    4,
    "--threads",
    1,
    "--layers",
    3,
    5,
    "--top-n",
    3,
    "--preset",
    "paper",
)
QUICK_FLAGS += ("--metrics", "activation_precision", "activation_sum", "--perturbations", 2)


class InterruptedAfter(ProgressReporter):
    """Ctrl-C after some parts; after 0 parts, before the first frame."""

    def __init__(self, parts: int) -> None:
        self._left = parts

    def begin(self, total: int, done: int) -> None:
        if self._left == 0:
            raise KeyboardInterrupt

    def advance(self, frames: int, explained: int) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


class AnalysisStudio(Studio):
    """Records pictures, and analyses the recordings."""

    QUICK, QUICK_FLAGS, ROOT = QUICK, QUICK_FLAGS, ROOT

    def __init__(self, vgg11: PersonClassifier, folder: Path) -> None:
        super().__init__()
        self.weights = folder / "vgg11.safetensors"
        self._write_weights(vgg11)
        self.classifier = PersonClassifier.load(self.weights, "cpu")
        self.flags = ("--weights", self.weights, "--device", "cpu", *QUICK_FLAGS)

    def _write_weights(self, vgg11: PersonClassifier) -> None:
        """Write random weights whose probabilities of the studio's pictures spread from 0 to 1."""
        network = vgg11.network
        windows = np.stack([vgg11.resize(self.picture(i)) for i in range(40)])
        with torch.no_grad():
            logits = network(vgg11.normalise(vgg11.to_pixels(windows)))
            margins = logits[:, 1] - logits[:, 0]
            last = [module for module in network.classifier if isinstance(module, torch.nn.Linear)][-1]
            last.weight *= 2 / margins.std()
            last.bias *= 2 / margins.std()
            last.bias[1] -= 2 * margins.mean() / margins.std()
        write_weights(network, vgg11.info, self.weights)

    def settings(self, **changes: Any) -> AnalysisSettings:
        # The small network is random, so it finds nothing in a search.
        quick = {"regions": "whole", "explain": QUICK, "explain_every": 4, "threads": 1}
        return AnalysisSettings(**(quick | changes))

    def job(self, output: Path, *inputs: Path, labels: Any = (), weights: Path | None = None, **changes: Any) -> Job:
        return Job(inputs, output, self.settings(**changes), tuple(labels), weights or self.weights, "cpu")

    def analyse(self, output: Path, *inputs: Path, resume: bool = False, **more: Any) -> Outcome:
        """Analyse recordings in this process; settings by name, other arguments of `run` as they are."""
        arguments = {k: more.pop(k) for k in ("make_encoder", "distribute", "progress") if k in more}
        return run(self.job(output, *inputs, **more), resume, **arguments)

    def interrupt(self, output: Path, *inputs: Path, parts: int, **more: Any) -> Outcome:
        """Analyse recordings until Ctrl-C comes after some parts."""
        outcome = self.analyse(output, *inputs, progress=InterruptedAfter(parts), **more)
        assert outcome.interrupted
        return outcome

    def table(self, output: Path, name: str) -> pa.Table:
        return pq.read_table(output / f"{name}.parquet")

    def rows(self, output: Path, name: str = "frames") -> list[dict[str, Any]]:
        return list(self.table(output, name).to_pylist())

    def files(self, output: Path) -> dict[str, bytes]:
        """The tables, byte by byte."""
        return {path.name: path.read_bytes() for path in sorted(output.glob("*.parquet"))}


@pytest.fixture(scope="session")
def studio(vgg11_classifier, tmp_path_factory) -> AnalysisStudio:
    return AnalysisStudio(copy.deepcopy(vgg11_classifier), tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load each weights file once: no test changes a classifier."""
    monkeypatch.setattr(PersonClassifier, "load", _load)


_load = functools.cache(PersonClassifier.load)


@pytest.fixture(scope="session")
def bag(studio, tmp_path_factory) -> Path:
    """Eighteen frames, the sixth of them broken."""
    frames = [studio.jpeg(i) for i in range(18)]
    frames[5] = frames[5][:700]
    return studio.record(tmp_path_factory.mktemp("bags") / "walk", frames, delay=1000)


@pytest.fixture(scope="session")
def undisturbed(studio, bag, tmp_path_factory) -> Path:
    """The results of an analysis of `bag` in parts of four frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "PART_FRAMES", 4)
        output = tmp_path_factory.mktemp("outputs") / "undisturbed"
        outcome = studio.analyse(output, bag)
    assert outcome.complete
    return output


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Parts of four frames."""
    monkeypatch.setattr(run_module, "PART_FRAMES", 4)
    return 4


@pytest.fixture
def command() -> Callable[..., subprocess.Popen[str]]:
    """Starts the command in a process of its own, with parts of four frames; `before` is code that runs first."""

    def start(*arguments: object, before: str = "") -> subprocess.Popen[str]:
        code = (
            "import sys\nfrom explain_cnn_ros.analysis import cli, run\nrun.PART_FRAMES = 4\n"
            f"{before}\nsys.exit(cli.main())\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start
