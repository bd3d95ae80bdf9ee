"""Copies and near copies across the split are found, and nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from explain_cnn_ros.training import duplicates
from explain_cnn_ros.training.datasets import Photo
from explain_cnn_ros.training.duplicates import find_duplicates, signatures, without_duplicates


def scene(seed: int, height: int = 128, width: int = 64) -> NDArray[np.uint8]:
    """Soft blobs of high contrast, different for each seed."""
    noise = np.random.default_rng(seed).random((8, 4, 3)).astype(np.float32)
    return (255 * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)).astype(np.uint8)


def saved(path: Path, image: NDArray[np.uint8], quality: int = 0) -> Photo:
    """Save as PNG, or as JPEG of some quality."""
    path = path.with_suffix(".jpg" if quality else ".png")
    assert cv2.imwrite(str(path), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality] if quality else [])
    return Photo(path, path.stem)


@pytest.fixture
def training(tmp_path: Path) -> list[Photo]:
    return [saved(tmp_path / f"training{i}", scene(i)) for i in range(40)]


def test_copies_are_found_and_other_scenes_are_not(tmp_path: Path, training: list[Photo]) -> None:
    darker = (scene(3) * 0.8).astype(np.uint8)
    held_out = [
        saved(tmp_path / "other", scene(100)),
        saved(tmp_path / "copy", scene(0)),
        saved(tmp_path / "mirrored", scene(1)[:, ::-1]),
        saved(tmp_path / "compressed", scene(2), 60),
        saved(tmp_path / "darker_and_mirrored", darker[:, ::-1], 90),
        saved(tmp_path / "larger", scene(4, 256, 128)),
        *(saved(tmp_path / f"other{i}", scene(200 + i)) for i in range(20)),
    ]
    found = find_duplicates(signatures(held_out), signatures(training))
    assert found.tolist() == [False, *[True] * 5, *[False] * 20]
    assert [p.photo for p in without_duplicates(held_out, training)] == ["other", *(f"other{i}" for i in range(20))]


def test_chunks_do_not_matter(tmp_path: Path, training: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = [saved(tmp_path / f"{i}", scene(i), 80) for i in (50, 7, 51, 8, 52)]
    monkeypatch.setattr(duplicates, "CHUNK", 2)
    assert find_duplicates(signatures(held_out), signatures(training)).tolist() == [False, True, False, True, False]


def test_skies_are_compared_by_their_pixels_only(tmp_path: Path) -> None:
    """Two gradients of low contrast correlate perfectly, but need not be the same photo."""
    gradient = np.repeat(np.linspace(100, 130, 128)[:, None, None], 64, 1).repeat(3, 2).astype(np.uint8)
    training = [saved(tmp_path / "sky", gradient)]
    held_out = [saved(tmp_path / "brighter", gradient + 20), saved(tmp_path / "same", gradient)]
    assert find_duplicates(signatures(held_out), signatures(training)).tolist() == [False, True]


def test_nothing_to_compare_with(tmp_path: Path, training: list[Photo]) -> None:
    assert without_duplicates(training, []) == training
    assert without_duplicates([], training) == []


def test_if_nothing_is_left_it_says_so(training: list[Photo]) -> None:
    with pytest.raises(ValueError, match=r"all 40 held-out images are copies .*training0\.png.*other scenes"):
        without_duplicates(training, training)
