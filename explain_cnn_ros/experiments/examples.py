"""The windows that experiments run on: persons with the box they stand in, and backgrounds; split by photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.regions import PERSON_ASPECT, PERSON_SHARE
from explain_cnn_ros.training.datasets import Photo, read_inria, share_of

#: Window of the classifier (width, height).
WINDOW = (64, 128)

#: Share of the photos whose patches the secondary classifier is tested on. Training of the weights that ship keeps the
#: same photos out, since they are chosen by the same number.
TEST_SHARE = 0.15

#: Where the person of an INRIA window stands, (x, y, width, height): 96 pixels tall in the middle, at the width of
#: persons of that height on average. The windows have no annotation of their own.
PERSON_BOX = (
    (WINDOW[0] - WINDOW[1] * PERSON_SHARE * PERSON_ASPECT) / 2,
    WINDOW[1] * (1 - PERSON_SHARE) / 2,
    WINDOW[1] * PERSON_SHARE * PERSON_ASPECT,
    WINDOW[1] * PERSON_SHARE,
)


@dataclass(frozen=True)
class Example:
    """A window, and what is in it.

    photo: the photo that it was cut from.
    image: uint8 [128, 64, 3] RGB.
    """

    name: str
    photo: str
    person: bool
    image: NDArray[np.uint8]

    @property
    def is_test(self) -> bool:
        """Whether its photo is one of those that are tested on."""
        return share_of(self.photo) < TEST_SHARE


def _window(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of an image, of the size of a window."""
    top, left = (image.shape[0] - WINDOW[1]) // 2, (image.shape[1] - WINDOW[0]) // 2
    if top < 0 or left < 0:
        raise ValueError(f"an image of {image.shape[1]} x {image.shape[0]} pixels is smaller than a window of 64 x 128")
    return np.ascontiguousarray(image[top : top + WINDOW[1], left : left + WINDOW[0]])


def _chosen(photos: Sequence[Photo], count: int, test: bool) -> list[Photo]:
    """So many images, of as many photos as possible; always the same."""
    side = sorted((p for p in photos if (share_of(p.photo) < TEST_SHARE) == test), key=lambda p: (p.photo, p.path.name))
    by_photo: dict[str, list[Photo]] = {}
    for p in side:
        by_photo.setdefault(p.photo, []).append(p)
    order = sorted(by_photo, key=share_of)
    chosen: list[Photo] = []
    for turn in range(max((len(group) for group in by_photo.values()), default=0)):
        chosen += [by_photo[photo][turn] for photo in order if turn < len(by_photo[photo])]
        if len(chosen) >= count:
            break
    return chosen[:count]


def read_examples(root: Path, training: int, test: int) -> list[Example]:
    """As many persons as backgrounds, `training` and `test` of each.

    Raises:
        FileNotFoundError: what is missing, and where to get it.
    """
    inria = read_inria(root)
    found = []
    for photos, person in ((inria.persons, True), (inria.backgrounds, False)):
        for count, of_test in ((training, False), (test, True)):
            for photo in _chosen(photos, count, of_test):
                found.append(Example(photo.path.name, photo.photo, person, _window(photo.read())))
    return found
