"""The report of the node on /diagnostics."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.time import Time

from explain_cnn_ros.draw.captions import probability_text
from explain_cnn_ros.ros.detections import DetectionSource
from explain_cnn_ros.ros.problems import CLASSIFICATION, EXPLANATIONS, IMAGES, Problem
from explain_cnn_ros.ros.source import ImageSource
from explain_cnn_ros.ros.statistics import Statistics
from explain_cnn_ros.ros.worker import Worker

#: Prefix of the counts of rejected frames.
REJECTED = "rejected: "

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def report(
    name: str,
    now: Time,
    state: str,
    enabled: bool,
    source: ImageSource,
    detections: DetectionSource,
    statistics: Statistics,
    worker: Worker | None,
    summary: str = "",
    problems: Sequence[Problem] = (),
    failure: str = "",
) -> DiagnosticArray:
    """Make a report of four statuses: images, classification, explanations and device.

    Args:
        name: Name of the node, with its namespace.
        now: Time of the report.
        state: State of the life cycle.
        enabled: Whether classification is enabled.
        source: The source of the images.
        detections: The source of the detections.
        statistics: Statistics of the node.
        worker: The worker; None if no network is loaded.
        summary: The last explanation in words; "" if there is none.
        problems: The problems with images, with the node in the graph, and with explanations.
        failure: The transition that failed, and why; "" if none did, or if the node works again.
    """
    of_part = {part: [p for p in problems if p.part == part] for part in (IMAGES, CLASSIFICATION, EXPLANATIONS)}
    array = DiagnosticArray()
    array.header.stamp = now.to_msg()
    counts = statistics.counts
    array.status = [
        _images(name, source, detections, statistics, counts, of_part[IMAGES]),
        _classification(name, state, enabled, statistics, counts, of_part[CLASSIFICATION], failure),
        _explanations(name, statistics, counts, worker, summary, of_part[EXPLANATIONS]),
        _device(name, worker),
    ]
    return array


def _with(problems: Sequence[Problem], level: bytes, text: str) -> tuple[bytes, str]:
    """Return the level and the text of a status with problems. Problems replace the text of a status that is OK."""
    texts = [problem.text for problem in problems]
    if all(problem.note for problem in problems):
        return level, "; ".join([text, *texts])
    return (WARN, "; ".join(texts)) if level == OK else (level, "; ".join([text, *texts]))


def _images(
    name: str,
    source: ImageSource,
    detections: DetectionSource,
    statistics: Statistics,
    counts: dict[str, int],
    problems: Sequence[Problem],
) -> DiagnosticStatus:
    rejected = {key.removeprefix(REJECTED): n for key, n in sorted(counts.items()) if key.startswith(REJECTED)}
    level, text = OK, f"{statistics.rate('received'):.1f} frames/s"
    if not source.active:
        text = "not active"
    elif statistics.rate("rejected"):
        level, text = WARN, f"frames are rejected: {', '.join(f'{why} {n}' for why, n in rejected.items())}"
    level, text = _with(problems, level, text)
    return _status(
        f"{name}: images",
        level,
        text,
        [
            ("topic", source.topic),
            ("reliability", source.reliability or "not subscribed"),
            ("received", counts.get("received", 0)),
            ("rate (1/s)", statistics.rate("received")),
            ("lost on the way (%)", 100 * statistics.lost),
            ("age at arrival, median (ms)", 1e3 * statistics.percentile("received", 0.5)),
            ("rejected", sum(rejected.values())),
            *((f"rejected: {why}", n) for why, n in rejected.items()),
            *(_detections(detections, counts) if detections.wanted else ()),
        ],
    )


def _detections(source: DetectionSource, counts: dict[str, int]) -> list[tuple[str, object]]:
    """Return the values about the detections."""
    matched = source.matcher.counts
    return [
        ("topic of the detections", source.topic),
        ("type of the detections", source.type or "not subscribed"),
        ("with detections", matched["matched"]),
        ("waiting for detections", source.matcher.waiting),
        ("skipped, without detections", matched["skipped"]),
        ("detections that came too late", matched["late"]),
        ("detections without an image", matched["unmatched"]),
        ("boxes refused", counts.get("boxes refused", 0)),
    ]


def _classification(
    name: str,
    state: str,
    enabled: bool,
    statistics: Statistics,
    counts: dict[str, int],
    problems: Sequence[Problem],
    failure: str,
) -> DiagnosticStatus:
    level, text = OK, f"{statistics.rate('classified'):.1f} decisions/s"
    if failure:
        level, text = ERROR, f"{failure}; the node is {state}: remove the cause, and repeat the transition"
    elif statistics.rate("failed"):
        level, text = ERROR, "classifications or explanations fail: the log has the reasons"
    elif state != "active":
        text = f"the node is {state}"
    elif not enabled:
        text = "disabled by ~/set_enabled"
    level, text = _with(problems, level, text)
    return _status(
        f"{name}: classification",
        level,
        text,
        [
            ("state", state),
            ("enabled", str(enabled).lower()),
            ("classified", counts.get("classified", 0)),
            ("rate (1/s)", statistics.rate("classified")),
            ("dropped, since a newer frame came", counts.get("dropped", 0)),
            ("failed", counts.get("failed", 0)),
            *_percentiles(statistics, "latency", "from arrival to decision"),
            *_percentiles(statistics, "classified", "of the decision itself"),
            ("P(person), median", _probability(statistics.percentile("probability", 0.5))),
        ],
    )


def _explanations(
    name: str,
    statistics: Statistics,
    counts: dict[str, int],
    worker: Worker | None,
    summary: str,
    problems: Sequence[Problem],
) -> DiagnosticStatus:
    live = statistics.rate("live")
    text = f"{counts.get('explained', 0)} explained in total" + (f", {live:.1f} live/s" if live else "")
    return _status(
        f"{name}: explanations",
        *_with(problems, OK, text),
        [
            ("explained", counts.get("explained", 0)),
            ("waiting", worker.waiting if worker is not None else 0),
            ("joined to one that waited", counts.get("explanations joined", 0)),
            ("refused, since too many waited", counts.get("explanations refused", 0)),
            ("seconds, median", statistics.percentile("explained", 0.5)),
            ("live, rate (1/s)", live),
            ("live, age at publication, median (ms)", 1e3 * statistics.percentile("live age", 0.5)),
            ("live, duration, median (ms)", 1e3 * statistics.percentile("live", 0.5)),
            ("last", summary or "-"),
        ],
    )


def _device(name: str, worker: Worker | None) -> DiagnosticStatus:
    values: list[tuple[str, object]] = [
        ("resident memory (MiB)", resident_memory() / 2**20),
    ]
    if worker is None:
        return _status(f"{name}: device", OK, "no network is loaded", values)
    classifier = worker.classifier
    values += [("model", classifier.model_hash), ("architecture", classifier.info.architecture)]
    if classifier.device.type == "cuda":
        values += [
            ("GPU", torch.cuda.get_device_name(classifier.device)),
            ("GPU memory in use (MiB)", torch.cuda.memory_allocated(classifier.device) / 2**20),
        ]
    else:
        values.append(("threads", torch.get_num_threads()))
    return _status(f"{name}: device", OK, str(classifier.device), values)


def resident_memory() -> float:
    """Return the resident memory of this process in bytes; NaN if the system does not report it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, IndexError):
        return math.nan


def _percentiles(statistics: Statistics, name: str, what: str) -> list[tuple[str, object]]:
    return [
        (f"{label} {what} (ms)", 1e3 * statistics.percentile(name, share))
        for label, share in (("median", 0.5), ("95 %", 0.95), ("maximum", 1.0))
    ]


def _probability(value: float) -> str:
    return "-" if math.isnan(value) else probability_text(value)


def _status(name: str, level: bytes, text: str, values: Sequence[tuple[str, object]]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name=name,
        message=text,
        values=[KeyValue(key=key, value=_text(value)) for key, value in values],
    )


def _text(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
