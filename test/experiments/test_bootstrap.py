"""Means, ratios and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from explain_cnn_ros.experiments import bootstrap


def test_interval_of_many_photos_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = bootstrap.mean(values, [str(i) for i in range(400)])
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.1 * half)


def test_windows_of_a_photo_count_as_one() -> None:
    """Ten copies of each window do not narrow the interval."""
    values, photos = np.random.default_rng(0).normal(5, 2, 30), [str(i) for i in range(30)]
    one, ten = bootstrap.mean(values, photos), bootstrap.mean(np.repeat(values, 10), list(np.repeat(photos, 10)))
    assert (ten.value, ten.low, ten.high) == pytest.approx((one.value, one.low, one.high))


def test_a_ratio_is_of_the_sums() -> None:
    found = bootstrap.ratio([1, 3], [2, 2], ["a", "b"])
    assert (found.value, found.low, found.high) == (1.0, 0.5, 1.5)
    assert str(found) == "1.00 (0.50 to 1.50)"
