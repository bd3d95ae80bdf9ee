"""The secondary classifier: a small network that decides from patches alone whether they show a person.

As the paper describes it (section 5.1), it has three hidden layers of 64 channels with max pooling between them, and
patches are resized to one size. The published code does not resize patches: it sets the rest of the image to zero. The
paper states neither the size of the patches nor the settings of the training; these are ours. The accuracy says whether
the patches contain the information that distinguishes persons from backgrounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

#: Side of the resized patches, in pixels.
SIDE = 32


@dataclass(frozen=True)
class SecondarySettings:
    """Settings of the training with AdamW and a cosine decay to 0.

    Attributes:
        steps: Number of steps.
        batch: Batch size.
        rate: Learning rate at the beginning.
        weight_decay: Weight decay.
    """

    steps: int = 400
    batch: int = 64
    rate: float = 1e-3
    weight_decay: float = 1e-4


def network() -> nn.Sequential:
    """Build the network: patches [N, 3, 32, 32] to logits [N, 2]."""
    layers: list[nn.Module] = []
    for channels in (3, 64, 64):
        layers += [nn.Conv2d(channels, 64, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, 2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (SIDE // 8) ** 2, 2)).to(
        memory_format=torch.channels_last
    )


def cut(image: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """Cut a patch out of an image and resize it.

    Args:
        image: uint8 [H, W, 3].
        box: The patch (x, y, width, height). At least one pixel inside of the image is cut.

    Returns:
        The patch, uint8 [32, 32, 3].
    """
    left, top = (int(np.clip(round(v), 0, limit - 1)) for v, limit in zip(box[:2], image.shape[1::-1], strict=True))
    right, bottom = max(left + 1, round(box[0] + box[2])), max(top + 1, round(box[1] + box[3]))
    part: Any = image[top:bottom, left:right]
    larger = part.shape[0] > SIDE or part.shape[1] > SIDE
    resized: NDArray[np.uint8] = cv2.resize(
        part, (SIDE, SIDE), interpolation=cv2.INTER_AREA if larger else cv2.INTER_LINEAR
    )
    return resized


def to_input(patches: NDArray[np.uint8]) -> torch.Tensor:
    """Convert patches uint8 [N, 32, 32, 3] to the network's input, float32 [N, 3, 32, 32], about -1 to 1."""
    tensor = torch.from_numpy(np.ascontiguousarray(patches)).permute(0, 3, 1, 2).float()
    return ((tensor - 127.5) / 64).contiguous(memory_format=torch.channels_last)


def train(
    patches: NDArray[np.uint8], persons: NDArray[np.bool_], seed: int, settings: SecondarySettings | None = None
) -> nn.Sequential:
    """Train a network; the same seed gives the same network.

    Args:
        patches: uint8 [N, 32, 32, 3].
        persons: Whether each patch belongs to a person, [N]. Half of each batch does.
        seed: Seed of the weights and of the batches.
        settings: Settings of the training; None for the defaults.

    Raises:
        ValueError: There are no patches of persons or none of backgrounds.
    """
    settings = settings or SecondarySettings()
    if not persons.any() or persons.all():
        raise ValueError("the secondary classifier needs patches of persons and of backgrounds")
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network()
    sides = [np.flatnonzero(persons == value) for value in (True, False)]
    optimizer = torch.optim.AdamW(model.parameters(), settings.rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    target = torch.tensor([1] * (settings.batch // 2) + [0] * (settings.batch // 2))
    for _ in range(settings.steps):
        chosen = np.concatenate([rng.choice(side, settings.batch // 2) for side in sides])
        batch = patches[chosen]
        mirrored = rng.random(len(batch)) < 0.5
        batch[mirrored] = batch[mirrored, :, ::-1]
        loss = nn.functional.cross_entropy(model(to_input(batch)), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def correct(model: nn.Sequential, patches: NDArray[np.uint8], persons: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether the decision about each patch is right, bool [N].

    Args:
        model: The network.
        patches: uint8 [N, 32, 32, 3].
        persons: Whether each patch belongs to a person, [N].
    """
    return np.concatenate(
        [
            model(to_input(patches[i : i + 512])).argmax(1).numpy().astype(bool) == persons[i : i + 512]
            for i in range(0, len(patches), 512)
        ]
    )


def balanced_accuracy(model: nn.Sequential, patches: NDArray[np.uint8], persons: NDArray[np.bool_]) -> float:
    """Compute the mean of the accuracies on patches of persons and on patches of backgrounds.

    Args:
        model: The network.
        patches: uint8 [N, 32, 32, 3].
        persons: Whether each patch belongs to a person, [N].
    """
    right = correct(model, patches, persons)
    return float((right[persons].mean() + right[~persons].mean()) / 2)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation of a sample. The deviation of a single value is NaN."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
