"""A data set of a few drawn pictures, and trainings on it that are interrupted."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training import train

#: Arguments of a training of a few steps, without the network.
FEW_STEPS = [
    *("--held-out", "0.3", "--background-held-out", "0.5"),
    *("--small-steps", "2", "--steps", "4", "--batch", "4", "--warm-up", "1", "--checkpoint-every", "2"),
    *("--rounds", "1", "--round-steps", "2"),
]


def draw_data(root: Path) -> None:
    """Persons are bright bars on dark ground that is different for each; backgrounds are noise."""
    rng = np.random.default_rng(0)
    for folder in ("inria/train/pos", "inria/train/neg", "background"):
        (root / folder).mkdir(parents=True)
    for i in range(12):
        person = cv2.resize(rng.integers(0, 60, (20, 12, 3), np.uint8), (96, 160), interpolation=cv2.INTER_NEAREST)
        person[32:128, 36:60] += 150
        cv2.imwrite(str(root / f"inria/train/pos/crop{i:03d}a.png"), person)
        cv2.imwrite(str(root / f"inria/train/neg/{i:03d}_1.png"), rng.integers(0, 60, (128, 64, 3), np.uint8))
        cv2.imwrite(str(root / f"background/{i:03d}.png"), rng.integers(0, 60, (150, 130, 3), np.uint8))


def folders(data: Path, output: Path) -> list[str]:
    """Return the arguments that name the data and the output."""
    return ["--inria", str(data / "inria"), "--background", str(data / "background"), "--output", str(output)]


def interrupt_and_continue(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, module: ModuleType, stop_at: int
) -> None:
    """Interrupt a training at the batch of a step that a module trains with, and start it again."""
    original = module.prepared

    def interrupted(*args, **kwargs):
        for step, batch in original(*args, **kwargs):
            if step == stop_at:
                raise KeyboardInterrupt
            yield step, batch

    monkeypatch.setattr(module, "prepared", interrupted)
    assert train.main(arguments) == 130
    monkeypatch.setattr(module, "prepared", original)
    assert train.main(arguments) == 0


def same_tensors(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Compare all tensors of two networks."""
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(v, states[1][name]) for name, v in states[0].items()
    )


def same_weights(one: PersonClassifier, other: PersonClassifier) -> bool:
    """Compare the networks and the proposers."""
    assert one.proposer is not None and other.proposer is not None
    return same_tensors(one.network, other.network) and same_tensors(one.proposer, other.proposer)
