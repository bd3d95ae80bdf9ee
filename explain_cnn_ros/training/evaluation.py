"""Evaluation of a classifier on images that it was not trained on, and the choice of its threshold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.augmentation import centred

Image = NDArray[np.uint8]


def probabilities(classifier: PersonClassifier, images: Iterable[Image]) -> NDArray[np.float32]:
    """Compute P(person) of the middle window of each image, uint8 [H, W, 3] RGB: float32 [N]."""
    windows = [centred(image, classifier.info.input_size) for image in images]
    return classifier.probability(np.stack(windows))


def accuracy(persons: NDArray[np.float32], backgrounds: NDArray[np.float32], threshold: float) -> dict[str, float]:
    """Compute the accuracy on persons, on backgrounds, and their mean.

    Args:
        persons: P(person) of windows of persons, [N].
        backgrounds: P(person) of windows of backgrounds, [N].
        threshold: The decision is "person" if P(person) is at least this.
    """
    right = (float((persons >= threshold).mean()), float((backgrounds < threshold).mean()))
    return {"persons_right": right[0], "backgrounds_right": right[1], "balanced_accuracy": sum(right) / 2}


def scan_maxima(
    classifier: PersonClassifier, photos: Sequence[Image], label: str, settings: ScanSettings | None = None
) -> NDArray[np.float64]:
    """Compute P(person) of the best region of each photo: the highest threshold at which a person is found in it.

    Args:
        classifier: The classifier.
        photos: uint8 [H, W, 3] RGB.
        label: Text of the progress bar.
        settings: Settings of the search; None for the default.

    Returns:
        float64 [N].
    """
    shown = tqdm(photos, desc=label, unit="photo", mininterval=5)
    return np.array([classifier.scan(photo, settings)[0].probability for photo in shown])


def choose_threshold(maxima: NDArray[np.float64], alarms: float) -> float:
    """Return the lowest threshold, in hundredths, at which few person-free photos cause an alarm.

    Args:
        maxima: P(person) of the best region of each photo, [N].
        alarms: Maximum share of photos with an alarm.

    Returns:
        The threshold, 0.5 to 0.99.
    """
    allowed = int(alarms * len(maxima))
    ordered = np.sort(maxima)[::-1]
    limit = float(ordered[allowed]) if allowed < len(ordered) else 0.0
    return float(np.clip(np.ceil(limit * 100 + 1e-9) / 100, 0.5, 0.99))
