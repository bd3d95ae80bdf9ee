"""The cure by training: the network is fine-tuned on windows of an analysis together with its old data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from explain_cnn_ros.analysis.repair.analysed import LabelledAnalysis
from explain_cnn_ros.analysis.repair.crops import judged_aspect, write_windows
from explain_cnn_ros.analysis.repair.job import RepairJob
from explain_cnn_ros.analysis.repair.labelled import LabelledWindow, RepairError
from explain_cnn_ros.analysis.repair.phases import Phases
from explain_cnn_ros.analysis.repair.prover import Say
from explain_cnn_ros.analysis.repair.shares import WINDOWS_MAX, TriedShare, best_share, divide, try_shares
from explain_cnn_ros.analysis.silencing import spread
from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.model.device import choose_device
from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS, read_weights
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.blending import blended
from explain_cnn_ros.training.data import TrainingData, read_data
from explain_cnn_ros.training.networks import as_background_and_person, default_settings
from explain_cnn_ros.training.train import resume
from explain_cnn_ros.training.trainer import Trainer

#: Steps over which the learning rate rises.
WARM_UP = 20

#: Steps from one checkpoint to the next.
CHECKPOINT_EVERY = 25


@dataclass(frozen=True)
class Training:
    """A training and its result.

    Attributes:
        network: The network.
        share: Share of the trained weights in the network, 0 to 1; the rest are the weights before the training.
        tried: The shares that were compared; empty if the user has given the share.
        history: Loss and accuracy on held-out old windows at each checkpoint.
        data: The old data without the held-out windows with which the shares were compared.
    """

    network: PersonClassifier
    share: float
    tried: list[TriedShare]
    history: list[dict[str, float]]
    data: TrainingData


def check_training(before: PersonClassifier, analysis: LabelledAnalysis, windows: Sequence[LabelledWindow]) -> None:
    """Check that a network can learn from windows of an analysis, before anything takes time.

    Args:
        before: The network before the repair.
        analysis: The analysis.
        windows: The windows of the analysis that the network learns from.

    Raises:
        RepairError: The network does not have two classes, or the windows of a training cannot hold these windows.
    """
    try:
        as_background_and_person(before.network, before.info)
    except ValueError as error:
        raise RepairError(
            f"{error}, so that `repair` cannot train it: give --silence without --inria, or train it for background "
            "and person first (`explain-cnn train --init`) and analyse the recordings by the new weights"
        ) from error
    judged_aspect(analysis.settings.regions, before.info.input_size, windows)


def train(
    job: RepairJob,
    inria: Path,
    analysis: LabelledAnalysis,
    before: PersonClassifier,
    windows: Sequence[LabelledWindow],
    say: Say,
    phases: Phases,
) -> Training:
    """Fine-tune the network, and average its weights with those before the training.

    Args:
        job: The repair.
        inria: Folder of the old data.
        analysis: The analysis.
        before: The network before the repair.
        windows: The windows of the analysis that the network learns from.
        say: Reports a step to the user.
        phases: Measures the time.

    Raises:
        RepairError: None of the windows can be read from the recordings, or `check_training` fails.
        ValueError: The training cannot be continued, or the data cannot be read.
        OSError: A file cannot be read or written.
        KeyboardInterrupt: The training was interrupted.
    """
    own = job.output / "windows"
    with phases.measure("writing the windows for the training"):
        aspect = judged_aspect(analysis.settings.regions, before.info.input_size, windows)
        written = write_windows(analysis.inputs, analysis.settings, windows, own, aspect)
    if not written:
        raise RepairError(
            "the recordings that the network has to learn from cannot be read: put them where the analysis has read "
            f"them ({', '.join(printable(path) for path in analysis.inputs)})"
        )
    if len(written) < len(windows):
        say(
            f"{len(windows) - len(written)} windows cannot be read from their recordings: put these where the analysis "
            "has read them"
        )
    wrong = sum(window.wrong for window in written)
    say(f"training on {wrong} wrong and {len(written) - wrong} right windows, beside the old data")
    data, trained, history = _fine_tuned(job, inria, own, phases)
    network, info = as_background_and_person(before.network, before.info)
    before = PersonClassifier(network, info, before.device, proposer=before.proposer)
    comparing, proving = divide(data)
    share, tried = job.trained_share, []
    if share is None:
        say("choosing how much of the training is taken")
        threshold = analysis.settings.threshold or before.threshold
        with phases.measure("choosing the share of the training"):
            some = analysis.frames(spread(written, WINDOWS_MAX))
            tried = try_shares(before, trained, some, comparing, threshold)
        share = best_share(tried)
    result = blended(before, trained, share)
    command = f"repair --steps {job.steps} --own-share {job.own_share:g} --seed {job.seed} --trained-share {share:g}"
    result.info = dataclasses.replace(result.info, command="; ".join(filter(None, [before.info.command, command])))
    return Training(result, share, tried, history, proving)


def _fine_tuned(
    job: RepairJob, inria: Path, own: Path, phases: Phases
) -> tuple[TrainingData, PersonClassifier, list[dict[str, float]]]:
    """Fine-tune the network on the old data and on the windows of the analysis.

    Returns:
        The old data, the trained network, and the loss and the accuracy at each checkpoint.
    """
    start = read_weights(job.weights or DEFAULT_WEIGHTS)
    # The training keeps the last layer, because its classes are those of the training.
    network, info = as_background_and_person(start.network, start.info)
    start = start._replace(network=network, info=info)
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
    # The training itself does not search the held-out photos. Both networks search them in the proof.
    without_photos = dataclasses.replace(data, threshold_photos=[], test_photos=[])
    with phases.measure("training") as phase:
        trainer = Trainer(without_photos, settings, folder, choose_device(job.device), start)
        resume(trainer)
        phase.continued = trainer.step > 0
        trained = trainer.run()
    return data, trained, trainer.history
