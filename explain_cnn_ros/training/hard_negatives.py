"""The search for hard negatives: windows of person-free photos that the network takes for persons."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from explain_cnn_ros.model.windows import crop
from explain_cnn_ros.scan.candidates import margin_of, suppress_boxes
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.dense import dense_windows, pass_of
from explain_cnn_ros.scan.scanning import ScanSettings, pyramid_scales

Image = NDArray[np.uint8]

#: Minimum margin of the windows that a proposer proposes as hard negatives, and their maximum number in a photo. The
#: margin is that of the proposer's own hard negatives: few windows of person-free photos have a positive one.
PROPOSED_MARGIN_MIN, PROPOSED_MAX = -1.5, 16

#: If two windows share more than this part of the smaller person, only the better one is a hard negative.
OVERLAP_MAX = 0.8


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

    A classifier with a dense pass judges all windows of the pyramid levels. Another classifier judges the windows that
    its proposer proposes.

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

    Raises:
        ValueError: The classifier has neither a dense pass nor a proposer.
    """
    direct = classifier.has_dense_pass
    floor = margin_of(probability_min) if direct else PROPOSED_MARGIN_MIN
    dense = pass_of(classifier, proposer=not direct)
    hard: list[Image] = []
    progress = tqdm(photos, desc="hard negatives", unit="photo", mininterval=5)
    for photo in progress:
        scales = np.array(pyramid_scales(photo.shape[0], dense.window[1], settings))
        # A proposer is fast enough for all levels.
        chosen = rng.choice(scales, min(scales_per_photo, len(scales)), replace=False) if direct else scales
        chosen *= settings.scale_step ** rng.uniform(-0.5, 0.5, len(chosen))
        windows = dense_windows(dense, photo, list(chosen))
        found = windows[windows.scores >= floor]
        best = suppress_boxes(
            found.person_boxes, found.scores, OVERLAP_MAX, windows_per_photo if direct else PROPOSED_MAX
        )
        crops = [_crop(photo, found.places[index], classifier.info.input_size) for index in best]
        if crops and not direct:
            judged = classifier.probability(np.stack(crops))
            order = np.argsort(-judged, kind="stable")[:windows_per_photo]
            crops = [crops[index] for index in order if judged[index] >= probability_min]
        hard += crops
        progress.set_postfix(found=len(hard))
    return hard


def _crop(photo: Image, place: NDArray[np.float64], size: tuple[int, int]) -> Image:
    """Cut out a window by its centre and the logarithm of its height, with the aspect ratio of the result's size."""
    x, y, height = float(place[0]), float(place[1]), float(np.exp(place[2]))
    width = height * size[0] / size[1]
    window: Image = crop(photo, x - width / 2, y - height / 2, width, height, size)
    return window
