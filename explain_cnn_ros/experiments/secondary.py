"""The secondary classifier: a small network that sees nothing but patches, and says whether they are of a person.

As in the paper: three hidden layers of 64 channels with max pooling between, patches resized to one size. If it does
well, the patches hold what tells persons from backgrounds.
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

#: Pixels by side that patches are resized to.
SIDE = 32


@dataclass(frozen=True)
class Training:
    """How the secondary classifier is trained: Adam, the rate falling to zero as a cosine."""

    steps: int = 400
    batch: int = 64
    rate: float = 1e-3
    weight_decay: float = 1e-4


def network() -> nn.Sequential:
    """For patches [N, 3, 32, 32]: logits [N, 2]."""
    layers: list[nn.Module] = []
    for before in (3, 64, 64):
        layers += [nn.Conv2d(before, 64, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, 2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (SIDE // 8) ** 2, 2)).to(
        memory_format=torch.channels_last
    )


def cut(image: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """A patch (x, y, width, height) of an image, uint8 [32, 32, 3]; at least a pixel, and inside of the image."""
    left, top = (int(np.clip(round(v), 0, limit - 1)) for v, limit in zip(box[:2], image.shape[1::-1], strict=True))
    right, bottom = max(left + 1, round(box[0] + box[2])), max(top + 1, round(box[1] + box[3]))
    part: Any = image[top:bottom, left:right]
    larger = part.shape[0] > SIDE or part.shape[1] > SIDE
    resized: NDArray[np.uint8] = cv2.resize(
        part, (SIDE, SIDE), interpolation=cv2.INTER_AREA if larger else cv2.INTER_LINEAR
    )
    return resized


def to_input(patches: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 [N, 32, 32, 3] -> float32 [N, 3, 32, 32], about -1 to 1."""
    tensor = torch.from_numpy(np.ascontiguousarray(patches)).permute(0, 3, 1, 2).float()
    return ((tensor - 127.5) / 64).contiguous(memory_format=torch.channels_last)


def train(
    patches: NDArray[np.uint8], persons: NDArray[np.bool_], seed: int, how: Training | None = None
) -> nn.Sequential:
    """Train on patches uint8 [N, 32, 32, 3], half of each batch of persons; the same seed gives the same network."""
    how = how or Training()
    if not persons.any() or persons.all():
        raise ValueError("the secondary classifier needs patches of persons and of backgrounds")
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network()
    sides = [np.flatnonzero(persons == value) for value in (True, False)]
    optimizer = torch.optim.AdamW(model.parameters(), how.rate, weight_decay=how.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, how.steps)
    target = torch.tensor([1] * (how.batch // 2) + [0] * (how.batch // 2))
    for _ in range(how.steps):
        chosen = np.concatenate([rng.choice(side, how.batch // 2) for side in sides])
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
def balanced_accuracy(model: nn.Sequential, patches: NDArray[np.uint8], persons: NDArray[np.bool_]) -> float:
    """Mean of the shares of persons' and backgrounds' patches that are told right."""
    right = np.concatenate(
        [
            model(to_input(patches[i : i + 512])).argmax(1).numpy().astype(bool) == persons[i : i + 512]
            for i in range(0, len(patches), 512)
        ]
    )
    return float((right[persons].mean() + right[~persons].mean()) / 2)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of a sample."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
