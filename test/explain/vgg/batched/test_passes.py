"""The output and its gradient without autograd, compared with autograd."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from explain_cnn_ros.explain.vgg.batched.passes import OutputOfLogits, head
from explain_cnn_ros.model.output import margin, probability


@pytest.mark.parametrize("kind", ["logit", "probability"])
@pytest.mark.parametrize(("classes", "target"), [(2, 1), (2, 0), (5, 1), (5, 3)])
def test_output_and_its_gradient(kind: str, classes: int, target: int) -> None:
    logits = torch.randn(7, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    output = OutputOfLogits(kind, target, classes, logits.detach())
    expected = {"logit": margin, "probability": probability}[kind](logits, target)
    torch.testing.assert_close(output(logits), expected)
    (gradient,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(output.gradient(logits.detach()).expand(7, -1), gradient)


@pytest.mark.parametrize(("classes", "target"), [(2, 1), (2, 0), (5, 3)])
@pytest.mark.parametrize("of_margin", [-30.0, -17.0, 0.0, 17.0, 30.0])
def test_the_gradient_of_a_probability_that_is_rounded_to_one(classes: int, target: int, of_margin: float) -> None:
    """If the margin is 17 or more, float32 rounds P to 1. The gradient must still equal the one computed in float64."""
    row = torch.linspace(-0.5, 0.5, classes).repeat(2, 1)
    row[:, target] = of_margin
    exact = row.double().requires_grad_()
    (expected,) = torch.autograd.grad(probability(exact, target).sum(), exact)
    output = OutputOfLogits("probability", target, classes, row)
    torch.testing.assert_close(output.gradient(row).double(), expected, rtol=1e-5, atol=0.0)


def test_gradient_of_the_last_map(thin_network) -> None:
    classifier = thin_network(dtype=torch.float64).classifier
    maps = torch.randn(4, 8, 2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = classifier(maps)
    (expected,) = torch.autograd.grad(margin(logits).sum(), maps)
    with torch.no_grad():
        found, gradient = head(classifier, maps.detach(), OutputOfLogits("logit", 1, 2, maps))
        alone, none = head(classifier, maps.detach(), None)
    torch.testing.assert_close(found, logits.detach())
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(alone, found)
    assert none is None


def test_other_layers_are_refused() -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Tanh())
    with pytest.raises(TypeError, match="not of Tanh"):
        head(classifier, torch.zeros(1, 1, 2, 2), OutputOfLogits("logit", 1, 2, torch.zeros(1)))
