"""The course of a training, interrupted or not, and what is measured of its networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments import convergence
from explain_cnn_ros.experiments.convergence import SELECTORS, Convergence, chance_similarity, measure, rank_correlation
from explain_cnn_ros.experiments.course import Checkpoint, checkpoint_steps, course_settings, train_course
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.kept import key_of
from explain_cnn_ros.experiments.probe import Probe
from explain_cnn_ros.experiments.secondary import Training
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.settings import ExplainSettings
from explain_cnn_ros.training.batches import Sources
from explain_cnn_ros.training.train import Data, Trainer, TrainSettings

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def data(picture: Callable[..., NDArray[np.uint8]]) -> Data:
    """Bright persons, dark backgrounds; an epoch has three steps of four windows."""
    persons = [picture(96, 160, i) // 2 + 100 for i in range(6)]
    backgrounds = [picture(64, 128, 100 + i) // 2 for i in range(6)]
    return Data(Sources(persons, backgrounds), persons[:2], backgrounds[:2], [], [], "pictures")


def settings_of(data: Data) -> TrainSettings:
    return course_settings(data, 2, TrainSettings(architecture="vgg11", hidden=8, batch=4))


def test_networks_within_the_first_epoch_and_after_each() -> None:
    assert checkpoint_steps(114, 3, 3) == [0, 14, 28, 57, 114, 228, 342]
    assert checkpoint_steps(3, 2, 5) == [0, 1, 2, 3, 6]


@pytest.fixture
def course(data: Data, tmp_path: Path) -> list[Checkpoint]:
    return train_course(data, settings_of(data), 1, tmp_path / "course", torch.device("cpu"))


def test_an_interrupted_course_goes_on_to_the_same_networks(
    data: Data, course: list[Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [(c.step, c.epoch) for c in course] == [(0, 0), (2, 2 / 3), (3, 1), (6, 2)]
    folder, real = tmp_path / "interrupted", Trainer.save

    def save(trainer: Trainer) -> None:
        real(trainer)
        if trainer.step in (2, 4) and trainer.step not in stopped:
            stopped.append(trainer.step)
            raise KeyboardInterrupt

    stopped: list[int] = []
    monkeypatch.setattr(Trainer, "save", save)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_course(data, settings_of(data), 1, folder, torch.device("cpu"))
    found = train_course(data, settings_of(data), 1, folder, torch.device("cpu"))
    assert stopped == [2, 4]
    for one, other in zip(course, found, strict=True):
        assert one.path.name == other.path.name
        assert key_of(one.load("cpu")) == key_of(other.load("cpu"))
    assert len({key_of(c.load("cpu")) for c in found}) == len(found)
    times = [c.path.stat().st_mtime_ns for c in found]
    train_course(data, settings_of(data), 1, folder, torch.device("cpu"))
    assert [c.path.stat().st_mtime_ns for c in found] == times


def test_a_network_that_was_removed(data: Data, course: list[Checkpoint]) -> None:
    course[1].path.unlink()
    with pytest.raises(ValueError, match=r"step-00002.safetensors is missing, and the training is past it"):
        train_course(data, settings_of(data), 1, course[1].path.parent, torch.device("cpu"))


def test_everything_is_measured_and_the_same_again(
    data: Data, course: list[Checkpoint], examples: Callable[[int], list[Example]], tmp_path: Path
) -> None:
    how = Convergence(Probe(2, 100, Training(steps=2)), top_n=2, layers=(3, 4))
    windows, validation = examples(4), (data.persons, data.backgrounds)
    rows = measure(course[:1], windows, validation, how, tmp_path / "a", "cpu")
    assert [row.step for row in rows] == [0]
    for row, checkpoint in zip(rows, course, strict=False):
        assert set(row.secondary) == set(SELECTORS)
        assert all(0 <= mean <= 1 for mean, _ in row.secondary.values())
        classifier = checkpoint.load("cpu")
        right = [(p >= 0.5) == side for side, images in ((True, validation[0]), (False, validation[1]))
                 for p in classifier.probability(np.stack([_centre(image) for image in images]))]  # fmt: skip
        assert row.accuracy == pytest.approx(np.mean(right))
        for preset in ("paper", "authors"):
            settings = ExplainSettings.preset(preset, top_n=2, layers=(3, 4))
            explanations = [Explainer(classifier, settings).explain(e.image) for e in windows]
            overall = row.similarity[preset]
            assert overall.value == pytest.approx(np.mean([e.set_similarity for e in explanations]))
            assert overall.low <= overall.value <= overall.high
            for layer in (3, 4):
                by_layer = np.mean([e.set_similarity_by_layer[layer] for e in explanations])
                assert row.similarity_by_layer[preset][layer].value == pytest.approx(by_layer)
    assert measure(course[:1], windows, validation, how, tmp_path / "a", "cpu") == rows
    assert measure(course[:1], windows, validation, how, tmp_path / "b", "cpu") == rows
    assert convergence.to_markdown(rows).count("\n| 0 |") == 3


def _centre(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (image.shape[0] - 128) // 2, (image.shape[1] - 64) // 2
    return image[top : top + 128, left : left + 64]


def test_similarity_of_sets_drawn_at_random(full_classifier: PersonClassifier) -> None:
    """Of one layer, the mean of k / (10 - k) over the hypergeometric distribution."""
    channels = 128
    weights = [math.comb(5, k) * math.comb(channels - 5, 5 - k) / math.comb(channels, 5) for k in range(6)]
    expected = sum(weight * k / (10 - k) for k, weight in enumerate(weights))
    assert chance_similarity(full_classifier, (3,), 5, 20_000) == pytest.approx(expected, rel=0.1)


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 500]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # By hand: ranks 0, 1.5, 1.5, 3 against 0, 2, 1, 3.
    assert rank_correlation([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
