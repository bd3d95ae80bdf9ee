"""Data like INRIA's, in each layout, and examples of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from explain_cnn_ros.classifier import ModelInfo, PersonClassifier
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.layouts import PERSON_BOX
from explain_cnn_ros.network import VGGClassifier


@pytest.fixture
def inria(tmp_path: Path) -> Path:
    """Windows like INRIA's: 40 photos of persons with two windows each, 40 backgrounds."""
    rng = np.random.default_rng(0)
    for name, size in (("pos", (160, 96)), ("neg", (128, 64))):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(40):
            for letter in "ab" if name == "pos" else "1":
                image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                stem = f"crop{i:03d}{letter}" if name == "pos" else f"{i:03d}_{letter}"
                cv2.imwrite(str(tmp_path / "train" / name / f"{stem}.png"), image)
    return tmp_path


@pytest.fixture(scope="session")
def quick_classifier() -> PersonClassifier:
    """VGG-11 with random weights and narrow dense layers, windows of 64 x 128 pixels; shared: leave it as it is."""
    torch.manual_seed(0)
    return PersonClassifier(VGGClassifier("vgg11", hidden=8), ModelInfo("vgg11", 8), "cpu")


@pytest.fixture
def examples(picture: Callable[..., NDArray[np.uint8]]) -> Callable[[int], list[Example]]:
    """Build so many examples: persons and backgrounds, two windows a photo, of training and test photos."""

    def build(count: int) -> list[Example]:
        return [
            Example(f"{i}.png", f"photo{i // 2}", picture(64, 128, i), None if i % 2 else PERSON_BOX, i // 2 % 2 == 0)
            for i in range(count)
        ]

    return build
