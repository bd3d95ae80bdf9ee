"""Weighted means of the weights of two networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn
from training_kit import same_tensors

from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.blending import blended


@pytest.fixture
def pair(thin_classifier: PersonClassifier, thin_network: Callable[..., VGGClassifier]) -> list[PersonClassifier]:
    """Return two networks with different weights. The metadata of the second one contain an accuracy."""
    info = dataclasses.replace(thin_classifier.info, accuracy={"none": 0.5}, command="train")
    return [thin_classifier, PersonClassifier(thin_network(seed=1), info, "cpu")]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6])
def test_weights_are_means(pair: list[PersonClassifier], share: float) -> None:
    before, trained = pair
    network = blended(before, trained, share)
    old, new = (one.network.state_dict() for one in pair)
    for name, value in network.network.state_dict().items():
        torch.testing.assert_close(value, (1 - share) * old[name] + share * new[name])
    # The accuracy was measured with the weights of the trained network, so it is removed.
    assert (network.info.accuracy, network.info.command) == ({}, "train")
    assert not network.network.training


def test_the_networks_are_left_as_they_are(pair: list[PersonClassifier]) -> None:
    copies = [{name: value.clone() for name, value in one.network.state_dict().items()} for one in pair]
    network = blended(*pair, 0.5)
    for value in network.network.state_dict().values():
        value.add_(1)
    for one, copied in zip(pair, copies, strict=True):
        assert all(torch.equal(value, copied[name]) for name, value in one.network.state_dict().items())


def test_all_of_the_training_is_the_trained_network(pair: list[PersonClassifier]) -> None:
    before, trained = pair
    assert blended(before, trained, 1.0) is trained
    assert same_tensors(blended(before, trained, 0.0).network, before.network)


def test_counts_are_those_of_the_trained_network(pair: list[PersonClassifier]) -> None:
    before, trained = pair
    for one, count in ((before, 3), (trained, 40)):
        one.network.extra = nn.BatchNorm1d(2)
        one.network.extra.num_batches_tracked.fill_(count)
        one.network.extra.running_var.fill_(float(count))
    try:
        network = blended(before, trained, 0.5).network
        assert int(network.extra.num_batches_tracked) == 40
        assert network.extra.running_var.tolist() == [21.5, 21.5]
    finally:
        del before.network.extra  # other tests use this network


def test_other_architectures_are_refused(pair: list[PersonClassifier], vgg11_classifier: PersonClassifier) -> None:
    with pytest.raises(ValueError, match="same architecture"):
        blended(pair[0], vgg11_classifier, 0.5)


@pytest.mark.parametrize("change", [{"classes": ("person", "background")}, {"person": ("background",)}])
def test_other_classes_are_refused(pair: list[PersonClassifier], change: dict[str, tuple[str, ...]]) -> None:
    """Their parameters have the same shapes, but the outputs mean something else."""
    before, trained = pair
    other = PersonClassifier(before.network, dataclasses.replace(before.info, **change), "cpu")
    with pytest.raises(ValueError, match="only networks of the same classes can be blended"):
        blended(other, trained, 0.5)
