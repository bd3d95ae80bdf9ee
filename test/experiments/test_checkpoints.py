"""The networks at several times of a training, interrupted or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from explain_cnn_ros.experiments.checkpoints import Checkpoint, checkpoint_settings, checkpoint_steps, train_checkpoints
from explain_cnn_ros.experiments.results_cache import key_of
from explain_cnn_ros.training.batches import TrainingImages
from explain_cnn_ros.training.data import TrainingData
from explain_cnn_ros.training.settings import TrainSettings
from explain_cnn_ros.training.trainer import Trainer

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("thin_channels")]


@pytest.fixture
def data(picture: Callable[..., NDArray[np.uint8]]) -> TrainingData:
    """Bright persons, dark backgrounds; an epoch has three steps of four windows."""
    persons = [picture(96, 160, i) // 2 + 100 for i in range(6)]
    backgrounds = [picture(64, 128, 100 + i) // 2 for i in range(6)]
    return TrainingData(TrainingImages(persons, backgrounds), persons[:2], backgrounds[:2], [], [], "pictures")


def settings_of(data: TrainingData) -> TrainSettings:
    return checkpoint_settings(data, 2, TrainSettings(architecture="vgg11", hidden=8, batch=4))


def test_networks_within_the_first_epoch_and_after_each() -> None:
    assert checkpoint_steps(114, 3, 3) == [0, 14, 28, 57, 114, 228, 342]
    assert checkpoint_steps(3, 2, 5) == [0, 1, 2, 3, 6]


@pytest.fixture
def networks(data: TrainingData, tmp_path: Path) -> list[Checkpoint]:
    return train_checkpoints(data, settings_of(data), 1, tmp_path / "training", torch.device("cpu"))


def test_an_interrupted_training_gives_the_same_networks(
    data: TrainingData, networks: list[Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [(c.step, c.epoch) for c in networks] == [(0, 0), (2, 2 / 3), (3, 1), (6, 2)]
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
            train_checkpoints(data, settings_of(data), 1, folder, torch.device("cpu"))
    found = train_checkpoints(data, settings_of(data), 1, folder, torch.device("cpu"))
    assert stopped == [2, 4]
    for one, other in zip(networks, found, strict=True):
        assert one.path.name == other.path.name
        assert key_of(one.load("cpu")) == key_of(other.load("cpu"))
    assert len({key_of(c.load("cpu")) for c in found}) == len(found)
    times = [c.path.stat().st_mtime_ns for c in found]
    train_checkpoints(data, settings_of(data), 1, folder, torch.device("cpu"))
    assert [c.path.stat().st_mtime_ns for c in found] == times


def test_a_network_that_was_removed(data: TrainingData, networks: list[Checkpoint]) -> None:
    networks[1].path.unlink()
    with pytest.raises(ValueError, match=r"step-00002.safetensors is missing, and the training is past it"):
        train_checkpoints(data, settings_of(data), 1, networks[1].path.parent, torch.device("cpu"))


def test_networks_of_other_settings_are_not_used(data: TrainingData, tmp_path: Path) -> None:
    """The training is interrupted right after the first network, and started again with another seed."""

    def interrupt(self: Trainer, stop: int) -> None:
        if stop > 0:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_checkpoints(data, settings_of(data), 1, tmp_path, torch.device("cpu"))
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert set(files) == {"checkpoint.pt", "step-00000.safetensors"}
    other = dataclasses.replace(settings_of(data), seed=1)
    with pytest.raises(ValueError, match="belongs to a training with other settings"):
        train_checkpoints(data, other, 1, tmp_path, torch.device("cpu"))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == files
