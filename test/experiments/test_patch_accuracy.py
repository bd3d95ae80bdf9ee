"""The split of patches by photo, and the cache of accuracies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explain_cnn_ros.experiments import patch_accuracy
from explain_cnn_ros.experiments.examples import read_examples
from explain_cnn_ros.experiments.patch_accuracy import PatchAccuracySettings, accuracies, patch_set
from explain_cnn_ros.experiments.secondary import SecondarySettings


def test_no_patch_of_a_test_photo_is_trained_on(inria: Path) -> None:
    """Both windows of a photo stay on one side."""
    examples = read_examples(inria, 40, 10)
    assert {e.person for e in examples if e.is_test} == {True, False}
    ranked = {e.name: {3: [(0, 0, 20, 20), None, (5, 5, 9, 9)]} for e in examples}
    *_, training = patch_set(examples, ranked, 5, False, 10_000)
    *_, test = patch_set(examples, ranked, 5, True, 10_000)
    assert training and test
    assert not set(training) & set(test)
    assert len(test) == 2 * sum(e.is_test for e in examples)


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
    assert accuracies(examples, patches, 5, one, path) == first == second[:1]
    assert trained == [0, 0, 1]
    assert sorted(json.loads(path.read_text()).values(), key=len) == [first, second]
