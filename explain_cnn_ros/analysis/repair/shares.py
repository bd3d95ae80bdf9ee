"""The choice of how much of a training goes into the weights of the repaired network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.repair.crops import cut_out
from explain_cnn_ros.analysis.repair.labelled import LabelledWindow
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.blending import blended
from explain_cnn_ros.training.data import TrainingData
from explain_cnn_ros.training.evaluation import accuracy, probabilities

#: The shares of the training that are tried. A share of 0 gives the network before the training.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

#: Maximum number of windows of the analysis with which the shares are compared.
WINDOWS_MAX = 1000


@dataclass(frozen=True)
class TriedShare:
    """A share of the training, and the decisions of the network that has it.

    Attributes:
        share: The share of the trained weights, 0 to 1; the rest are the weights before the training.
        fixed: Share of the learned windows that become right, of those that were wrong; None if there were none.
        kept: Share of the learned windows that stay right, of those that were right; None if there were none.
        old: Balanced accuracy on old windows, 0 to 1.
    """

    share: float
    fixed: float | None
    kept: float | None
    old: float

    @property
    def learned(self) -> float:
        """Accuracy on the learned windows, 0 to 1: the mean of `fixed` and `kept`."""
        known = [value for value in (self.fixed, self.kept) if value is not None]
        return sum(known) / max(1, len(known))


def best_share(tried: Sequence[TriedShare]) -> float:
    """Return the share that repairs most of the learned windows without a loss on the old windows.

    Args:
        tried: The shares in ascending order. The first one is 0, the network before the training.

    Returns:
        Among the shares with which the old windows are decided at least as well as before, the one with the highest
        accuracy on the learned windows. If several shares are equally good, the smallest of them is returned. If every
        share loses accuracy on the old windows, the smallest share above 0 is returned.
    """
    before, *shares = tried
    without_loss = [one for one in shares if one.old >= before.old]
    if not without_loss:
        return shares[0].share
    return max(without_loss, key=lambda one: (one.learned, -one.share)).share


def divide(data: TrainingData) -> tuple[TrainingData, TrainingData]:
    """Divide the held-out windows of the old data into two halves.

    Args:
        data: The old data.

    Returns:
        The data with the first half of the held-out windows, with which the shares are compared, and the data with the
        second half, which is kept for the proof. If there is only one window of a class, both halves have it.
    """
    persons, backgrounds = _halves(data.persons), _halves(data.backgrounds)
    first, second = (dataclasses.replace(data, persons=persons[i], backgrounds=backgrounds[i]) for i in range(2))
    return first, second


def _halves(windows: list[NDArray[np.uint8]]) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    middle = (len(windows) + 1) // 2
    return windows[:middle], windows[middle:] or windows


def try_shares(
    before: PersonClassifier,
    trained: PersonClassifier,
    frames: Iterable[tuple[NDArray[np.uint8], Sequence[LabelledWindow]]],
    data: TrainingData,
    threshold: float,
) -> list[TriedShare]:
    """Decide the learned windows and old windows with each share of a training.

    Args:
        before: The network before the training.
        trained: The network after the training.
        frames: Frames, uint8 [H, W, 3] RGB, each with its learned windows. There is at least one frame.
        data: The old data. Its held-out windows must not be used for the proof as well.
        threshold: The decision is "person" if P(person) is at least this.

    Returns:
        The results for all of SHARES, in this order.
    """
    pixels, persons = [], []
    for image, windows in frames:
        pixels.append(cut_out(image, windows, before.info.input_size))
        persons += [window.person for window in windows]
    learned, person = np.concatenate(pixels), np.array(persons)
    was_right = (before.probability(learned) >= threshold) == person
    tried = []
    for share in SHARES:
        network = blended(before, trained, share)
        right = (network.probability(learned) >= threshold) == person
        old = accuracy(probabilities(network, data.persons), probabilities(network, data.backgrounds), threshold)
        tried.append(TriedShare(share, _mean(right[~was_right]), _mean(right[was_right]), old["balanced_accuracy"]))
    return tried


def _mean(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None
