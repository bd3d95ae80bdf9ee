"""The record of a repair: the values in repair.json."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from explain_cnn_ros.analysis.provenance import versions
from explain_cnn_ros.analysis.repair.job import RepairJob
from explain_cnn_ros.analysis.repair.labelled import LabelledWindow
from explain_cnn_ros.analysis.repair.proof import Judged, WindowProof
from explain_cnn_ros.analysis.repair.prover import Cure
from explain_cnn_ros.analysis.repair.repair import RepairResult
from explain_cnn_ros.analysis.repair.text import verdict


def record_of(result: RepairResult) -> dict[str, Any]:
    """Convert the result of a repair to plain values for JSON."""
    trained = result.trained
    return {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "settings": _settings(result.job),
        "network": result.before.info.architecture,
        "model": result.before.model_hash,
        "threshold": result.threshold,
        "device": str(result.before.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "training_windows": _sides(result.split.training),
        "held_out_windows": _sides(result.split.held_out),
        "left_out_windows": result.split.left_out,
        "old": result.old,
        "frames": dataclasses.asdict(result.frames),
        "history": trained.history if trained else [],
        "shares": [dataclasses.asdict(one) for one in trained.tried] if trained else [],
        "trained_share": trained.share if trained else None,
        "phases": [dataclasses.asdict(phase) for phase in result.phases],
        "cures": [_cure(cure) for cure in result.cures],
    }


def _settings(job: RepairJob) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(one) for one in value]
        return str(value) if isinstance(value, Path) else value

    return {field.name: plain(getattr(job, field.name)) for field in dataclasses.fields(job)}


def _cure(cure: Cure) -> dict[str, Any]:
    return {
        "name": cure.name,
        "weights": cure.weights.name,
        "model": cure.model,
        "threshold": cure.threshold,
        "verdict": verdict(cure),
        "harms": cure.proof.harms,
        "proves_benefit": cure.proves_benefit,
        "held_out": _proof(cure.proof),
        "unseen": {folder: _proof(proof) for folder, proof in cure.unseen.items()},
        "old": cure.old,
        "frames": None if cure.frames is None else dataclasses.asdict(cure.frames),
        "windows": [_window(one) for one in cure.held_out],
    }


def _window(one: Judged) -> dict[str, Any]:
    return {
        "source": one.window.source,
        "frame": one.window.frame,
        "region": one.window.number,
        "person": one.window.person,
        "cause": one.window.cause,
        "wrong": one.window.wrong,
        "before": one.before,
        "after": one.after,
    }


def _proof(proof: WindowProof) -> dict[str, Any]:
    values = dataclasses.asdict(proof)
    values["by_cause"] = {str(number): count for number, count in values["by_cause"].items()}
    return values | {"p_value": proof.p_value}


def _sides(windows: Iterable[LabelledWindow]) -> dict[str, int]:
    listed = list(windows)
    return {
        "missed": sum(w.wrong and w.person for w in listed),
        "false_alarms": sum(w.wrong and not w.person for w in listed),
        "right": sum(not w.wrong for w in listed),
    }
