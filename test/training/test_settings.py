"""The learning rate, and the seed."""

from __future__ import annotations

import pytest

from explain_cnn_ros.training.settings import TrainSettings


def test_learning_rate_of_main_training_and_rounds():
    settings = TrainSettings(small_steps=40, steps=100, warm_up=10, round_steps=50, round_rate=0.2, learning_rate=1.0)
    for first, length in ((0, 40), (40, 100)):
        assert settings.rate(first) == pytest.approx(0.1)
        assert settings.rate(first + 10) > 0.8
        assert settings.rate(first + length - 1) < 0.02
    assert max(settings.rate(step) for step in range(140, 190)) <= 0.2
    assert settings.rate(140) == settings.rate(190)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed is -1: it must be at least 0"):
        TrainSettings(seed=-1)
