"""Tests of the soak: its robust fit, its verdicts, its requests, and a short simulated day."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools import soak, soak_verdict
from tools.processes import own_domain
from tools.soak_verdict import Record, Sample, rise, verdict

ROOT = Path(__file__).parents[1]

#: An hour of samples, one every 5 s.
HOUR = [5.0 * i for i in range(720)]


def samples(own: Callable[[float], float], threads: Callable[[float], int] = lambda _: 24) -> list[Sample]:
    """An hour whose own memory and threads are functions of the time in seconds."""
    return [Sample(s, own(s) + 400, own(s) + 100, own(s), threads(s), 25, {"classified": int(s)}) for s in HOUR]


def rests(own: Callable[[float], float]) -> list[Sample]:
    """A cleanup every five minutes for an hour."""
    return [Sample(s, own(s) + 400, own(s) + 100, own(s), 20, 25) for s in range(300, 3600, 300)]


def good_record() -> Record:
    """The record of a run in which everything is as it should be."""
    return Record(
        samples=samples(lambda _: 1000.0),
        rest=rests(lambda s: 576.0 + 2 * (s % 600 > 0) - 90 * (s < 600)),
        warm_up=600.0,
        asked={"explain": 3},
        accepted={"explain": 2},
        status=0,
        end_seconds=1.0,
    )


def findings_of(record: Record) -> dict[str, bool | None]:
    return {finding.name: finding.passed for finding in verdict(record)}


# The fit.


def test_the_slope_is_the_median_of_all_slopes() -> None:
    """Three minutes with one value each: slopes of 60, 150 and 240 per hour."""
    fit = rise([30.0, 90.0, 150.0], [10.0, 11.0, 15.0])
    assert fit.per_hour == pytest.approx(150.0)
    assert (fit.low, fit.high) == (pytest.approx(60.0), pytest.approx(240.0))
    assert fit.minutes == 3


def test_a_minute_counts_by_its_median() -> None:
    hours, values = soak_verdict.minute_medians([0.0, 10.0, 20.0, 61.0], [5.0, 900.0, 6.0, 7.0])
    assert hours == [pytest.approx(10 / 3600), pytest.approx(61 / 3600)]
    assert values == [6.0, 7.0]


def test_too_few_values_have_no_slope() -> None:
    assert math.isnan(rise([], []).per_hour)
    assert math.isnan(rise([1.0, 2.0], [3.0, 4.0]).per_hour)


@pytest.mark.parametrize("slope", [0.0, 12.0, -30.0])
def test_the_fit_finds_the_slope_below_noise_and_transitions(slope: float) -> None:
    """Every 3 minutes, memory is much lower for 20 s, since the node is cleaned up."""
    noise = random.Random(0)
    values = [1000 + slope * s / 3600 + noise.gauss(0, 3) - (400 if s % 180 < 20 else 0) for s in HOUR]
    fit = rise(HOUR, values)
    assert fit.low <= slope <= fit.high
    assert fit.per_hour == pytest.approx(slope, abs=3)


def test_levels_that_last_for_minutes_widen_the_interval() -> None:
    """In 40 hours without a trend, whose levels last 10 minutes, at least 85 % of the intervals include 0."""
    draw = np.random.default_rng(0)
    included = widths = narrow = 0.0
    for _ in range(40):
        levels = draw.normal(0, 20, 6).repeat(120) + draw.normal(0, 1, 720)
        fit = rise(HOUR, levels.tolist())
        white = rise(HOUR, draw.permutation(levels).tolist())
        included += fit.low <= 0 <= fit.high
        widths, narrow = widths + fit.high - fit.low, narrow + white.high - white.low
    assert included >= 34
    assert widths > 3 * narrow


def test_identical_values_do_not_rise() -> None:
    fit = rise(HOUR, [7.0] * len(HOUR))
    assert (fit.per_hour, fit.low, fit.high) == (0, 0, 0)


# The verdict.


def test_a_good_run_passes() -> None:
    assert all(findings_of(good_record()).values())


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"died": True, "status": 1}, {"alive", "end"}),
        ({"unanswered": [("explain", 12.0)]}, {"answers"}),
        ({"mistakes": ["NaN was granted"]}, {"sense"}),
        ({"never_accepted": ["image"]}, {"sense"}),
        ({"tracebacks": 1}, {"tracebacks"}),
        ({"status": -9}, {"end"}),
        ({"end_seconds": 3.5}, {"end"}),
        ({"samples": samples(lambda s: 1000 + 30 * s / 3600)}, {"memory"}),
        ({"rest": rests(lambda s: 562 + 119 * s / 3600)}, {"memory at rest"}),
        ({"samples": samples(lambda s: 1000.0, lambda s: 24 + int(s // 180))}, {"threads"}),
    ],
)
def test_each_fault_fails(changes: dict[str, Any], failed: set[str]) -> None:
    record = dataclasses.replace(good_record(), **changes)
    assert {name for name, passed in findings_of(record).items() if passed is False} == failed


def test_a_node_that_stops_working_fails() -> None:
    """It answers, its memory is flat, and it ends as it should, but it is inactive for good."""

    def stopped(seconds: float) -> list[Sample]:
        hour = good_record().samples
        return [dataclasses.replace(s, counts={"classified": int(min(s.seconds, seconds))}) for s in hour]

    for after, passed in ((0.0, False), (2900.0, False), (3200.0, True)):
        found = findings_of(dataclasses.replace(good_record(), samples=stopped(after)))
        assert found["work"] is passed
        assert all(value for name, value in found.items() if name != "work")


def test_the_text_names_what_was_not_answered() -> None:
    record = dataclasses.replace(good_record(), unanswered=[("explain: image", 12.0)])
    (answers,) = [finding for finding in verdict(record) if finding.name == "answers"]
    assert answers.text == "2 of 3 requests were answered; not answered: explain: image at 12 s"


def test_a_rise_below_the_limit_or_within_the_noise_passes() -> None:
    noise = random.Random(0)
    slow = samples(lambda s: 1000 + 10 * s / 3600)
    unsure = samples(lambda s: 1000 + 25 * s / 3600 + noise.gauss(0, 300))
    assert rise(HOUR, [sample.own for sample in unsure]).low < 0
    for found in (slow, unsure):
        assert findings_of(dataclasses.replace(good_record(), samples=found))["memory"]


def test_the_warm_up_does_not_count() -> None:
    record = dataclasses.replace(
        good_record(), samples=samples(lambda s: 1000 + min(s, 600.0), lambda s: 1 + (s > 300))
    )
    assert all(findings_of(record).values())


def test_short_runs_have_no_verdict_about_memory() -> None:
    record = dataclasses.replace(good_record(), samples=samples(lambda s: s)[:190])
    assert findings_of(record)["memory"] is None
    record = dataclasses.replace(good_record(), samples=[])
    assert [findings_of(record)[name] for name in ("memory", "threads", "descriptors")] == [None] * 3


def test_few_cleanups_give_no_verdict() -> None:
    few = good_record().rest[: soak_verdict.REST_MIN]
    soon = [dataclasses.replace(sample, seconds=sample.seconds / 10) for sample in good_record().rest]
    for rest in (few, soon):
        assert findings_of(dataclasses.replace(good_record(), rest=rest))["memory at rest"] is None


def test_the_figures_are_json() -> None:
    record = good_record()
    figures = json.loads(json.dumps(soak_verdict.as_json(record, verdict(record)), allow_nan=False))
    assert figures["verdict"]["memory"]["passed"] is True
    assert figures["unanswered"] == []


@pytest.mark.parametrize(("passed", "status"), [((True, None), 0), ((True, False), 1), ((), 0)])
def test_the_exit_status_follows_the_verdict(passed: tuple[bool | None, ...], status: int) -> None:
    assert soak.print_verdict([soak_verdict.Finding("part", value, "") for value in passed]) == status


# The parts of the command.


def test_the_ledger_counts_answers_and_mistakes() -> None:
    times = itertools.count(0.0, 10.0)
    ledger = soak.Ledger(lambda: next(times))
    numbers = [ledger.ask("bad", False), ledger.ask("good", True), ledger.ask("either", None), ledger.ask("bad", False)]
    ledger.answer(numbers[0], False, True, "so it said")
    ledger.answer(numbers[2], None, False)
    ledger.answer(numbers[3], False, False)
    record = Record()
    ledger.write_to(record)
    assert (record.asked, record.accepted) == (
        {"bad": 2, "good": 1, "either": 1},
        {"bad": 1, "either": 0},
    )
    assert record.unanswered == [("good", 10.0)]
    assert record.mistakes == ["bad was granted at 40 s so it said"]
    assert record.never_accepted == [], "one request may have come while the node was inactive"
    assert (ledger.asked, ledger.answered) == (4, 3)


def test_a_transition_that_is_refused_is_a_mistake() -> None:
    """An earlier request of the same kind that was granted does not hide the refusal."""
    ledger, record = soak.Ledger(lambda: 40.0), Record()
    for granted in (True, False):
        ledger.answer(ledger.ask("transition: 3", True), True, granted, "not now")
        ledger.answer(ledger.ask("explain", True), True, granted)
    ledger.write_to(record)
    assert record.mistakes == ["transition: 3 was refused at 40 s not now"]


def test_good_requests_of_which_none_is_granted_are_named() -> None:
    ledger, record = soak.Ledger(lambda: 0.0), Record()
    for kind in ("never", "once") * soak.GOOD_MIN:
        ledger.answer(ledger.ask(kind, True), True, False)
    ledger.answer(ledger.ask("once", True), True, True)
    ledger.write_to(record)
    assert record.never_accepted == ["never"]


def test_this_process_is_measured() -> None:
    sample = soak.measure(os.getpid(), 3.0, {"classified": 4})
    with Path(os.devnull).open(), Path(os.devnull).open():
        assert soak.measure(os.getpid(), 3.0, {}).descriptors == sample.descriptors + 2
    assert sample.rss >= sample.own > 1
    assert sample.pss > 1
    assert sample.threads >= 1
    assert sample.counts == {"classified": 4}


def test_files_are_written_at_once(tmp_path: Path) -> None:
    output = soak.Output(tmp_path / "new")
    output.write(Sample(1.0, 2.0, 3.0, 4.004, 5, 6, {"classified": 7}))
    output.write_figures({"first": 1})
    output.write_figures({"second": 2})
    with (tmp_path / "new/soak.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "seconds": "1.0",
        "rss": "2.0",
        "pss": "3.0",
        "own": "4.0",
        "threads": "5",
        "descriptors": "6",
        "classified": "7",
    }
    assert json.loads(output.json.read_text()) == {"second": 2}
    assert not list((tmp_path / "new").glob("*.partial"))
    output.close()


def test_a_third_of_a_short_run_is_warm_up() -> None:
    assert soak.warm_up(60.0) == pytest.approx(20.0)
    assert soak.warm_up(3600.0) == soak.WARM_UP_MAX


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf"])
def test_durations_are_positive(text: str) -> None:
    with pytest.raises(SystemExit):
        soak.parse(["--minutes", text])


def test_odd_frames_are_what_they_are_called() -> None:
    """The malformed ones are rejected, and the others are decoded."""
    requests = pytest.importorskip("tools.soak_requests")
    from explain_cnn_ros.bags.image_messages import ImageError, to_rgb

    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)

    def rejected(frames: dict[str, Any]) -> set[str]:
        names = set()
        for name, message in frames.items():
            try:
                assert to_rgb(message).ndim == 3
            except ImageError:
                names.add(name)
        return names

    raw, compressed = requests.raw_frames(frame), requests.compressed_frames(frame)
    assert rejected(raw) == set(raw) - {
        "grey",
        "Bayer",
        "depth",
        "floats with NaN",
        "big-endian",
        "padded rows",
        "one pixel",
        "one row",
    }
    decoded = set(compressed) - rejected(compressed)
    assert decoded >= {"JPEG as PNG", "PNG", "grey JPEG", "hostile format"}
    assert not decoded & {"nothing", "no image", "beginning of a JPEG", "JPEG of 32000 x 32000", "compressed depth"}


def test_no_odd_request_finalizes_the_node() -> None:
    requests = pytest.importorskip("tools.soak_requests")
    from lifecycle_msgs.msg import Transition

    asked = {ask.request.transition.id for ask in requests.odd_requests() if ask.service == "change_state"}
    allowed = {
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
        Transition.TRANSITION_INACTIVE_SHUTDOWN,
        Transition.TRANSITION_ACTIVE_SHUTDOWN,
    }
    assert asked
    assert not asked & allowed


def test_what_responses_grant() -> None:
    requests = pytest.importorskip("tools.soak_requests")
    from rcl_interfaces.msg import SetParametersResult
    from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
    from std_srvs.srv import SetBool

    results = [SetParametersResult(successful=True), SetParametersResult(successful=False)]
    assert not requests.granted(SetParameters.Response(results=results))
    assert requests.granted(SetParameters.Response(results=results[:1]))
    assert not requests.granted(SetParametersAtomically.Response(result=results[1]))
    assert not requests.granted(SetBool.Response(success=False))
    assert requests.granted(SetBool.Response(success=True))
    assert requests.granted(GetParameters.Response())


# The simulated day.

#: Frames of a short day: 7 minutes.
SHORT = 12_000


@pytest.fixture
def day() -> Any:
    return pytest.importorskip("tools.soak_day")


def test_nothing_grows_in_a_short_day(day: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings = day.simulate(tmp_path, SHORT)
    assert [finding.passed for finding in findings] == [True] * 3, capsys.readouterr().out
    figures = json.loads((tmp_path / "soak_day.json").read_text())
    assert len(figures["measurements"]) == day.MEASUREMENTS
    counts = figures["counts"]
    assert SHORT * 0.98 < counts["received"] < SHORT
    # Everything that may happen in a day does.
    assert all(counts[f"rejected: {reason}"] for reason in day.REASONS)
    assert counts["explanations refused"] and counts["explanations queued"] and counts["explained"]
    assert counts["detections matched"] and counts["detections skipped"]
    assert counts["subscriptions"] > 3
    assert counts["log messages"] > 24


@pytest.mark.parametrize("leak", ["values", "kinds"])
def test_a_leak_is_found(day: Any, monkeypatch: pytest.MonkeyPatch, leak: str) -> None:
    """Values that are never forgotten, and a count of its own for each frame that is dropped."""
    from explain_cnn_ros.ros.statistics import RecentValues, Statistics

    if leak == "values":
        monkeypatch.setattr(RecentValues, "_forget", lambda self: None)
        # Percentiles of a growing number of values take long.
        monkeypatch.setattr(RecentValues, "percentile", lambda self, share: 0.0)
    else:
        numbers, count = itertools.count(), Statistics.count
        monkeypatch.setattr(Statistics, "count", lambda self, name: count(self, f"{name} {next(numbers)}"))
        monkeypatch.setattr(day.DayOfFrames, "_report", lambda self: None)
    findings = day.judge(day.DayOfFrames(SHORT // 2).run(lambda line: None))
    passed = {finding.name: finding.passed for finding in findings}
    assert not passed["objects"]
    assert not passed["elements"]


@pytest.mark.parametrize(("interrupted", "passed"), [(3, None), (9, True)])
def test_an_interrupted_day_has_a_verdict_if_it_was_long_enough(
    day: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    interrupted: int,
    passed: Any,
) -> None:
    measure, numbers = day.DayOfFrames._measure, itertools.count(1)

    def interrupt(self: Any, number: int) -> Any:
        if next(numbers) > interrupted:
            raise KeyboardInterrupt
        return measure(self, number)

    monkeypatch.setattr(day.DayOfFrames, "_measure", interrupt)
    findings = day.simulate(tmp_path, SHORT)
    assert [finding.passed for finding in findings] == [passed] * 3
    figures = json.loads((tmp_path / "soak_day.json").read_text())
    assert figures["frames"] == SHORT // day.MEASUREMENTS * (interrupted + 1)
    assert len(figures["measurements"]) == interrupted
    printed = capsys.readouterr().out
    assert "interrupted: the verdict is about the frames until now" in printed
    assert f"{figures['frames']:,} frames in" in printed
    assert time.monotonic() < day.BEGIN, "the clock is that of the system again"


def test_elements_of_containers_are_counted(day: Any) -> None:
    from explain_cnn_ros.ros.requests import RequestQueue

    assert day.elements([1, (2, 3)], {"a": [4, 5]}) == 2 + 2 + 1 + 2
    cycle: list[Any] = [1]
    cycle.append(cycle)
    assert day.elements(cycle) == 2
    queue: Any = RequestQueue(4)
    before = day.elements(queue)
    queue._waiting.extend([1, 2, 3])
    assert day.elements(queue) == before + 3


def test_domains_are_not_shared() -> None:
    with own_domain() as first, own_domain() as second:
        assert first != second
