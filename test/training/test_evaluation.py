"""Accuracy and threshold by hand."""

from __future__ import annotations

import numpy as np

from explain_cnn_ros.training.evaluation import accuracy, choose_threshold


def test_accuracy_by_hand():
    persons, backgrounds = np.array([0.9, 0.4, 0.5, 0.8]), np.array([0.1, 0.6])
    assert accuracy(persons, backgrounds, 0.5) == {
        "persons_right": 0.75,
        "backgrounds_right": 0.5,
        "balanced_accuracy": 0.625,
    }


def test_threshold_lets_through_what_is_allowed():
    maxima = np.arange(100) / 100
    threshold = choose_threshold(maxima, 0.02)
    assert (maxima >= threshold).sum() == 2
    assert choose_threshold(np.zeros(10), 0.02) == 0.5
    assert choose_threshold(np.ones(10), 0.02) == 0.99
