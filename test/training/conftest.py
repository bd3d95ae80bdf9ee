"""Small networks and data for trainings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from training_kit import draw_data

from explain_cnn_ros.model import network


@pytest.fixture(scope="module")
def thin_channels() -> Iterator[None]:
    """All networks that the tests of a module build or load have few channels; the dense layers need 512."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "CHANNELS", (8, 12, 16, 16, 512))
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small data set, which tests must not modify; see `draw_data`."""
    root = tmp_path_factory.mktemp("data")
    draw_data(root)
    return root
