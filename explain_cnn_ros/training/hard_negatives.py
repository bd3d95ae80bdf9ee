"""The search for hard negatives: windows of person-free photos that the network takes for persons."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from explain_cnn_ros.model.windows import crop
from explain_cnn_ros.scan.candidates import suppress_boxes
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.dense import dense_windows, pass_of
from explain_cnn_ros.scan.scanning import ScanSettings, pyramid_scales

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
    """Find the windows of highest P(person) in photos.

    Args:
        classifier: The classifier.
        photos: Person-free photos, uint8 [H, W, 3] RGB.
        settings: How the photos are searched.
        rng: Source of randomness.
        scales_per_photo: Number of pyramid levels that are searched. They are drawn for each photo and jittered. All
            levels would cost three times as much and give similar windows.
        windows_per_photo: Maximum number of windows of a photo.
        probability_min: Minimum P(person) of a hard negative.

    Returns:
        The windows, uint8 [H, W, 3] RGB, of the classifier's size.
    """
    size = classifier.info.input_size
    floor = float(np.log(probability_min / (1 - probability_min)))
    dense = pass_of(classifier, proposer=False)
    hard: list[Image] = []
    progress = tqdm(photos, desc="hard negatives", unit="photo", mininterval=5)
    for photo in progress:
        scales = np.array(pyramid_scales(photo.shape[0], size[1], settings))
        chosen = rng.choice(scales, min(scales_per_photo, len(scales)), replace=False)
        chosen *= settings.scale_step ** rng.uniform(-0.5, 0.5, len(chosen))
        windows = dense_windows(dense, photo, list(chosen))
        found = windows[windows.scores >= floor]
        for index in suppress_boxes(found.person_boxes, found.scores, 0.8, windows_per_photo):
            x, y, height = found.places[index, 0], found.places[index, 1], float(np.exp(found.places[index, 2]))
            width = height * found.aspect
            hard.append(crop(photo, x - width / 2, y - height / 2, width, height, size))
        progress.set_postfix(found=len(hard))
    return hard
