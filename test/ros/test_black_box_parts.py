"""The parts of the black box that need no ROS graph: memory, events, windows, the folder and the files."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import make_reader
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.typesys import Stores, get_typestore
from ruamel.yaml import YAML

from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.bags.recording_folder import recordings_in
from explain_cnn_ros.ros.black_box import writing
from explain_cnn_ros.ros.black_box.buffer import (
    LATCHED_MAX,
    OVERHEAD,
    TRANSFORMS,
    MessageBuffer,
    RecordedChannel,
    StoredMessage,
)
from explain_cnn_ros.ros.black_box.events import CHANGE, DOUBT, REQUEST, AbortedGoals, Edge, StableChange, TriggerEvent
from explain_cnn_ros.ros.black_box.folder import LOCK, FolderInUseError, RecordingFolder
from explain_cnn_ros.ros.black_box.recording import Definition, RecordingFile, partial_folder
from explain_cnn_ros.ros.black_box.recovery import recover
from explain_cnn_ros.ros.black_box.settings import MIB, BlackBoxSettings, names
from explain_cnn_ros.ros.black_box.windows import LISTED_MAX, WAITING_MAX, EventWindows
from explain_cnn_ros.ros.black_box.writing import RecordingWriter

TYPES = get_typestore(Stores.ROS2_JAZZY)
TEXT = "std_msgs/msg/String"
START = 1_700_000_000 * 10**9


def define(name: str) -> Definition:
    if name not in TYPES.types:
        raise LookupError(f"the type {name} is not installed")
    return Definition(TYPES.generate_msgdef(name, ros_version=2)[0], TYPES.hash_rihs01(name))


def qos(reliability: QosReliability = QosReliability.RELIABLE) -> Qos:
    never = QosTime(9223372036, 854775807)
    return Qos(
        QosHistory.KEEP_LAST,
        7,
        reliability,
        QosDurability.VOLATILE,
        never,
        never,
        QosLiveliness.AUTOMATIC,
        never,
        False,
    )


LOG = RecordedChannel("/log", TEXT, (qos(),))


def text(value: str) -> bytes:
    return bytes(TYPES.serialize_cdr(TYPES.types[TEXT](data=value), TEXT))


def entry(time: float, size: int = 20, channel: RecordedChannel = LOG) -> StoredMessage:
    return StoredMessage(time, START + round(time * 1e9), channel, text("x" * size))


# Memory.


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 400)), max_size=60),
    st.integers(300, 4000),
    st.floats(0, 20),
)
def test_the_memory_holds_the_newest_messages_within_both_bounds(steps, bytes_max, seconds):
    buffer, now, added = MessageBuffer(bytes_max, seconds), 0.0, list[StoredMessage]()
    for step, size in steps:
        now += step
        added.append(StoredMessage(now, 0, LOG, bytes(size)))
        buffer.add(added[-1])
        fitting = [e for e in added if e.size <= bytes_max]
        expected, total = list[StoredMessage](), 0
        for one in reversed(fitting):
            total += one.size
            if total > bytes_max or one.time < fitting[-1].time - seconds:
                break
            expected.insert(0, one)
        taken, _ = buffer.take(0, now, 10**9)
        assert taken == expected
        assert buffer.bytes == sum(e.size for e in expected) <= bytes_max
    assert buffer.lost == sum(e.size > bytes_max for e in added)


def test_messages_that_are_to_be_read_stay_beyond_the_seconds_and_not_beyond_the_bytes():
    buffer = MessageBuffer(10 * (OVERHEAD + 100), seconds=2.0)
    for i in range(5):
        buffer.add(StoredMessage(float(i), i, LOG, bytes(100)))
    number = buffer.first_since(2.0)
    buffer.need(number)
    for i in range(5, 10):
        buffer.add(StoredMessage(float(i), i, LOG, bytes(100)))
    assert [e.stamp for e in buffer.take(number, 6.0, 10**6)[0]] == [2, 3, 4, 5, 6]
    assert buffer.lost == 0 and not buffer.short
    for i in range(10, 15):
        buffer.add(StoredMessage(float(i), i, LOG, bytes(100)))
    assert buffer.lost == 3  # 2, 3 and 4 were to be read
    taken, following = buffer.take(number, 99.0, 10**6)
    assert [e.stamp for e in taken] == list(range(5, 15))
    buffer.need(following)
    assert [e.stamp for e in buffer.take(0, 99.0, 10**6)[0]] == [12, 13, 14]
    buffer.need(None)


def test_the_reader_takes_batches_and_goes_on_after_them():
    buffer = MessageBuffer(10**6, 100.0)
    for i in range(6):
        buffer.add(StoredMessage(float(i), i, LOG, bytes(100)))
    taken, following = buffer.take(0, 4.0, 2 * (OVERHEAD + 100))
    assert [e.stamp for e in taken] == [0, 1]
    assert [e.stamp for e in buffer.take(following, 4.0, 1)[0]] == [2]  # one message at least
    assert [e.stamp for e in buffer.take(following, 4.0, 10**6)[0]] == [2, 3, 4]
    assert buffer.take(5, 4.0, 10**6) == ([], 5)


def test_the_time_before_an_event_is_cut_to_its_share_of_the_bytes():
    buffer = MessageBuffer(10**6, 100.0)
    for i in range(10):
        buffer.add(StoredMessage(float(i), i, LOG, bytes(100)))
    size = OVERHEAD + 100
    assert buffer.fitting(0, 5.0, 2 * size) == (3, True)  # 3 and 4 fit before 5
    assert buffer.fitting(4, 5.0, 2 * size) == (4, False)
    assert buffer.fitting(0, 5.0, 0) == (5, True)


def test_memory_that_is_too_small_is_noticed_and_forgotten():
    buffer = MessageBuffer(3 * (OVERHEAD + 100), seconds=10.0)
    for i in range(5):
        buffer.add(StoredMessage(float(i), i, LOG, bytes(100)))
    assert buffer.short and buffer.seconds == 2.0
    for i in range(20):
        buffer.add(StoredMessage(10.0 + 6 * i, i, LOG, bytes(100)))
    assert not buffer.short


def test_latched_messages_are_stored_at_any_age():
    buffer = MessageBuffer(10**7, seconds=1.0)
    tree = RecordedChannel("/tf_static", TRANSFORMS, latched=True)
    model = RecordedChannel("/model", TEXT, latched=True)
    for moment, channel, data in (
        (0.0, tree, b"arm"), (0.1, tree, b"leg"), (0.2, model, b"old"), (0.3, model, b"new"), (0.4, tree, b"arm"),
    ):  # fmt: skip
        buffer.add(StoredMessage(moment, 0, channel, data))
    for i in range(5):
        buffer.add(entry(5.0 + i))
    number = buffer.first_since(9.0)
    assert {(e.channel.topic, e.data) for e in buffer.latched_before(number)} == {
        ("/tf_static", b"arm"), ("/tf_static", b"leg"), ("/model", b"new"),
    }  # fmt: skip
    buffer.add(StoredMessage(9.5, 0, model, b"new"))
    assert {e.data for e in buffer.latched_before(number)} == {b"arm", b"leg"}, "the other one is in the window"
    for i in range(2 * LATCHED_MAX):
        buffer.add(StoredMessage(10.0, 0, tree, str(i).encode()))
    assert len(buffer.latched_before(buffer.first_since(99.0))) <= LATCHED_MAX


# Events.


def test_an_edge_is_reported_once_and_not_too_often():
    edge = Edge[str]()
    assert [edge.update("a", value, time, 10.0) for time, value in enumerate([False, True, True, False, True])] == [
        False, True, False, False, False,
    ]  # fmt: skip
    assert not edge.update("a", False, 10.0, 10.0)
    assert edge.update("a", True, 11.0, 10.0)
    assert edge.update("b", True, 11.0, 10.0)


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=80), st.floats(0, 5))
def test_reported_edges_are_apart(values, holdoff):
    edge, now, reported = Edge[str](), 0.0, list[float]()
    for step, value in values:
        now += step
        if edge.update("x", value, now, holdoff):
            reported.append(now)
    assert all(b - a >= holdoff for a, b in itertools.pairwise(reported))


def test_a_change_counts_when_it_has_lasted():
    change = StableChange()
    updates = [(0, False), (1, True), (1.5, True), (2, True), (3, False), (3.2, True), (4, False), (5, False)]
    found = [change.update(value, time, round(time * 10), 1.0, 0.0) for time, value in updates]
    assert found == [None, None, None, (1, 10), None, None, None, (4, 40)]


def test_a_change_before_a_long_silence_counts_from_its_end():
    """The memory no longer has the messages around the beginning of the change, but it has the newest ones."""
    change = StableChange()
    updates = [(0, False), (1, True), (61, True), (62, True), (63, False), (67, False)]
    found = [change.update(value, time, round(time * 10), 1.0, 0.0) for time, value in updates]
    assert found == [None, None, (61, 610), None, None, (67, 670)]


@given(st.lists(st.tuples(st.floats(0.01, 0.5), st.booleans()), max_size=200), st.floats(0.6, 5))
def test_flicker_is_no_change(values, stable):
    """Reported changes alternate, and each of them lasted."""
    change, now, reported, history = StableChange(), 0.0, list[float](), list[tuple[float, bool]]()
    for step, value in values:
        now += step
        history.append((now, value))
        if (found := change.update(value, now, 0, stable, 0.0)) is not None:
            reported.append(found[0])
            assert {v for t, v in history if t >= found[0]} == {value}
            assert now - found[0] >= stable
    assert all(b - a >= stable for a, b in itertools.pairwise(reported))


def test_a_change_within_the_holdoff_counts_and_is_not_reported():
    change = StableChange()
    assert change.update(False, 0, 0, 0.0, 10.0) is None
    assert change.update(True, 1, 1, 0.0, 10.0) == (1, 1)
    assert change.update(False, 2, 2, 0.0, 10.0) is None
    assert change.update(True, 20, 20, 0.0, 10.0) == (20, 20)


def test_what_is_switched_off_does_not_hold_off():
    change, edge = StableChange(), Edge[str]()
    change.update(False, 0, 0, 0.0, 10.0)
    assert change.update(True, 1, 1, 0.0, 10.0, wanted=False) is None
    assert change.update(False, 2, 2, 0.0, 10.0) == (2, 2)
    assert not edge.update("a", True, 1, 10.0, wanted=False)
    assert not edge.update("a", True, 2, 10.0), "it was true before"
    edge.update("a", False, 3, 10.0)
    assert edge.update("a", True, 4, 10.0)


def test_goals_that_were_aborted_before_the_start_are_no_events():
    goals = AbortedGoals(start=100)
    assert goals.update("nav", [(b"old", 50), (b"new", 100)]) == [b"new"]
    assert goals.update("nav", [(b"old", 50), (b"new", 100), (b"late", 60)]) == [b"late"]
    assert goals.update("nav", [(b"old", 50), (b"new", 100), (b"late", 60)]) == []
    assert goals.update("other", [(b"old", 50)]) == []


# EventWindows.


def event(time: float, cause: str = DOUBT) -> TriggerEvent:
    return TriggerEvent(cause, time, START + round(time * 1e9), f"at {time:g}")


def test_events_that_overlap_extend_a_window_up_to_its_limit():
    windows = EventWindows()
    first, new = windows.add(event(100), 10, 5, 30)
    assert new and (first.begin, first.end) == (90, 105)
    assert windows.add(event(104, CHANGE), 10, 5, 30) == (first, False)
    assert first.end == 109 and first.causes == [DOUBT, CHANGE]
    for moment in range(108, 120):
        windows.add(event(moment), 10, 5, 30)
    assert first.end == 120 == first.begin + 30
    second, new = windows.add(event(121), 10, 5, 30)
    assert new and second.begin > 120 and second.end == 126
    assert windows.first is first and not windows.finish(first, 120) and windows.finish(first, 120.1)
    assert windows.remove(first) is second


def test_a_window_that_is_closed_is_not_extended():
    windows = EventWindows()
    first, _ = windows.add(event(10), 2, 2, 60)
    assert windows.finish(first, 12.5)
    second, new = windows.add(event(11.9), 2, 2, 60)  # for instance a change, which is known late
    assert new and second.begin > 12 and second.end == 13.9
    windows.remove(first)
    windows.cut(second, 13.0)
    windows.remove(second)
    third, _ = windows.add(event(14), 5, 2, 60)
    assert 13.0 < third.begin < 13.1


def test_a_length_below_both_times_shortens_them():
    window, _ = EventWindows().add(event(100), 10, 10, 10)
    assert (window.begin, window.end) == (95, 105)


def test_windows_and_their_events_are_bounded():
    windows = EventWindows()
    for i in range(WAITING_MAX):
        windows.add(event(100.0 * i), 1, 1, 60)
    assert windows.add(event(5000), 1, 1, 60) == (None, False)
    windows = EventWindows()
    for _ in range(LISTED_MAX + 7):
        window, _ = windows.add(event(1.0), 1, 1, 60)
    assert len(window.events) == LISTED_MAX and window.more == 7


@given(
    st.lists(st.floats(0, 20), max_size=60),
    st.floats(0, 20), st.floats(0, 20), st.floats(1, 60),
)  # fmt: skip
def test_windows_never_overlap_and_are_never_too_long(steps, before, after, length_max):
    windows, now, all_windows = EventWindows(), 0.0, []
    for step in steps:
        now += step
        while (first := windows.first) is not None and windows.finish(first, now):
            windows.remove(first)
        window, new = windows.add(event(now), before, after, length_max)
        assert window is not None
        all_windows += [window] if new else []
        assert window.begin <= now <= window.end or window.begin > now
    for window in all_windows:
        assert window.end - window.begin <= length_max * (1 + 1e-9) + 1e-9
    assert all(a.end < b.begin for a, b in itertools.pairwise(all_windows))


# Settings.


def test_settings_are_described_and_have_ranges():
    for name, declared in BlackBoxSettings.__dataclass_fields__.items():
        option = declared.metadata["option"]
        assert option.description.endswith("."), name
        if isinstance(declared.default, int | float) and not isinstance(declared.default, bool):
            assert option.minimum is not None and option.maximum is not None, name
    with pytest.raises(ValueError, match="before is 601"):
        BlackBoxSettings(before=601.0)
    assert names(" a, b ,a,, ") == ("a", "b")
    assert names("/odom /cmd_vel") == ("/odom", "/cmd_vel")


# Files.


def record(folder: Path, name: str, count: int, close: bool = True) -> RecordingFile:
    recording = RecordingFile(folder, name, define)
    for i in range(count):
        recording.write(LOG, START + i, text(f"{i}"))
    if close:
        recording.close({"causes": "doubt"})
    return recording


def custom_data(path: Path) -> dict[str, str]:
    """The metadata of a recording, by the official library."""
    with path.open("rb") as file:
        (metadata,) = make_reader(file, validate_crcs=True).iter_metadata()
    assert metadata.name == "rosbag2"
    content = YAML(typ="safe").load(metadata.metadata["serialized_metadata"])
    return content["custom_data"]


def read(path: Path) -> list[str]:
    """The texts in a recording, by the package's reader, which finds no fault, and by the official one."""
    with BagReader(path) as bag:
        messages = list(bag.messages())
        assert bag.problems == []
    with path.open("rb") as file:
        assert [m.data for _, _, m in make_reader(file).iter_messages()] == [m.data for m in messages]
    return [TYPES.deserialize_cdr(m.data, m.type).data for m in messages]


