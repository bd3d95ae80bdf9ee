"""The measures of localization, compared with counting pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain_cnn_ros.experiments.localization import localization

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
    found = localization(patches, [person] * len(patches))
    assert (found.touching, found.pointing, found.patches) == (np.mean(touching), np.mean(pointing), len(patches))
    assert found.inside == pytest.approx(np.mean(inside))
