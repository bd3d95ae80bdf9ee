"""The images of a training: those that it is trained on, and those that are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from explain_cnn_ros.training import datasets
from explain_cnn_ros.training.batches import TrainingImages
from explain_cnn_ros.training.settings import TrainSettings

#: Share of the held-out person-free photos on which the threshold is chosen. The others are the test photos.
THRESHOLD_SHARE = 1 / 3


@dataclass
class TrainingData:
    """The images of a training, uint8 [H, W, 3] RGB.

    Attributes:
        images: Images that the training windows are cut from.
        persons: Held-out windows of persons.
        backgrounds: Held-out windows or photos without persons.
        threshold_photos: Held-out person-free photos on which the threshold is chosen.
        test_photos: Held-out person-free photos of the final test.
        description: Numbers of the images, for the metadata of the weights.
    """

    images: TrainingImages
    persons: list[NDArray[np.uint8]]
    backgrounds: list[NDArray[np.uint8]]
    threshold_photos: list[NDArray[np.uint8]]
    test_photos: list[NDArray[np.uint8]]
    description: str


def read_data(inria: Path, background: Path | None, settings: TrainSettings) -> TrainingData:
    """Read all images into memory and split them by photo.

    Args:
        inria: Folder of the INRIA person data; see `datasets.read_inria`.
        background: Folder of person-free photos; None for none.
        settings: Settings with the shares that are held out.

    Raises:
        FileNotFoundError: Data are missing; the message says which, and where to get them.
        ValueError: An image cannot be read.
    """
    windows = datasets.read_inria(inria)
    persons, held_persons = datasets.split(windows.persons, settings.held_out)
    backgrounds, held_backgrounds = datasets.split(windows.backgrounds, settings.held_out)
    photos: list[datasets.Photo] = []
    held_photos: list[datasets.Photo] = []
    if background is not None:
        photos, held_photos = datasets.split(datasets.read_photos(background), settings.background_held_out)
    count = round(len(held_photos) * THRESHOLD_SHARE)
    description = (
        f"INRIA person: {len(persons)} persons, {len(backgrounds)} backgrounds; {len(photos)} person-free photos. "
        f"Held out by photo: {len(held_persons)} persons, {len(held_backgrounds)} backgrounds, "
        f"{len(held_photos)} photos"
    )
    return TrainingData(
        TrainingImages(_read(persons, "persons"), _read(backgrounds, "backgrounds"), _read(photos, "photos")),
        _read(held_persons, "held-out persons"),
        _read(held_backgrounds, "held-out backgrounds"),
        _read(held_photos[:count], "held-out photos"),
        _read(held_photos[count:], "test photos"),
        description,
    )


def _read(photos: Sequence[datasets.Photo], label: str) -> list[NDArray[np.uint8]]:
    return [photo.read() for photo in tqdm(photos, desc=label, unit="image", mininterval=5)]
