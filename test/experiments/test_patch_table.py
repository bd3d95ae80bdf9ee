"""Table 1: its measures by hand, and that nothing of the test photos leaks into training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments import extraction
from explain_cnn_ros.experiments.cli import main
from explain_cnn_ros.experiments.examples import Example, read_examples
from explain_cnn_ros.experiments.extraction import extract_all
from explain_cnn_ros.experiments.layouts import PERSON_BOX
from explain_cnn_ros.experiments.localization import localization
from explain_cnn_ros.experiments.patch_table import (
    ELSEWHERE,
    MIDDLE,
    UNTRAINED,
    PatchTable,
    measure,
    to_markdown,
)
from explain_cnn_ros.experiments.probe import Probe, patch_set
from explain_cnn_ros.experiments.secondary import Training, balanced_accuracy, cut, network, train
from explain_cnn_ros.experiments.selectors import RANDOM
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.settings import ExplainSettings

QUICK = ExplainSettings(perturbations=2, layers=(3, 5), metrics=("activation_precision", "activation_sum"), top_n=3)


boxes = st.tuples(st.integers(-5, 60), st.integers(-5, 120), st.integers(1, 40), st.integers(1, 60))


@given(st.lists(boxes, min_size=1, max_size=6), boxes)
def test_measures_by_counting_pixels(
    patches: list[tuple[int, int, int, int]], person: tuple[int, int, int, int]
) -> None:
    canvas = np.zeros((260, 160), bool)
    px, py, pw, ph = person
    canvas[py + 20 : py + ph + 20, px + 20 : px + pw + 20] = True
    touching, inside, pointing = [], [], []
    for x, y, w, h in patches:
        part = canvas[y + 20 : y + h + 20, x + 20 : x + w + 20]
        touching.append(part.any())
        inside.append(part.mean())
        pointing.append(px <= x + w / 2 < px + pw and py <= y + h / 2 < py + ph)
    found = localization(patches, [person] * len(patches))
    assert (found.touching, found.pointing, found.patches) == (np.mean(touching), np.mean(pointing), len(patches))
    assert found.inside == pytest.approx(np.mean(inside))


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


def test_windows_are_the_middle_and_the_person_stands_there(inria: Path) -> None:
    example = next(e for e in read_examples(inria, 5, 2) if e.person)
    original = cv2.imread(str(inria / "train/pos" / example.name))[..., ::-1]
    assert np.array_equal(example.image, original[16:144, 16:80])
    x, y, width, height = PERSON_BOX
    assert (y, height) == (16, 96)
    assert x + width / 2 == 32


def test_the_secondary_classifier_learns_what_there_is_to_learn() -> None:
    """Bright against dark patches: all of it. Noise: nothing. The same seed: the same network."""
    rng = np.random.default_rng(0)
    labels = rng.random(200) < 0.5
    noise = rng.integers(60, 120, (200, 32, 32, 3), dtype=np.uint8)
    shown = noise + 100 * labels[:, None, None, None].astype(np.uint8)
    how = Training(steps=15)
    assert balanced_accuracy(train(shown[:100], labels[:100], 0, how), shown[100:], labels[100:]) == 1.0
    assert balanced_accuracy(train(noise[:100], labels[:100], 0, how), noise[100:], labels[100:]) < 0.65
    one, same, other = (train(shown, labels, seed, how).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)
    with pytest.raises(ValueError, match="needs patches of persons and of backgrounds"):
        train(shown, np.ones(200, bool), 0, how)


def test_the_secondary_classifier_is_the_papers() -> None:
    """Three hidden layers of 64 channels, max pooling between."""
    kinds = [type(m).__name__ for m in network()]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d"] * 3 + ["Flatten", "Linear"]
    assert [m.out_channels for m in network() if hasattr(m, "out_channels")] == [64, 64, 64]


@given(st.tuples(st.floats(-9, 70), st.floats(-9, 130), st.floats(0.1, 80), st.floats(0.1, 140)))
def test_cutting_never_fails(box: tuple[float, float, float, float]) -> None:
    assert cut(np.zeros((128, 64, 3), np.uint8), box).shape == (32, 32, 3)


def test_a_cut_patch_is_the_part_of_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    assert np.array_equal(cut(image, (10, 20, 32, 32)), image[20:52, 10:42])


def test_extraction_goes_on_where_it_stopped(
    tmp_path: Path, examples: Callable[[int], list[Example]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a line that was cut off, too; and begins anew for another network or other windows."""
    explainer = Explainer(PersonClassifier.load(device="cpu"), QUICK)
    windows = examples(4)
    path, whole = tmp_path / "patches.jsonl", tmp_path / "whole.jsonl"
    uninterrupted = extract_all(explainer, windows, whole)

    def interrupt(done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_all(explainer, windows, path, interrupt)
    with path.open("a") as file:
        file.write('["2.png", {"patch')
    seen: list[str] = []
    real = extraction.extract
    monkeypatch.setattr(extraction, "extract", lambda e, x, random: seen.append(x.name) or real(e, x, random))
    found = extract_all(explainer, windows, path)
    assert seen == ["2.png", "3.png"]
    assert path.read_bytes() == whole.read_bytes()
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


def test_the_whole_table_and_again(inria: Path, tmp_path: Path) -> None:
    """Every row is there; a second run gives the same to the last digit, from what was kept and without."""
    classifier = PersonClassifier.load(device="cpu")
    examples = read_examples(inria, 2, 1)
    how = PatchTable(QUICK, (1, 3), Probe(seeds=2, patches=100, training=Training(steps=3)))
    steps: list[str] = []
    rows = measure(classifier, examples, how, tmp_path / "a", lambda step, done, of: steps.append(step))
    assert [(row.name, row.top_n) for row in rows] == [
        (name, n) for name in (*QUICK.metrics, RANDOM, ELSEWHERE, MIDDLE, UNTRAINED) for n in (1, 3)
    ]
    assert set(steps) == {"explaining", "explaining with the untrained network", "secondary classifiers"}
    middle = next(row for row in rows if row.name == MIDDLE)
    assert (middle.localization.touching, middle.localization.pointing) == (1.0, 1.0)
    assert measure(classifier, examples, how, tmp_path / "a") == rows
    assert measure(classifier, examples, how, tmp_path / "b") == rows
    assert to_markdown(rows).count("\n") == 2 + len(rows)


def test_the_command(inria: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["patches", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 1
    assert "no INRIA person data under" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["patches", "--help"])
    assert "--preset" in capsys.readouterr().out
