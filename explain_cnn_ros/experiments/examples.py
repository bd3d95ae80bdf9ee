"""The windows that experiments run on: persons with the box they stand in, and backgrounds; split by photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.experiments.layouts import Source, read_sources
from explain_cnn_ros.experiments.localization import Box
from explain_cnn_ros.training.datasets import share_of


@dataclass(frozen=True)
class Example:
    """A window, and what is in it.

    photo: the photo that it was cut from.
    image: uint8 [128, 64, 3] RGB.
    box: the person's, (x, y, width, height) in pixels of the window; None for a background.
    is_test: whether its photo is one of those that are tested on.
    """

    name: str
    photo: str
    image: NDArray[np.uint8]
    box: Box | None
    is_test: bool

    @property
    def person(self) -> bool:
        """Whether it shows one."""
        return self.box is not None


def _chosen(sources: Sequence[Source], count: int) -> list[Source]:
    """So many windows, of as many photos as possible; always the same."""
    by_photo: dict[str, list[Source]] = {}
    for source in sorted(sources, key=lambda s: (s.file.photo, s.name)):
        by_photo.setdefault(source.file.photo, []).append(source)
    order = sorted(by_photo, key=share_of)
    chosen: list[Source] = []
    for turn in range(max((len(group) for group in by_photo.values()), default=0)):
        chosen += [by_photo[photo][turn] for photo in order if turn < len(by_photo[photo])]
        if len(chosen) >= count:
            break
    return chosen[:count]


def read_examples(root: Path, training: int, test: int) -> list[Example]:
    """As many persons as backgrounds, `training` and `test` of each, or as many as there are.

    Args:
        root: data in one of the layouts of `layouts`.

    Raises:
        FileNotFoundError: what is missing, and where to get it.
        ValueError: what is damaged, or that there are none of a kind.
    """
    sources = read_sources(root)
    found = []
    for person in (True, False):
        for count, of_test in ((training, False), (test, True)):
            chosen = _chosen([s for s in sources if s.person == person and s.is_test == of_test], count)
            if count and not chosen:
                raise ValueError(
                    f"{root} holds no {'persons' if person else 'backgrounds'} to {'test' if of_test else 'train'} on: "
                    "photos are divided by a hash of their names, about one in seven is for testing"
                )
            for source in chosen:
                window, box = source.window()
                found.append(Example(source.name, source.file.photo, window, box, of_test))
    return found
