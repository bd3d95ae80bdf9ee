"""A changed network and the proof of its effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explain_cnn_ros.analysis.job import ProgressReporter
from explain_cnn_ros.analysis.repair.analysed import LabelledAnalysis
from explain_cnn_ros.analysis.repair.frames import FrameCounts, analyse_again, count
from explain_cnn_ros.analysis.repair.labelled import LabelledWindow
from explain_cnn_ros.analysis.repair.phases import Phases
from explain_cnn_ros.analysis.repair.proof import Judged, WindowProof, judge, old_figures, window_proof
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import SCAN
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.data import TrainingData

Say = Callable[[str], None]

#: Name of the cure by silencing. Its neurons are found in wrong windows of whole recordings, also in held-out ones.
SILENCING = "silencing"


@dataclass(frozen=True)
class Cure:
    """A changed network and its proof.

    Attributes:
        name: "training" or "silencing".
        weights: Its weights file.
        model: First 12 hexadecimal digits of the SHA-256 of this file.
        threshold: The decision is "person" if P(person) is at least this.
        held_out: The held-out windows, decided before and after.
        proof: The changes of the decisions about them.
        unseen: The same for the labelled windows of recordings that took no part, by the folder of their analysis.
        old: Figures on the held-out old data after the change; empty without old data.
        frames: Decisions about the held-out frames after the change; None if they were not analysed again.
    """

    name: str
    weights: Path
    model: str
    threshold: float
    held_out: tuple[Judged, ...]
    proof: WindowProof
    unseen: dict[str, WindowProof]
    old: dict[str, Any]
    frames: FrameCounts | None

    @property
    def proves_benefit(self) -> bool:
        """Whether the held-out windows prove a benefit.

        They never prove that of a silencing, because they helped to find its neurons.
        """
        return self.name != SILENCING and self.proof.proves_benefit


@dataclass(frozen=True)
class Prover:
    """Proves the effect of cures.

    Attributes:
        output: Folder of the results.
        device: Device of the networks.
        again: Whether the recordings are analysed again by the changed network.
        before: The network before the repair.
        analysis: The analysis whose wrong decisions are repaired.
        others: Analyses of recordings that take no part, by their folders.
        held_out: The held-out windows.
        data: The old data; None without them.
        progress: Is notified of the progress of the analyses.
        say: Reports a step to the user.
        phases: Measures the time.
    """

    output: Path
    device: str
    again: bool
    before: PersonClassifier
    analysis: LabelledAnalysis
    others: dict[str, LabelledAnalysis]
    held_out: Sequence[LabelledWindow]
    data: TrainingData | None
    progress: ProgressReporter
    say: Say
    phases: Phases

    def threshold(self, network: PersonClassifier) -> float:
        """Return the threshold of decisions: that of the settings of the analysis, or else that of the weights."""
        return self.analysis.settings.threshold or network.threshold

    @property
    def starts(self) -> dict[str, int]:
        """Log time at which the held-out part of each recording begins, in ns."""
        starts: dict[str, int] = {}
        for window in self.held_out:
            starts[window.source] = min(window.log_time, starts.get(window.source, window.log_time))
        return starts

    def old_figures(self, network: PersonClassifier, when: str) -> dict[str, Any]:
        """Return the figures of a network on the held-out old data; empty without old data.

        The photos are searched with the settings of the analysis, or with the default settings if the analysis did not
        search its frames.

        Args:
            network: The network.
            when: When it is measured, for the name of the phase, for instance "before".
        """
        if self.data is None:
            return {}
        settings = self.analysis.settings
        search = settings.scan if settings.regions == SCAN else ScanSettings()
        with self.phases.measure(f"deciding the old data, {when}"):
            return old_figures(network, self.data, self.threshold(network), search)

    def prove(self, name: str, network: PersonClassifier) -> Cure:
        """Write the weights of a changed network, and prove its effect.

        Args:
            name: Name of the cure.
            network: The changed network.

        Raises:
            RepairError: The recordings cannot be analysed again.
            OSError: A file cannot be read or written.
            KeyboardInterrupt: The analysis of the recordings was interrupted.
        """
        weights = self.output / f"{name}.safetensors"
        network.save(weights)
        # The figures are those of the file, in half precision.
        after = PersonClassifier.load(weights, self.device)
        self.say(f"measuring the network after the {name}")
        networks, thresholds = (self.before, after), (self.threshold(self.before), self.threshold(after))
        with self.phases.measure(f"deciding the windows, after the {name}"):
            judged = judge(networks, self.analysis.frames(self.held_out))
            unseen = {
                folder: window_proof(judge(networks, one.frames(one.windows)), thresholds)
                for folder, one in self.others.items()
            }
        return Cure(
            name,
            weights,
            after.model_hash,
            thresholds[1],
            tuple(judged),
            window_proof(judged, thresholds),
            unseen,
            self.old_figures(after, f"after the {name}"),
            self._frames_after(name, weights, self._target(after)),
        )

    def _target(self, after: PersonClassifier) -> str:
        """Return what explanations of a changed network are about: a training may have renamed its two classes."""
        target = self.analysis.settings.explain.target
        if after.info.classes == self.before.info.classes:
            return target
        names = set(filter(None, (part.strip() for part in target.split(","))))
        others = [name for name in after.info.classes if name not in after.info.person]
        return "" if names <= set(self.before.info.person) else ",".join(others)

    def _frames_after(self, name: str, weights: Path, target: str) -> FrameCounts | None:
        """Analyse the recordings again with changed weights, and count the decisions about the held-out frames."""
        if not self.again:
            return None
        folder = self.output / f"analysis_after_{name}"
        with self.phases.measure(f"analysing the recordings, after the {name}") as phase:
            phase.continued = folder.exists()
            windows = analyse_again(self.analysis.manifest, weights, target, folder, self.device, self.progress)
        return count(windows, self.starts)
