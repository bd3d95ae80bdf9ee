"""The queue of what is to be explained."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("rclpy")

from std_msgs.msg import Header

from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.ros.newest import NewestSlot
from explain_cnn_ros.ros.requests import LISTENERS_MAX, ClassifiedFrame, ExplainRequest, RequestQueue
from explain_cnn_ros.scan.decider import Decision


def frame() -> ClassifiedFrame:
    decision = Decision((Region(0, 0, 2, 2, 0.5),), 0.5, False)
    return ClassifiedFrame(Header(), np.zeros((2, 2, 3), np.uint8), decision, "0123456789ab", 0.01)


def request(source: ClassifiedFrame, told: list[str] | None = None, **changes) -> ExplainRequest:
    values = {"settings": ExplainSettings(), "region": None, "trigger": "service"} | changes
    heard = [] if told is None else [lambda _, reason: told.append(reason)]
    return ExplainRequest(source, listeners=heard, **values)


def test_first_come_first_served_and_no_more_than_fit() -> None:
    queue = RequestQueue(2)
    one, two, three = (request(frame()) for _ in range(3))
    assert [queue.put(r) for r in (one, two, three)] == ["queued", "queued", "refused"]
    assert len(queue) == 2
    assert queue.take() is one
    assert queue.put(three) == "queued"
    assert [queue.take(), queue.take()] == [two, three]


def test_the_same_again_gets_the_same_answer() -> None:
    queue, shown, told = RequestQueue(1), frame(), []
    assert queue.put(request(shown, told)) == "queued"
    assert queue.put(request(shown, told)) == "joined"
    waiting = queue.take()
    assert waiting is not None
    waiting.done(None, "why")
    assert told == ["why", "why"]


def test_callers_in_a_loop_do_not_fill_the_memory() -> None:
    queue, shown, told = RequestQueue(1), frame(), []
    answers = [queue.put(request(shown, told)) for _ in range(LISTENERS_MAX + 2)]
    assert answers == ["queued", *["joined"] * (LISTENERS_MAX - 1), "refused", "refused"]
    waiting = queue.take()
    assert waiting is not None
    waiting.done(None, "why")
    assert told == ["why"] * LISTENERS_MAX
    assert queue.put(request(shown, told)) == "queued"


@pytest.mark.parametrize(
    "changes",
    [{"settings": ExplainSettings(top_n=3)}, {"region": Region(0, 0, 1, 1, 0)}, {"trigger": "low_confidence"}],
)
def test_something_else_of_the_same_frame_is_something_else(changes) -> None:
    queue, shown = RequestQueue(2), frame()
    assert queue.put(request(shown)) == "queued"
    assert queue.put(request(shown, **changes)) == "queued"


def test_another_frame_is_something_else() -> None:
    queue = RequestQueue(2)
    assert [queue.put(request(frame())) for _ in range(2)] == ["queued", "queued"]


def test_closing_wakes_the_taker_and_hands_back_what_waited() -> None:
    queue, taken = RequestQueue(2), []
    thread = threading.Thread(target=lambda: taken.append(queue.take()))
    thread.start()
    assert queue.close("enough") == []
    thread.join(100)
    assert taken == [None]
    full = RequestQueue(2)
    left = request(frame())
    full.put(left)
    assert full.close("enough") == [left]
    assert left.cancelled_because == "enough"
    assert full.put(request(frame())) == "refused"
    assert full.take() is None


def test_pausing_cancels_what_waits_and_what_was_taken() -> None:
    queue = RequestQueue(2)
    one, two, three = (request(frame()) for _ in range(3))
    queue.put(one)
    queue.put(two)
    assert queue.take() is one
    assert queue.pause("a break") == [two]
    assert (one.cancelled_because, two.cancelled_because) == ("a break", "a break")
    assert queue.pause("another one") == []
    assert one.cancelled_because == "a break", "the first reason is the cause"
    assert len(queue) == 0
    assert queue.put(three) == "refused"
    queue.resume()
    assert queue.put(three) == "queued"
    assert queue.take() is three
    assert not three.cancelled_because


def test_a_slot_that_is_cleared_has_nothing_to_take() -> None:
    slot: NewestSlot[int] = NewestSlot()
    assert (slot.put(1), slot.put(2)) == (False, True)
    slot.clear()
    assert slot.put(3) is False, "nothing is dropped any more"
    assert slot.take() == 3
    slot.clear()
    slot.close()
    assert slot.take() is None
