"""Silenced passes through a VGG against hooks that set activations to zero, or to other constants."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor

from explain_cnn_ros.explain.vgg import silencing
from explain_cnn_ros.explain.vgg.silencing import silenced_logits
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers

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


def random_sets(count: int, seed: int) -> list[Mapping[int, Sequence[int]]]:
    """Draw sets of one to four layers with one to all of their channels, the first and the last layer among them."""
    channels = [4, 4, 6, 6, 8, 8, 8, 9, 9, 9, 8, 8, 8]
    draw = random.Random(seed)
    sets: list[Mapping[int, Sequence[int]]] = [{1: [0]}, {13: [7]}, {1: [3], 13: [0, 1]}, {2: [1], 3: [2], 4: [0]}]
    while len(sets) < count:
        layers = draw.sample(range(1, 14), draw.randint(1, 4))
        sets.append({n: draw.sample(range(channels[n - 1]), draw.randint(1, channels[n - 1])) for n in layers})
    return sets


@pytest.mark.parametrize("batch", [1, 2, 36])
@pytest.mark.parametrize("inference", [True, False])
def test_random_sets_in_any_order_and_batches(
    network: VGGClassifier, window: Tensor, hooked_logits, monkeypatch, batch: int, inference: bool
) -> None:
    """Each layer is followed by another convolution, a pooling, or the dense layers."""
    monkeypatch.setattr(silencing, "SILENCED_BATCH", batch)
    sets = random_sets(40, seed=batch)
    expected = torch.cat([hooked_logits(network, window, silenced) for silenced in sets])
    with torch.inference_mode(inference):
        actual = silenced_logits(network, window, sets)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("layer", range(1, 14))
def test_every_neuron_of_every_layer(network: VGGClassifier, window: Tensor, hooked_logits, layer: int) -> None:
    sets = [{layer: [channel]} for channel in range([4, 4, 6, 6, 8, 8, 8, 9, 9, 9, 8, 8, 8][layer - 1])]
    expected = torch.cat([hooked_logits(network, window, silenced) for silenced in sets])
    torch.testing.assert_close(silenced_logits(network, window, sets), expected, rtol=1e-9, atol=1e-11)


def test_no_sets(network: VGGClassifier, window: Tensor) -> None:
    assert silenced_logits(network, window, []).shape == (0, 2)
    assert torch.equal(silenced_logits(network, window, [{3: []}]), network(window))


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


def test_activations_are_set_to_constants(network: VGGClassifier, window: Tensor) -> None:
    """Constants for some layers; the neurons of the other layers are set to zero."""
    generator = torch.Generator().manual_seed(1)
    layers = {layer.number: layer for layer in convolution_layers(network.features)}
    values = {n: torch.rand(layers[n].channels, generator=generator, dtype=torch.float64) for n in (3, 9, 13)}
    changed = copy.deepcopy(network)
    chosen: dict[int, list[int]] = {}

    def replace(_module: object, _inputs: object, result: Tensor, number: int = 0) -> Tensor:
        result = result.clone()
        for channel in chosen.get(number, ()):
            result[:, channel] = values[number][channel] if number in values else 0
        return result

    for number, layer in layers.items():
        changed.features[layer.activation].register_forward_hook(partial(replace, number=number))
    expected = []
    for silenced in SETS:
        chosen.clear()
        chosen |= silenced
        expected.append(changed(window))
    found = silenced_logits(network, window, SETS, values)
    torch.testing.assert_close(found, torch.cat(expected))
    assert not torch.allclose(found[0], silenced_logits(network, window, SETS)[0])
