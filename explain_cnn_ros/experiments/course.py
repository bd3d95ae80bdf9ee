"""The course of a training: the network before it, several times within its first epoch, and after each epoch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.training.train import Data, Trainer, TrainSettings


@dataclass(frozen=True)
class Checkpoint:
    """A network on its way.

    step, epoch: how far the training had come; an epoch is as many persons as there are.
    path: its weights, without batch norm.
    """

    step: int
    epoch: float
    path: Path

    def load(self, device: str | torch.device = "auto") -> PersonClassifier:
        """The classifier as it was."""
        return PersonClassifier.load(self.path, device)


def checkpoint_steps(epoch: int, epochs: int, within: int) -> list[int]:
    """Steps at which the network is kept: 0, `within` of a half, a quarter ... of the first epoch, and each epoch."""
    first = {round(epoch / 2**halvings) for halvings in range(1, within + 1)} - {0}
    return [0, *sorted(first), *(epoch * count for count in range(1, epochs + 1))]


def epoch_steps(data: Data, settings: TrainSettings) -> int:
    """Steps of an epoch: half of each batch are persons."""
    return math.ceil(len(data.sources.persons) / (settings.batch // 2))


def course_settings(data: Data, epochs: int, settings: TrainSettings) -> TrainSettings:
    """The settings, for a training from scratch on whole windows, without rounds of hard negatives."""
    epoch = epoch_steps(data, settings)
    # What an interruption costs at most: half an epoch.
    return dataclasses.replace(
        settings, small_steps=0, rounds=0, steps=epochs * epoch, checkpoint_every=math.ceil(epoch / 2)
    )


def train_course(
    data: Data, settings: TrainSettings, within: int, folder: Path, device: torch.device
) -> list[Checkpoint]:
    """Train, or go on training, until there are all networks; those that are there already are not made again.

    Raises:
        ValueError: the folder holds a training with other settings, or one from which a network was removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    epoch = epoch_steps(data, settings)
    found = [
        Checkpoint(step, step / epoch, folder / f"step-{step:05d}.safetensors")
        for step in checkpoint_steps(epoch, settings.steps // epoch, within)
    ]
    trainer = Trainer(data, settings, folder, device)
    trainer.resume()
    for checkpoint in found:
        if trainer.step <= checkpoint.step:
            trainer.train(checkpoint.step)
            if not checkpoint.path.exists():
                trainer.classifier().without_batch_norm().save(checkpoint.path)
        elif not checkpoint.path.exists():
            raise ValueError(f"{checkpoint.path} is missing, and the training is past it: give another folder")
    return found
