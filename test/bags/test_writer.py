"""A recording of this package's messages is read back, also by readers that do not know its types."""

from __future__ import annotations

from pathlib import Path

import pytest

from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.bags.storage import Message
from explain_cnn_ros.bags.writer import partial_folder, write_recording


@pytest.fixture
def messages(kit) -> list[Message]:
    sent = [message for i in range(4) for message in (kit.image(i), kit.string(i))]
    return [Message(m.topic, m.stamp, m.type, m.data) for m in sent]


def test_round_trip(messages, tmp_path: Path) -> None:
    folder = tmp_path / "explanations"
    assert write_recording(iter(messages), folder) == 8
    with BagReader(folder) as bag:
        assert bag.problems == []
        assert sorted(bag.messages()) == sorted(messages)
    assert [path.name for path in tmp_path.iterdir()] == ["explanations"]


def test_without_messages_nothing_is_written(tmp_path: Path) -> None:
    assert write_recording([], tmp_path / "explanations") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_recording_stays_until_the_next_is_complete(messages, tmp_path: Path) -> None:
    def broken():
        yield messages[0]
        raise OSError("no space left")

    folder = tmp_path / "explanations"
    write_recording(messages, folder)
    with pytest.raises(OSError, match="no space left"):
        write_recording(broken(), folder)
    with BagReader(folder) as bag:
        assert len(list(bag.messages())) == 8
    assert partial_folder(folder).is_dir()
    assert write_recording(messages[:2], folder) == 2
    with BagReader(folder) as bag:
        assert list(bag.messages()) == messages[:2]
    assert not partial_folder(folder).exists()


def test_without_the_definitions_nothing_is_written(messages, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("explain_cnn_ros.bags.writer.message_definitions", lambda: None)
    assert write_recording(messages, tmp_path / "explanations") == 0
    assert list(tmp_path.iterdir()) == []
