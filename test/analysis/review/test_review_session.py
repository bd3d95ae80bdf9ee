"""Which windows a review shows, and what happens with answers, also of several pages."""

from __future__ import annotations

import dataclasses
import threading

import cv2
import numpy as np
import pytest

from explain_cnn_ros.analysis.label_file import read_labels
from explain_cnn_ros.analysis.review import shelf as shelf_module
from explain_cnn_ros.analysis.review.labels_writer import Answer, LabelsWriter
from explain_cnn_ros.analysis.review.pictures import draw_pictures
from explain_cnn_ros.analysis.review.queue import build_queue
from explain_cnn_ros.analysis.review.windows import ReviewError
from explain_cnn_ros.model.windows import Region, crop

SECOND = 10**9
START = 1_700_000_000 * SECOND
HEADER = "start,end,person,source,x,y,width,height\n"

#: The frames below in the order of their doubt, the greatest first.
BY_DOUBT = [3, 1, 0, 4, 2]


@pytest.fixture
def tables(tables):
    """Five frames, seconds apart, so that they are no near-duplicates."""
    return tables.add("walk", [0.7, 0.6, 0.99, 0.5, 0.9], times=[START + i * 10 * SECOND for i in range(5)])


def persons(path) -> list[bool]:
    return [label.person for label in read_labels(path)]


def test_windows_come_one_after_another(review) -> None:
    one = review()
    assert one.shown == BY_DOUBT
    state = one.session.answer(0, Answer.PERSON)
    assert [w["frame"] for w in state["windows"]] == BY_DOUBT[1:]
    assert (state["done"], state["total"], state["last"], state["stale"]) == (1, 5, 0, False)
    for number, answer in enumerate((Answer.NOBODY, Answer.SKIP, Answer.PERSON, Answer.NOBODY), 1):
        assert not one.session.finished
        state = one.session.answer(number, answer)
    assert one.session.finished
    assert (state["windows"], state["loading"], state["done"]) == ([], False, 5)
    assert state["counts"] == {"person": 2, "nobody": 2, "skip": 1}
    assert persons(one.file.path) == [True, False, True, False]


def test_a_window_is_described(review) -> None:
    (window, *_) = review(count=1).session.state(5)["windows"]
    assert window == {
        "number": 0,
        "source": "walk",
        "frame": 3,
        "seconds": 30.0,
        "probability": 0.5,
        "person": True,
        "reasons": ("doubtful: P(person) 0.50 (threshold 0.50)",),
        "box": None,
        "size": (160, 120),
    }


def test_answered_and_skipped_windows_do_not_come_again(review) -> None:
    one = review()
    one.session.state(5)
    one.session.answer(1, Answer.SKIP)
    one.session.answer(3, Answer.NOBODY)
    one.close()
    again = review()
    assert again.shown == [3, 0, 2]
    assert again.queue.answered == 2
    assert review(count=2).shown == [3, 0]
    assert review("other.csv").shown == BY_DOUBT


def test_windows_with_labels_are_not_shown(tables, tmp_path, review) -> None:
    box = "22.3,36.0,39.4,96.0"
    rows = f"0,15,background,,,,,\n30,35,person,walk,,,,\n40,45,person,walk,{box}\n"
    (tmp_path / "labels.csv").write_text(HEADER + rows)
    # The label of the box is about something else in frame 4.
    assert review().shown == [4, 2]
    tables.add("run", [0.5, 0.5], times=[START, START + 9 * SECOND], labels=[True, None])
    assert review("other.csv").shown == [3, 1, 1, 0, 4, 2]


def test_a_person_in_a_frame_is_taken_for_its_best_window(tables, tmp_path, review) -> None:
    tables.add("run", [[(0.8, 0, 0, 40, 80), (0.7, 90, 0, 40, 80)]] * 2, times=[START, START + 9 * SECOND])
    (tmp_path / "labels.csv").write_text(HEADER + "0,99,background,walk,,,,\n0,1,person,run,,,,\n9,10,no,run,,,,\n")
    one = review()
    assert [(w.source, w.frame, w.region.x) for w in one.queue.windows] == [("run", 0, 90)]


def test_the_same_answer_twice_and_a_late_one(review) -> None:
    one = review()
    one.session.state(5)
    one.session.answer(0, Answer.PERSON)
    content = one.file.path.read_bytes()
    for answer in (Answer.PERSON, Answer.NOBODY, Answer.SKIP):
        state = one.session.answer(0, answer)
        assert state["stale"]
        assert state["windows"][0]["number"] == 1
    assert one.file.path.read_bytes() == content
    for number in (-1, 5, 10**9):
        with pytest.raises(ValueError, match="no window"):
            one.session.answer(number, Answer.PERSON)


