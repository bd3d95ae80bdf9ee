"""A repair from its beginning to its end: windows, training, silencing, proof."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explain_cnn_ros.analysis.job import ProgressReporter
from explain_cnn_ros.analysis.repair.analysed import LabelledAnalysis
from explain_cnn_ros.analysis.repair.crops import write_windows
from explain_cnn_ros.analysis.repair.frames import FrameCounts, count
from explain_cnn_ros.analysis.repair.labelled import RepairError, Split, split
from explain_cnn_ros.analysis.repair.phases import Phase, Phases
from explain_cnn_ros.analysis.repair.prover import Cure, Prover, Say
from explain_cnn_ros.analysis.repair.taking import WINDOWS_MAX, Taken, best, parted, try_shares
from explain_cnn_ros.analysis.silencing import spread
from explain_cnn_ros.explain.damping import damped
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.model.device import choose_device
from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS, read_weights
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.blending import blended
from explain_cnn_ros.training.data import TrainingData, read_data
from explain_cnn_ros.training.networks import default_settings
from explain_cnn_ros.training.train import resume
from explain_cnn_ros.training.trainer import Trainer

#: Steps over which the learning rate rises.
WARM_UP = 20

#: Steps from one checkpoint to the next.
CHECKPOINT_EVERY = 25


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
        trained_share: Share of the trained weights in the result, 0 to 1; the rest are those before the training. None:
            it is chosen; see `taking`.
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
    trained_share: float | None = None
    held_out: float = 1 / 3
    again: bool = True
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class RepairResult:
    """The result of a repair.

    Attributes:
        job: The repair.
        before: The network before the repair.
        threshold: Its decision is "person" if P(person) is at least this.
        causes: The causes in the analysis, as plain values.
        split: The windows that the network learned from, and those that are held out.
        old: Figures on the held-out old data before the repair; empty without old data.
        frames: Decisions about the held-out frames before the repair.
        cures: The changed networks.
        history: Loss and accuracy on held-out old windows at each checkpoint of the training; empty without training.
        shares: The shares of the training that were tried; empty if none was chosen.
        trained_share: The share that was taken; None without a training.
        phases: The time of each phase.
    """

    job: RepairJob
    before: PersonClassifier
    threshold: float
    causes: list[dict[str, Any]]
    split: Split
    old: dict[str, Any]
    frames: FrameCounts
    cures: tuple[Cure, ...]
    history: list[dict[str, float]]
    shares: list[Taken]
    trained_share: float | None
    phases: list[Phase]


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
    analysis = LabelledAnalysis(job.analysis)
    others = {str(folder): LabelledAnalysis(folder) for folder in job.unseen}
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
    changed = _silenced(before, silenced, job.damping) if silenced else None
    job.output.mkdir(parents=True, exist_ok=True)
    phases = Phases()
    cures: dict[str, PersonClassifier] = {}
    data: TrainingData | None = None
    history: list[dict[str, float]] = []
    shares: list[Taken] = []
    share = job.trained_share if job.inria is not None else None
    if job.inria is not None:
        own = job.output / "windows"
        with phases.measure("writing the windows for the training"):
            written = write_windows(analysis.inputs, analysis.settings, parts.training, own)
        wrong = sum(window.wrong for window in written)
        say(f"training on {wrong} wrong and {len(written) - wrong} right windows, beside the old data")
        data, trained, history = _train(job, job.inria, own, phases)
        choosing, data = parted(data)
        if share is None:
            say("choosing how much of the training is taken")
            some = spread(written, WINDOWS_MAX)
            threshold = analysis.settings.threshold or before.threshold
            with phases.measure("choosing the share of the training"):
                shares = try_shares(before, trained, analysis.frames(some), choosing, threshold)
            share = best(shares).share
        cures["training"] = _with_command(blended(before, trained, share), job, share)
    if changed is not None:
        cures["silencing"] = changed
    say("measuring the network before the repair")
    prover = Prover(
        *(job.output, job.device, job.again, before, analysis, others, parts.held_out, data, progress, say, phases)
    )
    return RepairResult(
        job,
        before,
        prover.threshold(before),
        analysis.causes,
        parts,
        prover.old_figures(before, "before the repair"),
        count(analysis.windows, prover.starts),
        tuple(prover.prove(name, network) for name, network in cures.items()),
        history,
        shares,
        share,
        phases.done,
    )


def _chosen_causes(causes: Sequence[dict[str, Any]], numbers: Sequence[int]) -> list[dict[str, Any]]:
    for number in numbers:
        if not 1 <= number <= len(causes):
            known = f"there are causes 1 to {len(causes)}" if causes else "the analysis has no causes"
            raise RepairError(f"--silence {number}: {known}; `explain-cnn causes` lists them")
    return [causes[number - 1] for number in numbers]


def _silenced(before: PersonClassifier, causes: Sequence[dict[str, Any]], factor: float) -> PersonClassifier:
    """Return a network whose neurons of some causes are damped.

    Raises:
        RepairError: The weights of the network cannot do it.
    """
    neurons = {Neuron(neuron["layer"], neuron["channel"]) for cause in causes for neuron in cause["neurons"]}
    try:
        return damped(before, neurons, factor)
    except ValueError as error:
        raise RepairError(f"--silence: {error}") from error


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


def _train(
    job: RepairJob, inria: Path, own: Path, phases: Phases
) -> tuple[TrainingData, PersonClassifier, list[dict[str, float]]]:
    """Fine-tune the network on the old data and on own windows.

    Returns:
        The old data, the network, and the loss and the accuracy at each checkpoint.
    """
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
    with phases.measure("reading the old data"):
        data = read_data(inria, job.background, settings, own)
    folder = job.output / "training"
    folder.mkdir(exist_ok=True)
    # The held-out photos are searched afterwards, by both networks.
    without_photos = dataclasses.replace(data, threshold_photos=[], test_photos=[])
    with phases.measure("training") as phase:
        trainer = Trainer(without_photos, settings, folder, choose_device(job.device), start)
        resume(trainer)
        phase.continued = trainer.step > 0
        trained = trainer.run()
    trained.info = dataclasses.replace(trained.info, command=start.info.command)
    return data, trained, trainer.history


def _with_command(network: PersonClassifier, job: RepairJob, share: float) -> PersonClassifier:
    """Add the command to the metadata of a network."""
    command = f"repair --steps {job.steps} --own-share {job.own_share:g} --seed {job.seed} --trained-share {share:g}"
    network.info = dataclasses.replace(network.info, command="; ".join(filter(None, [network.info.command, command])))
    return network
