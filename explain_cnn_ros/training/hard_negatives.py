"""Windows of person-free photos that the network takes for persons."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.regions import crop, suppress
from explain_cnn_ros.scanning import ScanSettings, dense_candidates, pyramid_scales

Image = NDArray[np.uint8]


def mine(
    classifier: PersonClassifier,
    photos: Iterable[Image],
    settings: ScanSettings,
    rng: np.random.Generator,
    scales_per_photo: int = 2,
    windows_per_photo: int = 4,
    probability_min: float = 0.3,
) -> list[Image]:
    """Hard negatives: the windows, uint8 [H, W, 3], of highest P(person) of each photo.

    Args:
        photos: person-free, uint8 [H, W, 3] RGB.
        scales_per_photo: pyramid levels that are looked at, drawn anew for each photo and jittered; all of
            them would cost three times as much for windows that resemble each other.
        windows_per_photo: windows that are taken from one photo at most.
        probability_min: P(person) from which on a window is hard.
    """
    size = classifier.info.input_size
    floor = float(np.log(probability_min / (1 - probability_min)))
    hard: list[Image] = []
    progress = tqdm(photos, desc="hard negatives", unit="photo", mininterval=5)
    for photo in progress:
        scales = np.array(pyramid_scales(photo.shape[0], size[1], settings))
        chosen = rng.choice(scales, min(scales_per_photo, len(scales)), replace=False)
        chosen *= settings.scale_step ** rng.uniform(-0.5, 0.5, len(chosen))
        found = [c for c in dense_candidates(classifier, photo, list(chosen)) if c.score >= floor]
        for c in suppress(found, 0.8, windows_per_photo):
            hard.append(crop(photo, c.x, c.y, c.width, c.height, size))
        progress.set_postfix(found=len(hard))
    return hard
