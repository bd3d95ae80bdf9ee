"""The report of an analysis: one HTML file without any other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explain_cnn_ros.analysis.causes.content import typical_windows
from explain_cnn_ros.analysis.commands import suggestions
from explain_cnn_ros.analysis.job import Job
from explain_cnn_ros.analysis.pages import render
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.report_content import collect
from explain_cnn_ros.files import replace_text

NAME = "report.html"


def write_report(store: PartStore, manifest: dict[str, Any], job: Job) -> None:
    """Write report.html.

    Args:
        store: The store with the parts of the analysis.
        manifest: Manifest of the analysis, with its summary and its problems.
        job: The job.

    Raises:
        OSError: The report cannot be written.
    """
    title = "Analysis of " + ", ".join(Path(name).name for name in manifest["inputs"][:3])
    if len(manifest["inputs"]) > 3:
        title += f" and {len(manifest['inputs']) - 3} more"
    found = collect(
        store,
        manifest["threshold"],
        job.settings.explain,
        manifest["wrong_way"]["neurons"],
        manifest["target"],
        manifest["starts"],
    )
    found["cause_windows"] = typical_windows(store, manifest["causes"])
    page = render("report", title, {"manifest": manifest, "commands": suggestions(job)} | found, ["causes"])
    replace_text(job.output / NAME, page)
