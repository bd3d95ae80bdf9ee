"""The measures of localization, compared with counting pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain_cnn_ros.experiments.localization import compare, localization

boxes = st.tuples(st.integers(-5, 60), st.integers(-5, 120), st.integers(1, 40), st.integers(1, 60))


@given(st.lists(boxes, min_size=1, max_size=6), boxes)
def test_measures_by_counting_pixels(
    patches: list[tuple[int, int, int, int]], person: tuple[int, int, int, int]
) -> None:
    canvas = np.zeros((260, 160), bool)
    px, py, pw, ph = person
    canvas[py + 20 : py + ph + 20, px + 20 : px + pw + 20] = True
    touching, inside, pointing = [], [], []
    for x, y, w, h in patches:
        part = canvas[y + 20 : y + h + 20, x + 20 : x + w + 20]
        touching.append(part.any())
        inside.append(part.mean())
        pointing.append(px <= x + w / 2 < px + pw and py <= y + h / 2 < py + ph)
    found = compare(patches, [person] * len(patches))
    assert (found.touching.tolist(), found.pointing.tolist()) == (touching, pointing)
    assert found.inside.tolist() == pytest.approx(inside)


def test_means_over_patches_and_intervals_over_photos() -> None:
    """Two photos have two patches each. Only the patches of the first photo touch the person."""
    person, touching, other = (10.0, 10.0, 20.0, 20.0), (12.0, 12.0, 4.0, 4.0), (40.0, 40.0, 4.0, 4.0)
    found = localization([touching, touching, other, other], [person] * 4, ["a", "a", "b", "b"])
    assert found.patches == 4
    for measure in (found.touching, found.inside, found.pointing):
        assert (measure.value, measure.low, measure.high) == (0.5, 0.0, 1.0)
    alike = localization([touching, other, touching, other], [person] * 4, ["a", "a", "b", "b"])
    assert (alike.touching.low, alike.touching.high) == (0.5, 0.5)
    assert math.isnan(localization([], [], []).touching.value)
