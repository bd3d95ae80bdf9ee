"""Recurring neurons."""

from __future__ import annotations

import numpy as np

from explain_cnn_ros.analysis.recurrence import Selections


def test_the_neuron_that_marks_errors_comes_first() -> None:
    """One neuron comes with errors, and 200 others come at random."""
    rng, selections = np.random.default_rng(1), Selections()
    for frame in range(200):
        attention = frame % 4 == 0
        selections.frames[attention] += 1
        for channel in range(200):
            if rng.random() < 0.3:
                selections.add("m", 5, "conv3_1", channel, attention)
        if rng.random() < (0.9 if attention else 0.2):
            selections.add("m", 7, "conv3_3", 11, attention)
    first, second, *_ = found = selections.recurring("m", 10)
    assert (first.layer, first.layer_name, first.channel) == (7, "conv3_3", 11)
    assert (first.attention_frames, first.confident_frames) == (50, 150)
    assert first.low > 2.5 > second.low
    assert len(found) == 10
    assert [r.low for r in found] == sorted((r.low for r in found), reverse=True)
    assert selections.recurring("other", 10) == []