def test_a_recording_appears_when_it_is_complete(tmp_path):
    recording = record(tmp_path, "2026-11-27T06-30-12_doubt_0001", 3, close=False)
    recording.flush()
    assert not list(tmp_path.glob("*.mcap"))
    assert [p.name for p in tmp_path.iterdir()] == [".2026-11-27T06-30-12_doubt_0001.partial"]
    assert recordings_in(tmp_path) == [tmp_path]
    path = recording.close({"causes": "doubt"})
    assert list(tmp_path.iterdir()) == [path] and path.name == "2026-11-27T06-30-12_doubt_0001.mcap"
    assert read(path) == ["0", "1", "2"]
    assert custom_data(path)["causes"] == "doubt"
    with path.open("rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        assert reader.get_header().profile == "ros2"
    (channel,), (schema,) = summary.channels.values(), summary.schemas.values()
    assert (schema.name, schema.encoding) == (TEXT, "ros2msg")
    assert "reliability: reliable" in channel.metadata["offered_qos_profiles"]
    with BagReader(path) as bag:
        assert bag.topics[0].qos == (qos(),)


def test_an_aborted_recording_leaves_nothing(tmp_path):
    record(tmp_path, "2026-11-27T06-30-12_doubt_0001", 3, close=False).abort()
    assert list(tmp_path.iterdir()) == []


def test_a_recording_of_a_killed_process_is_recovered(tmp_path):
    name = "2026-11-27T06-30-12_doubt_0001"
    recording = record(tmp_path, name, 3, close=False)
    recording.flush()
    recording.note({"events": "[1]", "missing": ""})
    recording.write(LOG, START, text("not on the disk"))
    path, messages = recover(tmp_path, name, define, {"missing": "recovered"})
    assert messages == 3 and read(path) == ["0", "1", "2"]
    assert custom_data(path) == {"events": "[1]", "missing": "recovered"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["nothing", "no file", "empty", "magic only", "noise"])
def test_what_cannot_be_recovered_is_removed(damage, tmp_path):
    name = "2026-11-27T06-30-12_doubt_0001"
    left = partial_folder(tmp_path, name)
    (left / name).mkdir(parents=True)
    file = left / name / f"{name}.mcap"
    if damage != "no file":
        file.write_bytes({"empty": b"", "magic only": b"\x89MCAP0\r\n", "noise": os.urandom(5000)}.get(damage, b""))
    assert recover(tmp_path, name, define, {})[0] is None
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_was_complete_is_not_recovered_again(tmp_path):
    name = "2026-11-27T06-30-12_doubt_0001"
    record(tmp_path, name, 3)
    left = record(tmp_path, name, 2, close=False)
    left.flush()
    assert recover(tmp_path, name, define, {})[0] is None
    assert [p.name for p in tmp_path.iterdir()] == [f"{name}.mcap"]
    assert read(tmp_path / f"{name}.mcap") == ["0", "1", "2"]


# The folder.


def fill(folder: Path, number: int, size: int) -> Path:
    path = folder / f"2026-11-27T06-30-{number % 60:02d}_doubt_{number:04d}.mcap"
    path.write_bytes(bytes(size))
    return path


def test_the_oldest_recordings_go_first_and_foreign_files_never(tmp_path):
    folder = RecordingFolder(tmp_path, 1000, 0)
    foreign = [
        tmp_path / name
        for name in ("keep.mcap", "2026-11-27T06-30-12_doubt.mcap", "2026-11-27T06-30-12_doubt_0001.mcap.bak", "n.db3")
    ]
    for path in foreign:
        path.write_bytes(bytes(5000))
    paths = [fill(tmp_path, i, 400) for i in (1, 2, 3)]
    (tmp_path / "2026-11-27T06-30-59_doubt_0009.mcap").mkdir()
    # The clock was wrong when number 3 was written: the numbers count.
    paths[2] = paths[2].rename(tmp_path / "1970-01-01T00-00-03_doubt_0003.mcap")
    assert folder.make_room(0, 0)
    assert [s.path for s in folder.stored()] == paths[1:] and folder.removed == 1
    assert all(path.exists() for path in foreign)
    assert not folder.make_room(700, 400), "the newest one stays"
    assert [s.path for s in folder.stored()] == paths[2:]


def test_names_are_never_used_again(tmp_path):
    folder = RecordingFolder(tmp_path, 1000, 0)
    fill(tmp_path, 41, 10).unlink()
    fill(tmp_path, 6, 10)
    name = folder.new_name(START, REQUEST)
    assert name == "2023-11-14T22-13-20_request_0007"
    partial_folder(tmp_path, "2026-11-27T06-30-12_doubt_0011").mkdir()
    assert folder.new_name(-5, REQUEST) == "1970-01-01T00-00-00_request_0012"
    assert folder.new_name(START, REQUEST).endswith("_0013"), "also while the one before is not there yet"
    assert RecordingFolder(tmp_path, 1000, 0).left() == ["2026-11-27T06-30-12_doubt_0011"]


def test_a_folder_has_one_black_box(tmp_path):
    folder, other = RecordingFolder(tmp_path / "a/b", 1000, 0), RecordingFolder(tmp_path / "a/b", 1000, 0)
    folder.open()
    folder.open()
    with pytest.raises(FolderInUseError, match="another black box"):
        other.open()
    folder.close()
    other.open()
    assert (tmp_path / "a/b" / LOCK).exists()
    other.close()


# Analyses of the folder.


def test_a_folder_of_the_black_box_is_many_recordings(tmp_path):
    for i in (2, 10, 9):
        record(tmp_path, f"2026-11-27T06-30-12_doubt_{i:04d}", 1)
    (tmp_path / "2026-11-27T06-30-12_doubt_0009.mcap").rename(tmp_path / "lamp post.mcap")
    (tmp_path / ".hidden.mcap").write_bytes(b"")
    found = [path.name for path in recordings_in(tmp_path)]
    assert found == ["2026-11-27T06-30-12_doubt_0002.mcap", "2026-11-27T06-30-12_doubt_0010.mcap", "lamp post.mcap"]
    assert recordings_in(tmp_path / found[0]) == [tmp_path / found[0]]
    assert recordings_in(tmp_path / "nowhere") == [tmp_path / "nowhere"]


def test_a_folder_with_one_recording_is_one_input(sample, tmp_path):
    assert recordings_in(sample) == [sample]
    (tmp_path / "bag_0.mcap").write_bytes((sample / "street.mcap").read_bytes())
    (tmp_path / "bag_1.mcap").write_bytes((sample / "street.mcap").read_bytes())
    assert recordings_in(tmp_path) == [tmp_path], "its files are parts of one recording"


# The writer.


class Box:
    """A writer with its buffer, whose clock a test moves."""

    def __init__(self, path: Path, **settings: object) -> None:
        self.settings = BlackBoxSettings(**{"before": 10.0, "after": 5.0, "free_mib": 0, **settings})
        self.now = 0.0
        self.buffer = MessageBuffer(self.settings.memory_mib * MIB, self.settings.before + 2)
        self.folder = RecordingFolder(path, self.settings.folder_mib * MIB, self.settings.free_mib * MIB)
        self.finished, self.failed = [], []
        self.writer = RecordingWriter(
            self.buffer, self.folder, lambda: self.settings, lambda: self.now, define, self._done, self.failed.append
        )
        self._change = threading.Condition()

    def _done(self, finished):
        with self._change:
            self.finished.append(finished)
            self._change.notify_all()

    def run(self, seconds: float, rate: int = 8, size: int = 20) -> None:
        """Let messages arrive for some seconds of the clock. An eighth of a second is an exact number."""
        for _ in range(round(seconds * rate)):
            self.now += 1 / rate
            self.buffer.add(entry(self.now, size))

    def event(self, cause: str = DOUBT) -> str:
        return self.writer.add(event(self.now, cause))

    def wait(self, count: int) -> None:
        """Wait until recordings are complete, or have failed."""
        deadline = time.monotonic() + 60
        while len(self.finished) + len(self.failed) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def box(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "STILL", 1e9)  # the clock of the tests stands still while they wait
    boxes: list[Box] = []

    def make(path: Path = tmp_path / "out", **settings: object) -> Box:
        boxes.append(Box(path, **settings))
        boxes[-1].writer.start()
        return boxes[-1]

    yield make
    for one in boxes:
        one.writer.stop(20)


def seconds_of(path: Path) -> tuple[float, float]:
    with BagReader(path) as bag:
        return (bag.start - START) / 1e9, (bag.end - START) / 1e9


def test_records_the_seconds_before_and_after(box):
    one = box()
    one.run(30)
    name = one.event()
    one.run(8)
    one.wait(1)
    assert one.failed == []
    (path,) = one.folder.path.glob("*.mcap")
    assert path.stem == name and path == one.finished[0].path
    first, last = seconds_of(path)
    assert (round(first, 1), round(last, 1)) == (20.0, 35.0)
    assert len(read(path)) == one.finished[0].messages == 121
    about = custom_data(path)
    assert about["causes"] == "doubt" and about["missing"] == ""
    assert json.loads(about["events"]) == [{"cause": "doubt", "stamp": START + 30 * 10**9, "text": "at 30"}]


def test_a_memory_that_was_too_small_for_the_seconds_before_is_named(box):
    """The memory has room for about 2000 messages, which are those of 2.5 s at this rate."""
    one = box(memory_mib=1)
    one.run(30, rate=800, size=200)
    one.event()
    one.run(6)
    one.wait(1)
    (path,) = one.folder.path.glob("*.mcap")
    begin, _ = seconds_of(path)
    missing = custom_data(path)["missing"]
    found = re.match(r"the first (\d\.\d) s are missing, since they had left the memory: see memory_mib", missing)
    # More may have left the memory before they were written.
    assert found and 7 < float(found[1]) <= begin - 20 + 0.05
    assert "more bytes than a recording may have" not in missing


def test_a_clock_that_stands_still_ends_a_recording(box, monkeypatch):
    """Simulated time stands still when the player has ended. The recording must be completed all the same."""
    one = box(after=0.1)
    one.run(20)
    monkeypatch.setattr(writing, "STILL", 0.2)
    one.event()
    one.wait(1)
    (path,) = one.folder.path.glob("*.mcap")
    assert tuple(round(s) for s in seconds_of(path)) == (10, 20)
    assert custom_data(path)["missing"] == "it ends early, since /clock stands still"


def test_events_of_several_causes_share_a_recording(box):
    one = box()
    one.run(20)
    name = one.event(DOUBT)
    one.run(3)
    assert one.event(CHANGE) == name
    one.run(30)
    one.event(REQUEST)
    one.run(6)
    one.wait(2)
    paths = sorted(one.folder.path.glob("*.mcap"))
    assert [path.stem.split("_")[1] for path in paths] == ["doubt", "request"]
    assert [tuple(round(s) for s in seconds_of(path)) for path in paths] == [(10, 28), (43, 58)]
    assert custom_data(paths[0])["causes"] == "doubt, change"


def test_a_recording_under_way_is_completed_at_the_end(box):
    one = box()
    one.run(5)
    one.event()
    one.run(1)
    one.writer.stop(20)
    (path,) = one.folder.path.glob("*.mcap")
    assert round(seconds_of(path)[1]) == 6
    assert one.writer.progress.written == 1


def test_a_type_without_a_definition_is_left_out_and_named(box):
    one = box()
    one.run(2)
    one.buffer.add(StoredMessage(one.now, START, RecordedChannel("/thing", "nowhere_msgs/msg/Thing"), b"\0\1\0\0"))
    one.event()
    one.run(8)
    one.wait(2)
    assert one.failed == ["/thing is not recorded: the type nowhere_msgs/msg/Thing is not installed"]
    assert len(one.finished) == 1


def test_the_folder_stays_within_its_size_and_the_newest_moments_are_there(box):
    one = box(folder_mib=1, compress=False, before=2.0, after=1.0)
    for _ in range(8):
        one.run(10, size=9000)
        one.event()
        one.run(3, size=9000)
        one.wait(len(one.finished) + 1)
        stored = one.folder.stored()
        assert sum(s.size for s in stored) <= MIB
        assert stored[-1].path == one.finished[-1].path
    assert one.failed == []
    assert len(one.folder.stored()) == 8 - one.folder.removed == 4


def test_a_recording_that_would_be_too_large_keeps_the_event(box):
    one = box(recording_mib=1, compress=False)
    one.run(20, size=40_000)
    moment = one.now
    one.event()
    one.run(6, size=40_000)
    one.wait(1)
    (finished,) = one.finished
    first, last = seconds_of(finished.path)
    assert first < moment < last
    assert finished.size <= 1.1 * MIB
    assert "first seconds are missing" in finished.text and "ends early" in finished.text


def test_a_folder_that_cannot_be_written_is_tried_again(box, tmp_path):
    (tmp_path / "out").write_text("a file")
    one = box()
    one.run(5)
    with pytest.raises(OSError, match="exists"):
        one.event()
    (tmp_path / "out").unlink()
    one.event()
    one.run(8)
    one.wait(1)
    assert one.failed == [] and len(one.finished) == 1


def test_an_error_of_the_disk_removes_the_partial_file_and_the_next_event_succeeds(box, monkeypatch):
    """A write that fails in the middle, as on a disk that another program has filled meanwhile."""
    one = box()
    one.run(12)
    original, calls = RecordingFile.write, []

    def write(self, channel, stamp, data):
        calls.append(stamp)
        if len(calls) == 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, channel, stamp, data)

    monkeypatch.setattr(RecordingFile, "write", write)
    name = one.event()
    one.run(6)
    one.wait(1)
    assert one.failed == [f"{name} was not written: No space left on device"]
    assert [p.name for p in one.folder.path.iterdir()] == [LOCK]
    one.run(10)
    one.event()
    one.run(6)
    one.wait(2)
    assert len(one.finished) == 1 and one.writer.progress.failure == ""


