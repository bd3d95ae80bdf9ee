"""The operations of an explanation on a simulated CUDA device. A CUDA graph can contain all of them."""

from __future__ import annotations

import pytest
import torch
from fake_cuda_kit import CUDA, Copies, fake_cuda

from explain_cnn_ros.explain.evidence import weight_scores
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.vgg.adapter import VGGAdapter
from explain_cnn_ros.explain.vgg.batched.program import Program

#: The settings of an explanation on a GPU, with few perturbations, so that the tests are fast.
SETTINGS = {"metrics": DEFAULT_METRICS, "perturbations": 4, "compute_precision": "tf32"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"proof": "each"},
        {"proof": "none"},
        {"output": "probability"},
        {"activation": "pre_relu"},
        {"noise": "smooth"},
        {"noise": "authors"},
        {"precision_mean_of_inverse": True},
        {"precision_lambda_absolute": True},
        {"deconvnet_start": "strongest"},
        {"compute_precision": "bfloat16"},
        {"metrics": ("influence", "counter_influence"), "perturbations": 0, "top_n": 3},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "default",
)
def test_nothing_is_copied_between_host_and_device(thin_classifier, changes) -> None:
    """A graph cannot be captured if an operation copies values from the host or waits for the device."""
    settings = ExplainSettings(**(SETTINGS | changes))
    width, height = thin_classifier.info.input_size
    of_weights = weight_scores(VGGAdapter(thin_classifier), settings)
    with fake_cuda(thin_classifier) as classifier:
        scores = {key: torch.zeros(len(score), device=CUDA) for key, score in of_weights.items()}
        pixels = torch.zeros(1, 3, height, width, device=CUDA)
        program = Program(classifier, settings, scores, 1, pixels)
        with Copies() as copies:
            packed = program.compute(pixels, torch.zeros((), dtype=torch.float64, device=CUDA))
        assert copies.found == []
        assert packed.device == CUDA
        parts = program.unpack(packed)
    assert parts.scores.shape == (len(settings.metrics), program.layout.neurons)


def test_copies_are_noticed(thin_classifier) -> None:
    with fake_cuda(thin_classifier) as classifier:
        on_device = torch.zeros(3, device=CUDA)
        with Copies() as copies:
            torch.tensor([1.0], device=CUDA)
        assert copies.found
        with Copies() as copies:
            on_device.cpu()
        assert copies.found
        with Copies() as copies:
            classifier.normalise(torch.zeros(1, 3, 8, 8, device=CUDA))
        assert not copies.found
        with pytest.raises(RuntimeError, match="device"):
            on_device + torch.zeros(3)
