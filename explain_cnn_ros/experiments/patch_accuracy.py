"""The information in patches: the accuracy of a secondary classifier on the patches of photos that it has not seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.extraction import PatchesByLayer
from explain_cnn_ros.experiments.localization import Box
from explain_cnn_ros.experiments.results_cache import key_of
from explain_cnn_ros.experiments.secondary import SecondarySettings, balanced_accuracy, cut, train
from explain_cnn_ros.files import replace_text


@dataclass(frozen=True)
class PatchAccuracySettings:
    """Settings of the measurement.

    Attributes:
        seeds: Number of secondary classifiers, which differ in their seeds.
        patches: Maximum number of patches that each is trained on, and of patches that it is tested on.
        training: Settings of the training.
    """

    seeds: int = 3
    patches: int = 6000
    training: SecondarySettings = field(default_factory=SecondarySettings)


class PatchSet(NamedTuple):
    """Patches of the training photos or of the test photos.

    Attributes:
        patches: The resized patches, uint8 [N, 32, 32, 3].
        persons: Whether each patch belongs to a person, [N].
        photos: The photo of each patch.
    """

    patches: NDArray[np.uint8]
    persons: NDArray[np.bool_]
    photos: list[str]


def boxes_of(patches: PatchesByLayer, top_n: int) -> list[Box]:
    """Return the boxes of the top N of all layers."""
    return [box for boxes in patches.values() for box in boxes[:top_n] if box is not None]


def patch_set(
    examples: Sequence[Example], patches: Mapping[str, PatchesByLayer], top_n: int, test: bool, count_max: int
) -> PatchSet:
    """Cut the patches of the training photos or of the test photos.

    Args:
        examples: The windows.
        patches: Patches by window.
        top_n: Number of neurons of each layer whose patches are used.
        test: Use the test photos, not the training photos.
        count_max: Maximum number of patches; of more, as many are chosen at random.
    """
    found = [
        (example, box)
        for example in examples
        if example.is_test == test
        for box in boxes_of(patches[example.name], top_n)
    ]
    chosen = np.random.default_rng(0).permutation(len(found))[:count_max]
    pairs = [found[i] for i in sorted(chosen)]
    cuts = np.stack([cut(example.image, box) for example, box in pairs])
    return PatchSet(cuts, np.array([e.person for e, _ in pairs]), [e.photo for e, _ in pairs])


def accuracies(
    examples: Sequence[Example],
    patches: Mapping[str, PatchesByLayer],
    top_n: int,
    settings: PatchAccuracySettings,
    path: Path,
) -> list[float]:
    """Train secondary classifiers and measure their balanced accuracy on the patches of the test photos.

    Args:
        examples: The windows.
        patches: Patches by window.
        top_n: Number of neurons of each layer whose patches are used.
        settings: Settings of the measurement.
        path: File of the cache, which holds the results of all inputs so far.

    Returns:
        The accuracy of each seed.
    """
    known, labels, _ = patch_set(examples, patches, top_n, False, settings.patches)
    unknown, test_labels, _ = patch_set(examples, patches, top_n, True, settings.patches)
    key = key_of(settings.training, settings.seeds, known, labels, unknown, test_labels)
    cached = _read(path)
    if key not in cached:
        values = [
            balanced_accuracy(train(known, labels, seed, settings.training), unknown, test_labels)
            for seed in range(settings.seeds)
        ]
        # The file is read again: another process may have added results.
        cached = {**_read(path), key: values}
        replace_text(path, json.dumps(cached))
    return cached[key]


def _read(path: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
