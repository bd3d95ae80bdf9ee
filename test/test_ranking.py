"""Student's t; the rest of `ranking` is tested through explanations, against numpy."""

from __future__ import annotations

import pytest

from explain_cnn_ros.ranking import student_t_quantile


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [(0.975, 3, 3.18245), (0.975, 9, 2.26216), (0.95, 9, 1.83311), (0.975, 99, 1.98422), (0.75, 5, 0.726687)],
)
def test_students_t_as_in_tables(probability: float, degrees: int, expected: float) -> None:
    assert student_t_quantile(probability, degrees) == pytest.approx(expected, rel=1e-4)
