"""The report of an analysis: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explain_cnn_ros.analysis.pages import render
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.report_data import collect
from explain_cnn_ros.files import replace_text

NAME = "report.html"


def write_report(store: PartStore, manifest: dict[str, Any], output: Path) -> None:
    """Write report.html. `manifest` says how the analysis was made, and what came out in numbers."""
    title = "Analysis of " + ", ".join(Path(name).name for name in manifest["inputs"][:3])
    if len(manifest["inputs"]) > 3:
        title += f" and {len(manifest['inputs']) - 3} more"
    page = render("report", title, {"manifest": manifest} | collect(store, manifest["threshold"]))
    replace_text(output / NAME, page)
