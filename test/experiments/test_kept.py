"""Results are kept as they come, and only those that belong to the question."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments import kept
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.network import VGGClassifier

ITEMS = {"a": 1, "b": 2, "c": 3}


def silent(done: int, of: int) -> None:
    pass


def test_interrupted_anywhere_and_gone_on(tmp_path: Path) -> None:
    """At every byte: nothing is computed twice but what was not whole, and the file becomes the same."""

    def function(item: int) -> Any:
        seen.append(item)
        return {"twice": 2 * item, "none": math.nan}

    seen: list[int] = []
    whole = tmp_path / "whole"
    expected = kept.compute(whole, "k", ITEMS, function, silent)
    data = whole.read_bytes()
    for end in range(len(data) + 1):
        path = tmp_path / "cut"
        path.write_bytes(data[:end])
        seen.clear()
        found = kept.compute(path, "k", ITEMS, function, silent)
        assert repr(found) == repr(expected)
        assert path.read_bytes() == data
        assert len(seen) == 3 - max(0, data[:end].count(b"\n") - 1)


def test_another_question_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    kept.compute(path, "k", ITEMS, lambda item: item, silent)
    assert kept.compute(path, "other", ITEMS, lambda item: -item, silent) == {"a": -1, "b": -2, "c": -3}
    assert kept.read(path, "k") == {}


def test_progress_counts_what_was_there(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        kept.compute(tmp_path / "kept", "k", ITEMS, lambda item: item, lambda done, of: seen.append((done, of)))
    assert seen == [(1, 3), (2, 3), (3, 3)] * 2


def test_the_key_is_of_everything(
    thin_network: Callable[..., VGGClassifier],
    thin_classifier: PersonClassifier,
    examples: Callable[..., list[Example]],
) -> None:
    one, other = examples(2)
    network = thin_network()
    with torch.no_grad():
        network.features[0].weight[0, 0, 0, 0] += 1e-6
    changed = PersonClassifier(network, thin_classifier.info, "cpu")
    questions = [
        (thin_classifier, one),
        (changed, one),
        (thin_classifier, other),
        (thin_classifier, one, other),
        (thin_classifier, Example(one.name, one.photo, one.image, one.box, not one.is_test)),
        (thin_classifier, Example(one.name, one.photo, one.image, None, one.is_test)),
        (thin_classifier, one, 3),
    ]
    assert len({kept.key_of(*question) for question in questions}) == len(questions)
    assert kept.key_of(thin_classifier, one) == kept.key_of(thin_classifier, one)
