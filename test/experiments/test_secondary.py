"""The secondary classifier and its patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from explain_cnn_ros.experiments.secondary import SecondarySettings, balanced_accuracy, cut, network, train


def test_the_secondary_classifier_learns_what_there_is_to_learn() -> None:
    """Bright against dark patches: all of it. Noise: nothing. The same seed: the same network."""
    rng = np.random.default_rng(0)
    labels = rng.random(200) < 0.5
    noise = rng.integers(60, 120, (200, 32, 32, 3), dtype=np.uint8)
    shown = noise + 100 * labels[:, None, None, None].astype(np.uint8)
    settings = SecondarySettings(steps=15, batch=24)
    assert balanced_accuracy(train(shown[:100], labels[:100], 0, settings), shown[100:], labels[100:]) == 1.0
    assert balanced_accuracy(train(noise[:100], labels[:100], 0, settings), noise[100:], labels[100:]) < 0.65
    one, same, other = (train(shown, labels, seed, settings).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)
    with pytest.raises(ValueError, match="needs patches of persons and of backgrounds"):
        train(shown, np.ones(200, bool), 0, settings)


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
