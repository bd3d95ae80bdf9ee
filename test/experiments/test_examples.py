"""Examples: as many photos as possible, and one of each mirror pair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from explain_cnn_ros.experiments.examples import mirrored, read_examples
from explain_cnn_ros.training.datasets import share_of

Picture = Callable[..., NDArray[np.uint8]]


def test_mirror_images_are_recognised(picture: Picture) -> None:
    one, other = picture(64, 128, 0), picture(64, 128, 1)
    again = cv2.imdecode(cv2.imencode(".jpg", one[:, ::-1])[1], cv2.IMREAD_COLOR)
    assert mirrored(one, one[:, ::-1]) and mirrored(one, np.asarray(again, np.uint8))
    assert not mirrored(one, other) and not mirrored(one, one[::-1])
    plain = np.full((128, 64, 3), 9, np.uint8)
    assert not mirrored(plain, plain)


@pytest.fixture
def mirror_pairs(tmp_path: Path, picture: Picture) -> Path:
    """Windows like INRIA's: for each photo two persons with a mirror image each; one background for each photo."""
    for name in ("pos", "neg"):
        (tmp_path / "train" / name).mkdir(parents=True)
    for i in range(40):
        for j, letters in enumerate(("ab", "cd")):
            image = picture(96, 160, 2 * i + j)
            for letter, window in zip(letters, (image, image[:, ::-1]), strict=True):
                cv2.imwrite(str(tmp_path / "train/pos" / f"crop{i:03d}{letter}.png"), window)
        cv2.imwrite(str(tmp_path / "train/neg" / f"{i:03d}_1.png"), picture(64, 128, 100 + i))
    return tmp_path


def test_one_window_of_each_mirror_pair_is_read(mirror_pairs: Path) -> None:
    photos = [f"pos/crop{i:03d}" for i in range(40)]
    of_test = sorted((photo for photo in photos if share_of(photo) < 0.15), key=share_of)
    persons = [e for e in read_examples(mirror_pairs, 0, 1000) if e.person]
    # First a window of every photo, then the other person of every photo.
    expected = [f"{photo.removeprefix('pos/')}{letter}.png" for letter in "ac" for photo in of_test]
    assert [e.name for e in persons] == expected
    few = [e for e in read_examples(mirror_pairs, 0, len(of_test) + 1) if e.person]
    assert [e.name for e in few] == expected[: len(of_test) + 1]
    training = [e for e in read_examples(mirror_pairs, 1000, 0) if e.person]
    assert len(training) == 2 * (40 - len(of_test)) and not any(e.is_test for e in training)
