"""Training batches: which images, augmented how, as a pure function of seed and step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.classifier import BACKGROUND, PERSON
from explain_cnn_ros.training.augmentation import Placement, background_window, degrade, person_window

Image = NDArray[np.uint8]

#: Batches that are prepared ahead of the training step.
AHEAD = 3


@dataclass
class Sources:
    """The images that training windows are cut from, uint8 [H, W, 3] RGB.

    persons: windows of 96 x 160 with the person in the middle.
    backgrounds: windows or photos without persons.
    photos: further person-free photos.
    hard: windows that an earlier network took for persons.
    """

    persons: Sequence[Image]
    backgrounds: Sequence[Image]
    photos: Sequence[Image] = ()
    hard: list[Image] = field(default_factory=list)


class Batch(NamedTuple):
    """Windows uint8 [N, H, W, 3], labels int64 [N], and where the person is in each window.

    offsets: float32 [N, 3] in OFFSET_UNITS of the network, zero for backgrounds.
    """

    windows: Image
    labels: NDArray[np.int64]
    offsets: NDArray[np.float32]


def make_batch(sources: Sources, size: tuple[int, int], batch: int, hard_share: float, seed: int, step: int) -> Batch:
    """The batch of a step: half persons, half backgrounds.

    Of the backgrounds, `hard_share` come from `hard` where there are any; the rest from backgrounds and photos alike.
    """
    rng = np.random.default_rng((seed, step))
    pools = [pool for pool in (sources.backgrounds, sources.photos) if len(pool)]
    labels = np.where(np.arange(batch) < batch // 2, PERSON, BACKGROUND)
    windows = np.empty((batch, size[1], size[0], 3), np.uint8)
    offsets = np.zeros((batch, 3), np.float32)
    for i, label in enumerate(labels):
        if label == PERSON:
            placement = Placement.draw(rng)
            window = person_window(pick(sources.persons, rng), size, placement)
            offsets[i] = placement.offset()
        elif sources.hard and rng.random() < hard_share:
            window = pick(sources.hard, rng)
            window = window[:, ::-1] if rng.random() < 0.5 else window
        else:
            window = background_window(pick(pools[rng.integers(len(pools))], rng), size, rng)
        windows[i] = degrade(window, rng)
    return Batch(windows, labels, offsets)


def pick(images: Sequence[Image], rng: np.random.Generator) -> Image:
    """One of the images."""
    return images[int(rng.integers(len(images)))]


def batches(
    sources: Sources, size: tuple[int, int], batch: int, hard_share: float, seed: int, steps: range
) -> Iterator[tuple[int, Batch]]:
    """(step, batch) for each step, prepared ahead in a thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        futures = {
            step: pool.submit(make_batch, sources, size, batch, hard_share, seed, step) for step in steps[:AHEAD]
        }
        for step in steps:
            made = futures.pop(step).result()
            if step + AHEAD in steps:
                futures[step + AHEAD] = pool.submit(make_batch, sources, size, batch, hard_share, seed, step + AHEAD)
            yield step, made
