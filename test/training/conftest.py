"""Small networks for trainings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from explain_cnn_ros.model import network


@pytest.fixture(scope="module")
def thin_channels() -> Iterator[None]:
    """All networks that the tests of a module build or load have few channels; the dense layers need 512."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "CHANNELS", (8, 12, 16, 16, 512))
        yield
