"""The colours of the layers."""

from __future__ import annotations

import numpy as np
import pytest

from explain_cnn_ros.draw.style import LAYER_STYLES, layer_style


def test_colours_are_those_of_figure_4_and_all_distinct():
    channel = {layer: int(np.argmax(layer_style(layer).colour)) for layer in range(3, 10)}
    assert channel == {3: 0, 4: 0, 5: 1, 6: 1, 7: 1, 8: 2, 9: 2}
    assert len({style.colour for style in LAYER_STYLES}) == len(LAYER_STYLES)
    assert {layer_style(layer).width for layer in (3, 5, 8)} == {1, 2, 3}
    with pytest.raises(ValueError, match="layer 0"):
        layer_style(0)
