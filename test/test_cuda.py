"""What is different on an NVIDIA GPU. Skipped, and said so, where there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.explainer import Explainer, ExplainSettings
from explain_cnn_ros.importance import jaccard
from explain_cnn_ros.moments import Moments
from explain_cnn_ros.perturbation import Perturbations
from explain_cnn_ros.sampling import Sampler
from explain_cnn_ros.tracing import trace

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no NVIDIA GPU on this machine")

SETTINGS = ExplainSettings(perturbations=40, arithmetic="float32")


@pytest.fixture(scope="module")
def classifier() -> PersonClassifier:
    """The shipped weights, on the GPU; shared: leave it as it is."""
    return PersonClassifier.load(device="cuda")


@pytest.fixture(scope="module")
def window(picture) -> NDArray[np.uint8]:
    return picture(64, 128)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the GPU raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def test_scores_are_those_of_the_cpu(classifier, window) -> None:
    """Of the metrics that do not depend on the noise, which a GPU draws differently."""
    settings = dataclasses.replace(SETTINGS, metrics=("activation_sum", "activation_variance", "weight_sum"))
    on_gpu = Explainer(classifier, settings).explain(window)
    on_cpu = Explainer(PersonClassifier.load(device="cpu"), settings).explain(window)
    assert on_gpu.device.startswith("cuda")
    for one, other in zip(on_gpu.rankings, on_cpu.rankings, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-3, atol=1e-4)
        assert jaccard({n.channel for n in one.neurons}, {n.channel for n in other.neurons}) >= 0.6


def test_the_same_seed_gives_the_same_explanation(classifier, window) -> None:
    one, other = (Explainer(classifier, SETTINGS).explain(window) for _ in range(2))
    for a, b in zip(one.rankings, other.rankings, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-3)


def test_sampling_never_waits_for_the_gpu(classifier, window, request) -> None:
    pixels = classifier.to_pixels(window[None])
    Sampler(classifier, SETTINGS, pixels).run(40)  # what is allocated once, is allocated now
    sampler = Sampler(classifier, SETTINGS, pixels)
    sampler.chunk = 16
    request.getfixturevalue("no_waiting")
    sampler.run(40)


def test_a_chunk_can_be_captured_as_a_graph(classifier, window) -> None:
    """Replayed on other perturbations, it adds them."""
    pixels = classifier.to_pixels(window[None])
    copies = Perturbations(pixels[0], 0.1)
    first, second = (classifier.normalise(copies.take(8)) for _ in range(2))
    with torch.inference_mode():
        clean = trace(classifier.network, classifier.normalise(pixels), (5,))
        batch = first.clone()

        def add(moments: Moments) -> None:
            passed = trace(classifier.network, batch, (5,))
            moments.update(passed.activations[5], passed.logits[:, 1] - passed.logits[:, 0], 0)

        shift = (clean.activations[5][0].clone(), clean.logits[0, 1] - clean.logits[0, 0])
        captured, expected = Moments.zeros(*shift), Moments.zeros(*shift)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            add(Moments.zeros(*shift))  # warms up
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            add(captured)
        for copy in (first, second):
            batch.copy_(copy)
            graph.replay()
            add(expected)
    for name in ("count", "sum", "square", "product"):
        torch.testing.assert_close(getattr(captured, name), getattr(expected, name), rtol=1e-4, atol=1e-4)


def test_explanations_have_a_stream_of_their_own(classifier, window, monkeypatch) -> None:
    """So that they need not wait for each other and for what else the GPU does."""
    seen = []
    run = Sampler.run

    def spy(sampler: Sampler, count: int) -> None:
        seen.append(torch.cuda.current_stream())
        run(sampler, count)

    monkeypatch.setattr(Sampler, "run", spy)
    before = torch.cuda.current_stream()
    Explainer(classifier, SETTINGS).explain(window)
    assert seen and all(stream != before for stream in seen)
    assert torch.cuda.current_stream() == before


def test_explanations_leave_no_memory_behind(classifier, window) -> None:
    explainer = Explainer(classifier, SETTINGS)
    explainer.explain(window)
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        explainer.explain(window)
    assert torch.cuda.memory_allocated() <= before
