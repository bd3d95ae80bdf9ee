"""Streaming moments against numpy in float64 over all activations."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from explain_cnn_ros.explain.metrics.paper import activation_output_correlation, activation_precision
from explain_cnn_ros.explain.moments import Moments
from explain_cnn_ros.explain.selection import top_channels

N, SHAPE = 51, (12, 5, 4)


def sample(seed: int = 0, n: int = N, shape: tuple[int, ...] = SHAPE, change: float = 0.03) -> tuple[Tensor, ...]:
    """Draw unperturbed values and n perturbed ones that differ from them by `change`, in float64."""
    rng = np.random.default_rng(seed)
    clean = np.maximum(rng.normal(0.5, 1, shape), 0)
    outputs = 2.5 + 0.2 * rng.normal(size=n)
    noise = rng.normal(size=(n, *shape)) + rng.normal(size=shape) * (outputs - 2.5)[:, None, None, None] / 0.2
    perturbed = np.maximum(clean * (1 + change * noise), 0)
    return tuple(torch.from_numpy(np.asarray(a)) for a in (clean, 2.5, perturbed, outputs))


def moments_of(
    clean: Tensor, output: Tensor, perturbed: Tensor, outputs: Tensor, chunk: int = 7, groups: int = 2
) -> Moments:
    moments = Moments.zeros(clean, output, groups)
    for first in range(0, len(outputs), chunk):
        moments.update(perturbed[first : first + chunk], outputs[first : first + chunk], first)
    return moments


def assert_same_sums(one: Moments, other: Moments, rtol: float = 1e-12) -> None:
    for f in fields(Moments):
        a, b = (torch.as_tensor(getattr(moments, f.name)) for moments in (one, other))
        # Sums cancel, so the rounding error is relative to the largest of them.
        torch.testing.assert_close(
            a, b, rtol=rtol, atol=rtol * float(b.abs().max()), msg=lambda m, n=f.name: f"{n}: {m}"
        )


def assert_equal_to_numpy(moments: Moments, z: np.ndarray, o: np.ndarray, rtol: float = 1e-9) -> None:
    for name, expected in {
        "mean": z.mean(0),
        "variance": z.var(0),
        "covariance": ((z - z.mean(0)) * (o - o.mean())[:, None, None, None]).mean(0),
        "output_mean": o.mean(),
        "output_variance": o.var(),
    }.items():
        actual = getattr(moments, name).numpy()
        largest = np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * largest, err_msg=name)
        assert actual.shape == expected.shape


@pytest.mark.parametrize("change", [0.001, 0.03, 1.0])
def test_moments_are_numpys(change: float) -> None:
    clean, output, z, o = sample(change=change)
    assert_equal_to_numpy(moments_of(clean, output, z, o), z.numpy(), o.numpy())


def test_variance_of_every_varying_position_is_numpys() -> None:
    clean, output, z, o = sample()
    expected = z.numpy().var(0)
    varying = expected > 0
    actual = moments_of(clean, output, z, o).variance.numpy()
    np.testing.assert_allclose(actual[varying], expected[varying], rtol=1e-9)
    assert (actual[~varying] == 0).all()


@pytest.mark.parametrize("chunk", [1, 7, 51])
def test_chunks_do_not_matter(chunk: int) -> None:
    data = sample()
    assert_same_sums(moments_of(*data, chunk=chunk), moments_of(*data, chunk=16))


@pytest.mark.parametrize("chunk", [1, 7, 51])
@pytest.mark.parametrize("score", [activation_output_correlation, activation_precision])
def test_chunks_do_not_change_a_ranking(chunk: int, score) -> None:
    one, other = (top_channels(score(moments_of(*sample(), chunk=c)), 12) for c in (chunk, 16))
    assert one == other
    assert len(one) > 5


@pytest.mark.parametrize("split", [1, 20, 50])
def test_parts_merge(split: int) -> None:
    clean, output, z, o = sample()
    whole = moments_of(clean, output, z, o)
    head, tail = Moments.zeros(clean, output), Moments.zeros(clean, output)
    head.update(z[:split], o[:split], 0)
    tail.update(z[split:], o[split:], split)
    for merged in (head + tail, tail + head):
        assert_same_sums(merged, whole)
        selected = [top_channels(activation_output_correlation(moments), 12) for moments in (merged, whole)]
        assert selected[0] == selected[1]


def test_merging_leaves_the_parts_alone() -> None:
    data = sample()
    one, other = moments_of(*data), moments_of(*data)
    _ = one + other
    assert_same_sums(one, moments_of(*data), rtol=0)


def test_moments_of_different_images_do_not_merge() -> None:
    clean, output, z, o = sample()
    moments = moments_of(clean, output, z, o)
    with pytest.raises(ValueError, match="different images"):
        moments + moments_of(clean + 1, output, z, o)
    with pytest.raises(ValueError, match="different images"):
        moments + moments_of(clean, output + 1, z, o)


def test_moments_of_different_groups_do_not_merge() -> None:
    data = sample()
    with pytest.raises(ValueError, match="2 and of 1 groups"):
        moments_of(*data) + moments_of(*data, groups=1)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_groups_are_every_so_manyth_perturbation(groups: int) -> None:
    clean, output, z, o = sample()
    moments = moments_of(clean, output, z, o, groups=groups)
    assert moments.groups == groups
    for index in range(groups):
        part = moments.select([index])
        assert part.groups == 1
        assert part.count.tolist() == [len(o[index::groups])]
        assert_equal_to_numpy(part, z[index::groups].numpy(), o[index::groups].numpy())


def test_pooled_is_one_group_of_all() -> None:
    clean, output, z, o = sample()
    pooled = moments_of(clean, output, z, o, groups=2).pooled()
    assert_same_sums(pooled, moments_of(clean, output, z, o, groups=1))
    assert_equal_to_numpy(pooled, z.numpy(), o.numpy())


def test_groups_merge_to_the_whole() -> None:
    moments = moments_of(*sample())
    assert_same_sums(moments.select([0]) + moments.select([1]), moments.pooled())


@pytest.mark.parametrize("change", [0.01, 0.05])
def test_float32_is_accurate_where_activations_differ_by_per_cents(change: float) -> None:
    clean, output, z, o = (t.float() for t in sample(change=change, n=50, shape=(16, 8, 8)))
    moments = moments_of(clean, output, z, o, chunk=16)
    exact = z.double().numpy()
    outputs = o.double().numpy()
    variance = exact.var(0)
    varying = variance > 0
    np.testing.assert_allclose(moments.variance.numpy()[varying], variance[varying], rtol=1e-5)
    deviations = np.sqrt(variance * outputs.var())[varying]
    expected = ((exact - exact.mean(0)) * (outputs - outputs.mean())[:, None, None, None]).mean(0)[varying] / deviations
    np.testing.assert_allclose(moments.covariance.numpy()[varying] / deviations, expected, atol=1e-5)


def test_centring_keeps_float32_accurate_on_a_large_offset() -> None:
    """Sums of squares of values near 1,000 that are not centred would lose a variance of 1e-4 entirely."""
    rng = np.random.default_rng(0)
    z = torch.from_numpy(1000 + 0.01 * rng.normal(size=(50, 2, 3, 3))).float()
    moments = moments_of(
        torch.full((2, 3, 3), 1000.0), torch.tensor(0.0), z, torch.from_numpy(rng.normal(size=50)).float()
    )
    np.testing.assert_allclose(moments.variance.numpy(), z.double().numpy().var(0), rtol=1e-4)


def test_variance_is_never_negative() -> None:
    z = torch.full((50, 1, 1, 1), 0.1)
    moments = moments_of(torch.zeros(1, 1, 1), torch.tensor(0.3), z, torch.full((50,), 0.7), chunk=7)
    assert moments.variance.item() >= 0
    assert moments.output_variance.item() >= 0


@given(
    clean=st.floats(0, 1e3),
    constant=st.floats(0, 1e3),
    n=st.integers(2, 60),
    chunk=st.integers(1, 20),
    single=st.booleans(),
)
def test_a_constant_does_not_vary(clean: float, constant: float, n: int, chunk: int, single: bool) -> None:
    """A constant that differs from the unperturbed value leaves a rounding error in the sums."""
    dtype = torch.float32 if single else torch.float64
    z, o = torch.full((n, 1, 1, 1), constant, dtype=dtype), torch.full((n,), constant, dtype=dtype)
    first = torch.tensor(clean, dtype=dtype)
    moments = moments_of(first.view(1, 1, 1), first, z, o, chunk)
    assert not moments.varies.any()
    assert not moments.output_varies


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_varies_by_little_varies(dtype: torch.dtype) -> None:
    clean, output, z, o = (t.to(dtype) for t in sample(change=1e-4))
    moments = moments_of(clean, output, z, o)
    assert moments.varies.equal((z != z[0]).any(0))
    assert moments.output_varies


def test_update_changes_no_input() -> None:
    data = sample()
    copies = [t.clone() for t in data]
    moments_of(*data)
    assert all(torch.equal(a, b) for a, b in zip(data, copies, strict=True))


def test_no_perturbations_are_zero() -> None:
    clean, output, _, _ = sample()
    moments = Moments.zeros(clean, output, groups=3)
    assert moments.count.tolist() == [0, 0, 0]
    assert moments.product.shape == (3, *SHAPE)
    assert not moments.product.any()


@pytest.mark.parametrize("chunk", [1, 4, 20])
def test_blocks_stay_in_one_group(chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values, outputs = torch.randn(20, 2, 3, 3, generator=generator), torch.randn(20, generator=generator)
    moments = Moments.zeros(torch.zeros(2, 3, 3), torch.tensor(0.0), groups=2, block=3)
    for first in range(0, 20, chunk):
        moments.update(values[first : first + chunk], outputs[first : first + chunk], first)
    for group in (0, 1):
        members = [i for i in range(20) if i // 3 % 2 == group]
        part = moments.select([group])
        assert part.count.tolist() == [len(members)]
        torch.testing.assert_close(part.mean, values[members].mean(0))
        torch.testing.assert_close(part.output_mean, outputs[members].mean())


def test_layout_does_not_matter_and_sums_keep_it() -> None:
    _, output, z, o = sample()
    last = z.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    moments = moments_of(last[0], output, last, o)
    assert moments.sum[0].stride() == moments.shift.stride() == last[0].stride()
    assert_same_sums(moments, moments_of(z[0], output, z, o))
    # Mixed layouts give the same sums.
    mixed = moments_of(z[0], output, last[:20], o[:20]) + moments_of(last[0], output, z[:20], o[:20])
    mixed.update(last[20:30], o[20:30], 0)
    assert_same_sums(
        mixed,
        moments_of(z[0], output, z[:20], o[:20])
        + moments_of(z[0], output, z[:20], o[:20])
        + moments_of(z[0], output, z[20:30], o[20:30]),
    )


def test_what_was_computed_is_forgotten_when_more_comes() -> None:
    clean, output, z, o = sample()
    moments = moments_of(clean, output, z[:20], o[:20])
    before = moments.variance, moments.halves[0].covariance, moments.output_mean
    moments.update(z[20:], o[20:], 20)
    whole = moments_of(clean, output, z, o)
    torch.testing.assert_close(moments.variance, whole.variance)
    torch.testing.assert_close(moments.halves[0].covariance, whole.halves[0].covariance)
    torch.testing.assert_close(moments.output_mean, whole.output_mean)
    assert not moments.variance.equal(before[0])
    assert not moments.halves[0].covariance.equal(before[1])
