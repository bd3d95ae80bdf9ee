"""The strips with the headline and the legend."""

from __future__ import annotations

import numpy as np
from draw_kit import everything, explanation, picture, plain

from explain_cnn_ros.draw.legend import LegendEntry
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.draw.strips import STRIP_SHARE_MAX, _flow
from explain_cnn_ros.explain.metrics import PAPER_METRICS


def test_decision_trigger_and_threshold_show_in_the_headline():
    high, low = explanation(), explanation(threshold=0.99)
    pictures = [
        draw_overlay(plain(), high, keep_size=True),
        draw_overlay(plain(), low, keep_size=True),
        draw_overlay(plain(), high, keep_size=True, trigger="low_confidence"),
        draw_overlay(plain(), high, keep_size=True, trigger="service"),
    ]
    tops = {drawn[:25].tobytes() for drawn in pictures}
    assert len(tops) == len(pictures)


def test_text_lies_only_on_strips():
    frame = picture()
    drawn = draw_overlay(frame, everything(), PAPER_METRICS, keep_size=True, trigger="x" * 500)
    changed = (drawn != frame).any(2)
    rows = np.flatnonzero(changed[:, 10:150].any(1))
    above, below = rows[rows < 240], rows[rows >= 240]
    assert above.max() + 1 <= STRIP_SHARE_MAX * 480 and above.size == above.max() + 1
    assert below.min() >= 480 - STRIP_SHARE_MAX * 480


def test_entry_that_is_too_wide_is_shortened():
    entries = [
        LegendEntry("a text that is far too long for this strip" * 2, (9, 9, 9), short="short"),
        LegendEntry("x" * 99),
    ]
    rows = _flow(entries, 16, 200)
    assert [[entry.text for _, entry in row] for row in rows] == [["short"]]
    assert [[entry.text for _, entry in row] for row in _flow(entries[:1], 16, 2000)] == [[entries[0].text]]
