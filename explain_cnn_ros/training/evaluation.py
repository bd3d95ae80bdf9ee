"""How good a classifier is on photos that its training did not see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.training.augmentation import centred

Image = NDArray[np.uint8]


def probabilities(classifier: PersonClassifier, images: Iterable[Image]) -> NDArray[np.float32]:
    """P(person) [N] of the middle window of each image."""
    windows = [centred(image, classifier.info.input_size) for image in images]
    return classifier.probability(np.stack(windows))


def accuracy(persons: NDArray[np.float32], backgrounds: NDArray[np.float32], threshold: float) -> dict[str, float]:
    """Shares of persons and of backgrounds that are decided right, and their mean (balanced)."""
    right = (float((persons >= threshold).mean()), float((backgrounds < threshold).mean()))
    return {"persons_right": right[0], "backgrounds_right": right[1], "balanced_accuracy": sum(right) / 2}


def scan_maxima(classifier: PersonClassifier, photos: Sequence[Image], label: str) -> NDArray[np.float64]:
    """P(person) [N] of the best region of each photo: on person-free ones, the threshold at which it alarms."""
    best = [classifier.scan(photo)[0].probability for photo in tqdm(photos, desc=label, unit="photo", mininterval=5)]
    return np.array(best)


def choose_threshold(maxima: NDArray[np.float64], alarms: float) -> float:
    """The lowest threshold, at least 0.5, at which at most a share `alarms` of person-free photos alarm."""
    allowed = int(alarms * len(maxima))
    ordered = np.sort(maxima)[::-1]
    limit = float(ordered[allowed]) if allowed < len(ordered) else 0.0
    return float(np.clip(np.ceil(limit * 100 + 1e-9) / 100, 0.5, 0.99))
