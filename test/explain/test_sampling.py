"""Sampling continues where it stopped, in chunks of any size, and uses smaller chunks if memory runs out."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from explain_cnn_ros.explain import sampling
from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.network_adapter import NetworkAdapter
from explain_cnn_ros.explain.sampling import Sampler, chunk_size
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

SETTINGS = ExplainSettings(perturbations=20, layers=(3, 9))


@pytest.fixture
def adapter(thin_classifier: PersonClassifier) -> NetworkAdapter:
    """Return a new adapter for each test, so that a test can replace its methods."""
    return adapt(thin_classifier)


@pytest.fixture
def pixels(thin_classifier: PersonClassifier, picture) -> Tensor:
    return thin_classifier.to_pixels(picture(32, 64)[None])


def sampled(adapter: NetworkAdapter, pixels: Tensor, *steps: int) -> Sampler:
    sampler = Sampler(adapter, SETTINGS, pixels)
    with torch.inference_mode():
        for step in steps:
            sampler.run(step)
    return sampler


def assert_same(one: Sampler, other: Sampler) -> None:
    assert one.taken == other.taken
    for layer in SETTINGS.layers:
        a, b = one.moments[layer], other.moments[layer]
        assert torch.equal(a.count, b.count)
        torch.testing.assert_close(a.mean, b.mean)
        torch.testing.assert_close(a.variance, b.variance, rtol=1e-3, atol=1e-7)
        torch.testing.assert_close(a.covariance, b.covariance, rtol=1e-3, atol=1e-7)
        a, b = one.influences[layer], other.influences[layer]
        assert torch.equal(a.count, b.count)
        torch.testing.assert_close(a.image, b.image)
        torch.testing.assert_close(a.sum, b.sum)
        torch.testing.assert_close(one.clean.contributions[layer], other.clean.contributions[layer])
    torch.testing.assert_close(one.clean.logits, other.clean.logits)


@pytest.mark.parametrize("steps", [(7, 40), (0, 40), (3, 3, 20, 40)])
def test_goes_on_where_it_stopped(adapter, pixels, steps: tuple[int, ...]) -> None:
    assert_same(sampled(adapter, pixels, *steps), sampled(adapter, pixels, 40))


def test_of_no_perturbations_is_the_window_alone(thin_classifier, adapter, pixels) -> None:
    sampler = sampled(adapter, pixels, 0)
    assert sampler.taken == 0
    expected = thin_classifier.network(thin_classifier.normalise(pixels))
    torch.testing.assert_close(sampler.clean.logits, expected)


@pytest.mark.parametrize("limit", [1, 2, 5, 16])
def test_when_memory_runs_out_chunks_get_smaller(adapter, pixels, monkeypatch, limit: int) -> None:
    """The device has memory for a few windows only."""
    expected = sampled(adapter, pixels, 40)
    original, largest = adapter.trace, 0

    def narrow(batch, *args, **named):
        nonlocal largest
        if len(batch) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        largest = max(largest, len(batch))
        return original(batch, *args, **named)

    monkeypatch.setattr(adapter, "trace", narrow)
    sampler = sampled(adapter, pixels, 40)
    assert limit / 2 <= largest <= limit
    assert sampler.chunk == largest
    assert_same(sampler, expected)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(torch.OutOfMemoryError("out of memory"), "out of memory"), (RuntimeError("mat1 and mat2"), "mat1 and mat2")],
)
def test_what_smaller_chunks_do_not_help_is_raised(
    adapter, pixels, monkeypatch, error: RuntimeError, reason: str
) -> None:
    def fail(*args, **named):
        raise error

    monkeypatch.setattr(adapter, "trace", fail)
    with pytest.raises(RuntimeError, match=reason):
        sampled(adapter, pixels, 40)


def test_chunks_by_the_memory_at_hand(monkeypatch) -> None:
    small, large = torch.zeros(1, 3, 128, 64), torch.zeros(1, 3, 1024, 1024)
    fastest = sampling.CHUNK_PIXELS["cpu"] // (128 * 64)
    assert fastest > 8
    monkeypatch.setattr(sampling, "free_memory", lambda _: 2**32)
    assert chunk_size(small) == fastest
    assert chunk_size(large) == 1
    monkeypatch.setattr(sampling, "free_memory", lambda _: 2**27)
    assert chunk_size(small) == 2
    assert chunk_size(small, gradients=True) == 1


def test_the_kept_window_does_not_hold_the_batch(adapter, pixels) -> None:
    clean = sampled(adapter, pixels, 40).clean
    assert clean.contributions.keys() == clean.activations.keys() == set(SETTINGS.layers)
    for maps in (*clean.activations.values(), *clean.contributions.values()):
        assert maps.untyped_storage().nbytes() == maps.numel() * maps.element_size()
    assert torch.isfinite(clean.logits).all()


@pytest.mark.parametrize(("requested", "taken"), [(0, 0), (1, 26), (26, 26), (27, 52)])
def test_orthogonal_noise_is_taken_in_pairs_of_blocks(adapter, pixels, requested: int, taken: int) -> None:
    """Knots 21 pixels apart are 3 x 4 in a window of 32 x 64. A block has 13 copies, and each half gets one."""
    settings = dataclasses.replace(SETTINGS, noise="orthogonal", noise_length=21.0)
    sampler = Sampler(adapter, settings, pixels)
    sampler.run(requested)
    assert sampler.taken == taken
    if taken:
        counts = sampler.moments[settings.layers[0]].count
        assert counts.tolist() == [taken / 2, taken / 2]


def test_before_pass_is_called_before_each_pass_and_can_end_the_run(adapter, pixels, monkeypatch) -> None:
    monkeypatch.setattr(sampling, "chunk_size", lambda *_: 10)
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyError("cancelled")

    sampler = Sampler(adapter, SETTINGS, pixels, count)
    with torch.inference_mode():
        sampler.run(29)
        assert calls == 3
        with pytest.raises(KeyError, match="cancelled"):
            sampler.run(40)
    assert sampler.taken == 29
