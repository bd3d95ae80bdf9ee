"""A repair from its beginning to its end: windows, training, silencing, proof."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.finished import read_results
from explain_cnn_ros.analysis.job import ProgressReporter
from explain_cnn_ros.analysis.repair.crops import frames_of, write_windows
from explain_cnn_ros.analysis.repair.frames import FrameCounts, analyse_again, count
from explain_cnn_ros.analysis.repair.labelled import LabelledWindow, RepairError, Split, labelled_windows, split
from explain_cnn_ros.analysis.repair.proof import Judged, WindowProof, judge, old_figures, window_proof
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.bags.sources import SourceSettings
from explain_cnn_ros.model.device import choose_device
from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS, read_weights
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.data import TrainingData, read_data
from explain_cnn_ros.training.networks import default_settings
from explain_cnn_ros.training.train import resume
from explain_cnn_ros.training.trainer import Trainer

#: Steps over which the learning rate rises.
WARM_UP = 20

#: Steps from one checkpoint to the next.
CHECKPOINT_EVERY = 25

Say = Callable[[str], None]


@dataclass(frozen=True)
class RepairJob:
    """A repair to be done.

    Attributes:
        analysis: Folder of the analysis whose wrong decisions are repaired.
        output: Folder of the results.
        weights: The weights of the analysis; None for those that ship with the package.
        inria: Folder of the old data; see `datasets.read_inria`. None: the network is not trained.
        background: Folder of the old person-free photos; None for none.
        unseen: Folders of analyses, by the same weights, of recordings that take no part.
        silence: Numbers of the causes whose neurons are silenced, counted from 1.
        damping: Factor of the activations of these neurons; 0 silences them.
        steps: Steps of the training.
        own_share: Share of the windows of the analysis among the persons, and among the backgrounds, of a batch.
        held_out: Share of the windows that is held out.
        again: Whether the recordings are analysed again by the repaired network.
        seed: Seed of the training.
        device: Device of the network.
    """

    analysis: Path
    output: Path
    weights: Path | None = None
    inria: Path | None = None
    background: Path | None = None
    unseen: tuple[Path, ...] = ()
    silence: tuple[int, ...] = ()
    damping: float = 0.0
    steps: int = 150
    own_share: float = 0.3
    held_out: float = 1 / 3
    again: bool = True
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Cure:
    """A changed network and its proof.

    Attributes:
        name: "training" or "silencing".
        weights: Its weights file.
        held_out: The held-out windows, decided before and after.
        proof: The changes of the decisions about them.
        unseen: The same for the labelled windows of recordings that took no part, by the folder of their analysis.
        old: Figures on the held-out old data after the change; empty without old data.
        frames: Decisions about the held-out frames after the change; None if they were not analysed again.
    """

    name: str
    weights: Path
    held_out: tuple[Judged, ...]
    proof: WindowProof
    unseen: dict[str, WindowProof]
    old: dict[str, Any]
    frames: FrameCounts | None


@dataclass(frozen=True)
class RepairResult:
    """The result of a repair.

    Attributes:
        causes: The causes in the analysis, as plain values.
        split: The windows that the network learned from, and those that are held out.
        old: Figures on the held-out old data before the repair; empty without old data.
        frames: Decisions about the held-out frames before the repair.
        cures: The changed networks.
    """

    causes: list[dict[str, Any]]
    split: Split
    old: dict[str, Any]
    frames: FrameCounts
    cures: tuple[Cure, ...]


class _Analysis:
    """An analysis of labelled recordings: its manifest, its windows, and the part of the recordings that was read."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read_results(folder)
        self.causes: list[dict[str, Any]] = self.manifest.get("causes", {}).get("causes", [])
        self.windows = labelled_windows(folder, self.causes)
        if not self.windows:
            raise RepairError(f"{folder}: no decision has a label: analyse the recording with labels")
        try:
            self.settings: SourceSettings = AnalysisSettings.from_dict(self.manifest["settings"])
        except (LookupError, ValueError) as error:
            raise RepairError(f"{folder}: {error}: run `analyze` again, with another --output") from error
        self.inputs = [Path(path) for path in self.manifest["inputs"]]

    def frames(self, windows: Sequence[LabelledWindow]) -> Iterator[tuple[NDArray[np.uint8], list[LabelledWindow]]]:
        """Yield the frames of windows, uint8 [H, W, 3] RGB, each with its windows."""
        return frames_of(self.inputs, self.settings, windows)


