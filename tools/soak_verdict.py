"""Figures of a soak, and the verdict about them: what was answered, how the node ended, and whether anything grows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Maximum rise of the node's own memory, in MB per hour. At this rise, a field day of ten hours adds 200 MB, which a
#: robot has to spare. At 30 frames per second, it is 185 bytes per frame; with an explanation every 4 seconds, it is
#: 22 kB per explanation. A leak of one frame (0.9 MB) or of the message of an explanation is larger.
RISE_MAX = 20.0

#: Maximum rise of the numbers of threads and of file descriptors, from the first third of the run to the last one. They
#: have no noise except for threads that libraries start late, and for clients that come and go. A leak of one per
#: transition or per explanation is larger within an hour.
COUNT_RISE_MAX = 3

#: Minimum number of minutes, after the warm-up, for a verdict about the memory.
MINUTES_MIN = 10

#: Minimum number of cleanups, after the first one, for a verdict about the memory at rest.
REST_MIN = 5

#: Time within which the node must classify a frame, in seconds. It is inactive for some seconds in each cycle.
WORK_MAX = 600.0

#: Maximum time from SIGINT to the end of the node, in seconds.
END_MAX = 3.0

#: Quantile of the normal distribution for intervals of 95 %.
Z95 = 1.96


@dataclass(frozen=True)
class Sample:
    """The state of the node at one moment. Memory is in MB (10^6 bytes).

    Attributes:
        seconds: Time since the beginning of the soak.
        rss: Resident memory.
        pss: Resident memory, where pages that several processes share count in part.
        own: Resident memory without pages of files: what the node has allocated, and shared memory.
        threads: Number of threads.
        descriptors: Number of open file descriptors.
        counts: Counts from the node's report on /diagnostics, and numbers of requests and answers, by name.
    """

    seconds: float
    rss: float
    pss: float
    own: float
    threads: int
    descriptors: int
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rise:
    """A robust linear trend.

    Attributes:
        per_hour: The rise per hour; NaN if there are fewer than two values.
        low: Lower end of the interval of 95 %.
        high: Upper end of the interval of 95 %.
        minutes: Number of minutes that were used.
    """

    per_hour: float
    low: float
    high: float
    minutes: int


@dataclass(frozen=True)
class Finding:
    """One part of the verdict.

    Attributes:
        name: Name of the part.
        passed: Whether it is as it should be; None if that is not known.
        text: The figures.
    """

    name: str
    passed: bool | None
    text: str


@dataclass
class Record:
    """Everything that the verdict needs.

    Attributes:
        samples: The samples, in the order of time.
        rest: Samples at rest: the node has been cleaned up for some seconds, so that it has no network and no work.
        warm_up: Time at the beginning that the rise of memory is not fitted to, in seconds.
        asked: Number of requests by kind.
        accepted: Number of requests that were granted, by kind.
        unanswered: Kind and time (in seconds) of the requests that were not answered.
        mistakes: Descriptions of answers that are wrong: bad requests that were granted, and transitions that were
            refused.
        never_accepted: Kinds of good requests of which none was granted.
        died: Whether the node ended before it was interrupted.
        status: Exit status of the node; None before its end.
        end_seconds: Time from SIGINT to the end of the node, in seconds; NaN before its end.
        tracebacks: Number of tracebacks in the node's log.
    """

    samples: list[Sample] = field(default_factory=list)
    rest: list[Sample] = field(default_factory=list)
    warm_up: float = 0.0
    asked: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    unanswered: list[tuple[str, float]] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    never_accepted: list[str] = field(default_factory=list)
    died: bool = False
    status: int | None = None
    end_seconds: float = math.nan
    tracebacks: int = 0


def minute_medians(seconds: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the median time, in hours, and the median value of each minute that has values."""
    minutes: dict[int, list[tuple[float, float]]] = {}
    for second, value in zip(seconds, values, strict=True):
        minutes.setdefault(int(second // 60), []).append((second, value))
    groups = [list(zip(*minutes[minute], strict=True)) for minute in sorted(minutes)]
    return [statistics.median(group[0]) / 3600 for group in groups], [statistics.median(group[1]) for group in groups]


def rise(seconds: Sequence[float], values: Sequence[float]) -> Rise:
    """Fit a robust line to the medians of the minutes.

    The slope is the median of the slopes between all pairs (Theil 1950). The interval is that of Sen (1968), with the
    variance of Kendall's S multiplied by (1 + r) / (1 - r) for residuals with a correlation of r from minute to minute
    (Yue and Wang 2004). Memory stays at a level for minutes, so that the interval would be too narrow without this.

    Args:
        seconds: Times, in seconds; ascending.
        values: The values.
    """
    hours, medians = (np.array(found) for found in minute_medians(seconds, values))
    count = len(hours)
    if count < 2:
        return Rise(math.nan, math.nan, math.nan, count)
    first, second = np.triu_indices(count, 1)
    slopes = np.sort((medians[second] - medians[first]) / (hours[second] - hours[first]))
    slope = float(np.median(slopes))
    residuals = medians - slope * hours
    residuals -= residuals.mean()
    power = float(residuals @ residuals)
    correlation = min(max(float(residuals[1:] @ residuals[:-1]) / power, 0.0), 0.95) if power else 0.0
    variance = count * (count - 1) * (2 * count + 5) / 18 * (1 + correlation) / (1 - correlation)
    reach = Z95 * math.sqrt(variance)
    low = max(0, math.floor((len(slopes) - reach) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + reach) / 2))
    return Rise(slope, float(slopes[low]), float(slopes[high]), count)


def verdict(record: Record) -> list[Finding]:
    """Return the parts of the verdict."""
    asked, lost = sum(record.asked.values()), record.unanswered
    missing = "".join(f"; not answered: {kind} at {seconds:.0f} s" for kind, seconds in lost[:10])
    return [
        Finding("alive", not record.died, "the node ended by itself" if record.died else "the node lived to the end"),
        Finding("answers", not lost, f"{asked - len(lost)} of {asked} requests were answered{missing}"),
        Finding("sense", not (record.mistakes or record.never_accepted), _sense(record)),
        work(record.samples),
        Finding("tracebacks", not record.tracebacks, f"{record.tracebacks} tracebacks in the node's log"),
        _end(record),
        memory(record.samples, record.warm_up),
        at_rest(record.rest),
        counts("threads", record.samples, [sample.threads for sample in record.samples], record.warm_up),
        counts("descriptors", record.samples, [sample.descriptors for sample in record.samples], record.warm_up),
    ]


def _sense(record: Record) -> str:
    wrong = [*record.mistakes[:10], *(f"{kind} was never granted" for kind in record.never_accepted)]
    return "; ".join(wrong) or "bad requests were refused, good ones were granted"


def work(samples: Sequence[Sample]) -> Finding:
    """Return the verdict about whether the node has classified frames all the time.

    Args:
        samples: The samples, in the order of time.
    """
    if not samples:
        return Finding("work", None, "there are no samples")
    longest, since, last = 0.0, samples[0].seconds, samples[0].counts.get("classified", 0)
    for sample in samples[1:]:
        longest = max(longest, sample.seconds - since)
        if sample.counts.get("classified", 0) > last:
            since, last = sample.seconds, sample.counts["classified"]
    text = f"{last} frames were classified; {longest:.0f} s at most without one (limit {WORK_MAX:g})"
    return Finding("work", last > 0 and longest <= WORK_MAX, text)


def _end(record: Record) -> Finding:
    if record.status is None:
        return Finding("end", None, "the node has not been interrupted yet")
    passed = record.status == 0 and record.end_seconds <= END_MAX
    text = f"status {record.status} after SIGINT within {record.end_seconds:.1f} s (limits: 0, {END_MAX:g} s)"
    return Finding("end", passed and not record.died, text)


def memory(samples: Sequence[Sample], warm_up: float) -> Finding:
    """Return the verdict about the memory.

    Memory grows if it rises by more than RISE_MAX per hour and the interval of the rise does not include 0.

    Args:
        samples: The samples, in the order of time.
        warm_up: Time at the beginning that is left out, in seconds.
    """
    late = [sample for sample in samples if sample.seconds >= warm_up]
    if not late:
        return Finding("memory", None, "the run has ended within the warm-up: no verdict")
    fit = rise([sample.seconds for sample in late], [sample.own for sample in late])
    levels = ", ".join(
        f"{name} {getattr(late[0], key):.0f} MB first, {getattr(late[-1], key):.0f} MB last, "
        f"{max(getattr(sample, key) for sample in late):.0f} MB at most"
        for name, key in (("RSS", "rss"), ("PSS", "pss"), ("own", "own"))
    )
    if fit.minutes < 2:
        return Finding("memory", None, f"the run is too short for a verdict; {levels}")
    text = (
        f"own memory rises by {fit.per_hour:.1f} MB per hour (95 %: {fit.low:.1f} to {fit.high:.1f}; minutes "
        f"{late[0].seconds / 60:.1f} to {late[-1].seconds / 60:.1f}; limit {RISE_MAX:g}); {levels}"
    )
    if fit.minutes < MINUTES_MIN:
        return Finding("memory", None, f"{text}; no verdict, since {MINUTES_MIN} minutes after the warm-up are needed")
    return Finding("memory", not (fit.per_hour > RISE_MAX and fit.low > 0), text)


def at_rest(samples: Sequence[Sample]) -> Finding:
    """Return the verdict about what the node keeps when it has been cleaned up.

    The memory of an active node varies by hundreds of MB from minute to minute, so that a slow leak disappears in it.
    At rest, it varies by some MB. It grows if it rises by more than RISE_MAX per hour and the interval of the rise does
    not include 0. The first sample is left out: libraries keep what they have loaded.

    Args:
        samples: The samples at rest, in the order of time.
    """
    name, late = "memory at rest", samples[1:]
    if len(late) < REST_MIN or late[-1].seconds - late[0].seconds < 60 * MINUTES_MIN:
        needed = f"{REST_MIN} cleanups after the first one, over {MINUTES_MIN} minutes, are needed"
        return Finding(name, None, f"no verdict, since {needed}")
    fit = rise([sample.seconds for sample in late], [sample.own for sample in late])
    levels = ", ".join(f"{sample.own:.0f}" for sample in samples)
    text = (
        f"it rises by {fit.per_hour:.1f} MB per hour (95 %: {fit.low:.1f} to {fit.high:.1f}; limit {RISE_MAX:g}); "
        f"{levels} MB after the cleanups"
    )
    return Finding(name, not (fit.per_hour > RISE_MAX and fit.low > 0), text)


def counts(name: str, samples: Sequence[Sample], values: Sequence[int], warm_up: float) -> Finding:
    """Return the verdict about numbers that should stay the same.

    They grow if the median of the last third is larger than that of the first third by more than COUNT_RISE_MAX.

    Args:
        name: Name of the number.
        samples: The samples, in the order of time.
        values: The number at each of the samples.
        warm_up: Time at the beginning that is left out, in seconds.
    """
    late = [value for sample, value in zip(samples, values, strict=True) if sample.seconds >= warm_up]
    if not late:
        return Finding(name, None, "the run has ended within the warm-up: no verdict")
    third = max(1, len(late) // 3)
    growth = statistics.median(late[-third:]) - statistics.median(late[:third])
    text = f"{late[0]} first, {late[-1]} last, {max(late)} at most"
    return Finding(
        name, growth <= COUNT_RISE_MAX, f"{text}; {growth:+g} between the medians of thirds (limit {COUNT_RISE_MAX})"
    )


def as_json(record: Record, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the figures for a JSON file."""
    last = record.samples[-1] if record.samples else None
    return {
        "seconds": last.seconds if last else 0.0,
        "warm_up_seconds": record.warm_up,
        "asked": record.asked,
        "granted": record.accepted,
        "unanswered": record.unanswered,
        "counts": last.counts if last else {},
        "verdict": {finding.name: {"passed": finding.passed, "text": finding.text} for finding in findings},
    }
