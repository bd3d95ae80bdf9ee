"""Settings of an analysis, and the reasons for which frames are explained."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from explain_cnn_ros.bags.sources import SourceSettings
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.files import visible
from explain_cnn_ros.options import option, require
from explain_cnn_ros.scan.decider import DecisionSettings

#: Reasons for an explanation. If several apply to a frame, it has the first of them.
WRONG, LOW_CONFIDENCE, CHOSEN, PERIODIC = "wrong", "low_confidence", "chosen", "periodic"


@dataclass(frozen=True)
class AnalysisSettings(SourceSettings, DecisionSettings):
    """Settings of an analysis. With the same settings, the same recording gives the same tables.

    Attributes:
        explain_at: Times of frames that are explained, in seconds from the start of the recording.
        explain: Settings of the explanations.

    Raises:
        ValueError: A value is out of range; the message names the field and what is expected.
    """

    label_topic: str = option(
        "",
        "Topic of a recording with the boxes of a detector, which become labels of the images with the same stamps. "
        "Where a detector that saw an image has no box, nobody is. Labels of --labels take precedence.",
    )
    label_classes: str = option(
        "",
        "Classes that the detector on --label-topic calls persons, names or ids, separated by commas. All boxes are "
        "persons if this is empty.",
    )
    label_score_min: float = option(
        0.0, "Minimum score of the boxes on --label-topic; 0: all boxes count.", 0.0, 1_000_000.0
    )
    explain_wrong: bool = option(True, "Explain frames whose decision differs from their label.")
    explain_every: int = option(
        50,
        "Explain every k-th frame, for comparison with the frames of low confidence; 0: do not.",
        0,
        1_000_000_000,
    )
    explain_all: bool = option(False, "Explain every frame.")
    silence_neurons: int = option(
        10,
        "Silence the neurons that pushed most towards wrong decisions, at most this many together, and decide the "
        "frames again; 0: do not. This needs labels and the metric influence.",
        0,
        100,
    )
    silence_frames: int = option(
        400,
        "Maximum number of frames of each recording that are decided again with neurons silenced, spread evenly. It "
        "holds for wrong decisions, for right ones and for frames without a label.",
        1,
        1_000_000_000,
    )
    causes_windows: int = option(
        200,
        "Maximum number of wrong windows of each kind that are grouped by the neurons that pushed the decision, and of "
        "right ones for comparison; 0: they are not grouped. This needs labels and the metric influence.",
        0,
        100_000,
    )
    threads: int = option(
        0, "Number of threads of PyTorch; 0: its default. The last digits of results depend on it.", 0, 1024
    )
    explain_at: tuple[float, ...] = ()
    explain: ExplainSettings = field(default_factory=ExplainSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = all(0 <= t < math.inf for t in self.explain_at)
        require(fine, "explain_at", self.explain_at, "finite times of at least 0, in seconds")
        if not self.label_topic:
            require(not self.label_classes, "label_classes", self.label_classes, "empty without label_topic")
            require(not self.label_score_min, "label_score_min", self.label_score_min, "0 without label_topic")

    @property
    def person_classes(self) -> tuple[str, ...]:
        """Classes that the detector calls persons; empty for all."""
        return tuple(filter(None, (name.strip() for name in self.label_classes.split(","))))

    def window_stride(self, total: int) -> int:
        """Return k, so that the window of every k-th frame of a recording is stored for silencing.

        Args:
            total: Number of frames of the recording, or an estimate; 0 if it is not known.
        """
        return max(1, total // self.silence_frames)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values, for JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> AnalysisSettings:
        """Convert the values that `to_dict` returned.

        Raises:
            ValueError: They are the settings of another version.
        """
        try:
            settings: AnalysisSettings = _from_plain(cls, plain)
        except (TypeError, AttributeError, LookupError) as error:
            raise ValueError(f"the settings are those of another version ({visible(str(error)[:200])})") from error
        return settings


def _from_plain(kind: type[Any], plain: dict[str, Any]) -> Any:
    """Build a dataclass from plain values of JSON, in which lists stand for tuples."""
    default = kind()
    values = {}
    for name, value in plain.items():
        if dataclasses.is_dataclass(inner := getattr(default, name)):
            values[name] = _from_plain(type(inner), value)
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
