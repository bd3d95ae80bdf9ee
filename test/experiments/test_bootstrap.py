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


def test_the_permutation_test_over_photos() -> None:
    """Ten photos whose differences have one sign: two of the 2 ** 10 choices of signs are as far from zero."""
    photos = [str(i) for i in range(10)]
    assert bootstrap.paired_p(np.ones(10), photos) == pytest.approx(2 / 2**10, abs=1e-3)
    # Two windows of one photo have one sign: as if there were five.
    assert bootstrap.paired_p(np.ones(10), [str(i // 2) for i in range(10)]) == pytest.approx(2 / 2**5, abs=0.01)
    assert bootstrap.paired_p([1.0, -1.0], ["a", "b"]) == 1.0


def test_what_was_not_measured_is_no_number() -> None:
    assert str(bootstrap.NOT_MEASURED) == bootstrap.NOT_MEASURED.percent == "—"
    assert bootstrap.Estimate(0.5, 0.25, 1.0).percent == "50 % (25 to 100)"


def test_a_ratio_is_of_the_sums() -> None:
    found = bootstrap.ratio([1, 3], [2, 2], ["a", "b"])
    assert (found.value, found.low, found.high) == (1.0, 0.5, 1.5)
    assert str(found) == "1.00 (0.50 to 1.50)"
