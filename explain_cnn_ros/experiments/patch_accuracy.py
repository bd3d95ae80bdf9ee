"""The information in patches: the accuracy of a secondary classifier on patches that it was not trained on.

The accuracy depends on how patches are split into those of the training and those of the test. The paper says only that
the validation set is held out. Its published code splits by patch, and uses the patches of two pictures. Patches of one
picture overlap, so that a classifier that is tested on them only has to recognise the picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.experiments.bootstrap import RESAMPLINGS, Estimate
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.extraction import PatchesByLayer
from explain_cnn_ros.experiments.localization import Box
from explain_cnn_ros.experiments.results_cache import key_of
from explain_cnn_ros.experiments.secondary import SecondarySettings, correct, cut, train
from explain_cnn_ros.files import replace_text

#: Splits of the patches.
#: photo: patches of training photos train, those of test photos test. No photo is on both sides.
#: patch: each patch of each photo is assigned at random.
#: pictures: the same with the patches of few pictures only, as in the published code.
SPLITS = ("photo", "patch", "pictures")

#: Share of the patches that train if the split is not by photo: `p_train` of the published code.
TRAINING_SHARE = 0.6


@dataclass(frozen=True)
class PatchAccuracySettings:
    """Settings of the measurement.

    Attributes:
        seeds: Number of secondary classifiers, which differ in their seeds, and in the assignment of the patches if the
            split is not by photo.
        patches: Maximum number of patches that each is trained on, and of patches that it is tested on.
        training: Settings of the training.
        pictures: Number of pictures of the split "pictures", half of them persons; the published code has 2. They are
            other pictures for each seed.
        repeats: Number of secondary classifiers of the split "pictures".
        few: Settings of the training with the split "pictures", which has few patches.
    """

    seeds: int = 3
    patches: int = 6000
    training: SecondarySettings = field(default_factory=SecondarySettings)
    pictures: int = 2
    repeats: int = 6
    few: SecondarySettings = field(default_factory=lambda: SecondarySettings(steps=100, batch=32))

    def count(self, split: str) -> int:
        """Return the number of secondary classifiers of a split."""
        return self.repeats if split == "pictures" else self.seeds


class PatchSet(NamedTuple):
    """Patches that train a secondary classifier, or that test it.

    Attributes:
        patches: The resized patches, uint8 [N, 32, 32, 3].
        persons: Whether each patch belongs to a person, [N].
        photos: The photo of each patch.
    """

    patches: NDArray[np.uint8]
    persons: NDArray[np.bool_]
    photos: list[str]


@dataclass(frozen=True)
class SecondaryAccuracy:
    """Balanced accuracy of secondary classifiers.

    Attributes:
        seeds: The accuracy of each classifier.
        overall: The accuracy on the test patches of all classifiers, with a confidence interval over photos.
    """

    seeds: tuple[float, ...]
    overall: Estimate


#: A window and a patch in it.
_Pair = tuple[Example, Box]


def boxes_of(patches: PatchesByLayer, top_n: int) -> list[Box]:
    """Return the boxes of the top N of all layers."""
    return [box for boxes in patches.values() for box in boxes[:top_n] if box is not None]


def patch_sets(
    examples: Sequence[Example],
    patches: Mapping[str, PatchesByLayer],
    top_n: int,
    split: str,
    seed: int,
    settings: PatchAccuracySettings,
) -> tuple[PatchSet, PatchSet]:
    """Cut the patches that train a secondary classifier and those that test it.

    Args:
        examples: The windows.
        patches: Patches by window.
        top_n: Number of neurons of each layer whose patches are used.
        split: One of SPLITS.
        seed: Seed of the assignment of the patches, and of the choice of the pictures.
        settings: Settings of the measurement.
    """
    if split == "photo":
        sides = [_pairs([e for e in examples if e.is_test == test], patches, top_n) for test in (False, True)]
        rng = np.random.default_rng(0)
    else:
        rng = np.random.default_rng((SPLITS.index(split), seed))
        chosen = _pictures(examples, settings.pictures, seed) if split == "pictures" else list(examples)
        sides = _by_patch(_pairs(chosen, patches, top_n), rng)
    training, test = (_cut(side, settings.patches, rng) for side in sides)
    return training, test


def _pairs(examples: Sequence[Example], patches: Mapping[str, PatchesByLayer], top_n: int) -> list[_Pair]:
    return [(example, box) for example in examples for box in boxes_of(patches[example.name], top_n)]


def _pictures(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Return as many persons as backgrounds, the next ones for each seed, test photos first."""
    found = []
    for person in (True, False):
        side = sorted((e for e in examples if e.person == person), key=lambda e: not e.is_test)
        half = min(max(1, count // 2), len(side))
        found += [side[(seed * half + i) % len(side)] for i in range(half)]
    return found


def _by_patch(pairs: Sequence[_Pair], rng: np.random.Generator) -> list[list[_Pair]]:
    """Assign patches to the training and to the test at random, with patches of both classes on each side."""
    training, test = [], []
    for person in (True, False):
        side = [pair for pair in pairs if pair[0].person == person]
        count = min(max(1, round(TRAINING_SHARE * len(side))), max(1, len(side) - 1))
        order = rng.permutation(len(side)).tolist()
        training += [side[i] for i in sorted(order[:count])]
        test += [side[i] for i in sorted(order[count:])]
    return [training, test]


def _cut(pairs: Sequence[_Pair], count_max: int, rng: np.random.Generator) -> PatchSet:
    chosen = [pairs[i] for i in sorted(rng.permutation(len(pairs))[:count_max].tolist())]
    cuts = np.stack([cut(example.image, box) for example, box in chosen])
    return PatchSet(cuts, np.array([e.person for e, _ in chosen]), [e.photo for e, _ in chosen])


def accuracies(
    examples: Sequence[Example],
    patches: Mapping[str, PatchesByLayer],
    top_n: int,
    settings: PatchAccuracySettings,
    path: Path,
    split: str = "photo",
) -> SecondaryAccuracy:
    """Train secondary classifiers and measure their balanced accuracy.

    Args:
        examples: The windows.
        patches: Patches by window.
        top_n: Number of neurons of each layer whose patches are used.
        settings: Settings of the measurement.
        path: File of the cache, which holds the results of all inputs so far.
        split: One of SPLITS.
    """
    sets = [patch_sets(examples, patches, top_n, split, seed, settings) for seed in range(settings.count(split))]
    training = settings.few if split == "pictures" else settings.training
    key = key_of(training, len(sets), *(part for pair in sets for side in pair for part in side))
    cached = _read(path)
    if key not in cached:
        right = [
            correct(train(known.patches, known.persons, seed, training), unknown.patches, unknown.persons)
            for seed, (known, unknown) in enumerate(sets)
        ]
        tests = [unknown for _, unknown in sets]
        seeds = [_balanced(r, test.persons) for r, test in zip(right, tests, strict=True)]
        photos = [photo for test in tests for photo in test.photos]
        overall = balanced(np.concatenate(right), np.concatenate([test.persons for test in tests]), photos)
        # The file is read again: another process may have added results.
        cached = {**_read(path), key: {"seeds": seeds, "overall": [overall.value, overall.low, overall.high]}}
        replace_text(path, json.dumps(cached))
    return SecondaryAccuracy(tuple(cached[key]["seeds"]), Estimate(*cached[key]["overall"]))


def _balanced(right: NDArray[np.bool_], persons: NDArray[np.bool_]) -> float:
    return float((right[persons].mean() + right[~persons].mean()) / 2)


def balanced(right: NDArray[np.bool_], persons: NDArray[np.bool_], photos: Sequence[str]) -> Estimate:
    """Estimate the balanced accuracy, with a 95 % confidence interval by a bootstrap over photos.

    Args:
        right: Whether each decision is right, [N].
        persons: Whether each patch belongs to a person, [N]; both classes must occur.
        photos: The photo of each patch, N of them.
    """
    groups = {photo: i for i, photo in enumerate(dict.fromkeys(photos))}
    index = np.array([groups[photo] for photo in photos], np.intp)
    drawn = np.random.default_rng(0).integers(0, len(groups), (RESAMPLINGS, len(groups)))
    shares = []
    for side in (persons, ~persons):
        hits, all_ = (np.bincount(index, values, len(groups)) for values in (right & side, side))
        with np.errstate(invalid="ignore"):
            shares.append(hits[drawn].sum(1) / all_[drawn].sum(1))
    # Resamplings without one of the classes say nothing.
    low, high = np.nanpercentile((shares[0] + shares[1]) / 2, (2.5, 97.5))
    return Estimate(_balanced(right, persons), float(low), float(high))


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
