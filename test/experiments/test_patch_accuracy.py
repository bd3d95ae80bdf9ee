"""The splits of patches, and the cache of accuracies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from explain_cnn_ros.experiments import patch_accuracy
from explain_cnn_ros.experiments.examples import Example, read_examples
from explain_cnn_ros.experiments.extraction import PatchesByLayer
from explain_cnn_ros.experiments.layouts import PERSON_BOX
from explain_cnn_ros.experiments.patch_accuracy import (
    TRAINING_SHARE,
    PatchAccuracySettings,
    accuracies,
    balanced,
    patch_sets,
)
from explain_cnn_ros.experiments.secondary import SecondarySettings

SETTINGS = PatchAccuracySettings(2, 10_000, SecondarySettings(steps=1), pictures=4, repeats=3)


def patches_of(examples: list[Example]) -> dict[str, PatchesByLayer]:
    return {e.name: {3: [(0, 0, 20, 20), None, (5, 5, 9, 9)], 4: [(i, 0, 10, 10) for i in range(5)]} for e in examples}


def test_by_photo_no_patch_of_a_test_photo_is_trained_on(inria: Path) -> None:
    """Both windows of a photo stay on one side."""
    examples = read_examples(inria, 40, 10)
    assert {e.person for e in examples if e.is_test} == {True, False}
    training, test = patch_sets(examples, patches_of(examples), 5, "photo", 0, SETTINGS)
    assert training.photos and test.photos
    assert not set(training.photos) & set(test.photos)
    assert len(test.photos) == 7 * sum(e.is_test for e in examples)


def test_by_patch_every_photo_is_on_both_sides(inria: Path) -> None:
    examples = read_examples(inria, 8, 4)
    training, test = patch_sets(examples, patches_of(examples), 5, "patch", 0, SETTINGS)
    assert len(training.photos) + len(test.photos) == 7 * len(examples)
    assert len(training.photos) == pytest.approx(TRAINING_SHARE * 7 * len(examples), abs=1)
    assert len(set(training.photos) & set(test.photos)) > len(examples) / 2
    again, other = (patch_sets(examples, patches_of(examples), 5, "patch", seed, SETTINGS)[0] for seed in (0, 1))
    assert np.array_equal(again.patches, training.patches)
    assert not np.array_equal(other.patches, training.patches)


def test_few_pictures_are_others_for_each_seed(inria: Path) -> None:
    """Each seed draws two persons and two backgrounds, whose patches are in the training set and in the test set."""
    examples = read_examples(inria, 8, 4)
    chosen = []
    for seed in range(2):
        training, test = patch_sets(examples, patches_of(examples), 5, "pictures", seed, SETTINGS)
        assert len(training.photos) + len(test.photos) == 4 * 7
        assert training.persons.any() and test.persons.any()
        assert not training.persons.all() and not test.persons.all()
        chosen.append(set(training.photos))
    assert not chosen[0] & chosen[1]


def test_balanced_accuracy_and_its_interval() -> None:
    """Persons are right in one photo of two, backgrounds always: 75 %, between 50 and 100 % by the choice of photos."""
    right = np.array([True, False, *[True] * 7])
    persons = np.array([True, True, *[False] * 7])
    found = balanced(right, persons, ["a", "b", *"ccccccc"])
    assert (found.value, found.low, found.high) == (0.75, 0.5, 1.0)
    sure = balanced(np.ones(9, bool), persons, ["a", "b", *"ccccccc"])
    assert (sure.value, sure.low, sure.high) == (1.0, 1.0, 1.0)


def test_patches_of_few_pictures_are_easier_than_those_of_other_photos(tmp_path: Path) -> None:
    """Photos without anything in common but their own colour: by photo nothing is learnt, by patch everything is."""
    rng = np.random.default_rng(0)
    examples = []
    for i in range(16):
        image = np.full((128, 64, 3), rng.integers(0, 256, 3), np.uint8)
        examples.append(Example(f"{i}", f"photo{i}", image, None if i % 2 else PERSON_BOX, i % 4 < 2))
    quick = SecondarySettings(steps=25, batch=16)
    settings = PatchAccuracySettings(1, training=quick, repeats=2, few=quick)
    found = {
        split: accuracies(examples, patches_of(examples), 5, settings, tmp_path / "secondary.json", split)
        for split in ("photo", "pictures")
    }
    assert found["pictures"].overall.value > 0.95
    assert found["photo"].overall.value < 0.8


def test_accuracies_of_all_settings_are_cached(inria: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed settings and back: nothing is trained twice."""
    examples = read_examples(inria, 2, 2)
    patches = {e.name: {3: [(0, 0, 20, 20)]} for e in examples}
    trained: list[int] = []
    real = patch_accuracy.train
    monkeypatch.setattr(patch_accuracy, "train", lambda *args: trained.append(args[2]) or real(*args))
    path = tmp_path / "secondary.json"
    one, other = (PatchAccuracySettings(seeds, training=SecondarySettings(steps=1)) for seeds in (1, 2))
    first = accuracies(examples, patches, 5, one, path)
    second = accuracies(examples, patches, 5, other, path)
    assert accuracies(examples, patches, 5, one, path) == first
    assert first.seeds == second.seeds[:1]
    assert trained == [0, 0, 1]
    assert sorted(len(entry["seeds"]) for entry in json.loads(path.read_text()).values()) == [1, 2]