def test_back_shows_the_window_again(review) -> None:
    one = review()
    one.session.state(5)
    one.session.answer(0, Answer.PERSON)
    one.session.answer(1, Answer.SKIP)
    state = one.session.back(1)
    assert [w["number"] for w in state["windows"]] == [1, 2, 3, 4]
    assert (state["last"], state["done"], state["stale"]) == (0, 1, False)
    # A second page takes back what is not the last one any more.
    assert one.session.back(1)["stale"]
    assert one.session.back(0)["windows"][0]["number"] == 0
    assert one.session.back(0)["stale"]
    assert one.file.path.read_text() == HEADER
    one.session.answer(0, Answer.NOBODY)
    assert persons(one.file.path) == [False]


def test_a_window_that_is_shown_again_comes_first(review) -> None:
    """Also if another page has answered a later one first."""
    one = review()
    one.session.state(5)
    one.session.answer(2, Answer.PERSON)
    one.session.answer(0, Answer.PERSON)
    assert [w["number"] for w in one.session.back(0)["windows"]] == [0, 1, 3, 4]
    one.session.answer(0, Answer.PERSON)
    one.session.back(0)
    assert [w["number"] for w in one.session.back(2)["windows"]] == [2, 0, 1, 3, 4]


def test_an_answer_that_cannot_be_stored_changes_nothing(review) -> None:
    one = review()
    one.session.state(5)
    one.file.path.mkdir()
    with pytest.raises(ReviewError, match="the answer could not be stored"):
        one.session.answer(0, Answer.PERSON)
    one.file.path.rmdir()
    state = one.session.state()
    assert (state["windows"][0]["number"], state["done"]) == (0, 0)
    one.session.answer(0, Answer.PERSON)
    one.file.path.write_text(one.file.path.read_text() + "0,1,person,other,,,,\n")
    with pytest.raises(ReviewError, match="another program"):
        one.session.back(0)
    assert one.session.state()["windows"][0]["number"] == 1
    one.session.close()
    with pytest.raises(ReviewError, match="the review has ended"):
        one.session.answer(1, Answer.PERSON)


