"""Maps and best regions by counting; Grad-CAM by hand; LIME where the answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments import regions
from explain_cnn_ros.experiments.attributions import Ridge, grad_cam, lime, superpixels
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.regions import METHODS, Regions, best, coverage, inside, moved, overlap
from explain_cnn_ros.experiments.selectors import RANDOM
from explain_cnn_ros.network import convolution_layers
from explain_cnn_ros.patches import Patch

patches = st.builds(Patch, st.integers(-9, 20), st.integers(-9, 30), st.integers(1, 15), st.integers(1, 15))


@given(st.lists(st.none() | patches, max_size=5))
def test_coverage_by_counting(patches: list[Patch | None]) -> None:
    counted = np.zeros((24, 16))
    for y, x in np.ndindex(24, 16):
        counted[y, x] = sum(p is not None and p.x <= x < p.x + p.width and p.y <= y < p.y + p.height for p in patches)
    assert np.array_equal(coverage(patches, 16, 24), counted)


@given(st.integers(0, 99), st.sampled_from([0.1, 0.2, 0.5]))
def test_the_best_are_the_highest(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, (16, 8)).astype(float)
    mask = best(values, share, rng)
    assert mask.sum() == round(share * 128)
    assert values[mask].min() >= values[~mask].max()


def test_equals_are_drawn_from_everywhere() -> None:
    drawn = [best(np.zeros((16, 8)), 0.25, np.random.default_rng(seed)) for seed in range(200)]
    assert np.abs(np.mean(drawn, axis=0) - 0.25).max() < 0.15


@given(st.tuples(st.integers(-3, 8), st.integers(-3, 16), st.integers(1, 9), st.integers(1, 9)), st.integers(0, 9))
def test_inside_by_counting(box: tuple[int, int, int, int], seed: int) -> None:
    mask = np.random.default_rng(seed).random((16, 8)) < 0.3
    x, y, w, h = box
    canvas = np.zeros((40, 40), bool)
    canvas[y + 10 : y + h + 10, x + 10 : x + w + 10] = True
    assert inside(mask, box) == pytest.approx(canvas[10:26, 10:18][mask].mean())


def test_elsewhere_is_the_same_region() -> None:
    mask = np.zeros((16, 8), bool)
    mask[3:7, 2:5] = True
    rng = np.random.default_rng(0)
    places = [moved(mask, rng) for _ in range(50)]
    assert {place.sum() for place in places} == {12}
    assert len({place.tobytes() for place in places}) > 20
    assert overlap(mask, mask) == 1.0
    assert overlap(mask, np.roll(mask, 2, 0)) == pytest.approx(6 / 18)


def test_grad_cam_by_hand(full_classifier: PersonClassifier, picture: Callable[..., NDArray[np.uint8]]) -> None:
    """Gradients by autograd, means by numpy."""
    window = picture(64, 128)
    network = full_classifier.network
    batch = full_classifier.normalise(full_classifier.to_pixels(window[None])).requires_grad_()
    last = convolution_layers(network.features)[-1].activation
    activation = network.features[: last + 1](batch)
    logits = network.classifier(network.features[last + 1 :](activation))
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), activation)
    expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1).relu()[0].detach().numpy()
    found = grad_cam(full_classifier, window)
    assert found.shape == (128, 64) and expected.max() > 0
    # Bilinear interpolation gives the exact value where the four nearest are the same, and never leaves their range.
    assert np.corrcoef(found[8::16, 8::16].ravel(), expected.ravel())[0, 1] > 0.9
    assert found.min() >= 0 and found.max() <= expected.max() * (1 + 1e-5)
    assert full_classifier.network.features[0].weight.grad is None


def test_ridge_is_weighted_least_squares() -> None:
    """As numpy solves the same with each sample multiplied by the root of its weight, and rows for the penalty."""
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
        # On one side of the edge, but for the watershed's own line.
        assert columns.max() <= 30 or columns.min() >= 27
    assert found.shape == (128, 64)
    assert superpixels(picture(64, 128)).max() + 1 == 13 * 6


class Bright(nn.Module):
    """Says person the more, the brighter a part of the window is."""

    def forward(self, batch: Tensor) -> Tensor:
        logit = batch[:, :, 40:80, 20:40].mean((1, 2, 3)) / 10
        return torch.stack([torch.zeros_like(logit), logit], 1)


class BrightClassifier:
    """As much of a classifier as LIME asks for."""

    def prepared(self, arithmetic: str) -> Any:
        return Bright()

    def normalise(self, pixels: Tensor) -> Tensor:
        return pixels

    def to_pixels(self, images: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def test_lime_finds_what_the_output_depends_on() -> None:
    """Superpixels that are brighter than their mean colour nowhere change nothing: so the window has texture there."""
    rng = np.random.default_rng(0)
    window = rng.integers(0, 256, (128, 64, 3), dtype=np.uint8)
    window[40:80, 20:40] = 255
    segments = superpixels(window)
    classifier: Any = BrightClassifier()
    found = lime(classifier, window, 400, 0)
    part = np.zeros((128, 64), bool)
    part[40:80, 20:40] = True
    strong = {int(s) for s in np.unique(segments) if found[segments == s][0] > 0.2 * found.max()}
    # What matters are superpixels that lie partly in the bright part, and partly in the darker noise around it.
    assert strong and all(part[segments == s].any() for s in strong)
    assert np.array_equal(found, lime(classifier, window, 400, 0))
    assert not np.array_equal(found, lime(classifier, window, 400, 1))
    assert all(np.ptp(found[segments == s]) == 0 for s in np.unique(segments))


def test_everything_is_measured_and_the_same_again(
    full_classifier: PersonClassifier, examples: Callable[[int], list[Example]], tmp_path: Path
) -> None:
    windows, how = examples(2), Regions(samples=8, elsewhere=2)
    records = regions.measure(full_classifier, windows, how, tmp_path)
    assert list(records) == ["0.png"]  # the person
    rows = regions.rows(records, windows)
    assert [row.method for row in rows] == list(METHODS)
    by_name = {row.method: row for row in rows}
    assert by_name["Grad-CAM"].seeds.value == by_name["weight_sum"].seeds.value == 1.0
    assert by_name["LIME"].seeds.value < 1.0 and by_name[RANDOM].seeds.value < 1.0
    matrix = np.array(regions.overlaps(records, windows))
    assert np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1)
    # What blurring the best region does, once more.
    example = windows[0]
    assert example.box is not None
    dice = np.random.default_rng(list(example.name.encode()))
    mask = best(grad_cam(full_classifier, example.image), 0.2, dice)
    blurred = np.where(mask[..., None], cv2.GaussianBlur(example.image, (0, 0), 10.0), example.image)
    logits = full_classifier.logits(np.stack([example.image, blurred])).double().numpy()
    drop = (logits[0, 1] - logits[0, 0]) - (logits[1, 1] - logits[1, 0])
    assert by_name["Grad-CAM"].drop.value == pytest.approx(drop, rel=1e-2, abs=1e-4)
    assert by_name["Grad-CAM"].inside.value == pytest.approx(inside(mask, example.box))
    assert regions.measure(full_classifier, windows, how, tmp_path / "again") == records
