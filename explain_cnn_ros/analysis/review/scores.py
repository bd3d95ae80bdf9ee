"""Scores of windows for the review: doubt, disagreement of neighbouring frames, and contradicting influence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.review.windows import DecidedWindows

#: Windows of neighbouring frames show the same place if the intersection of their regions is at least this share of the
#: union.
PLACE_IOU = 0.3

#: A part of the score is named as a reason if it is at least this.
REASON_MIN = 0.25

#: Bound of probabilities next to 0 and 1, whose margin is not finite.
_EDGE = 1e-7


@dataclass(frozen=True)
class Scores:
    """The score of each of the N windows of an analysis: the sum of three parts, each from 0 to 1.

    Attributes:
        doubt: 1 - tanh(|m - t| / 2), where m is the margin (the logit of P(person)) and t that of the threshold: 1 at
            the threshold, 0.54 at a distance of 1, 0.24 at a distance of 2. With a threshold of 0.5, it is twice the
            probability of the decision that was not taken. float64 [N].
        disagreement: tanh(d / 2) if the window differs from the frame before and from the frame after, else 0. A window
            that shows a person differs from a frame in which no window with a person is in the same place
            (PLACE_IOU); a window that shows nobody differs from a frame in which one is. d is the smaller of the
            distances of its margin to the largest margin in that place in the two frames. If there is no window in
            that place, this is the margin of the threshold. float64 [N].
        contradiction: 1 if a proof of the window's explanation disagrees. Otherwise 2 r - 1, between 0 and 1, where r
            is the measured change of the output with all opposing neurons silenced, divided by that with all
            supporting ones silenced. 0 if the window was not explained. float64 [N].
    """

    doubt: NDArray[np.float64]
    disagreement: NDArray[np.float64]
    contradiction: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        """The scores: float64 [N], 0 to 3."""
        return self.doubt + self.disagreement + self.contradiction


def scores_of(windows: DecidedWindows, threshold: float) -> Scores:
    """Compute the scores of the windows of an analysis.

    Args:
        windows: The windows.
        threshold: The decision is "person" if P(person) is at least this.
    """
    margin, limit = margins(windows.probability), float(margins(np.array([threshold]))[0])
    contradiction = np.zeros(len(windows))
    for position, proof in windows.proofs.items():
        ratio = proof.opposing / proof.supporting if proof.supporting else 0.0
        contradiction[position] = 1.0 if proof.disagrees else min(1.0, max(0.0, 2 * ratio - 1))
    return Scores(1 - np.tanh(np.abs(margin - limit) / 2), _disagreement(windows, margin, limit), contradiction)


def margins(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the margins, ln(p / (1 - p)), of probabilities."""
    p = np.clip(probabilities, _EDGE, 1 - _EDGE)
    result: Any = np.log(p / (1 - p))
    return result


def _disagreement(windows: DecidedWindows, margin: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    result = np.zeros(len(windows))
    for position in np.flatnonzero(windows.before.any(axis=1) & windows.after.any(axis=1)).tolist():
        distance = math.inf
        for first, end in (windows.before[position], windows.after[position]):
            overlap = overlaps(windows.region[position], windows.region[first:end])
            here = np.arange(first, end)[overlap >= PLACE_IOU]
            if windows.person[here].any() == windows.person[position]:
                break
            there = float(margin[here].max(initial=-math.inf)) if len(here) else limit
            distance = min(distance, abs(float(margin[position]) - there))
        else:
            result[position] = math.tanh(distance / 2)
    return result


def overlaps(box: NDArray[np.int64], boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the intersection of a box with each of N boxes, divided by the area that both cover together.

    Args:
        box: x, y, width and height: int64 [4].
        boxes: The others: int64 [N, 4].

    Returns:
        float64 [N].
    """
    ends = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    shared = np.maximum(ends - np.maximum(box[:2], boxes[:, :2]), 0).prod(axis=1)
    result: Any = shared / (box[2:].prod() + boxes[:, 2:].prod(axis=1) - shared)
    return result


def reasons(windows: DecidedWindows, scores: Scores, position: int, threshold: float) -> list[str]:
    """Return the reasons for the score of a window in words, the strongest first; at least one.

    Args:
        windows: The windows.
        scores: Their scores.
        position: Position of the window.
        threshold: The decision is "person" if P(person) is at least this.
    """
    p = float(windows.probability[position])
    found = [(float(scores.doubt[position]), f"doubtful: P(person) {_shown(p)} (threshold {_shown(threshold)})")]
    there = "nobody" if windows.person[position] else "a person"
    found.append(
        (
            float(scores.disagreement[position]),
            f"differs from the frames before and after, in which {there} was found here",
        )
    )
    proof = windows.proofs.get(position)
    if proof is not None:
        if proof.disagrees:
            text = "contradictory influence: silencing the neurons changes the output otherwise than predicted"
        else:
            text = (
                "contradictory influence: opposing neurons carry almost as much as supporting ones "
                f"({proof.opposing:.1f} against {proof.supporting:.1f})"
            )
        found.append((float(scores.contradiction[position]), text))
    named = [text for part, text in sorted(found, key=lambda one: -one[0]) if part >= REASON_MIN]
    return named or [f"confident: P(person) {_shown(p)} (threshold {_shown(threshold)})"]


def _shown(probability: float) -> str:
    """Return a probability with two digits, or with as many more as tell it from 0 and from 1."""
    for digits in (2, 3, 4):
        text = f"{probability:.{digits}f}"
        if 0 < float(text) < 1:
            return text
    return "below 0.0001" if probability < 0.5 else "above 0.9999"
