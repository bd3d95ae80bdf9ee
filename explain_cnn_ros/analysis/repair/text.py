"""The result of a repair in words, and as plain values."""

from __future__ import annotations

import dataclasses
from typing import Any

from explain_cnn_ros.analysis.repair.frames import FrameCounts
from explain_cnn_ros.analysis.repair.proof import WindowProof
from explain_cnn_ros.analysis.repair.repair import Cure, RepairResult

#: Names of the figures on the old data, by their keys.
OLD = {
    "persons_right": "persons right",
    "backgrounds_right": "backgrounds right",
    "balanced_accuracy": "balanced accuracy",
    "photos_with_alarm": "photos with an alarm",
}


def verdict(cure: Cure) -> str:
    """Return the first line about a cure: what it fixes and breaks on the held-out windows."""
    proof = cure.proof
    counted = (
        f"of the held-out windows, {proof.fixed.text} wrong ones become right, and {proof.broken.text} right ones "
        "become wrong"
    )
    if proof.harms:
        return f"THE {cure.name.upper()} BREAKS MORE THAN IT FIXES: {counted}"
    if not proof.fixed.count:
        return f"the {cure.name} fixes nothing: {counted}"
    return f"{cure.name}: {counted}"


def lines(result: RepairResult, cure: Cure) -> list[str]:
    """Return the proof of a cure, a sentence a line, the verdict first."""
    proof = cure.proof
    found = [verdict(cure)]
    found += [f"false alarms fixed: {proof.fixed_alarms.text}; missed persons fixed: {proof.fixed_missed.text}"]
    for number, counted in proof.by_cause.items():
        name = result.causes[number]["name"]
        found += [f"group {number + 1}{f', {name}' if name else ''}: {counted.text} fixed"]
    if cure.frames is not None:
        before, after = result.frames, cure.frames
        found += [f"held-out frames, searched again: {_frames(before)} before; {_frames(after)} after"]
    for folder, unseen in cure.unseen.items():
        found += [f"{folder}: {unseen.fixed.text} wrong windows fixed, {unseen.broken.text} right ones broken"]
    if cure.old:
        figures = [f"{text} {_change(result.old[key], cure.old[key])}" for key, text in OLD.items() if key in cure.old]
        found += [f"held-out old data: {', '.join(figures)}"]
    return found


def _change(before: float, after: float) -> str:
    return f"{before:.1%} before and {after:.1%} after"


def _frames(counts: FrameCounts) -> str:
    persons = counts.found + counts.missed
    alarms = counts.false_alarms / counts.frames if counts.frames else 0.0
    return f"{counts.found} of {persons} persons found and {alarms:.2f} false alarms a frame"


def plain(result: RepairResult) -> dict[str, Any]:
    """Convert a result to plain values for JSON."""
    return {
        "training_windows": _sides(result.split.training),
        "held_out_windows": _sides(result.split.held_out),
        "old": result.old,
        "frames": dataclasses.asdict(result.frames),
        "cures": [
            {
                "name": cure.name,
                "weights": cure.weights.name,
                "verdict": verdict(cure),
                "harms": cure.proof.harms,
                "held_out": _proof(cure.proof),
                "unseen": {folder: _proof(proof) for folder, proof in cure.unseen.items()},
                "old": cure.old,
                "frames": None if cure.frames is None else dataclasses.asdict(cure.frames),
                "windows": [
                    {"source": one.window.source, "frame": one.window.frame, "region": one.window.number}
                    | {"person": one.window.person, "cause": one.window.cause}
                    | {"before": one.before, "after": one.after}
                    for one in cure.held_out
                ],
            }
            for cure in result.cures
        ],
    }


def _proof(proof: WindowProof) -> dict[str, Any]:
    values = dataclasses.asdict(proof)
    values["by_cause"] = {str(number): count for number, count in values["by_cause"].items()}
    return values


def _sides(windows: Any) -> dict[str, int]:
    return {
        "missed": sum(w.wrong and w.person for w in windows),
        "false_alarms": sum(w.wrong and not w.person for w in windows),
        "right": sum(not w.wrong for w in windows),
    }