@contextlib.contextmanager
def small_disk(path: Path, size: str):
    """A file system of a few megabytes."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_small_disk_holds_the_newest_moments(box, tmp_path):
    with small_disk(tmp_path / "disk", "20M") as disk:
        one = box(disk / "box", compress=False, before=4.0, after=2.0)
        for _ in range(15):
            one.run(10, size=60_000)
            one.event()
            one.run(4, size=60_000)
            one.wait(len(one.finished) + 1)
        assert one.failed == [] and len(one.finished) == 15
        stored = one.folder.stored()
        assert [s.path for s in stored] == [f.path for f in one.finished[-len(stored) :]]
        assert len(stored) >= 3 and one.folder.removed == 15 - len(stored)
        for one_stored in stored:
            assert read(one_stored.path)
        one.writer.stop(20)


def test_a_disk_that_others_fill_does_not_end_the_writer(box, tmp_path):
    with small_disk(tmp_path / "disk", "20M") as disk:
        one = box(disk / "box", compress=False, before=4.0, after=2.0)
        one.run(10, size=60_000)
        with (disk / "foreign").open("wb") as foreign, contextlib.suppress(OSError):
            while True:
                foreign.write(bytes(MIB))
        one.event()
        one.run(4, size=60_000)
        one.wait(1)
        assert len(one.failed) == 1 and "no space" in one.failed[0].lower()
        assert (disk / "foreign").exists() and not list((disk / "box").glob(".2*"))
        (disk / "foreign").unlink()
        one.run(10, size=60_000)
        one.event()
        one.run(4, size=60_000)
        one.wait(2)
        assert len(one.finished) == 1
        one.writer.stop(20)


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_black_box_parts import Box
box = Box(Path(sys.argv[1]), before=1.0, after=1.0, compress=False)
box.writer.start()
while True:
    box.run(2, size=50_000)
    box.event()
    print(flush=True)
    box.run(2, size=50_000)
    box.wait(len(box.finished) + 1)
    print(box.finished[-1].path.name, flush=True)
"""


def test_killed_while_writing(tmp_path):
    """Each recording is whole or absent, and the next start leaves nothing hidden. BLACK_BOX_KILLS sets how often."""
    folder, complete = tmp_path / "out", set[str]()
    for kill in range(int(os.environ.get("BLACK_BOX_KILLS", "2"))):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER.format(tests=str(Path(__file__).parent)), str(folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None and process.stdout.readline() == "\n"
        time.sleep(0.05 + 0.03 * kill)
        process.send_signal(signal.SIGKILL)
        complete |= set(process.communicate()[0].split())
        for path in folder.glob("*.mcap"):
            assert read(path)
    box = Box(folder)
    box.writer.start()
    box.writer.stop(60)
    found = {path.name for path in folder.glob("*.mcap") if read(path)}
    assert {path.name for path in folder.iterdir()} == found | {LOCK}
    assert complete <= found and found
    assert box.failed == []
