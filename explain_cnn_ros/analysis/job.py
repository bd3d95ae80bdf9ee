"""The job of an analysis, its outcome, and the report of its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explain_cnn_ros.analysis.engine import Encoder
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.bags.sources import Source
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Folder of the parts in the output. It exists until the analysis is complete.
PARTS = "parts"


class AnalysisError(Exception):
    """An analysis cannot begin. The message names the cause and the cure."""


@dataclass(frozen=True)
class Job:
    """An analysis to be done.

    Attributes:
        inputs: Recordings, folders of images and videos.
        output: Folder for the results.
        settings: Settings of the analysis.
        labels: Times at which there was a person, or none.
        weights: Weights of the classifier; None for those that ship with the package.
        device: Device of the network: "auto", "cpu", "cuda" and so on.
    """

    inputs: tuple[Path, ...]
    output: Path
    settings: AnalysisSettings
    labels: tuple[Label, ...] = ()
    weights: Path | None = None
    device: str = "auto"

    @property
    def parts(self) -> Path:
        """Folder of the parts."""
        return self.output / PARTS


@dataclass
class Outcome:
    """The outcome of an analysis.

    Attributes:
        summary: Counts of frames, by name.
        problems: Inputs that could not be read and results that could not be written, a sentence each.
        complete: Whether every input was read to its end, and the results were written.
        interrupted: Whether Ctrl-C ended the analysis.
        effects: Effects of silencing the neurons that pushed the wrong way, as in the manifest; see `silencing.Effect`.
        causes: Causes of the wrong decisions, as in the manifest; see `causes.cause.Causes`.
        reported: Whether the report was written.
    """

    summary: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    complete: bool = False
    interrupted: bool = False
    effects: list[dict[str, Any]] = field(default_factory=list)
    causes: dict[str, Any] = field(default_factory=dict)
    reported: bool = False


class ProgressReporter:
    """Is notified of the progress of an analysis. This one does nothing."""

    def begin(self, total: int, done: int) -> None:
        """Begin an analysis, or its second pass, in which frames are decided again with neurons silenced.

        Args:
            total: Number of frames of all inputs whose number is known, or an estimate of it.
            done: Number of frames that were processed before.
        """

    def advance(self, frames: int, explained: int) -> None:
        """Add frames that are analysed, or decided again.

        Args:
            frames: Number of frames.
            explained: Number of those that were explained.
        """

    def say(self, text: str) -> None:
        """Report a message for the user."""

    def end(self) -> None:
        """End the pass that `begin` began. It may be called more than once."""


EncoderFactory = Callable[[PersonClassifier], Encoder | None]

#: Analyses the inputs that are not finished, given with their numbers, and writes their parts into the store.
Distribute = Callable[[Job, list[tuple[int, Source]], PartStore, ProgressReporter, Outcome], None]


def no_encoder(classifier: PersonClassifier) -> Encoder | None:
    """Return no encoder: the analysis writes no ROS messages."""
    return None
