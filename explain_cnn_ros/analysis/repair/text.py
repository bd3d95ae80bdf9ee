"""The result of a repair in words."""

from __future__ import annotations

from collections.abc import Sequence

from explain_cnn_ros.analysis.intervals import mcnemar
from explain_cnn_ros.analysis.repair.frames import FrameCounts
from explain_cnn_ros.analysis.repair.phases import Phase
from explain_cnn_ros.analysis.repair.proof import is_benefit
from explain_cnn_ros.analysis.repair.prover import SILENCING, Cure
from explain_cnn_ros.analysis.repair.repair import RepairResult
from explain_cnn_ros.analysis.repair.splitting import LEARNED_MAX

#: Maximum number of phases whose time is printed.
PHASES = 3

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


def judgement(fixed: int, broken: int) -> str:
    """Return whether the windows prove a benefit.

    Args:
        fixed: Number of windows that become right.
        broken: Number of windows that become wrong.
    """
    if not fixed + broken:
        return "no decision changes"
    p_value = mcnemar(fixed, broken)
    p = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
    if is_benefit(fixed, broken):
        return f"this proves a benefit on these windows (McNemar's exact test, {p})"
    if is_benefit(broken, fixed):
        return f"this proves harm on these windows (McNemar's exact test, {p})"
    return f"this does not prove a benefit: the difference may be chance (McNemar's exact test, {p})"


def held_out_judgement(name: str, fixed: int, broken: int) -> str:
    """Return whether the held-out windows prove a benefit of a cure.

    Args:
        name: Name of the cure.
        fixed: Number of held-out windows that become right.
        broken: Number of held-out windows that become wrong.
    """
    if name == SILENCING and is_benefit(fixed, broken):
        return (
            "this does not prove a benefit, because the neurons were found with the help of these windows: only "
            "recordings that took no part (--unseen) can prove it"
        )
    return judgement(fixed, broken)


def left_out(count: int) -> str:
    """Return how many windows the network did not learn from, because there were too many.

    Args:
        count: Number of these windows.
    """
    return f"windows that were left out of the training, which takes at most {LEARNED_MAX}: {count}"


def duration(phases: Sequence[Phase]) -> str:
    """Return the time of a repair in words: the sum, and the longest phases."""
    total = sum(phase.seconds for phase in phases)
    longest = sorted(phases, key=lambda phase: -phase.seconds)[:PHASES]
    named = ", ".join(f"{phase.name} {_minutes(phase.seconds)}" for phase in longest)
    continued = "; the time before the interruption is not included" if any(p.continued for p in phases) else ""
    return f"time: {_minutes(total)} ({named}{continued})"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} s"


def lines(result: RepairResult, cure: Cure) -> list[str]:
    """Return the proof of a cure, a sentence a line, the verdict first."""
    proof = cure.proof
    found = [verdict(cure), held_out_judgement(cure.name, proof.fixed.count, proof.broken.count)]
    found += [f"false alarms fixed: {proof.fixed_alarms.text}; missed persons fixed: {proof.fixed_missed.text}"]
    for number, counted in proof.by_cause.items():
        name = result.causes[number]["name"]
        found += [f"group {number + 1}{f', {name}' if name else ''}: {counted.text} fixed"]
    if cure.frames is not None:
        before, after = result.frames, cure.frames
        found += [f"held-out frames, searched again: {_frames(before)} before; {_frames(after)} after"]
    for folder, unseen in cure.unseen.items():
        found += [
            f"{folder}: {unseen.fixed.text} wrong windows fixed, {unseen.broken.text} right ones broken; "
            f"{judgement(unseen.fixed.count, unseen.broken.count)}"
        ]
    if cure.name == "training" and result.split.left_out:
        found += [left_out(result.split.left_out)]
    if cure.name == "training" and result.trained and result.trained.share < 1:
        found += [f"the weights are a mean: {result.trained.share:.0%} of those after the training, the rest before it"]
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
