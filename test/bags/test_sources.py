"""Frames of recordings, folders and videos."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from explain_cnn_ros.bags.frame_estimate import estimated_frames
from explain_cnn_ros.bags.image_messages import to_rgb
from explain_cnn_ros.bags.mp4_boxes import ShownFrames, shown_frames
from explain_cnn_ros.bags.sources import BagSource, FolderSource, Place, SourceError, SourceSettings, open_source


def frames(path: Path, settings: SourceSettings | None = None, first: int = 0, near: Place | None = None):
    source = open_source(path, settings)
    found = [entry.load() for entry in source.entries(first, near)]
    source.close()
    return found


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE])
def test_raw_images_in_order_with_their_own_stamps(studio, tmp_path, storage, compression) -> None:
    pictures = [studio.picture(i) for i in range(5)]
    bag = studio.record(tmp_path / "bag", pictures, "/camera", storage, compression, delay=7)
    found = frames(bag)
    assert [f.index for f in found] == [0, 1, 2, 3, 4]
    assert [f.log_time for f in found] == [studio.START + i * studio.SECOND // 10 for i in range(5)]
    assert [f.stamp for f in found] == [f.log_time - 7 for f in found]
    assert {(f.topic, f.frame_id, f.error) for f in found} == {("/camera", "camera", "")}
    for frame, picture in zip(found, pictures, strict=True):
        assert np.array_equal(frame.image, picture)


def test_the_topic_with_most_images_or_those_that_are_requested(studio, tmp_path) -> None:
    others = [("/rear", i * studio.SECOND // 5, studio.picture(9)) for i in range(3)]
    bag = studio.record(tmp_path / "bag", [studio.jpeg(i) for i in range(6)], "/front/compressed", others=others)
    assert {f.topic for f in frames(bag)} == {"/front/compressed"}
    assert [f.topic for f in frames(bag, SourceSettings(topics=("/rear",)))] == ["/rear"] * 3
    both = frames(bag, SourceSettings(topics=("/rear", "/front/compressed")))
    assert len(both) == 9
    assert [f.log_time for f in both] == sorted(f.log_time for f in both)
    with pytest.raises(SourceError, match=r"no images on /none\. Image topics: /front/compressed, /rear"):
        open_source(bag, SourceSettings(topics=("/none",)))


def test_a_stretch_of_time(studio, tmp_path) -> None:
    bag = studio.record(tmp_path / "bag", [studio.jpeg(i) for i in range(10)])
    some = frames(bag, SourceSettings(start=0.2, end=0.5))
    assert [(f.index, f.log_time - studio.START) for f in some] == [(0, 2 * 10**8), (1, 3 * 10**8), (2, 4 * 10**8)]


def test_the_number_of_frames_in_a_stretch_of_time_is_estimated(studio, tmp_path) -> None:
    """The estimate assumes that all frames have the same distance in time. It is never less than one frame."""
    bag = studio.record(tmp_path / "bag", [studio.jpeg(i) for i in range(10)])
    video = studio.film(tmp_path / "clip.avi")
    stretches = [{}, {"start": 0.2, "end": 0.5}, {"end": 0.3}, {"start": 0.3}, {"end": 99.0}, {"start": 50.0}]
    totals = [[open_source(path, SourceSettings(**some)).total for some in stretches] for path in (bag, video)]
    assert totals == [[10, 3, 3, 7, 10, 1], [8, 4, 6, 2, 8, 1]]
    assert estimated_frames(0, 10**9, SourceSettings(end=0.5)) == 0
    assert estimated_frames(100, 0, SourceSettings(end=0.5)) == 0
    assert estimated_frames(100, 0, SourceSettings()) == 100


def test_reading_begins_anywhere(studio, tmp_path) -> None:
    """At a frame's number; and near a place, among frames of one log time as well."""
    others = [("/camera/image/compressed", 2 * 10**8, studio.jpeg(20 + i)) for i in range(3)]
    bag = studio.record(tmp_path / "bag", [studio.jpeg(i) for i in range(6)], others=others)
    every = frames(bag)
    for first in range(len(every)):
        place = Place(next(f.index for f in every if f.log_time == every[first].log_time), every[first].log_time)
        for near in (None, place):
            rest = frames(bag, None, first, near)
            assert [f.index for f in rest] == [f.index for f in every[first:]]
            assert all(np.array_equal(a.image, b.image) for a, b in zip(rest, every[first:], strict=True))


def test_a_corrupt_image_is_named(studio, tmp_path) -> None:
    bag = studio.record(tmp_path / "bag", [studio.jpeg(0), studio.jpeg(1)[:500], b"nothing", studio.jpeg(3)])
    found = frames(bag)
    assert [f.image is None for f in found] == [False, True, True, False]
    assert "truncated" in found[1].error
    assert "is not JPEG or PNG" in found[2].error
    assert found[2].stamp == studio.START + 2 * 10**8


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_zeros_behind_a_message(kit, tmp_path, storage) -> None:
    """Some middleware pads messages to a multiple of eight bytes."""
    sent = [kit.raw(i, "/camera", "rgb8") for i in range(10)]
    padded = [message._replace(data=message.data + bytes(i)) for i, message in enumerate(sent[:8])]
    longer = [sent[8]._replace(data=sent[8].data + bytes(40)), sent[9]._replace(data=sent[9].data + b"\1\2\3\4")]
    found = frames(kit.write(tmp_path / "bag", [*padded, *longer], storage))
    assert [frame.error for frame in found[:8]] == [""] * 8
    assert all(np.array_equal(frame.image, found[0].image) for frame in found[:8])
    assert all("size mismatch" in frame.error for frame in found[8:])


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_messages_of_another_type_on_the_image_topic_are_no_frames(kit, studio, tmp_path, storage) -> None:
    """A note counts these messages. The images may be of both types."""
    raw = [kit.raw(2 * i, "/camera", "rgb8") for i in range(3)]
    compressed = [kit.compressed(2 * i + 1, "/camera", studio.jpeg(i)) for i in range(3)]
    texts = [kit.string(i, "/camera") for i in range(6)]
    sent = sorted([*texts, *raw, *compressed], key=lambda message: message.stamp)
    source = open_source(kit.write(tmp_path / "bag", sent, storage))
    found = [entry.load() for entry in source.entries()]
    assert [(frame.index, frame.error) for frame in found] == [(i, "") for i in range(6)]
    assert source.total == 6
    others = [note for note in source.notes if "no images" in note]
    assert others == ["/camera: 6 messages that are no images are left out: std_msgs/msg/String"]
    assert [entry.index for entry in source.entries(4, Place(2, sent[4].stamp))] == [4, 5]


def test_a_folder_in_natural_order(studio, tmp_path) -> None:
    for i in (0, 2, 10):
        cv2.imwrite(str(tmp_path / f"frame{i}.png"), studio.picture(i)[..., ::-1])
    (tmp_path / "frame11.jpg").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("no image")
    found = frames(tmp_path, SourceSettings(rate=5.0))
    assert [f.topic for f in found] == ["frame0.png", "frame2.png", "frame10.png", "frame11.jpg"]
    assert [f.stamp for f in found] == [0, 200_000_000, 400_000_000, 600_000_000]
    assert np.array_equal(found[2].image, studio.picture(10))
    assert "frame11.jpg is no image" in found[3].error
    assert [f.topic for f in frames(tmp_path, SourceSettings(rate=5.0, start=0.2, end=0.6))] == [
        "frame2.png",
        "frame10.png",
    ]


def test_a_folder_of_images_with_the_metadata_of_another_program(studio, tmp_path, kit) -> None:
    """A folder with a storage file is a recording. In a folder without images, the storage files are missing."""
    (tmp_path / "metadata.yaml").write_text("camera: front\nrate: 5\n")
    with pytest.raises(SourceError, match=r"no \.mcap or \.db3 file"):
        open_source(tmp_path)
    (tmp_path / "0001.JPG").write_bytes(studio.jpeg(0))
    assert isinstance(open_source(tmp_path), FolderSource)
    assert [frame.topic for frame in frames(tmp_path)] == ["0001.JPG"]
    (kit.write(tmp_path / "bag", [kit.image(0)]) / "bag.mcap").rename(tmp_path / "run.mcap")
    assert isinstance(open_source(tmp_path), BagSource)


def test_a_video(studio, tmp_path) -> None:
    path = studio.film(tmp_path / "clip.avi")
    found = frames(path)
    assert [f.stamp for f in found] == [i * 50_000_000 for i in range(8)]
    for i, frame in enumerate(found):
        assert np.abs(frame.image.astype(int) - studio.picture(i)).mean() < 6
    rest = frames(path, SourceSettings(start=0.1), first=2)
    assert [(f.index, f.stamp) for f in rest] == [(i, (i + 2) * 50_000_000) for i in range(2, 6)]
    assert np.array_equal(rest[0].image, found[4].image)


def vary_rate(path: Path, first: int, slower: int) -> None:
    """Make the frames of an MP4 file from `first` on last `slower` times as long."""
    content = bytearray(path.read_bytes())
    at = content.index(b"stts")
    version, entries, count, delta = struct.unpack_from(">IIII", content, at + 4)
    assert entries == 1 and content.index(b"mdat") < at, "the table may grow"
    table = struct.pack(">IIIIII", version, 2, first, delta, count - first, slower * delta)
    content[at + 4 : at + 20] = table
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        place = content.index(box) - 4
        struct.pack_into(">I", content, place, struct.unpack_from(">I", content, place)[0] + 8)
    # The edit list ends the video at its old duration.
    struct.pack_into(">I", content, content.index(b"elst") + 12, 1_000_000)
    path.write_bytes(content)


def test_a_video_of_variable_rate_has_its_own_times(studio, tmp_path) -> None:
    path = studio.film(tmp_path / "phone.mp4", 12, "mp4v")
    vary_rate(path, 8, 10)
    source = open_source(path)
    found = [entry.load() for entry in source.entries()]
    expected = [0.05 * i for i in range(8)] + [0.4 + 0.5 * i for i in range(4)]
    assert [f.log_time / 1e9 for f in found] == pytest.approx(expected, abs=1e-6)
    assert source.problems == []
    assert [f.index for f in frames(path, SourceSettings(start=0.4, end=1.0))] == [0, 1]
    assert np.array_equal(frames(path, SourceSettings(start=0.4))[0].image, found[8].image)


def test_a_decoder_does_not_print_a_line_for_each_fault(studio, tmp_path) -> None:
    """In a process of its own, since FFmpeg reads the level once."""
    path = studio.film(tmp_path / "clip.mp4", 50, "mp4v")
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content) // 2, 7):
        content[place] ^= 0x55
    path.write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from explain_cnn_ros.bags.sources import open_source\n"
        "for entry in open_source(Path(sys.argv[1])).entries(): entry.load()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Clock:
    """A video whose times are given."""

    def __init__(self, times: list[float]) -> None:
        self.times, self.at = times, -1

    def grab(self) -> bool:
        self.at += 1
        return self.at < len(self.times)

    def get(self, _: int) -> float:
        return self.times[self.at]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([0, 0, 0], [0, 50, 100]),
        ([0, 40, 40, 90], [0, 40, 90, 140]),
        ([0, 50, float("nan"), 200], [0, 50, 100, 200]),
        ([0, 5000, 10, 60], [0, 5000, 5050, 5100]),
        ([700, 750], [700, 750]),
        ([-67, 33, 67], [0, 33, 67]),
    ],
)
def test_times_of_a_video_ascend(studio, tmp_path, own, expected) -> None:
    """Without times, doubled, and those of videos that were joined."""
    source = open_source(studio.film(tmp_path / "clip.avi"))
    assert [time / 1e6 for time in source._times(Clock(own))] == expected


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_video_that_ends_early_says_so(studio, tmp_path, suffix) -> None:
    path = studio.film(tmp_path / f"clip{suffix}", 50, "MJPG" if suffix == ".avi" else "mp4v")
    source = open_source(path)
    assert len(list(source.entries())) == 50 and source.problems == []
    content = bytearray(path.read_bytes())
    if suffix == ".mp4":  # the index is at the end, so the frames are destroyed instead
        content[len(content) // 2 : content.index(b"moov") - 4] = bytes(content.index(b"moov") - 4 - len(content) // 2)
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) * 55 // 100])
    source = open_source(path)
    count = sum(entry.load().image is not None for entry in source.entries())
    assert 15 < count < 40
    (problem,) = source.problems
    assert problem.startswith(f"{count} of the 50 frames that the video announces could be read")
    part = open_source(path, SourceSettings(end=0.3))
    assert len(list(part.entries())) == 6 and part.problems == []


@pytest.mark.parametrize("first", [0, 20])
def test_a_clip_that_was_trimmed_is_sound(studio, tmp_path, first: int) -> None:
    """Phones trim clips without encoding them again: an edit list says which of the stored frames are shown."""
    path = studio.film(tmp_path / "clip.mp4", 50, "mp4v")
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    duration, _ = struct.unpack_from(">Ii", content, at)
    ticks = struct.unpack_from(">I", content, content.index(b"mdhd") + 16)[0]
    struct.pack_into(">Ii", content, at, duration // 5, first * ticks // 20)
    path.write_bytes(content)
    source = open_source(path)
    assert len(list(source.entries())) < 50 and source.problems == []
    assert source.total == 10


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\0\x08moov" * 20_000, b"\0\0\0\x01moov" + b"\xff" * 8, b"\0\0\0\x10moov" + bytes(8)],
)
def test_descriptions_of_movies_that_are_damaged(tmp_path, content: bytes) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    assert shown_frames(tmp_path / "clip.mp4") == ShownFrames()


