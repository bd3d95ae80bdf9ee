"""The manifest of an analysis: the file that says how its results were computed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from explain_cnn_ros.analysis import provenance
from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.job import AnalysisError, Job
from explain_cnn_ros.analysis.results import COUNTS
from explain_cnn_ros.analysis.silencing import KIND_TEXTS, Effect
from explain_cnn_ros.files import json_text, reason, replace_text

#: Name of the file in the output.
MANIFEST = "analysis.json"

#: Values of `status`: parts are being analysed, or the process was killed; all inputs were read to their end; Ctrl-C
#: ended the analysis; an input could not be read to its end.
RUNNING, COMPLETE, INTERRUPTED, INCOMPLETE = "running", "complete", "interrupted", "incomplete"

#: Maximum number of differences that an error names.
DIFFERENCES_MAX = 4

#: Kinds of the entries that are read again.
_KINDS: dict[str, type | tuple[type, ...]] = {
    "settings": dict,
    "inputs": list,
    "labels": list,
    "model": str,
    "threshold": (int, float),
    "status": str,
    "fingerprints": dict,
    "network": dict,
    "summary": dict,
    "problems": list,
    "wrong_way": dict,
    "causes": dict,
}


def read_manifest(output: Path) -> dict[str, Any] | None:
    """Read the manifest in a folder; None if there is none.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is no manifest.
    """
    path = output / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(manifest, dict):
        raise ValueError("it is no list of entries")
    for name, kind in _KINDS.items():
        if name in manifest and not isinstance(manifest[name], kind):
            raise ValueError(f"its entry {name} is of the wrong kind")
    if not all(isinstance(count, int) for count in manifest.get("summary", {}).values()):
        raise ValueError("its entry summary is of the wrong kind")
    return manifest


def _check_results(manifest: Mapping[str, Any]) -> None:
    """Check the entries that a resumed analysis uses again.

    Raises:
        ValueError: An entry is of the wrong kind.
    """
    if not all(isinstance(problem, str) for problem in manifest.get("problems", [])):
        raise ValueError("its entry problems is of the wrong kind")
    if not all(isinstance(found, dict) for found in manifest.get("fingerprints", {}).values()):
        raise ValueError("its entry fingerprints is of the wrong kind")
    names = {field.name for field in dataclasses.fields(Effect)}
    effects = manifest.get("wrong_way", {}).get("effects", [])
    if not isinstance(effects, list) or not all(
        isinstance(effect, dict) and names <= effect.keys() and effect["kind"] in KIND_TEXTS for effect in effects
    ):
        raise ValueError("its entry wrong_way is of the wrong kind")
    complete = "problems" in manifest and set(COUNTS) <= manifest.get("summary", {}).keys()
    if manifest.get("status") == COMPLETE and not complete:
        raise ValueError("its entries summary and problems are not complete")


def write_manifest(output: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest into a folder, which is created if it does not exist.

    Raises:
        OSError: The file cannot be written. An existing file is left as it is.
    """
    replace_text(output / MANIFEST, json_text(manifest, indent=1) + "\n")


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
        if previous is not None and resume:
            _check_results(previous)
    except (OSError, ValueError) as error:
        cause = reason(error) if isinstance(error, OSError) else error
        raise AnalysisError(
            f"{job.output / MANIFEST} cannot be read ({cause}): repair it, or give another --output"
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
            differences = _differences(key, previous.get(key), value)
            raise AnalysisError(
                f"{job.output} was created with other {key}: {differences}. Give the same {key} to resume the "
                "analysis, or another --output"
            )
    return previous


def new_manifest(job: Job, analyzer: Analyzer) -> dict[str, Any]:
    """Return the manifest of an analysis that begins or goes on."""
    classifier = analyzer.classifier
    return _identity(job, classifier.model_hash) | {
        "threshold": analyzer.threshold,
        "target": analyzer.target,
        "network": {
            "architecture": classifier.info.architecture,
            "weights": job.weights.name if job.weights else "",
            "classes": list(classifier.info.classes),
        },
        "input_size": list(classifier.info.input_size),
        "device": str(classifier.device),
        "threads": torch.get_num_threads(),
        "versions": provenance.versions(),
        "status": RUNNING,
    }


def _differences(key: str, before: Any, now: Any) -> str:
    """Name the first values in which an entry of two manifests differs."""
    old, new = _values(before, key), _values(now, key)
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    named = names[:DIFFERENCES_MAX]
    texts = [f"{name} was {json_text(old.get(name))} and is {json_text(new.get(name))} now" for name in named]
    if len(names) > len(named):
        texts.append(f"and {len(names) - len(named)} more")
    return "; ".join(texts)


def _values(entry: Any, name: str) -> dict[str, Any]:
    """Return the values of a nested entry by their dotted names. Items of lists are counted from 0."""
    if not isinstance(entry, dict | list):
        return {name: entry}
    parts = entry.items() if isinstance(entry, dict) else enumerate(entry)
    return {key: value for part, inner in parts for key, value in _values(inner, f"{name}.{part}").items()}


def _identity(job: Job, model: str) -> dict[str, Any]:
    """Return the entries that must be the same to resume an analysis."""
    return {
        "settings": job.settings.to_dict(),
        "inputs": [str(path) for path in job.inputs],
        "labels": [label.to_dict() for label in job.labels],
        "model": model,
    }
