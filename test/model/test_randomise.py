"""Layers are re-initialised from the top down, one more at each stage."""

from __future__ import annotations

import torch

from explain_cnn_ros.model.network import convolution_layers
from explain_cnn_ros.model.randomise import DENSE, randomised, stages
from explain_cnn_ros.scan.classifier import PersonClassifier


def test_layers_become_random_from_the_top_down(thin_classifier: PersonClassifier) -> None:
    layers = convolution_layers(thin_classifier.network.features)
    before = {k: v.clone() for k, v in thin_classifier.network.state_dict().items()}
    names = []
    for done, (name, changed) in enumerate(randomised(thin_classifier, 0)):
        names.append(name)
        for number, layer in enumerate(reversed(layers), start=1):
            kept = torch.equal(
                changed.network.features[layer.convolution].weight, before[f"features.{layer.convolution}.weight"]
            )
            assert kept is (number > done)
        assert not torch.equal(changed.network.classifier[1].weight, before["classifier.1.weight"])
    assert names == [DENSE, *(layer.name for layer in reversed(layers))]
    assert len(names) == stages(thin_classifier) == 14
    assert all(torch.equal(v, before[k]) for k, v in thin_classifier.network.state_dict().items())


def test_is_seeded_and_leaves_pytorchs_own_random_numbers_alone(thin_classifier: PersonClassifier) -> None:
    def weights(seed: int) -> torch.Tensor:
        return next(iter(randomised(thin_classifier, seed)))[1].network.classifier[1].weight.clone()

    state = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_stages_do_not_depend_on_random_numbers_that_are_drawn_between_them(thin_classifier: PersonClassifier) -> None:
    """The explanation of a stage may draw random numbers of PyTorch."""

    def weights(draw: bool) -> list[torch.Tensor]:
        seen = []
        for _, changed in randomised(thin_classifier, 3):
            if draw:
                torch.rand(5)
            seen.append(changed.network.features[0].weight.clone())
        return seen

    for one, other in zip(weights(False), weights(True), strict=True):
        assert torch.equal(one, other)


def test_the_copy_is_a_classifier_of_the_same_kind(thin_classifier: PersonClassifier) -> None:
    """It is one object, which changes from stage to stage."""
    copies = [changed for _, changed in randomised(thin_classifier, 0)]
    assert all(changed is copies[0] for changed in copies)
    assert copies[0] is not thin_classifier
    assert type(copies[0]) is PersonClassifier
    assert copies[0].info == thin_classifier.info
    assert not any(module.training for module in copies[0].network.modules())
    assert not any(parameter.requires_grad for parameter in copies[0].network.parameters())
