"""Detections, missed persons and false alarms."""

from __future__ import annotations

from pathlib import Path

import pytest

from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.training.detection import (
    Matches,
    PersonLabel,
    intersection_over_union,
    match,
    read_labels,
    standard_aspect,
)


def region(x, y, height, probability=0.9):
    """A region whose person box is `height` tall, at (x, y)."""
    window_height, person_width = height / 0.75, height * 0.41
    window_width = window_height / 2
    return Region(
        round(x - (window_width - person_width) / 2),
        round(y - (window_height - height) / 2),
        round(window_width),
        round(window_height),
        probability,
    )


def test_intersection_over_union():
    assert intersection_over_union((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert intersection_over_union((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert intersection_over_union((0, 0, 10, 10), (10, 0, 10, 10)) == 0


def test_standard_aspect_keeps_centre_and_height():
    assert standard_aspect((10, 20, 60, 100)) == pytest.approx((19.5, 20, 41, 100))


def test_a_person_is_found_once():
    labels = [PersonLabel((100, 100, 41, 100), False)]
    found = match([region(100, 100, 100), region(103, 102, 100, 0.8)], labels)
    assert found == Matches(persons=1, found=1, false_alarms=1, frames=1)


def test_missed_and_false():
    labels = [PersonLabel((100, 100, 41, 100), False), PersonLabel((300, 100, 41, 100), False)]
    found = match([region(100, 100, 100), region(500, 100, 100)], labels)
    assert found == Matches(persons=2, found=1, false_alarms=1, frames=1)
    assert found.recall == 0.5


def test_ignored_persons_count_neither_way():
    labels = [PersonLabel((100, 100, 41, 100), True)]
    assert match([region(100, 100, 100)], labels) == Matches(0, 0, 0, 1)
    assert match([], labels) == Matches(0, 0, 0, 1)


def test_the_better_region_takes_the_person():
    labels = [PersonLabel((100, 100, 41, 100), False), PersonLabel((125, 100, 41, 100), False)]
    found = match([region(112, 100, 100, 0.7), region(100, 100, 100, 0.9)], labels)
    assert found.found == 2


def test_matches_add_up():
    total = Matches(2, 1, 3, 1) + Matches(2, 2, 0, 1)
    assert total == Matches(4, 3, 3, 2)
    assert (total.recall, total.false_alarms_per_frame) == (0.75, 1.5)


def test_the_committed_labels():
    labels = read_labels(Path(__file__).parents[1] / "data/street_labels.csv")
    assert len(labels) == 40
    persons = [label for frame in labels.values() for label in frame]
    assert (sum(not p.ignore for p in persons), sum(p.ignore for p in persons)) == (225, 34)
    for label in persons:
        x, y, width, height = label.box
        assert 0 <= x < x + width <= 768
        assert 0 <= y < y + height <= 576
        assert label.ignore or height >= 50
