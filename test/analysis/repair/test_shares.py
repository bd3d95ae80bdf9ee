"""The share of a training that a repair takes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from explain_cnn_ros.analysis.repair import shares
from explain_cnn_ros.analysis.repair.labelled import LabelledWindow
from explain_cnn_ros.analysis.repair.shares import SHARES, TriedShare, best_share, divide, try_shares
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.training.data import TrainingData
from explain_cnn_ros.training.evaluation import accuracy, probabilities

BLACK = np.zeros((160, 96, 3), np.uint8)


def data_of(persons: int, backgrounds: int) -> TrainingData:
    return TrainingData(
        images=SimpleNamespace(),
        persons=[BLACK + i for i in range(persons)],
        backgrounds=[BLACK + 100 + i for i in range(backgrounds)],
        threshold_photos=[],
        test_photos=[BLACK],
        description="drawn",
    )


def values(windows: list[np.ndarray]) -> list[int]:
    return [int(window[0, 0, 0]) for window in windows]


def test_halves_share_no_window() -> None:
    comparing, proving = divide(data_of(5, 4))
    assert (values(comparing.persons), values(proving.persons)) == ([0, 1, 2], [3, 4])
    assert (values(comparing.backgrounds), values(proving.backgrounds)) == ([100, 101], [102, 103])
    assert len(proving.test_photos) == 1


def test_a_single_window_is_in_both_halves() -> None:
    comparing, proving = divide(data_of(1, 2))
    assert values(comparing.persons) == values(proving.persons) == [0]
    assert values(comparing.backgrounds) != values(proving.backgrounds)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # No share loses anything. Two of them repair most, and the smaller one is taken.
        ([(0.25, 0.2, 1.0, 0.95), (0.5, 0.8, 1.0, 0.95), (1.0, 0.8, 1.0, 0.95)], 0.5),
        # The larger shares repair more, but they decide old windows wrongly.
        ([(0.25, 0.6, 1.0, 0.95), (0.5, 0.9, 1.0, 0.94), (1.0, 1.0, 1.0, 0.9)], 0.25),
        # Right windows that become wrong count as well.
        ([(0.25, 0.6, 1.0, 0.96), (1.0, 0.7, 0.8, 0.97)], 0.25),
        # Every share decides old windows wrongly, so the smallest one is taken.
        ([(0.25, 0.1, 1.0, 0.93), (1.0, 1.0, 1.0, 0.94)], 0.25),
        # All learned windows were wrong before, or all were right.
        ([(0.25, 0.5, None, 0.95), (1.0, 0.75, None, 0.95)], 1.0),
        ([(0.25, None, 0.9, 0.95), (1.0, None, 0.75, 0.95)], 0.25),
    ],
)
def test_the_best_share_loses_nothing(
    rows: list[tuple[float, float | None, float | None, float]], expected: float
) -> None:
    before = TriedShare(0.0, 0.0, 1.0, 0.95)
    assert best_share([before, *(TriedShare(*row) for row in rows)]) == expected


def test_figures_are_those_of_each_network(thin_classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks give random P(person) to eight windows of two frames. The expected figures are computed here."""
    rng = np.random.default_rng(0)
    threshold, data = 0.5, data_of(6, 8)
    frames = []
    for number in range(2):
        image = rng.integers(0, 256, (128, 256, 3), np.uint8)
        regions = [Region(64 * i, 0, 64, 128, 0.5) for i in range(4)]
        windows = [
            LabelledWindow("a", number, 0, i, region, person=i % 2 == 0, wrong=False)
            for i, region in enumerate(regions)
        ]
        frames.append((image, windows))
    person = np.array([w.person for _, windows in frames for w in windows])
    flags = {share: rng.random(len(person)) for share in SHARES}
    networks = {}
    for share, found in flags.items():

        def probability(windows: np.ndarray, found: np.ndarray = found) -> np.ndarray:
            assert windows.shape[1:] == (64, 32, 3)
            return found if len(windows) == len(person) else np.linspace(0, 1, len(windows), dtype=np.float32)

        networks[share] = SimpleNamespace(info=thin_classifier.info, probability=probability)
    trained = object()

    def blended(before: object, after: object, share: float) -> SimpleNamespace:
        assert before is networks[0.0] and after is trained
        return networks[share]

    monkeypatch.setattr(shares, "blended", blended)
    result = try_shares(networks[0.0], trained, frames, data, threshold)
    assert [one.share for one in result] == list(SHARES)
    was_right = (flags[0.0] >= threshold) == person
    for one in result:
        right = (flags[one.share] >= threshold) == person
        assert one.fixed == pytest.approx(right[~was_right].mean())
        assert one.kept == pytest.approx(right[was_right].mean())
        of_old = [probabilities(networks[one.share], images) for images in (data.persons, data.backgrounds)]
        assert one.old == pytest.approx(accuracy(*of_old, threshold)["balanced_accuracy"])
