"""The commands that a page suggests: the same analysis with other arguments."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from explain_cnn_ros.analysis.job import Job
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.explain.settings import PRESETS, ExplainSettings
from explain_cnn_ros.options import options
from explain_cnn_ros.scan.scanning import ScanSettings

#: Preset of the command's explanations, unless an argument names another.
DEFAULT_PRESET = "stable"


def suggestions(job: Job) -> dict[str, str]:
    """Return commands that continue an analysis, or repeat it with what it lacks.

    Returns:
        Commands for a shell: "resume" the same analysis; "labels", "explain" and "influence" are analyses with labels,
        with explanations and with influence in another folder; "person" is one whose explanations are about the person
        and not about another class; "all" reads all times of the recordings; "name_cause"
        names a group of wrong decisions.
    """
    other = job.output.with_name(job.output.name + "_2")
    every = job.settings.explain_every or AnalysisSettings().explain_every
    return {
        "resume": _command(job, job.output, {}) + " --resume",
        "labels": _command(job, other, {"labels": "labels.csv"}),
        "explain": _command(job, other, {"explain_every": max(1, every // 10)}),
        "influence": _command(job, other, {"metrics": (), "preset": DEFAULT_PRESET}),
        "person": _command(job, other, {"target": ""}),
        "all": _command(job, other, {"start": 0.0, "end": 0.0, "topics": ()}),
        "name_cause": shlex.join(["explain-cnn", "causes", str(job.output), "--name", "1=lamp posts"]),
    }


def _command(job: Job, output: Path, changes: dict[str, Any]) -> str:
    """Return the command of a job with other values of some arguments."""
    settings, default = job.settings, AnalysisSettings()
    values = {
        **_options(settings),
        **_options(settings.scan),
        "labels": "labels.csv" if job.labels else "",
        "topics": settings.topics,
        "weights": str(job.weights or ""),
        "device": job.device,
        "explain_at": settings.explain_at,
        **_explanation(settings.explain),
    }
    usual = {
        **_options(default),
        **_options(default.scan),
        "labels": "",
        "topics": (),
        "weights": "",
        "device": "auto",
        "explain_at": (),
        **_explanation(ExplainSettings.preset(DEFAULT_PRESET)),
    }
    words = ["explain-cnn", "analyze", *map(str, job.inputs), "--output", str(output)]
    for name, value in (values | changes).items():
        flag = name.replace("_", "-")
        if value == usual[name]:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, tuple):
            words += [f"--{flag}", *map(str, value)] if value else []
        else:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def _options(settings: AnalysisSettings | ScanSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in options(settings)}


def _explanation(settings: ExplainSettings) -> dict[str, Any]:
    """Return the arguments that describe the settings of explanations."""
    names = ("layers", "layer_names", "target", "top_n")
    arguments: dict[str, Any] = {name: getattr(settings, name) for name in names}
    for name in (DEFAULT_PRESET, *PRESETS):
        preset = ExplainSettings.preset(name)
        varied = arguments | {"metrics": settings.metrics, "perturbations": settings.perturbations}
        if vars(preset) | varied == vars(settings):
            if preset.metrics == settings.metrics:
                varied["metrics"] = ()
            if preset.perturbations == settings.perturbations:
                varied["perturbations"] = ""
            if preset.top_n == settings.top_n:
                varied["top_n"] = ""
            return {"preset": name} | varied
    return {"preset": DEFAULT_PRESET} | arguments | {"metrics": settings.metrics, "perturbations": ""}
