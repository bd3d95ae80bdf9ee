"""How much of a training is taken: as much as repairs the windows without a loss on the old data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.repair.labelled import LabelledWindow
from explain_cnn_ros.model.windows import crop
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.blending import blended
from explain_cnn_ros.training.data import TrainingData
from explain_cnn_ros.training.evaluation import accuracy, probabilities

#: The shares of the training that are tried; the first one is the network before it.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

#: Maximum number of windows of the training that choose the share.
WINDOWS_MAX = 1000


@dataclass(frozen=True)
class Taken:
    """A share of the training, and what the network decides with it.

    Attributes:
        share: The share of the trained weights; the rest are those before the training.
        fixed: Share of the wrong windows of the training that become right; None if there are none.
        kept: Share of the right windows of the training that stay right; None if there are none.
        old: Balanced accuracy on the old windows that choose the share.
    """

    share: float
    fixed: float | None
    kept: float | None
    old: float

    @property
    def own(self) -> float:
        """Accuracy on the windows of the training: the mean of `fixed` and `kept`."""
        known = [value for value in (self.fixed, self.kept) if value is not None]
        return sum(known) / max(1, len(known))


def best(found: Sequence[Taken]) -> Taken:
    """Return the share that repairs most of the windows without a loss on the old ones.

    Args:
        found: The shares in ascending order, the network before the training first.

    Returns:
        Of the shares with which the old windows are decided at least as well as before, the one with the best accuracy
        on the windows of the training; of equally good ones, the smallest. If each share loses something, the smallest.
    """
    before, *shares = found
    without_loss = [taken for taken in shares if taken.old >= before.old]
    return max(without_loss, key=lambda taken: (taken.own, -taken.share)) if without_loss else shares[0]


def parted(data: TrainingData) -> tuple[TrainingData, TrainingData]:
    """Divide the held-out windows of the old data: the first half chooses the share, the other half is for the proof.

    A single window is in both halves.
    """
    persons, backgrounds = _halves(data.persons), _halves(data.backgrounds)
    choosing, proving = (dataclasses.replace(data, persons=persons[i], backgrounds=backgrounds[i]) for i in range(2))
    return choosing, proving


def _halves(windows: list[NDArray[np.uint8]]) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    middle = (len(windows) + 1) // 2
    return windows[:middle], windows[middle:] or windows


def try_shares(
    before: PersonClassifier,
    trained: PersonClassifier,
    frames: Iterable[tuple[NDArray[np.uint8], Sequence[LabelledWindow]]],
    data: TrainingData,
    threshold: float,
) -> list[Taken]:
    """Decide windows by the network before a training, and by networks with more and more of it.

    Args:
        before: The network before the training.
        trained: The network after it.
        frames: Frames, uint8 [H, W, 3] RGB, with the windows of the training.
        data: The old data. Its held-out windows must have no part in the proof.
        threshold: The decision is "person" if P(person) is at least this.
    """
    size = before.info.input_size
    pixels, persons = [], []
    for image, windows in frames:
        for window in windows:
            r = window.region
            pixels.append(crop(image, r.x, r.y, r.width, r.height, size))
            persons.append(window.person)
    own, person = np.stack(pixels), np.array(persons)
    was_right = (before.probability(own) >= threshold) == person
    found = []
    for share in SHARES:
        network = blended(before, trained, share)
        right = (network.probability(own) >= threshold) == person
        old = accuracy(probabilities(network, data.persons), probabilities(network, data.backgrounds), threshold)
        found.append(Taken(share, _mean(right[~was_right]), _mean(right[was_right]), old["balanced_accuracy"]))
    return found


def _mean(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None
