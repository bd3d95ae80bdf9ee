"""Silenced passes through a VGG against hooks that set activations to zero."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from explain_cnn_ros.explain.vgg.silencing import silenced_logits
from explain_cnn_ros.model.network import VGGClassifier

#: Sets of neurons, as channels by layer.
SETS = [{3: [1, 4], 9: [0]}, {5: [2]}, {}, {13: list(range(8))}, {1: [0, 1, 2, 3]}]


@pytest.fixture(scope="module")
def network(thin_network) -> VGGClassifier:
    return thin_network(dtype=torch.float64)


@pytest.fixture(scope="module")
def window() -> Tensor:
    return torch.randn(1, 3, 64, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_is_what_hooks_do(network: VGGClassifier, window: Tensor, hooked_logits) -> None:
    expected = torch.cat([hooked_logits(network, window, silenced) for silenced in SETS])
    assert len(expected.unique(dim=0)) == len(SETS)
    torch.testing.assert_close(silenced_logits(network, window, SETS), expected)


def test_one_set_alone(network: VGGClassifier, window: Tensor, hooked_logits) -> None:
    for silenced in SETS:
        expected = hooked_logits(network, window, silenced)
        torch.testing.assert_close(silenced_logits(network, window, [silenced]), expected)


def test_silencing_nobody_changes_nothing(network: VGGClassifier, window: Tensor) -> None:
    torch.testing.assert_close(silenced_logits(network, window, [{}, {}]), network(window).expand(2, -1))


def test_leaves_window_and_network_alone(network: VGGClassifier, window: Tensor) -> None:
    before, logits = window.clone(), network(window)
    silenced_logits(network, window, SETS)
    assert torch.equal(window, before)
    assert torch.equal(network(window), logits)
