"""A repair from its beginning to its end: windows, training, silencing, proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from explain_cnn_ros.analysis.job import ProgressReporter
from explain_cnn_ros.analysis.repair.analysed import LabelledAnalysis
from explain_cnn_ros.analysis.repair.frames import FrameCounts, count
from explain_cnn_ros.analysis.repair.job import RepairJob
from explain_cnn_ros.analysis.repair.labelled import RepairError
from explain_cnn_ros.analysis.repair.phases import Phase, Phases
from explain_cnn_ros.analysis.repair.prover import SILENCING, Cure, Prover, Say
from explain_cnn_ros.analysis.repair.splitting import Split, split
from explain_cnn_ros.analysis.repair.training import Training, check_training, train
from explain_cnn_ros.explain.damping import damped
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.scan.classifier import PersonClassifier


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
        trained: How the network was trained; None without training.
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
    trained: Training | None
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
    if job.inria is not None:
        check_training(before, analysis, parts.training)
    changed = _silenced(before, silenced, job.damping) if silenced else None
    job.output.mkdir(parents=True, exist_ok=True)
    phases = Phases()
    cures: dict[str, PersonClassifier] = {}
    trained: Training | None = None
    if job.inria is not None:
        trained = train(job, job.inria, analysis, before, parts.training, say, phases)
        cures["training"] = trained.network
    if changed is not None:
        cures[SILENCING] = changed
    say("measuring the network before the repair")
    data = None if trained is None else trained.data
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
        trained,
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
