"""Batches depend on seed and step only; their composition."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from explain_cnn_ros.training.augmentation import Placement, background_window, person_window
from explain_cnn_ros.training.batches import TrainingImages, make_batch, prepared

SIZE = (64, 128)


def images(hard=()):
    persons = [np.full((160, 96, 3), 200, np.uint8)]
    backgrounds = [np.full((128, 64, 3), 20, np.uint8)]
    photos = [np.full((200, 300, 3), 60, np.uint8)]
    return TrainingImages(persons, backgrounds, photos, list(hard))


def test_batches_depend_on_seed_and_step_only():
    first = make_batch(images(), SIZE, 8, 0.0, 1, 5)
    streamed = dict(prepared(functools.partial(make_batch, images(), SIZE, 8, 0.0, 1), range(3, 9)))
    assert sorted(streamed) == [3, 4, 5, 6, 7, 8]
    assert all(np.array_equal(one, other) for one, other in zip(streamed[5], first, strict=True))
    assert not np.array_equal(streamed[6][0], first[0])
    assert not np.array_equal(make_batch(images(), SIZE, 8, 0.0, 2, 5)[0], first[0])


def test_half_of_a_batch_are_persons():
    windows, labels, offsets = make_batch(images(), SIZE, 10, 0.0, 0, 0)
    assert labels.tolist() == [1] * 5 + [0] * 5
    assert windows[:5].mean() > 100 > windows[5:].mean()
    assert offsets[:5].all() and not offsets[5:].any()


def test_share_of_hard_negatives():
    hard = [np.zeros((128, 64, 3), np.uint8)]
    hard[0][:64] = 255
    count = sum(
        (w[:64].mean() - w[64:].mean()) > 60
        for step in range(20)
        for w in make_batch(images(hard), SIZE, 40, 0.5, 0, step)[0][20:]
    )
    assert 140 < count < 260


def test_own_windows_have_a_share_of_each_class():
    """The own person is dark at the bottom, the own background is bright at the top; other images are even."""
    own = np.zeros((160, 96, 3), np.uint8)
    own[:80] = 255
    even = images()
    both = TrainingImages(even.persons, even.backgrounds, even.photos, own_persons=[own], own_backgrounds=[own])
    counts = {0: 0, 1: 0}
    for step in range(20):
        batch = make_batch(both, SIZE, 40, 0.0, 0, step, own_share=0.3)
        for window, label in zip(batch.windows, batch.labels, strict=True):
            counts[int(label)] += window[:40].mean() - window[-40:].mean() > 60
    # 120 of 400 windows of each class; the standard deviation is 9.
    assert all(80 < count < 160 for count in counts.values()), counts
    one = TrainingImages(even.persons, even.backgrounds, even.photos, own_backgrounds=[own])
    batch = make_batch(one, SIZE, 40, 0.0, 0, 3, own_share=1.0)
    assert all(window[:40].mean() - window[-40:].mean() > 60 for window in batch.windows[20:])
    assert not any(window[:40].mean() - window[-40:].mean() > 60 for window in batch.windows[:20])


def test_without_own_windows_batches_are_as_ever():
    first, second = (make_batch(images(), SIZE, 8, 0.0, 1, 5, own_share=share) for share in (0.0, 0.9))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_border_shows_the_surroundings():
    """Without degradation, the middle of a window with a border is the window itself, for persons and backgrounds."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (40, 24, 3), np.uint8), (96, 160), interpolation=cv2.INTER_LINEAR)
    placement = Placement(3.0, -5.0, 128.0, False)
    plain, wide = (person_window(picture, (32, 64), placement, border) for border in (0, 8))
    assert wide.shape == (80, 48, 3)
    np.testing.assert_allclose(wide[8:-8, 8:-8].astype(int), plain, atol=2)
    plain, wide = (background_window(picture, (32, 64), np.random.default_rng(1), border) for border in (0, 8))
    assert wide.shape == (80, 48, 3)
    np.testing.assert_allclose(wide[8:-8, 8:-8].astype(int), plain, atol=2)


def test_larger_windows():
    windows, _, offsets = make_batch(images(), (96, 192), 8, 0.0, 0, 0)
    assert windows.shape == (8, 192, 96, 3)
    assert windows[:4].mean() > 100 > windows[4:].mean()
    assert offsets[:4].all() and not offsets[4:].any()


def test_batches_with_a_border():
    windows, labels, offsets = make_batch(images(), (32, 64), 8, 0.0, 0, 0, border=8)
    assert windows.shape == (8, 80, 48, 3)
    assert labels.tolist() == [1] * 4 + [0] * 4
    assert offsets[:4].all() and not offsets[4:].any()
