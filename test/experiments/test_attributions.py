"""Grad-CAM by hand; LIME for a network whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain_cnn_ros.experiments.attributions import Ridge, grad_cam, last_maps, lime, superpixels
from explain_cnn_ros.model.network import convolution_layers
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier


def test_grad_cam_by_hand(deep_classifier: PersonClassifier, picture: Callable[..., NDArray[np.uint8]]) -> None:
    """Gradients by autograd, means by numpy."""
    window = picture(64, 128)
    network = deep_classifier.network
    batch = deep_classifier.normalise(deep_classifier.to_pixels(window[None])).requires_grad_()
    last = convolution_layers(network.features)[-1].activation
    activation = network.features[: last + 1](batch)
    logits = network.classifier(network.features[last + 1 :](activation))
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), activation)
    expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1).relu()[0].detach().numpy()
    found = grad_cam(deep_classifier, window)
    assert found.shape == (128, 64) and expected.max() > 0
    # Bilinear interpolation gives the exact value where the four nearest are the same, and never leaves their range.
    assert np.corrcoef(found[8::16, 8::16].ravel(), expected.ravel())[0, 1] > 0.9
    assert found.min() >= 0 and found.max() <= expected.max() * (1 + 1e-5)
    assert deep_classifier.network.features[0].weight.grad is None


def test_grad_cam_of_another_network(
    residual_classifier: PersonClassifier, picture: Callable[..., NDArray[np.uint8]]
) -> None:
    """It is about the last maps, those of `down`, whose means the head reads."""
    window = picture(40, 32)
    network = residual_classifier.network.network
    batch = residual_classifier.normalise(residual_classifier.to_pixels(window[None])).requires_grad_()
    maps: list[Tensor] = []
    hook = network.down.register_forward_hook(lambda module, inputs, output: maps.append(output))
    logits = network(batch)
    hook.remove()
    assert last_maps(residual_classifier.network, batch) is network.down
    (gradient,) = torch.autograd.grad((torch.logsumexp(logits[:, 1:], 1) - logits[:, 0]).sum(), maps[0])
    expected = (gradient.mean((2, 3), keepdim=True) * maps[0]).sum(1, keepdim=True).relu().detach()
    expected = torch.nn.functional.interpolate(expected, (32, 40), mode="bilinear")[0, 0].double().numpy()
    found = grad_cam(residual_classifier, window)
    assert expected.max() > 0
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_ridge_is_weighted_least_squares() -> None:
    """NumPy solves the same problem, each sample times the root of its weight, and rows for the penalty."""
    rng = np.random.default_rng(0)
    x, y, w = rng.random((60, 5)), rng.random(60), rng.random(60)
    data = [[torch.from_numpy(part[i : i + 16]) for part in (x, y, w)] for i in range(0, 60, 16)]
    ridge = Ridge(2.0)
    ridge.fit(data)
    root = np.sqrt(w / w.sum())[:, None]
    rows = np.hstack([x, np.ones((60, 1))]) * root
    penalty = np.hstack([np.eye(5) * np.sqrt(2.0 / 60), np.zeros((5, 1))])
    expected, *_ = np.linalg.lstsq(np.vstack([rows, penalty]), np.append(y * root[:, 0], np.zeros(5)), rcond=None)
    assert ridge.representation().numpy() == pytest.approx(expected[:5], abs=1e-6)


def test_superpixels_are_connected_and_keep_to_edges(picture: Callable[..., NDArray[np.uint8]]) -> None:
    window = np.full((128, 64, 3), 40, np.uint8)
    window[:, 29:] = 200
    found = superpixels(window)
    assert np.array_equal(np.unique(found), np.arange(found.max() + 1)) and found.max() + 1 == 13 * 6
    for label in range(found.max() + 1):
        assert cv2.connectedComponents((found == label).astype(np.uint8))[0] == 2
        columns = np.nonzero(found == label)[1]
        # A superpixel lies on one side of the edge, except the line of the watershed itself.
        assert columns.max() <= 30 or columns.min() >= 27
    assert found.shape == (128, 64)
    assert superpixels(picture(64, 128)).max() + 1 == 13 * 6


class Bright(nn.Module):
    """The brighter a part of the window is, the higher is the logit of person."""

    def forward(self, batch: Tensor) -> Tensor:
        logit = batch[:, :, 40:80, 20:40].mean((1, 2, 3)) / 10
        return torch.stack([torch.zeros_like(logit), logit], 1)


class BrightClassifier:
    """The part of a classifier that LIME needs."""

    info = ModelInfo()

    def prepared(self, precision: str) -> Any:
        return Bright()

    def normalise(self, pixels: Tensor) -> Tensor:
        return pixels

    def to_pixels(self, images: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def test_lime_finds_what_the_output_depends_on() -> None:
    """Superpixels of one colour have no effect when they are replaced by it, so the window has texture."""
    rng = np.random.default_rng(0)
    window = rng.integers(0, 256, (128, 64, 3), dtype=np.uint8)
    window[40:80, 20:40] = 255
    segments = superpixels(window)
    classifier: Any = BrightClassifier()
    found = lime(classifier, window, 400, 0)
    part = np.zeros((128, 64), bool)
    part[40:80, 20:40] = True
    strong = {int(s) for s in np.unique(segments) if found[segments == s][0] > 0.2 * found.max()}
    # The superpixels that matter lie partly in the bright part and partly in the darker noise around it.
    assert strong and all(part[segments == s].any() for s in strong)
    assert np.array_equal(found, lime(classifier, window, 400, 0))
    assert not np.array_equal(found, lime(classifier, window, 400, 1))
    assert all(np.ptp(found[segments == s]) == 0 for s in np.unique(segments))
