"""The images of a training: those that it is trained on, those of the validation, and those of the test."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from explain_cnn_ros.training import datasets
from explain_cnn_ros.training.batches import TrainingImages
from explain_cnn_ros.training.duplicates import without_duplicates
from explain_cnn_ros.training.settings import TrainSettings

#: Share of the held-out person-free photos on which the threshold is chosen. The others are the test photos.
THRESHOLD_SHARE = 1 / 3


@dataclass
class TrainingData:
    """The images of a training, uint8 [H, W, 3] RGB.

    Attributes:
        images: Images that the training windows are cut from.
        persons: Validation windows of persons: held out of the training, but the best round is chosen on them.
        backgrounds: Validation windows or photos without persons.
        threshold_photos: Held-out person-free photos on which the best round and the threshold are chosen.
        test_photos: Held-out person-free photos on which nothing is chosen.
        description: Numbers of the images, for the metadata of the weights.
        own: Hash of the own windows; "" without any.
    """

    images: TrainingImages
    persons: list[NDArray[np.uint8]]
    backgrounds: list[NDArray[np.uint8]]
    threshold_photos: list[NDArray[np.uint8]]
    test_photos: list[NDArray[np.uint8]]
    description: str
    own: str = ""


def read_data(inria: Path, background: Path | None, settings: TrainSettings, own: Path | None = None) -> TrainingData:
    """Read all images into memory and split them by photo.

    Held-out images that are copies or near copies of training images are dropped; their numbers are printed.

    Args:
        inria: Folder of the INRIA person data; see `datasets.read_inria`.
        background: Folder of person-free photos; None for none.
        settings: Settings with the shares that are held out.
        own: Folder of own windows, which are all for the training; see `datasets.read_own`. None for none.

    Raises:
        FileNotFoundError: Data are missing; the message says which, and where to get them.
        ValueError: An image cannot be read, a window of a person has another size than those of INRIA, all images of a
            kind are on one side of the split, or all held-out images of a kind are copies of training images.
    """
    windows = datasets.read_inria(inria)
    persons, held_persons = _split(windows.persons, settings.held_out, "persons")
    backgrounds, held_backgrounds = _split(windows.backgrounds, settings.held_out, "backgrounds")
    photos: list[datasets.Photo] = []
    held_photos: list[datasets.Photo] = []
    if background is not None:
        photos, held_photos = datasets.split(datasets.read_photos(background), settings.background_held_out)
    before = [len(part) for part in (held_persons, held_backgrounds, held_photos)]
    held_persons = without_duplicates(held_persons, persons)
    held_backgrounds = without_duplicates(held_backgrounds, backgrounds)
    held_photos = without_duplicates(held_photos, photos)
    after = [len(part) for part in (held_persons, held_backgrounds, held_photos)]
    dropped = "{} persons, {} backgrounds, {} photos".format(*(b - a for b, a in zip(before, after, strict=True)))
    print(f"dropped as duplicates of training images: {dropped}", file=sys.stderr)
    count = round(len(held_photos) * THRESHOLD_SHARE)
    description = (
        f"INRIA person: {len(persons)} persons, {len(backgrounds)} backgrounds; {len(photos)} person-free photos. "
        f"Held out by photo: {after[0]} persons, {after[1]} backgrounds, {after[2]} photos; "
        f"dropped as duplicates of training images: {dropped}"
    )
    joined = datasets.OwnWindows([], []) if own is None else datasets.read_own(own)
    if own is not None:
        description += f". Own windows: {len(joined.persons)} persons, {len(joined.backgrounds)} backgrounds"
    images = TrainingImages(
        _read_windows(persons, "persons", "windows of persons"),
        _read(backgrounds, "backgrounds"),
        _read(photos, "photos"),
    )
    images.own_persons = _read_windows(joined.persons, "own persons", "own windows")
    images.own_backgrounds = _read_windows(joined.backgrounds, "own backgrounds", "own windows")
    return TrainingData(
        images,
        _read_windows(held_persons, "validation persons", "windows of persons"),
        _read(held_backgrounds, "validation backgrounds"),
        _read(held_photos[:count], "threshold photos"),
        _read(held_photos[count:], "test photos"),
        description,
        _hash(joined) if own is not None else "",
    )


def _split(
    images: Sequence[datasets.Photo], held_out: float, kind: str
) -> tuple[list[datasets.Photo], list[datasets.Photo]]:
    """Split images by photo; see `datasets.split`.

    Raises:
        ValueError: All images are on one side.
    """
    training, held = datasets.split(images, held_out)
    if not training or not held:
        count, side = len({image.photo for image in images}), "held out" if held else "for the training"
        raise ValueError(
            f"all {len(images)} {kind} in {images[0].path.parent} are {side}, but both sides need some. The names of "
            f"their photos decide ({count} of them), and the share that is held out is {held_out:g}: add images of "
            "other photos, or give `train` another --held-out"
        )
    return training, held


def _read_windows(photos: Sequence[datasets.Photo], label: str, called: str) -> list[NDArray[np.uint8]]:
    images = _read(photos, label) if photos else []
    width, height = datasets.PERSON_WINDOW
    for photo, image in zip(photos, images, strict=True):
        if image.shape[:2] != (height, width):
            raise ValueError(
                f"{photo.path} has {image.shape[1]} x {image.shape[0]} pixels: {called} must have {width} x {height}"
            )
    return images


def _hash(own: datasets.OwnWindows) -> str:
    """Return a hash of own windows, by which a training that is continued recognises them."""
    digest = hashlib.sha256()
    for photo in (*own.persons, *own.backgrounds):
        digest.update(photo.photo.encode() + b"\0" + hashlib.sha256(photo.path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _read(photos: Sequence[datasets.Photo], label: str) -> list[NDArray[np.uint8]]:
    return [photo.read() for photo in tqdm(photos, desc=label, unit="image", mininterval=5)]
