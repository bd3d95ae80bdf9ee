"""The patches of windows: the same as in explanations, and cached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from explain_cnn_ros.experiments import extraction
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.extraction import draw_neurons, extract, extract_all
from explain_cnn_ros.experiments.selectors import RANDOM
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

QUICK = ExplainSettings(perturbations=2, layers=(3, 5), metrics=("activation_precision", "activation_sum"), top_n=3)


def test_an_interrupted_extraction_continues(
    tmp_path: Path,
    quick_classifier: PersonClassifier,
    examples: Callable[[int], list[Example]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An incomplete line is computed again. Other windows have another file."""
    explainer = Explainer(quick_classifier, QUICK)
    windows = examples(4)
    path, whole = tmp_path / "patches.jsonl", tmp_path / "whole.jsonl"
    uninterrupted = extract_all(explainer, windows, whole)
    (whole_file,) = tmp_path.glob("whole-*")

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_all(explainer, windows, path, interrupt)
    (file_path,) = tmp_path.glob("patches-*")
    with file_path.open("a") as file:
        file.write('["2.png", {"patch')
    seen: list[str] = []
    real = extraction.extract
    monkeypatch.setattr(extraction, "extract", lambda e, x, random: seen.append(x.name) or real(e, x, random))
    found = extract_all(explainer, windows, path)
    assert seen == ["2.png", "3.png"]
    assert file_path.read_bytes() == whole_file.read_bytes()
    assert found == uninterrupted
    explanation = explainer.explain(windows[1].image)
    for metric in QUICK.metrics:
        for layer in QUICK.layers:
            mine = [n.patch and dataclasses.astuple(n.patch) for n in explanation.layer_ranking(metric, layer).neurons]
            assert found["1.png"].patches[metric][layer] == mine
    assert len(found["1.png"].patches[RANDOM][3]) == 3
    seen.clear()
    extract_all(explainer, windows[1:], path)
    assert seen == ["1.png", "2.png", "3.png"]
    assert file_path.read_bytes() == whole_file.read_bytes()


def test_random_neurons_are_located_like_selected_ones(
    quick_classifier: PersonClassifier, examples: Callable[[int], list[Example]]
) -> None:
    """Their patches do not depend on the neurons that are located with them."""
    explainer = Explainer(quick_classifier, QUICK)
    (example,) = examples(1)
    record = extract(explainer, example, True)
    drawn = draw_neurons(explainer, np.random.default_rng(int.from_bytes(example.name.encode(), "big") % 2**63))
    assert len(set(drawn)) == 6
    located = explainer.locate(explainer.trace(example.image), drawn)
    for layer in QUICK.layers:
        expected = [n in located and dataclasses.astuple(located[n]) for n in drawn if n.layer == layer]
        assert [box or False for box in record["patches"][RANDOM][layer]] == expected
