"""What is analysed, and which frames are explained."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from explain_cnn_ros.options import option, require, validate
from explain_cnn_ros.scanning import ScanSettings
from explain_cnn_ros.settings import ExplainSettings

#: Why a frame was explained; the first that applies, in this order.
WRONG, LOW_CONFIDENCE, CHOSEN, PERIODIC = "wrong", "low_confidence", "chosen", "periodic"


@dataclass(frozen=True)
class AnalysisSettings:
    """Settings of an analysis: with the same ones, the same recording gives the same tables.

    Raises:
        ValueError: a value is out of range; names the field and what is expected.
    """

    regions: str = option(
        "whole",
        "How a frame becomes windows: whole (resized to the window, as in the paper) or scan (persons searched for).",
        choices=("whole", "scan"),
    )
    threshold: float = option(
        0.0,
        "P(person) from which on a frame counts as person; 0: the threshold that belongs to the weights.",
        0.0,
        0.999,
    )
    confidence_threshold: float = option(
        0.75, "Frames with max(p, 1 - p) below this are doubtful, and explained; 0: none is.", 0.0, 1.0
    )
    explain_wrong: bool = option(True, "Explain frames whose decision differs from their label.")
    explain_every: int = option(
        50, "Explain every k-th frame as well: what is doubtful is compared with these; 0: do not.", 0, 1_000_000_000
    )
    explain_all: bool = option(False, "Explain every frame.")
    start: float = option(0.0, "Leave out what was recorded before this, seconds from the recording's start.", 0.0, 1e9)
    end: float = option(0.0, "Leave out what was recorded after this, seconds from the start; 0: nothing.", 0.0, 1e9)
    rate: float = option(10.0, "Images a second of a folder of images, which has no times of its own.", 0.001, 10_000.0)
    threads: int = option(0, "Threads of PyTorch; 0: its default. Rounding depends on it.", 0, 1024)
    topics: tuple[str, ...] = ()
    explain_at: tuple[float, ...] = ()
    scan: ScanSettings = field(default_factory=ScanSettings)
    explain: ExplainSettings = field(default_factory=ExplainSettings)

    def __post_init__(self) -> None:
        validate(self)
        require(self.end == 0 or self.end > self.start, "end", self.end, f"0, or above start ({self.start})")
        require(all(t >= 0 for t in self.explain_at), "explain_at", self.explain_at, "times of at least 0, in seconds")

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain
