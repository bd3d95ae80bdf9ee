"""Frames of recordings, folders and videos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from explain_cnn_ros.bags.image_messages import to_rgb
from explain_cnn_ros.bags.sources import Place, SourceError, SourceSettings, open_source


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


def test_a_video(studio, tmp_path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (160, 120))
    for i in range(8):
        writer.write(studio.picture(i)[..., ::-1])
    writer.release()
    found = frames(path)
    assert [f.stamp for f in found] == [i * 50_000_000 for i in range(8)]
    for i, frame in enumerate(found):
        assert np.abs(frame.image.astype(int) - studio.picture(i)).mean() < 6
    rest = frames(path, SourceSettings(start=0.1), first=2)
    assert [(f.index, f.stamp) for f in rest] == [(i, (i + 2) * 50_000_000) for i in range(2, 6)]
    assert np.array_equal(rest[0].image, found[4].image)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none", "no such file or directory; give a rosbag2"),
        ("empty", "neither a rosbag2 recording nor a folder with images"),
        ("clip.mp4", "OpenCV cannot read this video"),
        ("bag", "no image topic .* It holds /log"),
        ("text.txt", "not a rosbag2 recording"),
    ],
)
def test_nothing_to_analyse(studio, tmp_path, name, reason) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    (tmp_path / "text.txt").write_text("text")
    studio.record_texts(tmp_path / "bag")
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
