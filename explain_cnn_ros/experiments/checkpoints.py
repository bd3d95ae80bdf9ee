"""Networks at several times of a training: before it, several times within its first epoch, and after each epoch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.data import TrainingData
from explain_cnn_ros.training.settings import TrainSettings
from explain_cnn_ros.training.trainer import Trainer


@dataclass(frozen=True)
class Checkpoint:
    """A network at a time of its training.

    Attributes:
        step: Number of training steps.
        epoch: Number of epochs. In an epoch, as many persons are shown as there are.
        path: The weights file, without batch norm.
    """

    step: int
    epoch: float
    path: Path

    def load(self, device: str | torch.device = "auto") -> PersonClassifier:
        """Load the classifier."""
        return PersonClassifier.load(self.path, device)


def checkpoint_steps(epoch: int, epochs: int, within: int) -> list[int]:
    """Return the steps of the checkpoints.

    Args:
        epoch: Number of steps of an epoch.
        epochs: Number of epochs; there is a checkpoint after each.
        within: Number of checkpoints after a half, a quarter, an eighth and so on of the first epoch.
    """
    first = {round(epoch / 2**halvings) for halvings in range(1, within + 1)} - {0}
    return [0, *sorted(first), *(epoch * count for count in range(1, epochs + 1))]


def epoch_steps(data: TrainingData, settings: TrainSettings) -> int:
    """Return the number of steps of an epoch; half of each batch are persons."""
    return math.ceil(len(data.images.persons) / (settings.batch // 2))


def checkpoint_settings(data: TrainingData, epochs: int, settings: TrainSettings) -> TrainSettings:
    """Return the settings of a training from scratch on whole windows, without rounds of hard negatives.

    Args:
        data: The data.
        epochs: Number of epochs.
        settings: All other settings.
    """
    epoch = epoch_steps(data, settings)
    # An interruption costs at most half an epoch.
    return dataclasses.replace(
        settings, small_steps=0, rounds=0, steps=epochs * epoch, checkpoint_every=math.ceil(epoch / 2)
    )


def train_checkpoints(
    data: TrainingData, settings: TrainSettings, within: int, folder: Path, device: torch.device
) -> list[Checkpoint]:
    """Train, or resume training, until all checkpoints exist. Existing checkpoints are not written again.

    Args:
        data: The data.
        settings: Settings of the training; see `checkpoint_settings`.
        within: Number of checkpoints within the first epoch.
        folder: Folder of the checkpoints and of the training's state.
        device: Device of the training.

    Raises:
        ValueError: The folder holds a training with other settings, or a training whose checkpoint was removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    epoch = epoch_steps(data, settings)
    found = [
        Checkpoint(step, step / epoch, folder / f"step-{step:05d}.safetensors")
        for step in checkpoint_steps(epoch, settings.steps // epoch, within)
    ]
    trainer = Trainer(data, settings, folder, device)
    if not trainer.resume():
        # The settings are recorded before the first network, so that networks of other settings are recognised.
        trainer.save()
    for checkpoint in found:
        if trainer.step <= checkpoint.step:
            trainer.train(checkpoint.step)
            if not checkpoint.path.exists():
                trainer.classifier().without_batch_norm().save(checkpoint.path)
        elif not checkpoint.path.exists():
            raise ValueError(f"{checkpoint.path} is missing, and the training is past it: give another folder")
    return found
