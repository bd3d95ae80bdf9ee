"""Influence with the shipped weights, on windows of the sample recording."""

from __future__ import annotations

import numpy as np
from explain_kit import sample_windows

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import SUPPORTING
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier


def test_agrees_with_exact_silencing_on_a_person_and_beside_one() -> None:
    """Random neurons of two layers, and those that influence selects, are silenced one by one."""
    classifier = PersonClassifier.load(device="cpu")
    explainer = Explainer(classifier, ExplainSettings.preset("live", layers=(5, 9)))
    rng = np.random.default_rng(0)
    decisions = []
    for window in sample_windows():
        ranked = explainer.rank(window)
        decisions.append(ranked.evidence.person)
        for layer in (5, 9):
            chosen = rng.permutation(explainer.adapter.layers[layer].channels)[:40].tolist()
            # The most influential neurons must be among them.
            chosen = list(dict.fromkeys([*ranked.channels[SUPPORTING, layer], *chosen]))
            outputs = explainer.silence(ranked, [{}, *({layer: [c]} for c in chosen)]).outputs
            falls = outputs[0] - np.array(outputs[1:])
            predicted = ranked.scores[SUPPORTING, layer].double().numpy()[chosen]
            assert np.corrcoef(predicted, falls)[0, 1] >= 0.98
    assert decisions == [True, False]
