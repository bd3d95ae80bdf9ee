"""Hard negatives of networks without a dense pass: windows that the proposer proposes and the network confirms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks_kit import small_classifier, small_network

from explain_cnn_ros.model.weights_file import shipped_proposer
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training import hard_negatives
from explain_cnn_ros.training.hard_negatives import mine


@pytest.fixture
def classifier() -> PersonClassifier:
    made = small_classifier(small_network("residual", torch.float32))
    made.proposer = shipped_proposer()
    return made


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (180, 240, 3), np.uint8)


def test_the_best_windows_of_each_photo(classifier, monkeypatch):
    """All proposed windows are judged; the ones of highest P(person) stay."""
    monkeypatch.setattr(hard_negatives, "PROPOSED_MARGIN_MIN", -100.0)
    judged = []
    real = classifier.probability

    def probability(windows):
        judged.append((windows, real(windows)))
        return judged[-1][1]

    monkeypatch.setattr(classifier, "probability", probability)
    found = mine(classifier, [photo(0), photo(1)], ScanSettings(), np.random.default_rng(0), probability_min=0.0)
    assert [len(p) for _, p in judged] == [hard_negatives.PROPOSED_MAX] * 2
    expected = [windows[i] for windows, p in judged for i in np.argsort(-p)[:4]]
    assert np.array_equal(found, expected)
    assert found[0].shape == (32, 40, 3)


def test_windows_that_the_network_rejects_are_none(classifier, monkeypatch):
    monkeypatch.setattr(hard_negatives, "PROPOSED_MARGIN_MIN", -100.0)
    assert mine(classifier, [photo(0)], ScanSettings(), np.random.default_rng(0), probability_min=1.01) == []


def test_without_a_proposer_nothing_can_be_searched(classifier):
    classifier.proposer = None
    with pytest.raises(ValueError, match="there is no proposer"):
        mine(classifier, [photo(0)], ScanSettings(), np.random.default_rng(0))
