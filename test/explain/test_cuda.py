"""Explanations on an NVIDIA GPU. These tests are skipped on machines without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.moments import Moments
from explain_cnn_ros.explain.perturbation import Perturbations
from explain_cnn_ros.explain.sampling import Sampler
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.vgg.batched.explaining import BatchedExplainer
from explain_cnn_ros.explain.vgg.tracing import trace
from explain_cnn_ros.model.output import margin
from explain_cnn_ros.scan.classifier import PersonClassifier

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no NVIDIA GPU on this machine")

SETTINGS = ExplainSettings(perturbations=40, compute_precision="float32")


@pytest.fixture(scope="module")
def classifier() -> PersonClassifier:
    """Return the shipped weights on the GPU. They are shared, so tests must not modify them."""
    return PersonClassifier.load(device="cuda")


@pytest.fixture(scope="module")
def window(picture) -> NDArray[np.uint8]:
    return picture(64, 128)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Raise an error for every call that makes the host wait for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def test_scores_are_those_of_the_cpu(classifier, window) -> None:
    """These metrics do not depend on the noise, which a GPU draws differently."""
    settings = dataclasses.replace(SETTINGS, metrics=("activation_sum", "activation_variance", "weight_sum"))
    on_gpu = Explainer(classifier, settings).explain(window)
    on_cpu = Explainer(PersonClassifier.load(device="cpu"), settings).explain(window)
    assert on_gpu.device.startswith("cuda")
    for one, other in zip(on_gpu.rankings, on_cpu.rankings, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-3, atol=1e-4)
        assert jaccard({n.channel for n in one.neurons}, {n.channel for n in other.neurons}) >= 0.6


def test_influence_and_proof_are_those_of_the_cpu(classifier, window) -> None:
    """The influence of the image alone does not depend on the noise."""
    settings = ExplainSettings.preset("live", proof="each", compute_precision="float32")
    on_gpu = Explainer(classifier, settings).explain(window)
    on_cpu = Explainer(PersonClassifier.load(device="cpu"), settings).explain(window)
    for one, other in zip(on_gpu.rankings, on_cpu.rankings, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-2, atol=1e-3 * np.abs(other.scores).max())
        assert jaccard({n.channel for n in one.neurons}, {n.channel for n in other.neurons}) >= 0.6
    for one, other in zip(on_gpu.proofs, on_cpu.proofs, strict=True):
        assert one.metric == other.metric
        for name in ("predicted", "measured", "together", "share", "probability"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=0.02, abs=1e-3), name


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_influence_in_lower_precisions(classifier, window, precision: str) -> None:
    settings = ExplainSettings.preset("live", proof="none", compute_precision="float32")
    exact = Explainer(classifier, settings).explain(window)
    rough = Explainer(classifier, dataclasses.replace(settings, compute_precision=precision)).explain(window)
    for one, other in zip(rough.rankings, exact.rankings, strict=True):
        assert np.corrcoef(one.scores, other.scores)[0, 1] > 0.95, (one.metric, one.layer)


def test_the_same_seed_gives_the_same_explanation(classifier, window) -> None:
    one, other = (Explainer(classifier, SETTINGS).explain(window) for _ in range(2))
    for a, b in zip(one.rankings, other.rankings, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-3)


def test_sampling_never_waits_for_the_gpu(classifier, window, request) -> None:
    pixels = classifier.to_pixels(window[None])
    adapter = adapt(classifier)
    Sampler(adapter, SETTINGS, pixels).run(40)  # PyTorch allocates its workspaces in the first run
    sampler = Sampler(adapter, SETTINGS, pixels)
    sampler.chunk = 16
    request.getfixturevalue("no_waiting")
    sampler.run(40)


def test_a_chunk_can_be_captured_as_a_graph(classifier, window) -> None:
    """Replaying it with other perturbations adds these to the moments."""
    pixels = classifier.to_pixels(window[None])
    copies = Perturbations(pixels[0], 0.1)
    first, second = (classifier.normalise(copies.take(8)) for _ in range(2))
    with torch.inference_mode():
        clean = trace(classifier.network, classifier.normalise(pixels), (5,))
        batch = first.clone()

        def add(moments: Moments) -> None:
            passed = trace(classifier.network, batch, (5,))
            moments.update(passed.activations[5], margin(passed.logits), 0)

        shift = (clean.activations[5][0].clone(), margin(clean.logits)[0])
        captured, expected = Moments.zeros(*shift), Moments.zeros(*shift)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            add(Moments.zeros(*shift))  # warm-up
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
    """They then do not wait for each other or for other work of the GPU."""
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


class TestBatched:
    """Explanations in few large operations."""

    @pytest.fixture(scope="class")
    def explainer(self, classifier) -> Explainer:
        return Explainer(classifier, SETTINGS, batched=True)

    def test_a_graph_is_captured(self, explainer, window) -> None:
        assert list(explainer.explain(window).timings) == ["window", "explanation"]
        assert isinstance(explainer._batched, BatchedExplainer)
        assert explainer._batched._runner._graph is not None

    @pytest.mark.parametrize("changes", [{}, {"output": "probability", "activation": "pre_relu"}, {"noise": "smooth"}])
    def test_same_as_the_stages(self, classifier, picture, changes) -> None:
        """The later windows replay the graph that the first one captured."""
        settings = dataclasses.replace(SETTINGS, **changes)
        staged, batched = (Explainer(classifier, settings, batched=batched) for batched in (False, True))
        for seed in range(3):
            for threshold in (0.0, 1.0):
                expected = staged.explain(picture(64, 128, seed), threshold=threshold)
                found = batched.explain(picture(64, 128, seed), threshold=threshold)
                assert found.person == expected.person
                for one, other in zip(found.rankings, expected.rankings, strict=True):
                    scale = np.nanmax(np.abs(other.scores))
                    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-2, atol=1e-3 * scale)
                    overlap = jaccard({n.channel for n in one.neurons}, {n.channel for n in other.neurons})
                    assert np.isnan(overlap) or overlap >= 0.6
                for proof, other_proof in zip(found.proofs, expected.proofs, strict=True):
                    assert proof.together == pytest.approx(other_proof.together, rel=0.02, abs=1e-3)

    @pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
    def test_in_lower_precisions(self, classifier, window, precision: str) -> None:
        settings = dataclasses.replace(SETTINGS, compute_precision=precision)
        staged, batched = (Explainer(classifier, settings, batched=b).explain(window) for b in (False, True))
        for one, other in zip(batched.rankings, staged.rankings, strict=True):
            known = np.isfinite(one.scores) & np.isfinite(other.scores)
            assert np.corrcoef(one.scores[known], other.scores[known])[0, 1] > 0.95, (one.metric, one.layer)

    def test_never_waits_before_the_download(self, explainer, classifier, window, request) -> None:
        explainer.explain(window)
        pixels = classifier.to_pixels(window[None])
        threshold = torch.tensor(0.5, dtype=torch.float64, device="cuda")
        with torch.inference_mode():
            explainer._batched.program.compute(pixels, threshold)  # PyTorch allocates its workspaces in the first run
            request.getfixturevalue("no_waiting")
            explainer._batched.program.compute(pixels, threshold)

    def test_without_a_graph_the_results_are_the_same(self, classifier, window, monkeypatch, caplog) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("no graphs here")

        captured = Explainer(classifier, SETTINGS).explain(window)
        monkeypatch.setattr(torch.cuda, "graph", fail)
        eager = Explainer(classifier, SETTINGS).explain(window)
        assert "no graphs here" in caplog.text
        for one, other in zip(eager.rankings, captured.rankings, strict=True):
            np.testing.assert_allclose(one.scores, other.scores, rtol=1e-3, atol=1e-6)


def test_explanations_leave_no_memory_behind(classifier, window) -> None:
    explainer = Explainer(classifier, SETTINGS)
    explainer.explain(window)
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        explainer.explain(window)
    assert torch.cuda.memory_allocated() <= before
