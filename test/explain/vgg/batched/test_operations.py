"""The number of operations that the device runs for an explanation, and of waits of the host.

No GPU is needed: the operations are counted while a CPU runs them. Their number does not depend on the number of
perturbations.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from operations_kit import OperationCounter, count_operations
from torch import Tensor

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.vgg.batched import graph
from explain_cnn_ros.explain.vgg.batched.program import Parts

#: Maximum number of operations of an explanation with all metrics, 5 neurons of each metric in layers 3 to 9.
OPERATIONS_MAX = 400

#: The default settings, except that a VGG-16 costs seconds on a CPU, so there are few perturbations.
SETTINGS = ExplainSettings(perturbations=2, compute_precision="float32")


@dataclasses.dataclass
class Counted:
    """The counts of all explanations: operations and waits up to the download, and downloads."""

    counter: OperationCounter = dataclasses.field(default_factory=OperationCounter)
    downloads: int = 0


@pytest.fixture
def counted(monkeypatch) -> Counted:
    found = Counted()
    run, download = graph.Runner.run, graph.download

    def counting_run(runner: graph.Runner, pixels: Tensor, threshold: float) -> Parts:
        with found.counter:
            return run(runner, pixels, threshold)

    def counting_download(packed: Tensor) -> Tensor:
        found.downloads += 1
        return download(packed)

    monkeypatch.setattr(graph.Runner, "run", counting_run)
    monkeypatch.setattr(graph, "download", counting_download)
    return found


def test_a_vgg16(full_classifier, picture, counted: Counted) -> None:
    """The weights are random, in float32. Selections may differ where two scores are nearly the same."""
    window = picture(64, 128)
    assert SETTINGS.metrics == DEFAULT_METRICS
    batched = Explainer(full_classifier, SETTINGS, batched=True).explain(window)
    assert counted.counter.total <= OPERATIONS_MAX
    assert not counted.counter.waits
    assert counted.downloads == 1
    staged = Explainer(full_classifier, SETTINGS, batched=False).explain(window)
    patches = []
    for one, other in zip(batched.rankings, staged.rankings, strict=True):
        scale = np.nanmax(np.abs(other.scores))
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-2, atol=1e-3 * scale)
        assert len(one.neurons) == len(other.neurons)
        for a, b in zip(one.neurons, other.neurons, strict=True):
            assert a.score == pytest.approx(b.score, rel=1e-2, abs=1e-3 * scale)
            if a.channel == b.channel:
                patches.append(a.patch == b.patch)
    assert len(patches) > 0.9 * sum(len(ranking.neurons) for ranking in staged.rankings)
    assert np.mean(patches) > 0.95
    for one, other in zip(batched.proofs, staged.proofs, strict=True):
        assert one.together == pytest.approx(other.together, rel=1e-2)


@pytest.mark.parametrize("changes", [{}, {"perturbations": 20}, {"activation": "pre_relu", "output": "probability"}])
def test_the_number_does_not_depend_on_perturbations_or_images(thin_classifier, picture, counted, changes) -> None:
    settings = dataclasses.replace(SETTINGS, **changes)
    explainer, totals = Explainer(thin_classifier, settings, batched=True), []
    for seed in range(3):
        explainer.explain(picture(32, 64, seed))
        totals.append(counted.counter.total)
    assert totals == [totals[0], 2 * totals[0], 3 * totals[0]]
    assert totals[0] <= OPERATIONS_MAX + 7 * ("activation" in changes)
    assert not counted.counter.waits
    assert counted.downloads == 3


def test_the_live_preset(thin_classifier, picture, counted: Counted) -> None:
    settings = ExplainSettings.preset("live", compute_precision="float32")
    Explainer(thin_classifier, settings, batched=True).explain(picture(32, 64))
    assert counted.counter.total <= 300
    assert not counted.counter.waits
    assert counted.downloads == 1


@pytest.mark.parametrize("preset", ["", "live"])
def test_from_the_frame_to_the_explanation(thin_classifier, picture, preset: str) -> None:
    """The preparation of the window and the description of the results need no further operation or wait."""
    settings = dataclasses.replace(ExplainSettings.preset(preset), compute_precision="float32") if preset else SETTINGS
    explainer, window = Explainer(thin_classifier, settings, batched=True), picture(32, 64)
    expected = explainer.explain(window)
    with count_operations() as counter:
        found = explainer.explain(window)
    assert 0 < counter.total <= OPERATIONS_MAX
    assert counter.waits == {"cpu": 1}
    for one, other in zip(found.rankings, expected.rankings, strict=True):
        assert one.neurons == other.neurons


def test_the_stages_wait_often(thin_classifier, picture) -> None:
    explainer, window = Explainer(thin_classifier, SETTINGS, batched=False), picture(32, 64)
    with count_operations() as counter:
        explainer.explain(window)
    assert counter.total > OPERATIONS_MAX
    assert counter.waits.total() > 100


class TestCounter:
    """The counter itself: it must find what it is there for."""

    @pytest.mark.parametrize(
        ("operation", "operations"),
        [
            (lambda x: x.view(-1)[2:].unsqueeze(0), 0),
            (lambda x: torch.empty(3), 0),
            (lambda x: x + 1, 1),
            (lambda x: x.t().reshape(-1), 1),
            (lambda x: torch.nn.functional.linear(x, x, x[0]), 1),
            (lambda x: x.contiguous(), 0),
            (lambda x: x.t().contiguous(), 1),
            (lambda x: torch.sum(x, 1, out=torch.empty(3)), 1),
        ],
    )
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_operations(self, operation, operations: int, mode) -> None:
        with mode():
            x = torch.ones(3, 3)
            with OperationCounter() as counter:
                operation(x)
        assert counter.total == operations
        assert not counter.waits

    @pytest.mark.parametrize(
        "operation",
        [
            lambda x: x[0, 0].item(),
            lambda x: float(x.sum()),
            lambda x: bool((x > 0).any()),
            lambda x: x[x > 0],
            lambda x: x.nonzero(),
            lambda x: torch.equal(x, x + 1),
            lambda x: torch.unique(x),
        ],
    )
    def test_waits(self, operation) -> None:
        with torch.inference_mode():
            x = torch.ones(3, 3)
            with OperationCounter() as counter:
                operation(x)
        assert counter.waits.total() >= 1

    @pytest.mark.parametrize(
        ("operation", "operations", "waits"),
        [
            (lambda x: x.cpu(), 0, 1),
            (lambda x: x.tolist(), 0, 1),
            (lambda x: (x + 1).numpy(), 1, 1),
            (lambda x: np.asarray(x), 0, 1),
            (lambda x: [x.cpu(), x.cpu()], 0, 2),
            (lambda x: x.cpu().numpy(), 0, 1),
            (lambda x: float(x.cpu()[1:].sum()), 0, 1),
            (lambda x: [part.tolist() for part in x.cpu().split([1, 2])], 0, 1),
            (lambda x: x.cpu()[x.cpu() > 0].double().cpu().tolist(), 0, 2),
            (lambda x: x.mul_(x.cpu()), 1, 1),
            (lambda x: x.double() + 1, 2, 0),
        ],
    )
    def test_reads_of_the_host(self, operation, operations: int, waits: int) -> None:
        """A tensor that is on the host already is read without a wait, and is no work for the device."""
        with torch.inference_mode():
            x = torch.ones(3, 3)
            with count_operations() as counter:
                operation(x)
        assert counter.total == operations
        assert counter.waits.total() == waits

    def test_the_tensor_itself_stays_on_the_device(self) -> None:
        x = torch.ones(3)
        with count_operations() as counter:
            x.cpu().add_(1)
            x.add_(1)
        assert x.tolist() == [2.0, 2.0, 2.0]
        assert counter.total == 1
