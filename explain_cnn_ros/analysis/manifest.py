"""The manifest of an analysis: the file that says how its results were computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from explain_cnn_ros.analysis import provenance
from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.job import AnalysisError, Job
from explain_cnn_ros.files import replace_text

#: Name of the file in the output.
MANIFEST = "analysis.json"

#: Values of `status`: parts are being analysed, or the process was killed; all inputs were read to their end; Ctrl-C
#: ended the analysis; an input could not be read to its end.
RUNNING, COMPLETE, INTERRUPTED, INCOMPLETE = "running", "complete", "interrupted", "incomplete"


def read_manifest(output: Path) -> dict[str, Any] | None:
    """Read the manifest in a folder; None if there is none.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is no manifest.
    """
    path = output / MANIFEST
    manifest: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return manifest


def write_manifest(output: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest into a folder, which is created if it does not exist.

    Raises:
        OSError: The file cannot be written. An existing file is left as it is.
    """
    replace_text(output / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def previous_manifest(job: Job, model: str, resume: bool) -> dict[str, Any] | None:
    """Return the manifest of the analysis that a job resumes; None if the output is new.

    Args:
        job: The job.
        model: Hash of its weights.
        resume: Whether an existing analysis is resumed.

    Raises:
        AnalysisError: The output holds other files, another analysis, or one that is not to be resumed.
    """
    try:
        previous = read_manifest(job.output)
    except (OSError, ValueError) as error:
        raise AnalysisError(
            f"{job.output / MANIFEST} cannot be read ({error}): repair it, or give another --output"
        ) from error
    if previous is None:
        if job.output.exists() and (not job.output.is_dir() or any(job.output.iterdir())):
            raise AnalysisError(f"{job.output} is not empty, and holds no analysis: give another --output")
        return None
    if not resume:
        raise AnalysisError(
            f"{job.output} holds an analysis already: give another --output, or --resume to go on with it"
        )
    for key, value in _identity(job, model).items():
        if previous.get(key) != value:
            raise AnalysisError(
                f"{job.output} was created with other {key} ({previous.get(key)}): give the same {key} to resume the "
                "analysis, or another --output"
            )
    return previous


def new_manifest(job: Job, analyzer: Analyzer) -> dict[str, Any]:
    """Return the manifest of an analysis that begins or goes on."""
    classifier = analyzer.classifier
    return _identity(job, classifier.model_hash) | {
        "threshold": analyzer.threshold,
        "device": str(classifier.device),
        "threads": torch.get_num_threads(),
        "versions": provenance.versions(),
        "status": RUNNING,
    }


def _identity(job: Job, model: str) -> dict[str, Any]:
    """Return the entries that must be the same to resume an analysis."""
    return {
        "settings": job.settings.to_dict(),
        "inputs": [str(path) for path in job.inputs],
        "labels": [label.to_dict() for label in job.labels],
        "model": model,
    }
