"""A traced pass computes the network's logits, and records the values that hooks see."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.vgg.tracing import trace
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers


@pytest.fixture(scope="module")
def network(thin_network: Callable[..., VGGClassifier]) -> VGGClassifier:
    return thin_network()


@pytest.fixture(scope="module")
def batch() -> Tensor:
    return torch.randn(3, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def hooked(network: VGGClassifier, batch: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Record the outputs of the ReLUs and the inputs of the poolings by hooks, by index in `features`."""
    after: dict[int, Tensor] = {}
    before: dict[int, Tensor] = {}
    features = copy.deepcopy(network.features)
    for index, module in enumerate(features):
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _m, _i, o, index=index: after.update({index: o.clone()}))
        elif isinstance(module, nn.MaxPool2d):
            module.register_forward_pre_hook(lambda _m, i, index=index: before.update({index: i[0].clone()}))
    features(batch)
    return after, before


def test_logits_are_the_networks(network: VGGClassifier, batch: Tensor) -> None:
    for layers, switches in (((), False), ((1, 13), True), (range(1, 14), True)):
        assert torch.equal(trace(network, batch, layers, switches).logits, network(batch))


def test_logits_of_the_full_network(full_classifier) -> None:
    batch = torch.randn(2, 3, 128, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = full_classifier.network(batch)
        assert torch.equal(trace(full_classifier.network, batch, (3, 9), True).logits, expected)


def test_activations_are_what_hooks_see(network: VGGClassifier, batch: Tensor) -> None:
    after, _ = hooked(network, batch)
    activations = trace(network, batch, range(1, 14)).activations
    layers = convolution_layers(network.features)
    assert list(activations) == [layer.number for layer in layers]
    for layer in layers:
        assert torch.equal(activations[layer.number], after[layer.activation]), layer.name
        assert activations[layer.number].min() >= 0


def test_only_requested_layers_are_recorded(network: VGGClassifier, batch: Tensor) -> None:
    kept = trace(network, batch, (9, 4))
    assert sorted(kept.activations) == [4, 9]
    assert kept.switches == {}
    assert trace(network, batch, ()).activations == {}


def test_switches_are_the_poolings(network: VGGClassifier, batch: Tensor) -> None:
    _, before = hooked(network, batch)
    switches = trace(network, batch, (), switches=True).switches
    assert list(switches) == [i for i, m in enumerate(network.features) if isinstance(m, nn.MaxPool2d)]
    for index, (indices, size) in switches.items():
        first = before[index][0]
        pooled, expected = nn.functional.max_pool2d(first, 2, 2, return_indices=True)
        assert size == tuple(first.shape[-2:])
        assert torch.equal(indices, expected)
        assert indices.dtype == torch.int64
        assert torch.equal(first.flatten(1).gather(1, indices.flatten(1)).view_as(pooled), pooled)


def test_what_the_relus_let_through(network: VGGClassifier, batch: Tensor) -> None:
    after, _ = hooked(network, batch)
    rectified = trace(network, batch, (), rectified=True).rectified
    assert list(rectified) == list(after)
    assert all(torch.equal(rectified[index], after[index][0]) for index in after)


def test_activations_before_the_relu(network: VGGClassifier, batch: Tensor) -> None:
    before = trace(network, batch, range(1, 14), pre_relu=True)
    after = trace(network, batch, range(1, 14))
    assert torch.equal(before.logits, after.logits)
    for layer, activation in before.activations.items():
        assert activation.min() < 0
        assert torch.equal(activation.relu(), after.activations[layer])


def test_switches_of_odd_maps(vgg_like: Callable[..., nn.Sequential], network: VGGClassifier) -> None:
    odd = copy.copy(network)
    odd._modules = {"features": vgg_like(((4,), (5,)), dtype=torch.float32), "classifier": nn.Flatten()}
    switches = trace(odd, torch.randn(1, 3, 33, 47), (), switches=True).switches
    assert {index: (tuple(i.shape), size) for index, (i, size) in switches.items()} == {
        2: ((4, 16, 23), (33, 47)),
        5: ((5, 8, 11), (16, 23)),
    }


def test_activations_are_not_overwritten(network: VGGClassifier, batch: Tensor) -> None:
    """The ReLUs of torchvision's VGG work in place, which must not change earlier results."""
    first = trace(network, batch, range(1, 14)).activations
    copies = {k: v.clone() for k, v in first.items()}
    trace(network, torch.randn_like(batch), range(1, 14))
    assert all(torch.equal(first[k], copies[k]) for k in first)


def test_the_batch_is_left_alone(network: VGGClassifier, batch: Tensor) -> None:
    before = batch.clone()
    trace(network, batch, (1, 13), switches=True)
    assert torch.equal(batch, before)
