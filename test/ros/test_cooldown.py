"""The minimum time between two explanations, by a clock that is set while it runs."""

from __future__ import annotations

from pathlib import Path

import explain_cnn_ros
from explain_cnn_ros.ros.cooldown import Cooldown


def test_it_is_over_after_its_time() -> None:
    now = [7 * 10**9]
    cooldown = Cooldown(lambda: now[0])
    assert cooldown.over(3.0), "nothing has happened"
    cooldown.begin()
    assert [cooldown.over(3.0), cooldown.over(0.0)] == [False, True]
    now[0] += 3 * 10**9 - 1
    assert not cooldown.over(3.0)
    now[0] += 1
    assert cooldown.over(3.0)


def test_a_clock_that_was_set_back_ends_it() -> None:
    """Otherwise, nothing would be explained until the clock has caught up, which may take an hour."""
    now = [10_000 * 10**9]
    cooldown = Cooldown(lambda: now[0])
    cooldown.begin()
    now[0] -= 3600 * 10**9
    assert cooldown.over(3.0)
    cooldown.begin()
    assert not cooldown.over(3.0)


def test_it_can_be_forgotten() -> None:
    cooldown = Cooldown(lambda: 0)
    cooldown.begin()
    assert not cooldown.over(3.0)
    cooldown.reset()
    assert cooldown.over(3.0)


def test_events_are_throttled() -> None:
    now = [7 * 10**9]
    cooldown = Cooldown(lambda: now[0])
    happened = []
    for _ in range(7):
        happened.append(cooldown.begin_if_over(2.0))
        now[0] += 10**9
    assert happened == [True, False] * 3 + [True]


def test_the_clock_of_the_log_is_never_set() -> None:
    """rclpy throttles by the system's clock: after it was set back by hours, nothing is logged for hours."""
    cooldown = Cooldown()
    assert cooldown.begin_if_over(3600.0)
    assert not cooldown.begin_if_over(3600.0)
    assert cooldown.begin_if_over(0.0)
    sources = [path for path in Path(explain_cnn_ros.__file__).parent.rglob("*.py") if path.name != "cooldown.py"]
    assert not [path.name for path in sources if "throttle_duration_sec" in path.read_text(encoding="utf-8")]
