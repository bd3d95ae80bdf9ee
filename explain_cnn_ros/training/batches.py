"""Training batches as a pure function of seed and step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.model.output import BACKGROUND_CLASS, PERSON_CLASS
from explain_cnn_ros.training.augmentation import (
    Placement,
    background_window,
    degrade,
    fits_data,
    like_person_window,
    person_window,
)

Image = NDArray[np.uint8]
T = TypeVar("T")

#: Number of batches that are prepared in advance.
AHEAD = 3


@dataclass
class TrainingImages:
    """The images that training windows are cut from, uint8 [H, W, 3] RGB.

    Attributes:
        persons: Windows of 96 x 160 pixels with the person in the middle.
        backgrounds: Windows or photos without persons.
        photos: Further person-free photos.
        hard: Hard negatives: windows that an earlier network took for persons.
        own_persons: Own windows of 96 x 160 pixels with a person in the middle; see `datasets.read_own`.
        own_backgrounds: Own windows of 96 x 160 pixels without a person.
    """

    persons: Sequence[Image]
    backgrounds: Sequence[Image]
    photos: Sequence[Image] = ()
    hard: list[Image] = field(default_factory=list)
    own_persons: Sequence[Image] = ()
    own_backgrounds: Sequence[Image] = ()


class Batch(NamedTuple):
    """A training batch.

    Attributes:
        windows: uint8 [N, H, W, 3] RGB.
        labels: Class of each window, int64 [N].
        offsets: Position of the person in each window, float32 [N, 3] in OFFSET_UNITS of the network; zero for
            backgrounds.
    """

    windows: Image
    labels: NDArray[np.int64]
    offsets: NDArray[np.float32]


def make_batch(
    images: TrainingImages,
    size: tuple[int, int],
    batch: int,
    hard_share: float,
    seed: int,
    step: int,
    border: int = 0,
    own_share: float = 0.0,
) -> Batch:
    """Create the batch of a step: half persons, half backgrounds.

    Args:
        images: The images.
        size: Size (width, height) of the windows, in pixels, without the border.
        batch: Batch size.
        hard_share: Share of the backgrounds that are hard negatives, if there are any. The others come from
            `backgrounds` and `photos` alike.
        seed: Seed of the training.
        step: Number of the step.
        border: Pixels of the surroundings on each side of a window.
        own_share: Share of the persons, and of the backgrounds, that are own windows, if there are any.
    """
    rng = np.random.default_rng((seed, step))
    pools = [pool for pool in (images.backgrounds, images.photos) if len(pool)]
    labels = np.where(np.arange(batch) < batch // 2, PERSON_CLASS, BACKGROUND_CLASS)
    whole = (size[0] + 2 * border, size[1] + 2 * border)
    windows = np.empty((batch, whole[1], whole[0], 3), np.uint8)
    offsets = np.zeros((batch, 3), np.float32)
    for i, label in enumerate(labels):
        if label == PERSON_CLASS:
            placement = Placement.draw(rng)
            own = images.own_persons and rng.random() < own_share
            window = person_window(pick(images.own_persons if own else images.persons, rng), size, placement, border)
            offsets[i] = placement.offset()
        elif images.own_backgrounds and rng.random() < own_share:
            window = person_window(pick(images.own_backgrounds, rng), size, Placement.draw(rng), border)
        elif images.hard and rng.random() < hard_share:
            window = pick(images.hard, rng)
            window = window[:, ::-1] if rng.random() < 0.5 else window
        else:
            image = pick(pools[rng.integers(len(pools))], rng)
            if not fits_data(size):
                window = like_person_window(image, size, rng, border)
            # The border may lie outside of the image, but must not reveal backgrounds.
            elif border and rng.random() < 0.6:
                window = background_window(image, whole, rng)
            else:
                window = background_window(image, size, rng, border)
        windows[i] = degrade(window, rng)
    return Batch(windows, labels, offsets)


def pick(images: Sequence[Image], rng: np.random.Generator) -> Image:
    """Return one of the images at random."""
    return images[int(rng.integers(len(images)))]


def prepared(make: Callable[[int], T], steps: range) -> Iterator[tuple[int, T]]:
    """Yield the number of each step and what `make` returns for it. A thread prepares the next steps in advance."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        futures = {step: pool.submit(make, step) for step in steps[:AHEAD]}
        for step in steps:
            ready = futures.pop(step).result()
            if step + AHEAD in steps:
                futures[step + AHEAD] = pool.submit(make, step + AHEAD)
            yield step, ready
