"""The proof of a repair: the same windows, decided by the network before and after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.intervals import mcnemar, wilson
from explain_cnn_ros.analysis.repair.crops import cut_out
from explain_cnn_ros.analysis.repair.labelled import LabelledWindow
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.data import TrainingData
from explain_cnn_ros.training.evaluation import accuracy, probabilities, scan_maxima

#: Maximum p value of a difference that counts as proved.
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Judged:
    """A window, decided by two networks.

    Attributes:
        window: The window.
        before: P(person) by the network before the repair.
        after: P(person) by the network after it.
    """

    window: LabelledWindow
    before: float
    after: float


@dataclass(frozen=True)
class Count:
    """A number of windows out of others.

    Attributes:
        count: The number.
        of: Number of all of them.
        low: Lower end of the 95 % confidence interval of the share (Wilson 1927).
        high: Upper end of the interval.
    """

    count: int
    of: int
    low: float
    high: float

    @classmethod
    def from_flags(cls, flags: Iterable[bool]) -> Count:
        """Count the flags that are true."""
        found = [bool(flag) for flag in flags]
        return cls(sum(found), len(found), *wilson(sum(found), len(found)))

    @property
    def text(self) -> str:
        """The number in words, with the interval in percent."""
        return f"{self.count} of {self.of} ({self.low:.0%} to {self.high:.0%})" if self.of else "none"


@dataclass(frozen=True)
class WindowProof:
    """The changes that a repair makes in the decisions about a set of windows.

    Attributes:
        fixed: Windows that become right, of those that were wrong.
        broken: Windows that become wrong, of those that were right.
        fixed_alarms: The same as `fixed`, of false alarms only.
        fixed_missed: The same, of missed persons only.
        broken_alarms: The same as `broken`, of windows without a person only: they become false alarms.
        broken_missed: The same, of windows with a person only: they become missed persons.
        by_cause: The same as `fixed` for each cause, by its number.
    """

    fixed: Count
    broken: Count
    fixed_alarms: Count
    fixed_missed: Count
    broken_alarms: Count
    broken_missed: Count
    by_cause: dict[int, Count]

    @property
    def harms(self) -> bool:
        """Whether more windows are broken than fixed."""
        return self.broken.count > self.fixed.count

    @property
    def p_value(self) -> float:
        """The probability of a difference at least as large by chance; see `intervals.mcnemar`."""
        return mcnemar(self.fixed.count, self.broken.count)

    @property
    def proves_benefit(self) -> bool:
        """Whether more windows are fixed than broken, with p < SIGNIFICANT in McNemar's exact test."""
        return is_benefit(self.fixed.count, self.broken.count)


def is_benefit(fixed: int, broken: int) -> bool:
    """Return whether more windows are fixed than broken, with p < SIGNIFICANT in McNemar's exact test.

    Args:
        fixed: Number of windows whose decision becomes right.
        broken: Number of windows whose decision becomes wrong.
    """
    return fixed > broken and mcnemar(fixed, broken) < SIGNIFICANT


def judge(
    networks: Sequence[PersonClassifier], frames: Iterable[tuple[NDArray[np.uint8], Sequence[LabelledWindow]]]
) -> list[Judged]:
    """Decide windows by the network before a repair and by the one after it.

    Args:
        networks: The two networks. Their windows have the same size.
        frames: Frames, uint8 [H, W, 3] RGB, each with its windows.
    """
    before, after = networks
    judged = []
    for image, windows in frames:
        pixels = cut_out(image, windows, before.info.input_size)
        both = before.probability(pixels), after.probability(pixels)
        judged += [Judged(w, float(b), float(a)) for w, b, a in zip(windows, *both, strict=True)]
    return judged


def window_proof(judged: Sequence[Judged], thresholds: tuple[float, float]) -> WindowProof:
    """Count what a repair changes.

    Args:
        judged: The windows.
        thresholds: Thresholds of the network before and after the repair.
    """
    wrong: list[tuple[LabelledWindow, bool]] = []
    right: list[tuple[LabelledWindow, bool]] = []
    for one in judged:
        before, after = (
            (p >= threshold) == one.window.person
            for p, threshold in zip((one.before, one.after), thresholds, strict=True)
        )
        if before:
            right.append((one.window, not after))
        else:
            wrong.append((one.window, after))
    causes = sorted({window.cause for window, _ in wrong if window.cause is not None})
    return WindowProof(
        fixed=Count.from_flags(fixed for _, fixed in wrong),
        broken=Count.from_flags(broken for _, broken in right),
        fixed_alarms=Count.from_flags(fixed for window, fixed in wrong if not window.person),
        fixed_missed=Count.from_flags(fixed for window, fixed in wrong if window.person),
        broken_alarms=Count.from_flags(broken for window, broken in right if not window.person),
        broken_missed=Count.from_flags(broken for window, broken in right if window.person),
        by_cause={n: Count.from_flags(fixed for window, fixed in wrong if window.cause == n) for n in causes},
    )


def old_figures(
    classifier: PersonClassifier, data: TrainingData, threshold: float, search: ScanSettings
) -> dict[str, Any]:
    """Return the figures of a network on the held-out part of the data that it was trained on.

    Args:
        classifier: The network.
        data: The data of its training.
        threshold: The decision is "person" if P(person) is at least this.
        search: Settings with which the photos are searched.

    Returns:
        The accuracy on windows of persons and of backgrounds at the threshold and their mean, and the share of
        person-free photos with an alarm; all with their numbers.
    """
    persons, backgrounds = (probabilities(classifier, images) for images in (data.persons, data.backgrounds))
    figures: dict[str, Any] = dict(accuracy(persons, backgrounds, threshold))
    figures |= {"persons": len(persons), "backgrounds": len(backgrounds)}
    if data.test_photos:
        maxima = scan_maxima(classifier, data.test_photos, "held-out photos", search)
        figures |= {"photos_with_alarm": float((maxima >= threshold).mean()), "photos": len(maxima)}
    return figures
