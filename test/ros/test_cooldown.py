"""The minimum time between two explanations, by a clock that is set while it runs."""

from __future__ import annotations

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
