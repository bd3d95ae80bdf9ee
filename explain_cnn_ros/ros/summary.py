"""An explanation in plain words: one line for logs, diagnostics and files, and a legend for markers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from explain_cnn_ros.draw.boxes import opposes, shown_metrics
from explain_cnn_ros.draw.captions import (
    decision_of,
    metric_title,
    percent,
    probability_text,
    proof_text,
    proof_warning,
    stability_text,
    target_text,
)
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING


def summary_parts(explanation: Explanation) -> list[str]:
    """Return the decision, what speaks for it, what speaks against it, and reasons to distrust the explanation.

    Args:
        explanation: The explanation. Without a proof, its metrics are named instead.

    Returns:
        For instance "person: P(person) 0.97, threshold 0.50", "for it: these 35 neurons carry 71 % of the margin" and
        "against it: without these 35 neurons the margin would be 23 % larger".
    """
    parts = [f"{_decision(explanation)}: {decision_of(explanation)}"]
    for proof in explanation.proofs:
        side = "against it" if proof.metric == OPPOSING else "for it"
        parts.append(f"{side}: {proof_text(proof, target=explanation.target)}")
        if warning := proof_warning(proof):
            parts.append(warning)
    if not explanation.proofs:
        parts.append(f"neurons by {', '.join(map(metric_title, explanation.settings.metrics))}, without a proof")
    shown = shown_metrics(explanation)
    rankings = [ranking for ranking in explanation.rankings if ranking.metric in shown]
    if any(ranking.unstable for ranking in rankings):
        parts.append(stability_text(rankings))
    return parts


def summary(explanation: Explanation) -> str:
    """Return `summary_parts` as one line."""
    return "; ".join(summary_parts(explanation))


def _decision(explanation: Explanation) -> str:
    return f"{'' if explanation.person else 'no '}{target_text(explanation.target)}"


def legend(explanation: Explanation, metrics: Sequence[str]) -> list[str]:
    """Return short lines that say what the boxes mean.

    Args:
        explanation: The explanation.
        metrics: Names of the metrics whose patches are drawn.

    Returns:
        For instance "person, P 0.97", "boxes: for it, 71 % of the margin", "corners: against it, -23 % of the margin"
        and "dashed: unstable". A share is how much smaller the margin is without the neurons.
    """
    lines = [f"{_decision(explanation)}, P {probability_text(explanation.region.probability)}"]
    for name in metrics:
        about = {SUPPORTING: "for it", OPPOSING: "against it"}.get(name, metric_title(name))
        line, proof = f"{'corners' if opposes(name) else 'boxes'}: {about}", explanation.proof(name)
        if proof is not None and proof.neurons:
            without = f"P {probability_text(proof.probability)} without them"
            line += f", {without if math.isnan(proof.share) else f'{percent(proof.share)} of the margin'}"
            line += " (unreliable)" if proof.disagrees else ""
        lines.append(line)
    if any(ranking.unstable for ranking in explanation.rankings if ranking.metric in metrics):
        lines.append("dashed: unstable")
    return lines
