"""Data like INRIA's, examples of drawn pictures, small VGGs for 64 x 128 pixels, and another network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from networks_kit import small_classifier, small_network
from numpy.typing import NDArray
from torch import nn

from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.layouts import WINDOW, middle_box
from explain_cnn_ros.model import network
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Channels of the blocks of a small VGG. The dense layers need 512 at the end.
THIN_CHANNELS = (8, 12, 16, 16, 512)


@pytest.fixture(scope="session")
def inria(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows like INRIA's: 40 photos of persons with two windows each, 40 backgrounds; shared: do not modify them."""
    root = tmp_path_factory.mktemp("inria")
    rng = np.random.default_rng(0)
    for name, size in (("pos", (160, 96)), ("neg", (128, 64))):
        (root / "train" / name).mkdir(parents=True)
        for i in range(40):
            for letter in "ab" if name == "pos" else "1":
                image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                stem = f"crop{i:03d}{letter}" if name == "pos" else f"{i:03d}_{letter}"
                cv2.imwrite(str(root / "train" / name / f"{stem}.png"), image)
    return root


@pytest.fixture
def thin_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """All networks that a test builds or loads have few channels."""
    monkeypatch.setattr(network, "CHANNELS", THIN_CHANNELS)


@pytest.fixture(scope="session")
def quick_classifier() -> PersonClassifier:
    """VGG-11 of few channels with random weights; shared: do not modify it. To load it, use `thin_channels`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "CHANNELS", THIN_CHANNELS)
        torch.manual_seed(0)
        return PersonClassifier(VGGClassifier("vgg11", hidden=8), ModelInfo("vgg11", 8), "cpu")


@pytest.fixture(scope="session")
def deep_classifier(vgg_like: Callable[..., nn.Sequential]) -> PersonClassifier:
    """VGG-16 of few channels with random weights and biases; shared: do not modify it."""
    torch.manual_seed(0)
    small = VGGClassifier("vgg11", hidden=8)
    small.features = vgg_like(dtype=torch.float32)
    channels = [module.out_channels for module in small.features if isinstance(module, nn.Conv2d)]
    torch.manual_seed(0)
    small.classifier[1] = nn.Linear(channels[-1] * 8, 8)
    nn.init.normal_(small.classifier[1].weight)
    nn.init.normal_(small.classifier[-1].weight)
    return PersonClassifier(small, ModelInfo(hidden=8), "cpu")


@pytest.fixture(scope="session")
def residual_classifier() -> PersonClassifier:
    """A residual network with batch norm, windows of 40 x 32 pixels and three classes; shared: do not modify it."""
    return small_classifier(small_network("residual", torch.float32), person=("person", "forklift"), threshold=0.4)


@pytest.fixture
def examples(picture: Callable[..., NDArray[np.uint8]]) -> Callable[..., list[Example]]:
    """Build examples: persons and backgrounds, two windows of a photo, of training and test photos."""

    def build(count: int, size: tuple[int, int] = WINDOW) -> list[Example]:
        return [
            Example(
                f"{i}.png", f"photo{i // 2}", picture(*size, i), None if i % 2 else middle_box(size), i // 2 % 2 == 0
            )
            for i in range(count)
        ]

    return build
