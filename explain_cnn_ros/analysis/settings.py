"""Settings of an analysis, and the reasons for which frames are explained."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from explain_cnn_ros.bags.sources import SourceSettings
from explain_cnn_ros.explain.settings import ExplainSettings
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

    def window_stride(self, total: int) -> int:
        """Return k, so that the window of every k-th frame of a recording is stored for silencing.

        Args:
            total: Maximum number of frames of the recording; 0 if it is not known.
        """
        return max(1, total // self.silence_frames)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values, for JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain
