"""The frames of the held-out part, analysed again by the repaired network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explain_cnn_ros.analysis.job import AnalysisError, Job, ProgressReporter
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.repair.labelled import LabelledWindow, RepairError, labelled_windows
from explain_cnn_ros.analysis.run import run
from explain_cnn_ros.analysis.settings import AnalysisSettings


@dataclass(frozen=True)
class FrameCounts:
    """Decisions about the labelled regions of frames.

    Attributes:
        frames: Number of frames with labelled regions.
        found: Number of persons that were found.
        missed: Number of persons that were not.
        false_alarms: Number of regions that were taken for persons.
    """

    frames: int
    found: int
    missed: int
    false_alarms: int


def count(windows: Sequence[LabelledWindow], starts: dict[str, int]) -> FrameCounts:
    """Count the decisions about the windows of the held-out frames.

    Args:
        windows: The labelled windows of an analysis.
        starts: Log time at which the held-out part of each recording begins, in ns. Other recordings do not count.
    """
    held_out = [w for w in windows if w.source in starts and w.log_time >= starts[w.source]]
    return FrameCounts(
        frames=len({(w.source, w.frame) for w in held_out}),
        found=sum(w.person and not w.wrong for w in held_out),
        missed=sum(w.person and w.wrong for w in held_out),
        false_alarms=sum(not w.person and w.wrong for w in held_out),
    )


def analyse_again(
    manifest: dict[str, Any], weights: Path, target: str, output: Path, device: str, progress: ProgressReporter
) -> list[LabelledWindow]:
    """Analyse the inputs of an analysis with other weights, and return the labelled windows.

    Frames are decided with the same settings. Wrong decisions are neither explained nor grouped by their causes. An
    analysis that was interrupted is continued.

    Args:
        manifest: Manifest of the first analysis.
        weights: The weights.
        target: Name of the class of these weights that explanations are about; "" for the person.
        output: Folder of the second analysis.
        device: Device of the network.
        progress: Is notified of the progress.

    Raises:
        RepairError: The recordings cannot be analysed.
        KeyboardInterrupt: The analysis was interrupted; calling this again continues it.
    """
    try:
        settings = AnalysisSettings.from_dict(manifest["settings"])
        settings = dataclasses.replace(
            settings,
            explain=dataclasses.replace(settings.explain, target=target),
            explain_wrong=False,
            explain_every=0,
            explain_all=False,
            explain_at=(),
            silence_neurons=0,
            causes_windows=0,
        )
        labels = tuple(Label.from_dict(label) for label in manifest["labels"])
    except (LookupError, TypeError, ValueError) as error:
        raise RepairError(f"the analysis cannot be repeated: {error}") from error
    job = Job(tuple(map(Path, manifest["inputs"])), output, settings, labels, weights, device)
    try:
        outcome = run(job, resume=output.exists(), progress=progress)
    except AnalysisError as error:
        raise RepairError(f"the frames cannot be analysed again: {error}") from error
    if outcome.interrupted:
        raise KeyboardInterrupt
    return labelled_windows(output)