def repair(job: RepairJob, progress: ProgressReporter, say: Say) -> RepairResult:
    """Repair a network, and prove the effect.

    A repair that was interrupted continues with the next call: the training from its last checkpoint, and the analysis
    of the recordings from its last part.

    Args:
        job: The repair.
        progress: Is notified of the progress of the analyses.
        say: Reports a step to the user.

    Raises:
        RepairError: The analysis, the weights or the data are not suitable.
        ResultsError: The results of an analysis cannot be read.
        ValueError: The training cannot be continued, or the data cannot be read.
        OSError: A file cannot be read or written.
        KeyboardInterrupt: The repair was interrupted.
    """
    analysis = _Analysis(job.analysis)
    others = {str(folder): _Analysis(folder) for folder in job.unseen}
    before = PersonClassifier.load(job.weights, job.device)
    for folder, one in {str(job.analysis): analysis, **others}.items():
        if one.manifest.get("model") != before.model_hash:
            raise RepairError(
                f"{folder} was analysed with the weights {one.manifest.get('model')}, and --weights are "
                f"{before.model_hash}: give the weights of the analysis"
            )
    silenced = _chosen_causes(analysis.causes, job.silence)
    if job.inria is None and not silenced:
        raise RepairError("nothing to do: give --inria for a training, --silence for silencing the neurons of causes")
    parts = split(analysis.windows, job.held_out)
    _check(parts)
    job.output.mkdir(parents=True, exist_ok=True)
    cures: dict[str, PersonClassifier] = {}
    data: TrainingData | None = None
    if job.inria is not None:
        own = job.output / "windows"
        written = write_windows(analysis.inputs, analysis.settings, parts.training, own)
        wrong = sum(window.wrong for window in written)
        say(f"training on {wrong} wrong and {len(written) - wrong} right windows, beside the old data")
        data, cures["training"] = _train(job, job.inria, own)
    if silenced:
        cures["silencing"] = before.damped(_neurons_of(silenced), job.damping)
    starts = _starts(parts.held_out)
    say("measuring the network before the repair")
    old = old_figures(before, data) if data is not None else {}
    prove = _Prover(job, before, analysis, others, parts.held_out, data, starts, progress, say)
    return RepairResult(
        analysis.causes,
        parts,
        old,
        count(analysis.windows, starts),
        tuple(prove(name, network) for name, network in cures.items()),
    )


def _chosen_causes(causes: Sequence[dict[str, Any]], numbers: Sequence[int]) -> list[dict[str, Any]]:
    for number in numbers:
        if not 1 <= number <= len(causes):
            known = f"there are causes 1 to {len(causes)}" if causes else "the analysis has no causes"
            raise RepairError(f"--silence {number}: {known}; `explain-cnn causes` lists them")
    return [causes[number - 1] for number in numbers]


def _neurons_of(causes: Sequence[dict[str, Any]]) -> set[tuple[int, int]]:
    """Return layer and channel of the neurons of causes."""
    return {(neuron["layer"], neuron["channel"]) for cause in causes for neuron in cause["neurons"]}


def _check(parts: Split) -> None:
    """Check that there is something to learn from, and something to prove it on.

    Raises:
        RepairError: There is not.
    """
    for windows, name in ((parts.training, "the part to learn from"), (parts.held_out, "the part that is held out")):
        if not any(window.wrong for window in windows):
            raise RepairError(
                f"{name} has no wrong decision, so nothing can be repaired or proved: label more of the recordings, or "
                "change --held-out"
            )


def _starts(held_out: Sequence[LabelledWindow]) -> dict[str, int]:
    """Return the log time at which the held-out part of each recording begins, in ns."""
    starts: dict[str, int] = {}
    for window in held_out:
        starts[window.source] = min(window.log_time, starts.get(window.source, window.log_time))
    return starts


def _train(job: RepairJob, inria: Path, own: Path) -> tuple[TrainingData, PersonClassifier]:
    """Fine-tune the network on the old data and on own windows; return the old data as well."""
    start = read_weights(job.weights or DEFAULT_WEIGHTS)
    settings = dataclasses.replace(
        default_settings(start.info.architecture, start),
        steps=job.steps,
        warm_up=WARM_UP,
        rounds=0,
        threshold=start.info.threshold,
        own_share=job.own_share,
        seed=job.seed,
        proposer_steps=0,
        checkpoint_every=CHECKPOINT_EVERY,
    )
    data = read_data(inria, job.background, settings, own)
    folder = job.output / "training"
    folder.mkdir(exist_ok=True)
    # The held-out photos are searched afterwards, by both networks.
    without_photos = dataclasses.replace(data, threshold_photos=[], test_photos=[])
    trainer = Trainer(without_photos, settings, folder, choose_device(job.device), start)
    resume(trainer)
    trained = trainer.run()
    command = f"repair --steps {job.steps} --own-share {job.own_share:g} --seed {job.seed}"
    trained.info = dataclasses.replace(trained.info, command="; ".join(filter(None, [start.info.command, command])))
    return data, trained


@dataclass(frozen=True)
class _Prover:
    """Proves the effect of a cure; see `repair`."""

    job: RepairJob
    before: PersonClassifier
    analysis: _Analysis
    others: dict[str, _Analysis]
    held_out: Sequence[LabelledWindow]
    data: TrainingData | None
    starts: dict[str, int]
    progress: ProgressReporter
    say: Say

    def __call__(self, name: str, network: PersonClassifier) -> Cure:
        weights = self.job.output / f"{name}.safetensors"
        network.save(weights)
        # The figures are those of the file, in half precision.
        after = PersonClassifier.load(weights, self.job.device)
        self.say(f"measuring the network after the {name}")
        networks, thresholds = (self.before, after), (self.before.threshold, after.threshold)
        judged = judge(networks, self.analysis.frames(self.held_out))
        unseen = {
            folder: window_proof(judge(networks, one.frames(one.windows)), thresholds)
            for folder, one in self.others.items()
        }
        frames = None
        if self.job.again:
            folder = self.job.output / f"analysis_after_{name}"
            windows = analyse_again(self.analysis.manifest, weights, folder, self.job.device, self.progress)
            frames = count(windows, self.starts)
        return Cure(
            name,
            weights,
            tuple(judged),
            window_proof(judged, thresholds),
            unseen,
            old_figures(after, self.data) if self.data is not None else {},
            frames,
        )