def test_many_pages_at_once(tables, review) -> None:
    """Every window gets one line, whoever answers first."""
    tables.add("run", [0.5] * 40, times=[START + i * 2 * SECOND for i in range(40)])
    one = review()
    wins: list[int] = []

    def answer() -> None:
        while windows := one.session.state(5)["windows"]:
            number = windows[0]["number"]
            if not one.session.answer(number, Answer.PERSON)["stale"]:
                wins.append(number)

    threads = [threading.Thread(target=answer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == list(range(45))
    assert len(read_labels(one.file.path)) == 45
    assert len(LabelsWriter(one.file.path).answered) == 45


@pytest.mark.parametrize("direct", [True, False])
def test_frames_that_cannot_be_read_are_left_out(review, direct) -> None:
    one = review(unreadable=[1, 4], direct=direct)
    found = []
    while windows := one.session.state(5)["windows"]:
        found.append(windows[0]["frame"])
        state = one.session.answer(windows[0]["number"], Answer.PERSON)
    assert sorted(found) == [0, 2, 3]
    assert (state["done"], state["total"], one.session.failed) == (3, 3, 2)
    assert one.session.finished
    assert one.recordings.reads == (BY_DOUBT if direct else sorted(BY_DOUBT))


def test_a_recording_that_breaks_does_not_end_the_review(review, monkeypatch) -> None:
    def read(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(
        "conftest.PlainRecordings.read" if False else shelf_module.draw_pictures.__module__ + ".crop", read
    )
    one = review()
    state = one.session.state(5)
    assert (state["windows"], state["total"], state["loading"]) == ([], 0, False)


def test_pictures_are_read_ahead_and_given_up(tables, review, monkeypatch) -> None:
    monkeypatch.setattr(shelf_module, "TOGETHER", 10)
    monkeypatch.setattr(shelf_module, "KEPT", 5)
    tables.add("run", [0.5] * 60, times=[START + i * 2 * SECOND for i in range(60)])
    one = review(loaded=False)

    def here() -> list[int]:
        with one.shelf.changed:
            return [number for number in range(65) if one.shelf.has(number)]

    for number in range(30):
        assert one.session.state(5)["windows"][0]["number"] == number
        one.session.answer(number, Answer.PERSON)
        assert len(here()) <= 10 + 10 + 5
    assert here()[:5] == [25, 26, 27, 28, 29]
    for number in range(29, 24, -1):
        state = one.session.back(number)
        assert state["windows"][0]["number"] == number
    # The pictures of earlier windows are not here any more.
    assert state["last"] is None
    with one.shelf.changed:
        assert one.shelf.get(3) is None


def test_windows_of_recordings_that_are_not_there_are_counted(tables, tmp_path) -> None:
    tables.add("run", [0.5] * 3, times=[START - SECOND, START, START + 9 * SECOND])
    analysis, labels = tables.read(), LabelsWriter(tmp_path / "labels.csv")
    queue = build_queue(analysis, labels, {"run": START}, {("walk", 4)}, 100)
    assert [(w.source, w.frame) for w in queue.windows] == [("run", 1), ("run", 2), ("walk", 4)]
    assert (queue.missing, queue.unclocked, queue.answered) == ({"walk": 4}, 1, 0)


def test_labels_of_whole_frames_have_no_box(tables, tmp_path) -> None:
    for mode, expected in (("whole", ("", "", "", "")), ("scan", ("61.5", "15.0", "36.9", "90.0"))):
        analysis = tables.read(settings={"regions": mode})
        queue = build_queue(analysis, LabelsWriter(tmp_path / "labels.csv"), {"walk": START}, (), 1)
        assert queue.windows[0].key[3:] == expected


def test_a_label_of_a_recording_is_not_taken_for_one_of_another(tables, tmp_path) -> None:
    """Windows of whole frames of run10 are shown, though its path contains that of run1, which has all its labels."""
    for source in ("data/run1", "data/run10"):
        tables.add(source, [0.5, 0.6], times=[0, 10 * SECOND])
    analysis, labels = tables.read(settings={"regions": "whole"}), LabelsWriter(tmp_path / "labels.csv")
    starts = {"data/run1": 0, "data/run10": 0}
    for window in build_queue(analysis, labels, starts, (), 100).windows:
        if window.source == "data/run1":
            labels.append(window.key, Answer.NOBODY)
    queue = build_queue(analysis, LabelsWriter(tmp_path / "labels.csv"), starts, (), 100)
    assert [(w.source, w.frame) for w in queue.windows] == [("data/run10", 0), ("data/run10", 1)]
    assert queue.answered == 2


class CountedTimes(np.ndarray):
    """An array of times that counts the calls of `min`."""

    asked = 0

    def min(self, *arguments, **named):
        CountedTimes.asked += 1
        return super().min(*arguments, **named)


def test_the_beginning_of_a_recording_is_looked_for_once(tables, tmp_path) -> None:
    """It would take long to look for it again for each window."""
    analysis = tables.read()
    line = analysis.timelines["walk"]
    analysis.timelines["walk"] = dataclasses.replace(line, times=line.times.view(CountedTimes))
    assert len(build_queue(analysis, LabelsWriter(tmp_path / "labels.csv"), {}, {("walk", 4)}, 100).windows) == 1
    assert CountedTimes.asked == 1


def decoded(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_the_pictures_of_a_window(picture) -> None:
    image = picture(320, 240)
    region = Region(100, 80, 40, 80, 0.5)
    found = draw_pictures(image, region, (32, 64))
    assert (decoded(found.window) == crop(image, 100, 80, 40, 80, (32, 64))).all()
    # Three quarters of 80 pixels on each side.
    context = decoded(found.context)
    assert context.shape == (200, 160, 3)
    assert found.size == (160, 200)
    assert np.abs(context.astype(int) - image[20:220, 40:200]).mean() < 20
    assert found.box == (60 / 160, 60 / 200, 40 / 160, 80 / 200)


@pytest.mark.parametrize(
    ("region", "scale", "shape", "box"),
    [
        ((-10, 0, 40, 80), 1.0, (140, 90), (-10 / 90, 0, 40 / 90, 80 / 140)),
        ((300, 200, 40, 80), 1.0, (100, 80), (60 / 80, 60 / 100, 40 / 80, 80 / 100)),
        ((0, 0, 320, 240), 1.0, (240, 320), None),
        ((200, 160, 80, 160), 0.5, (200, 160), (60 / 160, 60 / 200, 40 / 160, 80 / 200)),
    ],
)
def test_windows_at_the_edge_whole_frames_and_smaller_pictures(picture, region, scale, shape, box) -> None:
    found = draw_pictures(picture(320, 240), Region(*region, 0.5), None, scale)
    assert decoded(found.context).shape[:2] == shape
    assert found.box == (None if box is None else pytest.approx(box))
    assert decoded(found.window).shape[:2] == (round(region[3] * scale), round(region[2] * scale))
