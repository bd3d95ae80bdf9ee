"""Training windows: their position and their degradation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from explain_cnn_ros.training.augmentation import (
    Placement,
    background_window,
    centred,
    cut,
    degrade,
    fits_data,
    like_person_window,
    person_window,
)

SIZE = (64, 128)
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (160, 96, 3), np.uint8)


def test_cut_without_zoom_is_a_slice():
    window = cut(NOISE, (48, 80), 128, SIZE, mirror=False)
    assert np.array_equal(window, NOISE[16:144, 16:80])


def test_cut_mirrored():
    """Column j shows what lies as far on the other side of the centre."""
    window = cut(NOISE, (48, 80), 128, SIZE, mirror=True)
    assert np.array_equal(window, NOISE[16:144, 80:16:-1])


def test_cut_repeats_the_edge():
    window = cut(NOISE, (48, 150), 128, SIZE, mirror=False)
    assert np.array_equal(window[-40:], np.repeat(NOISE[-1:, 16:80], 40, 0))


def test_cut_of_a_large_photo_does_not_alias():
    """A checkerboard of single pixels becomes grey, not another checkerboard."""
    board = ((np.indices((1280, 640)).sum(0) % 2) * 255).astype(np.uint8)
    window = cut(np.repeat(board[:, :, None], 3, 2), (320, 640), 1280, SIZE, mirror=False)
    assert abs(window.astype(int) - 127).max() <= 2


def test_centred_is_the_middle():
    assert np.array_equal(centred(NOISE, SIZE), NOISE[16:144, 16:80])
    window = np.ascontiguousarray(NOISE[:128, :64])
    assert np.array_equal(centred(window, SIZE), window)


def test_a_person_stays_in_the_window():
    """A dot in the middle of the person is always inside, mirrored or not, and moves about."""
    image = np.zeros((160, 96, 3), np.uint8)
    image[76:84, 44:52] = 255
    places = []
    for seed in range(200):
        placement = Placement.draw(np.random.default_rng(seed))
        window = person_window(image, SIZE, placement)
        assert window.shape == (128, 64, 3)
        bright = np.argwhere(window[:, :, 0] > 128)
        assert len(bright)
        places.append(bright.mean(0))
        # The person's position according to the offset, in pixels of the window.
        right, below, size = np.array(placement.offset()) * (128 / 16, 128 / 16, 0.15)
        # Whole pixels are bright or not, and mirrored windows lie one to the side.
        assert places[-1] == pytest.approx((63.5 + below, 31.5 + right), abs=1.6)
        assert np.ptp(bright[:, 0]) + 1 == pytest.approx(8 * math.exp(size), abs=1.5)
    spread = np.ptp(np.array(places), axis=0)
    assert spread[0] > 20
    assert spread[1] > 16


@pytest.mark.parametrize("shape", [(128, 64), (300, 400), (90, 384), (128, 65)])
def test_background_windows_of_any_photo(shape):
    photo = RNG.integers(0, 256, (*shape, 3), np.uint8)
    for seed in range(50):
        assert background_window(photo, SIZE, np.random.default_rng(seed)).shape == (128, 64, 3)


def test_degrading_keeps_the_shape_and_sometimes_makes_grey():
    grey = 0
    for seed in range(100):
        window = degrade(NOISE[:128, :64], np.random.default_rng(seed))
        assert window.shape == (128, 64, 3)
        assert window.dtype == np.uint8
        grey += np.ptp(window.astype(int).reshape(-1, 3).mean(0)) < 1 and bool(
            abs(window[..., 0].astype(int) - window[..., 1]).mean() < 30
        )
    assert 5 < grey < 95


def test_windows_that_inria_fills():
    assert fits_data((64, 128)) and fits_data((32, 64))
    assert not any(map(fits_data, ((96, 192), (128, 128), (64, 64), (128, 64))))


def repeated(window) -> float:
    """Return the share of columns and rows that equal their neighbours."""
    same = (np.diff(window.astype(int), axis=1) == 0).all((0, 2)).sum(), (np.diff(window.astype(int), axis=0) == 0)
    return same[0] / window.shape[1] + same[1].all((1, 2)).sum() / window.shape[0]


def test_edges_of_large_and_square_windows_do_not_reveal_the_class():
    """Backgrounds of photos repeat as many edges as persons, whose windows have no more surroundings in the data."""
    photo = RNG.integers(0, 256, (300, 400, 3), np.uint8)
    size = (128, 128)
    shares = {"persons": [], "like them": [], "plain": []}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shares["persons"].append(repeated(person_window(NOISE, size, Placement.draw(rng))))
        shares["like them"].append(repeated(like_person_window(photo, size, rng)))
        shares["plain"].append(repeated(background_window(photo, size, rng)))
    means = {name: np.mean(values) for name, values in shares.items()}
    assert means["persons"] > 0.2
    assert means["like them"] == pytest.approx(means["persons"], abs=0.05)
    assert means["plain"] < 0.1


@pytest.mark.parametrize("shape", [(128, 64), (300, 400), (90, 384)])
def test_windows_like_those_of_persons_of_any_photo(shape):
    photo = RNG.integers(0, 256, (*shape, 3), np.uint8)
    for border in (0, 8):
        window = like_person_window(photo, (96, 192), np.random.default_rng(0), border)
        assert window.shape == (192 + 2 * border, 96 + 2 * border, 3)


def test_a_square_window_shows_the_middle_of_a_person_window():
    """The person has the same share of the height, and the data's surroundings are on both sides."""
    window = person_window(NOISE, (128, 128), Placement(0.0, 0.0, 128.0, False))
    assert np.array_equal(window[:, 16:112], NOISE[16:144])
    assert np.array_equal(window[:, :16], np.repeat(NOISE[16:144, :1], 16, 1))
