"""The windows that experiments run on: persons with their boxes, and backgrounds; split by photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.experiments.layouts import WINDOW, WindowSource, read_sources
from explain_cnn_ros.experiments.localization import Box
from explain_cnn_ros.training.datasets import share_of

#: Minimum correlation of a window with a flipped window of the same photo whose mirror image it is. INRIA's pairs
#: correlate with 0.999 and more, its other windows of persons with less than 0.8.
MIRROR_CORRELATION = 0.95


@dataclass(frozen=True)
class Example:
    """A window with its annotation.

    Attributes:
        name: Name of the window, unique in its data.
        photo: Name of the photo that the window was cut from.
        image: The window, uint8 [H, W, 3] RGB, of the classifier's size.
        box: Box (x, y, width, height) of the person, in pixels of the window; None for a background.
        is_test: Whether the photo belongs to the test photos.
    """

    name: str
    photo: str
    image: NDArray[np.uint8]
    box: Box | None
    is_test: bool

    @property
    def person(self) -> bool:
        """Whether the window shows a person."""
        return self.box is not None


def mirrored(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Return whether one window is the mirror image of another.

    Args:
        one: uint8 [H, W, 3] RGB.
        other: A window of the same size.
    """
    pixels, flipped = (image.astype(np.float64) - image.mean() for image in (one, other[:, ::-1]))
    norm = np.sqrt((pixels**2).sum() * (flipped**2).sum())
    return bool(norm > 0 and (pixels * flipped).sum() / norm >= MIRROR_CORRELATION)


def _select(sources: Sequence[WindowSource], count: int) -> list[Example]:
    """Read up to `count` windows of as many photos as possible, and one of each mirror pair of a photo.

    The selection is the same each time.
    """
    by_photo: dict[str, list[WindowSource]] = {}
    for source in sorted(sources, key=lambda s: (s.file.photo, s.name)):
        by_photo.setdefault(source.file.photo, []).append(source)
    chosen: dict[str, list[Example]] = {photo: [] for photo in sorted(by_photo, key=share_of)}
    found: list[Example] = []
    for turn in range(max((len(group) for group in by_photo.values()), default=0)):
        for photo, taken in chosen.items():
            if len(found) == count:
                return found
            if turn < len(by_photo[photo]):
                source = by_photo[photo][turn]
                window, box = source.window()
                if not any(mirrored(window, other.image) for other in taken):
                    taken.append(Example(source.name, photo, window, box, source.is_test))
                    found.append(taken[-1])
    return found


def read_examples(root: Path, training: int, test: int, size: tuple[int, int] = WINDOW) -> list[Example]:
    """Read as many persons as backgrounds.

    INRIA's windows of persons come in mirror pairs, of which one is read.

    Args:
        root: Folder with data in one of the layouts of `layouts`.
        training: Maximum number of persons, and of backgrounds, of training photos.
        test: Maximum number of persons, and of backgrounds, of test photos.
        size: Size (width, height) of the windows, in pixels. Windows of all sizes show the same persons, and the same
            backgrounds of windows that are cut already.

    Raises:
        FileNotFoundError: Data are missing; the message says which, and where to get them.
        ValueError: Data are damaged, or there are no windows of a kind.
    """
    sources = read_sources(root, size)
    found = []
    for person in (True, False):
        for count, of_test in ((training, False), (test, True)):
            chosen = _select([s for s in sources if s.person == person and s.is_test == of_test], count)
            if count and not chosen:
                raise ValueError(
                    f"{root} holds no {'persons' if person else 'backgrounds'} to {'test' if of_test else 'train'} on: "
                    "photos are divided by a hash of their names, about one in seven is for testing"
                )
            found += chosen
    return found
