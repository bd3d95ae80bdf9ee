"""Best regions, compared with counting pixels; the whole experiment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from explain_cnn_ros.experiments import regions
from explain_cnn_ros.experiments.attributions import grad_cam
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.regions import (
    BOX_METHODS,
    METHODS,
    PLACES,
    RegionSettings,
    best,
    coverage,
    inside,
    moved,
    overlap,
)
from explain_cnn_ros.experiments.selectors import INFLUENCE, INFLUENCE_ALONE, RANDOM
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

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


def test_everything_is_measured_and_the_same_again(
    deep_classifier: PersonClassifier, examples: Callable[[int], list[Example]], tmp_path: Path
) -> None:
    windows, settings = examples(2), RegionSettings(samples=8, elsewhere=2)
    records = regions.measure(deep_classifier, windows, settings, tmp_path)
    assert list(records) == ["0.png"]  # the person
    rows = regions.rows(records, windows)
    assert [row.method for row in rows] == list(METHODS)
    by_name = {row.method: row for row in rows}
    assert by_name["Grad-CAM"].seeds.value == by_name["weight_sum"].seeds.value == 1.0
    assert by_name["LIME"].seeds.value < 1.0 and by_name[RANDOM].seeds.value < 1.0
    assert by_name[INFLUENCE_ALONE].seeds.value == 1.0
    matrix = np.array(regions.overlaps(records, windows))
    assert np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1)
    # The effect of blurring the best region, computed in another way.
    example = windows[0]
    assert example.box is not None
    dice = np.random.default_rng(list(example.name.encode()))
    mask = best(grad_cam(deep_classifier, example.image), 0.2, dice)
    blurred = np.where(mask[..., None], cv2.GaussianBlur(example.image, (0, 0), 10.0), example.image)
    logits = deep_classifier.logits(np.stack([example.image, blurred])).double().numpy()
    drop = (logits[0, 1] - logits[0, 0]) - (logits[1, 1] - logits[1, 0])
    assert by_name["Grad-CAM"].drop.value == pytest.approx(drop, rel=1e-2, abs=1e-4)
    assert by_name["Grad-CAM"].inside.value == pytest.approx(inside(mask, example.box))
    assert regions.measure(deep_classifier, windows, settings, tmp_path / "again") == records
    # The single patches of influence, from both starts, compared with those of an explanation.
    patch_rows = {row.method: row for row in regions.patch_rows(records, windows)}
    assert list(patch_rows) == list(BOX_METHODS)
    for start, method in (("contribution", INFLUENCE), ("strongest", regions.STRONGEST)):
        explained = ExplainSettings(metrics=("influence",), deconvnet_start=start, proof="none")
        explanation = Explainer(deep_classifier, explained).explain(example.image)
        own = [n.patch for ranking in explanation.rankings for n in ranking.neurons if n.patch is not None]
        row, (x, y, w, h) = patch_rows[method], example.box
        blurred = cv2.GaussianBlur(example.image, (0, 0), 10.0)
        drops, shares = [], []
        for p in own:
            image = example.image.copy()
            image[p.y : p.y + p.height, p.x : p.x + p.width] = blurred[p.y : p.y + p.height, p.x : p.x + p.width]
            pair = deep_classifier.logits(np.stack([example.image, image])).double().numpy()
            drops.append((pair[0, 1] - pair[0, 0]) - (pair[1, 1] - pair[1, 0]))
            wide = sum(x <= column + 0.5 < x + w for column in range(p.x, p.x + p.width))
            tall = sum(y <= line + 0.5 < y + h for line in range(p.y, p.y + p.height))
            shares.append(wide * tall / (p.width * p.height))
        area = np.mean([p.width * p.height for p in own]) / (64 * 128)
        assert row.patches == len(own) > 0
        assert row.inside.value == pytest.approx(np.mean(shares))
        assert row.area.value == pytest.approx(area)
        assert row.drop.value == pytest.approx(np.mean(drops), rel=2e-2, abs=1e-3)
        assert row.drop_per_tenth.value == pytest.approx(row.drop.value / area / 10)
    for method in ("LIME", "Grad-CAM", PLACES):
        assert patch_rows[method].patches == patch_rows[INFLUENCE].patches
        assert patch_rows[method].area.value == pytest.approx(patch_rows[INFLUENCE].area.value)
    assert regions.patches_markdown(list(patch_rows.values())).count("\n") == 2 + len(BOX_METHODS)


def test_other_networks(
    residual_classifier: PersonClassifier, examples: Callable[..., list[Example]], tmp_path: Path
) -> None:
    """The blur grows with the window. Layers are the chosen ones."""
    windows, settings = examples(2, residual_classifier.info.input_size), RegionSettings(samples=8, elsewhere=2)
    records = regions.measure(residual_classifier, windows, settings, tmp_path, layer_names="first,second")
    assert list(records) == ["0.png"]
    image = windows[0].image
    explained = ExplainSettings(metrics=("influence",), layer_names="first,second", proof="none")
    explanation = Explainer(residual_classifier, explained).explain(image)
    own = [n.patch for ranking in explanation.rankings for n in ranking.neurons if n.patch is not None]
    blurred = cv2.GaussianBlur(image, (0, 0), 10.0 * 32 / 128)
    drops = []
    for p in own:
        without = image.copy()
        without[p.y : p.y + p.height, p.x : p.x + p.width] = blurred[p.y : p.y + p.height, p.x : p.x + p.width]
        before, after = probability_margins(residual_classifier, np.stack([image, without]))
        drops.append(before - after)
    row = {row.method: row for row in regions.patch_rows(records, windows)}[INFLUENCE]
    assert row.patches == len(own) > 0
    assert row.drop.value == pytest.approx(np.mean(drops), rel=2e-2, abs=1e-3)
    assert {row.method for row in regions.rows(records, windows)} == set(METHODS)


def probability_margins(classifier: PersonClassifier, windows: NDArray[np.uint8]) -> list[float]:
    p = classifier.probability(windows).astype(np.float64)
    return (np.log(p) - np.log1p(-p)).tolist()


@given(st.integers(0, 99), st.integers(1, 8), st.integers(1, 16))
def test_the_strongest_place_by_trying_all(seed: int, width: int, height: int) -> None:
    values = np.random.default_rng(seed).normal(size=(16, 8))
    found = regions.strongest_place(values, width, height)
    sums = {(x, y): values[y : y + height, x : x + width].sum() for x in range(9 - width) for y in range(17 - height)}
    assert (found.width, found.height) == (width, height)
    assert sums[found.x, found.y] == pytest.approx(max(sums.values()))
