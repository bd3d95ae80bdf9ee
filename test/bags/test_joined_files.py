"""Folders of several storage files: copies, recorders that ran at the same time, and parts in any order."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from bag_kit import START, BagKit, Sent
from rosbags.rosbag2 import StoragePlugin

from explain_cnn_ros.bags import joined_files
from explain_cnn_ros.bags.mcap_file import McapFile
from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.bags.sources import Place, SourceSettings, open_source

WITHOUT_METADATA = "no metadata.yaml: the recording was not closed"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    return path


def put(folder: Path, name: str, messages: Sequence[Sent], storage: StoragePlugin = StoragePlugin.MCAP) -> None:
    """Write a storage file of this name into a folder."""
    bag = BagKit().write(folder.parent / f"bag of {name}", list(messages), storage)
    next(bag.glob("bag*")).rename(folder / name)


def read(folder: Path) -> tuple[list[Sent], list[str], list[str]]:
    """Return the messages, the problems and the notes. The stamps ascend."""
    with BagReader(folder) as bag:
        found = list(bag.messages())
        assert bag.message_count == len(found)
        stamps = [message.stamp for message in found]
        assert stamps == sorted(stamps)
        problems = [problem for problem in bag.problems if not problem.startswith(WITHOUT_METADATA)]
        return [Sent(*message) for message in found], problems, bag.notes


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("twin", [None, StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_copies_are_read_once(kit: Any, folder: Path, twin: StoragePlugin | None, listed: bool) -> None:
    """A copy of the file, the same messages written again, and the same messages in the other format.

    If metadata.yaml was written anew, it lists the copy as well.
    """
    sent = [message for i in range(20) for message in (kit.image(i), kit.string(i))]
    put(folder, "run_0.mcap", sent)
    name = "run_0_copy.db3" if twin == StoragePlugin.SQLITE3 else "run_0_copy.mcap"
    if twin is None:
        shutil.copy(folder / "run_0.mcap", folder / name)
    else:
        put(folder, name, sent, twin)
    if listed:
        head = "rosbag2_bagfile_information:\n  topics_with_message_count:\n"
        count = "  - {message_count: 40, topic_metadata: {name: /log}}\n"
        files = f"  relative_file_paths: [run_0.mcap, {name}]\n"
        (folder / "metadata.yaml").write_text(head + count + files)
    found, problems, notes = read(folder)
    assert sorted(found) == sorted(sent)
    assert (problems, notes) == ([], [f"{name} is left out: it holds the same messages as run_0.mcap"])


def test_other_messages_of_the_same_times_are_no_copy(kit: Any, folder: Path) -> None:
    """Two runs of a simulation may have the same times."""
    first = [kit.string(i) for i in range(20)]
    second = [*first[:-1], kit.string(19, text="another end")]
    put(folder, "a.mcap", first)
    put(folder, "b.mcap", second)
    found, problems, notes = read(folder)
    assert sorted(found) == sorted(first + second)
    assert (problems, notes) == ([], [])


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_recorders_that_ran_at_the_same_time(kit: Any, folder: Path, storage: StoragePlugin) -> None:
    images = [kit.image(i) for i in range(40)]
    texts = [kit.string(i)._replace(stamp=START + i * 10**8 + 10**7) for i in range(5, 50)]
    put(folder, "camera.mcap", images)
    put(folder, "detector.mcap" if storage == StoragePlugin.MCAP else "detector.db3", texts, storage)
    assert read(folder) == (sorted([*images, *texts], key=lambda message: message.stamp), [], [])
    with BagReader(folder) as bag:
        some = list(bag.messages(None, START + 10**9, START + 2 * 10**9))
        assert [m.stamp for m in some] == sorted(m.stamp for m in [*images[10:20], *texts[5:15]])


def test_frames_of_two_files_with_the_same_times(kit: Any, folder: Path) -> None:
    """The frames have the same numbers wherever reading begins."""
    put(folder, "left.mcap", [kit.image(i, "/left") for i in range(30)])
    put(folder, "right.mcap", [kit.image(i, "/right") for i in range(30)])
    source = open_source(folder, SourceSettings(topics=("/left", "/right")))
    every = [(entry.index, entry.log_time, entry.load().topic) for entry in source.entries()]
    assert [entry[:2] for entry in every] == [(i, START + i // 2 * 10**8) for i in range(60)]
    for index, log_time, _ in every:
        near = Place(index - index % 2, log_time)
        rest = [(entry.index, entry.log_time, entry.load().topic) for entry in source.entries(index, near)]
        assert rest == every[index:]


def test_images_of_the_same_topic_and_time_are_reported(kit: Any, folder: Path) -> None:
    """A part of a recording may have been recovered into another file."""
    sent = [kit.image(i) for i in range(40)]
    put(folder, "run_0.mcap", sent)
    put(folder, "run_0_recovered.mcap", sent[:30])
    found, problems, notes = read(folder)
    assert len(found) == 70 and notes == []
    (problem,) = problems
    assert problem.startswith(
        "run_0.mcap and run_0_recovered.mcap hold 2.9 s of the same time, both with images on /cam"
    )
    assert problem.endswith("give only one of them")


def test_parts_that_overlap_a_little_or_are_listed_in_another_order(kit: Any, folder: Path) -> None:
    sent = [kit.image(i) for i in range(40)]
    put(folder, "run_0.mcap", [*sent[20:29], sent[30]])
    put(folder, "run_1.mcap", [sent[29], *sent[31:]])
    put(folder, "run_2.mcap", sent[:20])
    assert read(folder) == (sent, [], [])
    files = ", ".join(f"run_{i}.mcap" for i in range(3))
    (folder / "metadata.yaml").write_text(f"rosbag2_bagfile_information:\n  relative_file_paths: [{files}]\n")
    assert read(folder) == (sent, [], [])


class Watch:
    """Counts the files that are read at the same time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.most = 0, 0
        original = McapFile.messages

        def messages(file: McapFile, *arguments: Any) -> Iterator[Any]:
            self.open += 1
            self.most = max(self.most, self.open)
            yield from original(file, *arguments)
            self.open -= 1

        monkeypatch.setattr(McapFile, "messages", messages)


def test_parts_that_follow_each_other_are_read_one_after_another(
    kit: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read in their order, even if one ends at the time at which the next one begins."""
    sent = [kit.image(i) for i in range(33)]
    sent[3] = sent[3]._replace(stamp=sent[2].stamp)
    for i in range(11):
        put(folder, f"run_{i}.mcap", sent[3 * i : 3 * i + 3])
    watch = Watch(monkeypatch)
    assert read(folder) == (sent, [], [])
    assert watch.most <= 2


def test_too_many_files_that_overlap(kit: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All messages are read, and memory is bounded."""
    sent = [kit.string(i) for i in range(40)]
    for i in range(4):
        put(folder, f"part{i}.mcap", sent[i::4])
    assert read(folder) == (sent, [], [])
    monkeypatch.setattr(joined_files, "OPEN_MAX", 2)
    watch = Watch(monkeypatch)
    with BagReader(folder) as bag:
        found = list(bag.messages())
        assert any("too many files overlap in time" in problem for problem in bag.problems)
    assert sorted(map(Sent._make, found)) == sorted(sent)
    assert watch.most == 2