def test_a_gap_in_a_video_is_named(studio, tmp_path) -> None:
    path = studio.film(tmp_path / "clip.mkv", 50, "mp4v")
    content = bytearray(path.read_bytes())
    content[len(content) * 4 // 10 : len(content) // 2] = bytes(len(content) // 10)
    path.write_bytes(content)
    source = open_source(path)
    times = [entry.log_time for entry in source.entries()]
    at = max(range(len(times) - 1), key=lambda i: times[i + 1] - times[i])
    assert 20 < len(times) < 48
    assert source.problems == [
        f"{len(times)} of the 50 frames that the video announces could be read: there are none from "
        f"{times[at] / 1e9:.1f} to {times[at + 1] / 1e9:.1f} s"
    ]


@pytest.mark.parametrize(
    "name", ["cam:12.avi", "12:30:05.avi", "50%d.avi", "walk_%03d.avi", "a#b?c=d ü.avi", b"stra\xdfe.avi"]
)
def test_videos_with_any_name(studio, tmp_path, monkeypatch, name) -> None:
    """Also as a relative path."""
    path = Path(os.fsdecode(name))
    studio.film(tmp_path / "clip.avi").rename(tmp_path / path)
    monkeypatch.chdir(tmp_path)
    found = frames(path)
    assert len(found) == 8
    found[0].topic.encode()
    open_source(path).name.encode()


def test_videos_and_recordings_are_recognised_without_their_suffix(studio, tmp_path) -> None:
    bag = studio.record(tmp_path / "bag", [studio.jpeg(0)])
    (bag / "bag.mcap").rename(tmp_path / "recording.bin")
    studio.film(tmp_path / "clip.avi").rename(tmp_path / "clip")
    (tmp_path / "photo").write_bytes(studio.jpeg(1))
    assert [len(frames(tmp_path / name)) for name in ("recording.bin", "clip", "photo")] == [1, 8, 1]


def test_a_video_of_too_large_frames_is_refused(studio, tmp_path) -> None:
    with pytest.raises(SourceError, match=r"declares 160 x 120 pixels .* megapixels_max is 0.01"):
        open_source(studio.film(tmp_path / "clip.avi"), SourceSettings(megapixels_max=0.01))


def test_files_that_systems_leave_are_no_frames(studio, tmp_path) -> None:
    for name in ("a.jpg", "._a.jpg", ".hidden.png", "Thumbs.db"):
        (tmp_path / name).write_bytes(studio.jpeg(0))
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    assert [f.topic for f in frames(tmp_path)] == ["a.jpg"]


def test_images_that_are_not_read_are_named(studio, tmp_path) -> None:
    """Otherwise the times of the others would be wrong, and nothing would say so."""
    for name in ("0001.jpg", "0003.jfif"):
        (tmp_path / name).write_bytes(studio.jpeg(0))
    (tmp_path / "0002.jpg").symlink_to(tmp_path / "annex")
    for name in ("0004.heic", "0005.HEIC", "0006.avif"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    source = open_source(tmp_path)
    assert source.notes == ["images of other kinds are left out (1 .avif, 2 .heic): convert them to JPEG or PNG"]
    found = [entry.load() for entry in source.entries()]
    assert [frame.topic for frame in found] == ["0001.jpg", "0002.jpg", "0003.jfif"]
    assert "the file cannot be read: No such file" in found[1].error and not found[0].error + found[2].error
    with pytest.raises(SourceError, match=r"0004.heic: a photo in HEIC or AVIF, which is not read: convert it to JPEG"):
        open_source(tmp_path / "0004.heic")


def test_names_that_are_not_utf8(studio, tmp_path) -> None:
    folder = tmp_path / os.fsdecode(b"stra\xdfe")
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(studio.jpeg(0))
    source = open_source(folder)
    (frame,) = [entry.load() for entry in source.entries()]
    assert frame.topic == "caf\\xe9.jpg" and frame.image is not None
    assert source.name.endswith("stra\\xdfe") and source.path == folder


def test_a_file_that_vanishes_is_an_error_of_its_frame(studio, tmp_path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(studio.jpeg(0))
    source = open_source(tmp_path)
    (tmp_path / "a.jpg").unlink()
    found = [entry.load() for entry in source.entries()]
    assert "a.jpg is no image that can be read: the file cannot be read: No such file" in found[0].error
    assert found[1].error == ""


def test_colour_is_preferred_and_the_choice_is_named(studio, tmp_path, kit) -> None:
    """Depth and infrared have as many images or more, and their names come first."""
    sent = []
    for i in range(4):
        sent += [
            kit.raw(i, "/camera/aligned_depth_to_color/image_raw", "16UC1"),
            kit.raw(i, "/camera/color/image_raw", "rgb8"),
            kit.raw(i, "/camera/infra1/image_rect_raw", "mono8"),
            kit.raw(i, "/camera/some/image", "32FC1"),
            kit.compressed(i, "/camera/a/compressedDepth", b"x" * 12, "16UC1; compressedDepth png"),
        ]
        sent += [kit.raw(i, "/camera/depth/image", "16UC1")] * 2
    source = open_source(kit.write(tmp_path / "bag", sent))
    assert {entry.load().topic for entry in source.entries()} == {"/camera/color/image_raw"}
    (note,) = source.notes
    assert note.startswith("/camera/color/image_raw is read (colour, 4 images); --topics selects others: ")
    assert "/camera/depth/image (16UC1, 8 images)" in note and "/camera/infra1/image_rect_raw (mono8, 4 images)" in note
    only_others = [message for message in sent if "/color/" not in message.topic]
    source = open_source(kit.write(tmp_path / "grey", only_others))
    assert {entry.load().topic for entry in source.entries()} == {"/camera/infra1/image_rect_raw"}
    assert source.problems == []


@pytest.mark.parametrize("more", [0, 1])
def test_the_colour_of_a_camera_that_measures_depth(studio, tmp_path, kit, more: int) -> None:
    """Simulations name all topics of such a camera after it."""
    sent = []
    for i in range(4):
        sent.append(kit.raw(i, "/depth_camera/image_raw", "rgb8"))
        sent += [kit.raw(i, "/depth_camera/depth/image_raw", "32FC1")] * (1 + more)
    source = open_source(kit.write(tmp_path / "bag", sent))
    assert {entry.load().topic for entry in source.entries()} == {"/depth_camera/image_raw"}


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_messages_before_the_clock_was_set(studio, tmp_path, kit, storage) -> None:
    """They are read, and times count from the first message after them."""
    pictures = [kit.compressed(i, "/camera/compressed", studio.jpeg(i)) for i in range(5)]
    sent = [pictures[i]._replace(stamp=0) for i in range(2)] + pictures[2:]
    bag = kit.write(tmp_path / "bag", sent, storage)
    source = open_source(bag)
    assert [entry.log_time for entry in source.entries()] == [m.stamp for m in sent]
    assert (source.start, source.end) == (sent[2].stamp, sent[4].stamp)
    assert "before the clock was set" in source.notes[0]
    assert [e.log_time for e in open_source(bag, SourceSettings(start=0.1)).entries()] == [sent[3].stamp, sent[4].stamp]
    assert len(list(open_source(bag, SourceSettings(end=0.1)).entries())) == 3
    simulated = [m._replace(stamp=i * 10**8) for i, m in enumerate(pictures)]
    source = open_source(kit.write(tmp_path / "simulated", simulated, storage))
    assert (source.start, source.notes) == (0, [])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none", "no such file or directory; give a rosbag2"),
        ("empty", "neither a rosbag2 recording nor a folder with images"),
        ("clip.mp4", "OpenCV cannot read this video"),
        ("pipe", "neither a file nor a directory"),
        ("runs", "Did you mean .*runs/monday"),
        ("days", "Did you mean .*days/friday"),
        ("bag", "no image topic .* It holds /log"),
        ("text.txt", "not a rosbag2 recording"),
    ],
)
def test_nothing_to_analyse(studio, tmp_path, name, reason) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    (tmp_path / "text.txt").write_text("text")
    studio.record_texts(tmp_path / "bag")
    (tmp_path / "runs").mkdir()
    studio.record_texts(tmp_path / "runs" / "monday")
    (tmp_path / "days" / "friday").mkdir(parents=True)
    (tmp_path / "days" / "friday" / "a.jpg").write_bytes(studio.jpeg(0))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match=reason):
        open_source(tmp_path / name)


def test_messages_of_rosbags_decode_like_those_of_ros(studio, tmp_path) -> None:
    sensor_msgs = pytest.importorskip("sensor_msgs.msg")
    picture = studio.picture(3)
    bag = studio.record(tmp_path / "bag", [picture])
    image = sensor_msgs.Image(encoding="rgb8", height=120, width=160, step=480)
    image.data.frombytes(picture.tobytes())
    assert np.array_equal(frames(bag)[0].image, to_rgb(image))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"start": 5.0, "end": 3.0}, r"end is 3.0: it must be 0, or above start \(5.0\)"),
        ({"rate": 0.0}, "rate is 0.0: it must be at least 0.001"),
    ],
)
def test_settings_out_of_range_are_named(values, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        SourceSettings(**values)
