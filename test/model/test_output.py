"""The margin and the probability of a target class, against numpy in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from explain_cnn_ros.model.output import BACKGROUND_CLASS, PERSON_CLASS, margin, probability
from explain_cnn_ros.model.weights_file import ModelInfo

Logits = NDArray[np.float64]


def logits(*shape: int, seed: int = 0) -> Logits:
    return np.random.default_rng(seed).normal(0, 3, shape)


def literal_margin(values: list[float], target: int) -> float:
    """Compute the logit of the target minus the logarithm of the sum of the others' exponentials."""
    others = [value for index, value in enumerate(values) if index != target]
    return values[target] - math.log(math.fsum(math.exp(value) for value in others))


def test_classes_are_those_of_the_weights_file() -> None:
    assert ModelInfo().classes[BACKGROUND_CLASS] == "background"
    assert ModelInfo().classes[PERSON_CLASS] == "person"


def test_margin_of_two_classes_is_person_minus_background() -> None:
    values = logits(7, 2)
    assert margin(torch.from_numpy(values)).tolist() == (values[:, 1] - values[:, 0]).tolist()
    assert margin(torch.from_numpy(values), BACKGROUND_CLASS).tolist() == (values[:, 0] - values[:, 1]).tolist()


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("target", [0, 1, -1])
def test_margin_is_the_literal_one(classes: int, target: int) -> None:
    target %= classes
    values = logits(4, 3, classes, seed=classes)
    expected = [[literal_margin(row, target) for row in rows] for rows in values.tolist()]
    np.testing.assert_allclose(margin(torch.from_numpy(values), target).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("target", [0, 1, -1])
def test_probability_is_the_softmax(classes: int, target: int) -> None:
    target %= classes
    values = logits(4, 3, classes, seed=classes)
    powers = np.exp(values)
    expected = powers[..., target] / powers.sum(-1)
    np.testing.assert_allclose(probability(torch.from_numpy(values), target).numpy(), expected, rtol=1e-12)


@given(values=st.lists(st.floats(-30, 30), min_size=2, max_size=6), target=st.integers(0, 5))
def test_probability_is_the_logistic_function_of_the_margin(values: list[float], target: int) -> None:
    row = torch.tensor(values, dtype=torch.float64)
    target %= len(values)
    assert float(margin(row, target).sigmoid()) == pytest.approx(float(probability(row, target)), rel=1e-9)


@pytest.mark.parametrize(("classes", "targets"), [(3, (0, 2)), (3, (1, 2)), (5, (0, 3, 4)), (5, (2,)), (2, (0,))])
def test_several_classes_count_as_one(classes: int, targets: tuple[int, ...]) -> None:
    values = logits(4, 3, classes, seed=classes)
    powers = np.exp(values)
    expected = powers[..., list(targets)].sum(-1) / powers.sum(-1)
    np.testing.assert_allclose(probability(torch.from_numpy(values), targets).numpy(), expected, rtol=1e-12)
    actual = margin(torch.from_numpy(values), targets)
    np.testing.assert_allclose(actual.numpy(), np.log(expected / (1 - expected)), rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 1000), target=st.sampled_from([0, 1]), dtype=st.sampled_from([torch.float32, torch.float16]))
def test_a_single_class_of_two_is_exact(seed: int, target: int, dtype: torch.dtype) -> None:
    """In a sequence and as a number, to the last bit."""
    row = torch.from_numpy(logits(5, 2, seed=seed)).to(dtype)
    difference = row[:, target] - row[:, 1 - target]
    assert torch.equal(margin(row, target), difference) and torch.equal(margin(row, (target,)), difference)
    share = row.softmax(-1)[:, target]
    assert torch.equal(probability(row, target), share) and torch.equal(probability(row, [target]), share)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("others", "target"), [([0.0], 1), ([0.5, -3.0, 0.25], 2), ([0.5, -3.0, 0.25], (1, 2))])
@pytest.mark.parametrize("of_margin", [-30.0, -17.0, -2.0, 0.0, 2.0, 10.0, 17.0, 30.0])
def test_the_gradient_is_that_of_float64(
    dtype: torch.dtype, others: list[float], target: int | tuple[int, ...], of_margin: float
) -> None:
    """If the margin is 17 or more, float32 rounds P to 1. The gradient must not be rounded to 0 there."""
    first = target if isinstance(target, int) else target[0]
    row = torch.tensor([[*others[:first], of_margin, *others[first:]]]).to(dtype)
    exact, rounded = row.double().requires_grad_(), row.clone().requires_grad_()
    targets = [target] if isinstance(target, int) else list(target)
    share = exact.softmax(-1)
    remaining = [index for index in range(row.shape[1]) if index not in targets]
    # P (1 - P) from the other classes, whose sum is not rounded to 0.
    p, rest = share[:, targets].sum(), share[:, remaining].sum()
    expected = torch.zeros_like(share)
    expected[:, targets] = share[:, targets] * rest
    expected[:, remaining] = -share[:, remaining] * p
    value = probability(rounded, target)
    assert torch.equal(value, probability(row, target))
    value.sum().backward()
    assert rounded.grad is not None
    tolerance = 1e-5 if dtype == torch.float32 else 2e-3
    smallest = 0.0 if dtype == torch.float32 else 1e-7
    torch.testing.assert_close(rounded.grad.double(), expected.detach(), rtol=tolerance, atol=smallest)
    # Where float64 does not round P to 1 either, autograd through its softmax says the same.
    if abs(of_margin) <= 17:
        share[:, targets].sum().backward()
        torch.testing.assert_close(exact.grad, expected.detach(), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("targets", [(), (0, 1, 2)])
def test_some_classes_are_targets_and_some_are_not(targets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one class must be, and one must not"):
        margin(torch.zeros(3), targets)


def test_large_logits_stay_finite() -> None:
    row = torch.tensor([[1e4, -1e4, 9e3]])
    assert margin(row, 0).tolist() == [1e3]
    assert probability(row, 0).tolist() == [1.0]
    assert probability(row, 1).tolist() == [0.0]


def test_type_and_device_are_kept() -> None:
    for dtype in (torch.float32, torch.float64):
        row = torch.zeros(3, 2, dtype=dtype)
        assert margin(row).dtype == probability(row).dtype == dtype
        assert margin(row).shape == probability(row).shape == (3,)
