"""The schedule of a recording: the order of messages and /clock, gaps, and jumps of the log time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest.importorskip("rclpy")

from explain_cnn_ros.bags.reader import Message
from explain_cnn_ros.ros.playback.schedule import Pace, Schedule, duration

SECOND = 10**9


def messages(*seconds: float) -> list[Message]:
    return [Message("/log", round(s * SECOND), "std_msgs/msg/String", b"") for s in seconds]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the monotonic clock shows."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_no_drift(now: list[float]) -> None:
    """The due time depends on the start alone, however late earlier messages were."""
    pace = Pace(start=5 * SECOND, rate=2.0)
    assert pace.left(7 * SECOND) == pytest.approx(1.0)
    now[0] += 30.0
    assert pace.left(7 * SECOND) == pytest.approx(-29.0)
    assert pace.left(67 * SECOND) == pytest.approx(1.0)
    assert Pace(start=0, rate=0).left(10**18) == 0.0


def due(
    stamps: Sequence[float], now: list[float], gap_max: float = 60.0, start: float = 0.0
) -> tuple[list[float], list[str]]:
    """Play at speed 1 by the clock of the test; return the times of the messages in seconds, and the reports."""
    reports: list[str] = []
    schedule = Schedule(round(start * SECOND), 1.0, 0.0, gap_max, reports.append)
    began = now[0]
    times = []
    for stamp, _ in schedule.events(messages(*stamps)):
        now[0] += max(schedule.left(stamp), 0.0)
        times.append(round(now[0] - began, 6))
    return times, reports


def test_messages_are_due_as_recorded(now: list[float]) -> None:
    assert due([0, 0.5, 0.5, 60.5], now) == ([0, 0.5, 0.5, 60.5], [])
    assert due([10, 11], now, start=10) == ([0, 1], [])


@pytest.mark.parametrize("gap", [61.0, 1e9])
def test_a_long_gap_is_skipped(now: list[float], gap: float) -> None:
    times, reports = due([0, 1, 1 + gap, 2 + gap], now)
    assert times == [0, 1, 1, 2]
    assert reports == [f"skipping {duration(gap)} without messages after 1.0 s"]


def test_a_gap_before_the_first_message_is_skipped(now: list[float]) -> None:
    """The first message of the chosen topics may be late in the recording."""
    assert due([100, 101], now)[0] == [0, 1]


def test_the_log_time_jumps_back(now: list[float]) -> None:
    """A clock that was set in between: the messages after it keep their distances."""
    times, reports = due([0, 1, 2, -3600, -3599], now)
    assert times == [0, 1, 2, 2, 3]
    assert reports == ["the log time jumps back by 60.0 minutes after 2.0 s: playing on without a pause"]


def test_overlapping_files_are_no_jump(now: list[float]) -> None:
    assert due([0, 1, 2, 1.5, 2.5], now) == ([0, 1, 2, 2, 2.5], [])


def test_the_clock_leaves_out_what_is_skipped() -> None:
    schedule = Schedule(0, 1.0, 2.0, 60.0, lambda text: None)
    events = [(stamp / SECOND, message is None) for stamp, message in schedule.events(messages(0, 1.2, 1e9, 1e9 + 0.6))]
    ticks = [seconds for seconds, is_tick in events if is_tick]
    assert ticks == [0, 0.5, 1.0, 1e9, 1e9 + 0.5]
    assert [seconds for seconds, is_tick in events if not is_tick] == [0, 1.2, 1e9, 1e9 + 0.6]
    assert schedule.played == pytest.approx(1.8)


def test_the_clock_at_any_rate_has_a_step() -> None:
    schedule = Schedule(0, 1e-9, 10_000.0)
    assert [message is None for _, message in schedule.events(messages(0, 2e-9))] == [True, False, True, True, False]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.5, "1.5 s"), (600, "10.0 minutes"), (7200, "2.0 hours"), (864000, "10.0 days"), (1e9, "31.7 years")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text
