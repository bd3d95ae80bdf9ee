"""The tiles of a cell."""

from __future__ import annotations

import pytest

from explain_cnn_ros.draw import tiles
from explain_cnn_ros.draw.canvas import line_height


@pytest.mark.parametrize("count", [1, 2, 5, 7])
@pytest.mark.parametrize(("width", "height"), [(140, 125), (1000, 800), (60, 700), (20, 20)])
def test_tiles_fit_their_cell(count, width, height):
    columns, rows, side = tiles._grid(count, width, height)
    label = line_height(tiles.TILE_TEXT) + 4
    assert columns * rows >= count and 1 <= side <= tiles.TILE_MAX
    if side > 1:
        assert columns * (side + tiles.TILE_GAP) - tiles.TILE_GAP <= width
        assert rows * (side + label + tiles.TILE_GAP) - tiles.TILE_GAP <= height
