"""Recordings of both kinds, whole and damaged, are read back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bag_kit import TYPES
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer

from explain_cnn_ros.bags.reader import BagError, BagReader
from explain_cnn_ros.bags.sources import SourceError, open_source

KINDS = [
    (StoragePlugin.MCAP, CompressionMode.NONE),
    (StoragePlugin.MCAP, CompressionMode.STORAGE),
    (StoragePlugin.MCAP, CompressionMode.MESSAGE),
    (StoragePlugin.MCAP, CompressionMode.FILE),
    (StoragePlugin.SQLITE3, CompressionMode.NONE),
    (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    (StoragePlugin.SQLITE3, CompressionMode.FILE),
]

BEST_EFFORT = Qos(
    QosHistory.KEEP_LAST,
    5,
    QosReliability.BEST_EFFORT,
    QosDurability.VOLATILE,
    QosTime(0, 0),
    QosTime(0, 0),
    QosLiveliness.AUTOMATIC,
    QosTime(0, 0),
    False,
)


def storage_file(bag: Path) -> Path:
    (file,) = (p for p in bag.iterdir() if p.name != "metadata.yaml")
    return file


@pytest.fixture
def large(kit: Any, tmp_path: Path) -> Path:
    """20 incompressible messages of 300 kB in six chunks."""
    return kit.write(tmp_path / "large", [kit.image(i, size=300_000) for i in range(20)])


@pytest.mark.parametrize(("storage", "compression"), KINDS)
def test_round_trip(kit: Any, tmp_path: Path, storage: StoragePlugin, compression: CompressionMode) -> None:
    sent = [message for i in range(10) for message in (kit.image(i), kit.string(i))]
    path = kit.write(tmp_path / "bag", sent, storage, compression, {"/log": [BEST_EFFORT]})
    with BagReader(path) as bag:
        assert bag.problems == []
        assert [(t.name, t.type, t.count) for t in bag.topics] == [
            ("/camera/image/compressed", "sensor_msgs/msg/CompressedImage", 10),
            ("/log", "std_msgs/msg/String", 10),
        ]
        assert [t.qos for t in bag.topics] == [(), (BEST_EFFORT,)]
        assert (bag.start, bag.end) == (kit.START, kit.START + 9 * kit.SECOND // 10)
        assert bag.message_count == 20
        assert sorted(map(tuple, bag.messages())) == sorted(map(tuple, sent))
        assert [m.stamp for m in bag.messages()] == [m.stamp for m in sent]
        assert list(bag.messages(["/log"])) == [m for m in sent if m.topic == "/log"]
        assert list(bag.messages([])) == []
        start, stop = sent[4].stamp, sent[8].stamp
        some = list(bag.messages(["/log"], start, stop))
        assert some == [m for m in sent if m.topic == "/log" and start <= m.stamp < stop]
        assert len(some) == 2


@pytest.mark.parametrize(("storage", "compression"), KINDS)
def test_a_file_of_the_recording_serves_as_well(
    kit: Any, tmp_path: Path, storage: StoragePlugin, compression: CompressionMode
) -> None:
    sent = [kit.image(i) for i in range(3)]
    path = kit.write(tmp_path / "bag", sent, storage, compression)
    with BagReader(storage_file(path)) as bag:
        assert list(bag.messages()) == sent
        assert bag.problems == []


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_without_metadata(kit: Any, tmp_path: Path, storage: StoragePlugin) -> None:
    sent = [kit.image(i) for i in range(3)]
    path = kit.write(tmp_path / "bag", sent, storage)
    (path / "metadata.yaml").unlink()
    with BagReader(path) as bag:
        assert list(bag.messages()) == sent
        (problem,) = bag.problems
        assert "no metadata.yaml" in problem and "ros2 bag reindex" in problem


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_names_in_metadata_in_any_locale(kit: Any, tmp_path: Path, locale: str) -> None:
    """Containers often have the locale C, in which Python takes names of files for ASCII."""
    path = kit.write(tmp_path / "früh", [kit.image(i) for i in range(3)])
    code = (
        "import sys; from explain_cnn_ros.bags.reader import BagReader\n"
        "with BagReader(sys.argv[1]) as bag: print(len(list(bag.messages())), bag.problems, bag.notes)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        env=os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert done.stdout == b"3 [] []\n", done.stderr


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("metadata", ["as it was", "with the names before", "none"])
def test_files_that_the_command_zstd_has_packed(
    kit: Any, tmp_path: Path, storage: StoragePlugin, metadata: str
) -> None:
    """One part of a recording may be packed as well, in place of the file that metadata.yaml lists."""
    folder = tmp_path / "bag"
    sent = [kit.image(i) for i in range(6)]
    file = storage_file(kit.write(folder, sent[:3], storage, CompressionMode.FILE))
    plain = file.name.removesuffix(".zstd")
    file.rename(folder / f"{plain}.zst")
    other = storage_file(kit.write(tmp_path / "other", sent[3:], storage))
    other.rename(folder / f"z{other.suffix}")
    if metadata == "none":
        (folder / "metadata.yaml").unlink()
    elif metadata == "with the names before":
        names = f"{plain}, z{other.suffix}"
        (folder / "metadata.yaml").write_text(f"rosbag2_bagfile_information:\n  relative_file_paths: [{names}]\n")
    with BagReader(folder) as bag:
        # The old metadata.yaml lists the packed file only.
        assert list(bag.messages()) == (sent[:3] if metadata == "as it was" else sent)
        assert [problem for problem in bag.problems if "no metadata.yaml" not in problem] == []
    with BagReader(folder / f"{plain}.zst") as bag:
        assert list(bag.messages()) == sent[:3]


def test_a_file_that_is_packed_twice_is_read_once(kit: Any, tmp_path: Path) -> None:
    file = storage_file(kit.write(tmp_path / "bag", [kit.image(0)], compression=CompressionMode.FILE))
    file.with_suffix(".zst").write_bytes(file.read_bytes())
    (tmp_path / "bag" / "metadata.yaml").unlink()
    with BagReader(tmp_path / "bag") as bag:
        assert list(bag.messages()) == [kit.image(0)]
        assert bag.notes == [f"{file.name} is left out: {file.with_suffix('.zst').name} beside it is the same"]


@pytest.mark.parametrize("name", ["bag_0.mcap", "bag_0.db3", "bag_0.mcap.zstd", "bag_0.db3.zst"])
def test_pointers_of_git_lfs(kit: Any, tmp_path: Path, name: str) -> None:
    """The other parts are read."""
    folder = tmp_path / "bag"
    folder.mkdir()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    for path in (folder, folder / name):
        with pytest.raises(BagError) as caught:
            BagReader(path)
        assert "it is a pointer of Git LFS" in str(caught.value) and "`git lfs pull`" in str(caught.value)
    storage_file(kit.write(tmp_path / "other", [kit.image(0)])).rename(folder / "bag_1.mcap")
    with BagReader(folder) as bag:
        assert list(bag.messages()) == [kit.image(0)]
        assert any("Git LFS" in problem for problem in bag.problems)


def test_an_empty_file_without_metadata(tmp_path: Path) -> None:
    """No advice is given that does not help."""
    (tmp_path / "bag_0.mcap").touch()
    with pytest.raises(BagError) as caught:
        BagReader(tmp_path)
    assert str(caught.value) == f"{tmp_path}: nothing in it can be read: bag_0.mcap cannot be read: it is empty"


@pytest.mark.parametrize("text", ["", "{", "other: 1", "rosbag2_bagfile_information: 7"])
def test_unreadable_metadata(kit: Any, tmp_path: Path, text: str) -> None:
    sent = [kit.image(i) for i in range(3)]
    path = kit.write(tmp_path / "bag", sent)
    (path / "metadata.yaml").write_text(text)
    with BagReader(path) as bag:
        assert list(bag.messages()) == sent
        assert "metadata.yaml cannot be read" in bag.problems[0]


def test_recordings_in_several_files(kit: Any, tmp_path: Path) -> None:
    """Without metadata.yaml too, and with one of the files gone."""
    bag_dir = tmp_path / "bag"
    bag_dir.mkdir()
    sent = [kit.image(i) for i in range(11)]
    for i, message in enumerate(sent):
        part = kit.write(tmp_path / f"part{i}", [message])
        storage_file(part).rename(bag_dir / f"bag_{i}.mcap")
    with BagReader(bag_dir) as bag:
        assert list(bag.messages()) == sent
        assert bag.topics[0].count == 11
    listed = "".join(f"\n  - bag_{i}.mcap" for i in range(11))
    (bag_dir / "metadata.yaml").write_text(f"rosbag2_bagfile_information:\n  relative_file_paths:{listed}\n")
    with BagReader(bag_dir) as bag:
        assert list(bag.messages()) == sent
        assert bag.problems == []
    (bag_dir / "bag_4.mcap").unlink()
    with BagReader(bag_dir) as bag:
        assert list(bag.messages()) == sent[:4] + sent[5:]
        assert "bag_4.mcap" in bag.problems[0] and "missing" in bag.problems[0]


def test_qos_of_metadata_goes_before_that_of_the_file(kit: Any, tmp_path: Path) -> None:
    path = kit.write(tmp_path / "bag", [kit.string(0)], qos={"/log": [BEST_EFFORT]})
    metadata = path / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("best_effort", "reliable"))
    with BagReader(path) as bag:
        assert bag.topics[0].qos == (BEST_EFFORT._replace(reliability=QosReliability.RELIABLE),)
        assert len(list(bag.messages())) == 1


@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.STORAGE, CompressionMode.FILE])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.75, 0.9, 0.99, 0.9999])
def test_truncated_mcap(kit: Any, tmp_path: Path, compression: CompressionMode, share: float) -> None:
    """Everything before the cut is read, up to the message that was cut through."""
    sent = [kit.image(i, size=300_000) for i in range(12)]
    path = kit.write(tmp_path / "bag", sent, compression=compression)
    file = storage_file(path)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with BagReader(path) as bag:
        got = list(bag.messages())
        assert got == sent[: len(got)]
        # zstd gives its data in blocks of 128 kB, and unpacking a cut file loses what is in the last ones.
        assert len(got) >= int(12 * share) - 1
        assert bag.message_count == len(got)
        if got:
            assert (bag.start, bag.end) == (got[0].stamp, got[-1].stamp)
        assert bag.problems


def test_truncated_mcap_at_any_byte(kit: Any, tmp_path: Path) -> None:
    """However a file is cut, the reader gives the beginning of what was recorded, or says that it cannot."""
    sent = [kit.image(i) for i in range(5)]
    content = storage_file(kit.write(tmp_path / "bag", sent)).read_bytes()
    cut = tmp_path / "cut.mcap"
    most = 0
    for length in range(0, len(content), 7):
        cut.write_bytes(content[:length])
        try:
            with BagReader(cut) as bag:
                got = list(bag.messages())
                assert bag.problems
        except BagError:
            continue
        assert got == sent[: len(got)]
        assert len(got) >= most
        most = len(got)
    assert most == 5


def test_zeros_at_the_end(kit: Any, tmp_path: Path) -> None:
    """Some file systems leave such files after a power cut."""
    sent = [kit.image(i, size=300_000) for i in range(8)]
    file = storage_file(kit.write(tmp_path / "bag", sent))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(1000))
    with BagReader(file) as bag:
        got = list(bag.messages())
        assert 3 <= len(got) < 8 and got == sent[: len(got)]


@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.STORAGE])
def test_damage_in_the_middle(kit: Any, tmp_path: Path, compression: CompressionMode) -> None:
    """A chunk with a wrong bit is left out; what comes before and after it is read."""
    sent = [kit.image(i, size=300_000) for i in range(20)]
    file = storage_file(kit.write(tmp_path / "bag", sent, compression=compression))
    content = bytearray(file.read_bytes())
    # rosbags writes no checksums (0); any other number in that field of the third chunk is a wrong one.
    first = sent[8].stamp.to_bytes(8, "little")
    (begin,) = (i for i in range(len(content)) if content[i] == 0x06 and content[i + 9 : i + 17] == first)
    content[begin + 9 + 24] = 1
    file.write_bytes(content)
    with BagReader(file) as bag:
        assert bag.message_count == 20, "the index is whole"
        assert bag.problems == []
        got = list(bag.messages())
        assert got == sent[:8] + sent[12:]
        assert any("damaged" in problem for problem in bag.problems)


def test_garbage_in_place_of_the_first_chunk(large: Path) -> None:
    """The end of the file repeats the declarations, so the rest can be read."""
    file = storage_file(large)
    content = bytearray(file.read_bytes())
    content[200:700_000] = b"\xa5" * (700_000 - 200)
    file.write_bytes(content)
    with BagReader(file) as bag:
        got = list(bag.messages())
    assert 10 <= len(got) < 20


def test_what_is_not_a_recording(tmp_path: Path, kit: Any) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(BagError) as caught:
            BagReader(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "no such file" in refusal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no .mcap or .db3 file" in refusal(tmp_path / "empty")
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "metadata.yaml").write_text(
        "rosbag2_bagfile_information:\n  relative_file_paths: [run_0.mcap, run_1.mcap]\n"
    )
    assert "but metadata.yaml lists run_0.mcap, run_1.mcap" in refusal(tmp_path / "lost")
    (tmp_path / "notes.txt").write_text("no bag")
    assert "not a rosbag2 recording" in refusal(tmp_path / "notes.txt")
    (tmp_path / "old.bag").write_text("#ROSBAG V2.0\n")
    assert "rosbags-convert" in refusal(tmp_path / "old.bag")
    (tmp_path / "text.mcap").write_text("no MCAP at all, but long enough to look at its end for a footer")
    assert "does not begin as an MCAP file" in refusal(tmp_path / "text.mcap")
    (tmp_path / "none.mcap").write_bytes(b"")
    assert "cannot be read" in refusal(tmp_path / "none.mcap")
    (tmp_path / "text.db3").write_text("no database" * 100)
    assert "does not begin as an sqlite3 database" in refusal(tmp_path / "text.db3")
    kit.write(tmp_path / "runs" / "monday", [kit.image(0)])
    assert f"Did you mean {tmp_path / 'runs' / 'monday'}?" in refusal(tmp_path / "runs")


def test_a_recording_without_messages(kit: Any, tmp_path: Path) -> None:
    with BagReader(kit.write(tmp_path / "bag", [])) as bag:
        assert (bag.topics, bag.start, bag.end, bag.message_count) == ([], 0, 0, 0)
        assert list(bag.messages()) == []


def test_broken_messages(kit: Any, tmp_path: Path) -> None:
    """Bytes that are no message are handed on as they are; what cannot be decompressed is left out."""
    sent = [kit.image(0), kit.image(1)._replace(data=b"\x00\x01\x00\x00broken"), kit.image(2)]
    with BagReader(kit.write(tmp_path / "plain", sent)) as bag:
        assert list(bag.messages()) == sent
        assert bag.problems == []
    sent[1] = sent[1]._replace(data=b"\x28\xb5\x2f\xfdbroken")
    with BagReader(kit.write(tmp_path / "compressed", sent)) as bag:
        assert list(bag.messages()) == [sent[0], sent[2]]
        assert "cannot be decompressed" in bag.problems[0] and sent[1].topic in bag.problems[0]


def test_messages_in_other_encodings_are_left_out(kit: Any, tmp_path: Path) -> None:
    with BagReader(kit.write(tmp_path / "bag", [kit.string(0)], encoding="json")) as bag:
        assert bag.topics == []
        assert "'json'" in bag.problems[0]


def test_a_journal_that_was_left_is_reported(kit: Any, tmp_path: Path) -> None:
    path = kit.write(tmp_path / "bag", [kit.string(0)], StoragePlugin.SQLITE3)
    (path / "bag.db3-wal").write_bytes(b"something")
    with BagReader(path) as bag:
        assert bag.message_count == 1
        assert "bag.db3-wal" in bag.problems[0]


def test_image_topics(kit: Any, tmp_path: Path) -> None:
    sent = [kit.image(i, "/left") for i in range(3)] + [kit.image(i, "/right") for i in range(5)]
    with BagReader(kit.write(tmp_path / "two", [*sent, kit.string(0)])) as bag:
        assert [topic.name for topic in bag.image_topics] == ["/right", "/left"]
        assert bag.image_topic().name == "/right"
        assert bag.image_topic("/left").count == 3
        with pytest.raises(BagError, match=r"no images on /log\. Image topics: /right, /left"):
            bag.image_topic("/log")
    with (
        BagReader(kit.write(tmp_path / "none", [kit.string(0)])) as bag,
        pytest.raises(BagError, match=r"no image topic .* /log \(std_msgs/msg/String, 1 messages\)"),
    ):
        bag.image_topic()


@pytest.mark.parametrize("encoding", ["ros1", "protobuf", "json"])
@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_an_error_about_missing_images_names_the_reason(
    kit: Any, tmp_path: Path, storage: StoragePlugin, encoding: str
) -> None:
    """Images whose messages are of another kind are no topics of the recording."""
    path = kit.write(tmp_path / "bag", [kit.image(0, "/cam")], storage, encoding=encoding)
    for name in (None, "/cam"):
        with BagReader(path) as bag, pytest.raises(BagError) as caught:
            bag.image_topic(name)
        text = str(caught.value)
        assert f"left out /cam: its messages are '{encoding}'" in text
        assert ("rosbags-convert" in text) == (encoding == "ros1")
    with pytest.raises(SourceError) as refused:
        open_source(path)
    assert f"left out /cam: its messages are '{encoding}'" in str(refused.value)


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_an_image_topic_without_messages_is_named(kit: Any, tmp_path: Path, storage: StoragePlugin) -> None:
    """A connection without messages, as recorders write it for a silent camera; also beside other images."""
    for others in ([kit.string(0)], [kit.image(0, "/other")]):
        with Writer(tmp_path / others[0].topic[1:], version=9, storage_plugin=storage) as writer:
            for message in others:
                connection = writer.add_connection(message.topic, message.type, typestore=TYPES)
                writer.write(connection, message.stamp, message.data)
            writer.add_connection("/cam", "sensor_msgs/msg/Image", typestore=TYPES)
        with BagReader(tmp_path / others[0].topic[1:]) as bag, pytest.raises(BagError) as caught:
            bag.image_topic("/cam")
        assert "No messages on /cam: the camera published nothing" in str(caught.value)
        assert "with a QoS that the recorder did not match" in str(caught.value)
        assert "Record the camera's topic" not in str(caught.value)


def test_errors_about_missing_images_are_short(kit: Any, tmp_path: Path) -> None:
    """Long names of topics do not make the error longer."""
    names = [f"/{i}" + "\u202e" * 300 for i in range(30)]
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        for name in names:
            kind, encoding = "sensor_msgs/msg/Image", "cdr" if name < "/2" else name[1:]
            writer.add_connection(name, kind, typestore=TYPES, serialization_format=encoding)
    with BagReader(tmp_path / "bag") as bag, pytest.raises(BagError) as caught:
        bag.image_topic()
    assert len(str(caught.value)) < 2000 and "\u202e" not in str(caught.value)


def test_unknown_topics_are_refused(kit: Any, tmp_path: Path) -> None:
    with (
        BagReader(kit.write(tmp_path / "bag", [kit.string(0)])) as bag,
        pytest.raises(BagError, match=r"no topic /lgo\. It holds /log"),
    ):
        bag.messages(["/lgo"])


def test_nothing_is_left_behind(kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary copies of compressed files go with the reader, also when it fails."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    path = kit.write(tmp_path / "bag", [kit.image(0)], compression=CompressionMode.FILE)
    with BagReader(path):
        assert any(scratch.iterdir())
    assert not any(scratch.iterdir())
    storage_file(path).write_bytes(b"no zstd")
    with pytest.raises(BagError):
        BagReader(path)
    assert not any(scratch.iterdir())
